"""Read, resize and write images; the only package that decodes or encodes image files.

Every input is treated as hostile. An image is read completely or refused with an `ImageError`; a
file is written completely or left unchanged.
"""

from gramstyle.images.encoding import Encoding
from gramstyle.images.image import Image, fitted_size
from gramstyle.images.masks import MOST_LABELS, LabelMap, Mask, read_labels, read_mask
from gramstyle.images.original import Original, resize
from gramstyle.images.reading import (
    MAX_PIXELS,
    SUFFIXES,
    Source,
    from_pil,
    read_image,
    read_original,
)
from gramstyle.images.settings import read_settings, room_left
from gramstyle.images.writing import EXTENSIONS, check_output, encode_image, to_pil, write_image

__all__ = [
    "EXTENSIONS",
    "MAX_PIXELS",
    "MOST_LABELS",
    "SUFFIXES",
    "Encoding",
    "Image",
    "LabelMap",
    "Mask",
    "Original",
    "Source",
    "check_output",
    "encode_image",
    "fitted_size",
    "from_pil",
    "read_image",
    "read_labels",
    "read_mask",
    "read_original",
    "read_settings",
    "resize",
    "room_left",
    "to_pil",
    "write_image",
]
