"""Pictures in and out, as photographers have them; the only package that decodes or encodes.

Whatever comes from outside is taken for hostile: a picture is either read whole or refused with
one `ImageError`, and a file is either written whole or left as it was.
"""

from gramstyle.images.picture import Picture, fitted_size, resize
from gramstyle.images.reading import MAX_PIXELS, SUFFIXES, Source, from_pil, read_picture
from gramstyle.images.settings import read_settings, room_left
from gramstyle.images.writing import EXTENSIONS, check_output, to_pil, write_picture

__all__ = [
    "EXTENSIONS",
    "MAX_PIXELS",
    "SUFFIXES",
    "Picture",
    "Source",
    "check_output",
    "fitted_size",
    "from_pil",
    "read_picture",
    "read_settings",
    "resize",
    "room_left",
    "to_pil",
    "write_picture",
]
