"""Images of more than 8 bits per colour, for which Pillow lacks the full precision."""
