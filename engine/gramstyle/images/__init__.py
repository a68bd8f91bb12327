"""Images in and out, as photographers have them; the only package that decodes or encodes.

Whatever comes from outside is taken for hostile: an image is either read whole or refused with
one `ImageError`, and a file is either written whole or left as it was.
"""

from gramstyle.images.image import Image, fitted_size, resize
from gramstyle.images.reading import MAX_PIXELS, SUFFIXES, Source, from_pil, read_image
from gramstyle.images.settings import read_settings, room_left
from gramstyle.images.writing import EXTENSIONS, check_output, to_pil, write_image

__all__ = [
    "EXTENSIONS",
    "MAX_PIXELS",
    "SUFFIXES",
    "Image",
    "Source",
    "check_output",
    "fitted_size",
    "from_pil",
    "read_image",
    "read_settings",
    "resize",
    "room_left",
    "to_pil",
    "write_image",
]
