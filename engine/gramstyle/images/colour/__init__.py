"""The colours of images: colour spaces, the conversion to sRGB and back, and changes of colours."""
