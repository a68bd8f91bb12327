"""Store the settings of a run in the image that it made, as JSON.

Tools such as exiftool find them here: in PNG, a text chunk "gramstyle"; in JPEG, WebP and AVIF,
EXIF's UserComment; in TIFF, ImageDescription. Except in PNG, Software is "gramstyle".
"""

import json
import os
import struct
from collections.abc import Mapping
from typing import Any

import PIL.Image
from PIL import PngImagePlugin

from gramstyle.errors import ImageError
from gramstyle.images.opening import open_image
from gramstyle.images.problems import explain_read_failure, label, one_line, raise_image_error

_EXIF_POINTER, _USER_COMMENT = 0x8769, 0x9286
DESCRIPTION, SOFTWARE = 270, 305  # in TIFF as in EXIF
_ASCII = b"ASCII\0\0\0"  # the first eight bytes of an EXIF comment name its encoding
_NAME = "gramstyle"
_MAX_LENGTH = 60_000  # JPEG has 65,533 bytes for all of EXIF


def room_left(settings: Mapping[str, object]) -> int:
    """Return how many more characters of settings a file can store.

    Examples
    --------
    >>> from gramstyle.images import room_left
    >>> room_left({"size": 512}) > 0
    True
    """
    return _MAX_LENGTH - len(_as_text(settings))


def embedding(format_name: str, settings: Mapping[str, object]) -> dict[str, Any]:
    """Return the options of Pillow's save() that store settings in a file of a format."""
    text = _as_text(settings)
    if len(text) > _MAX_LENGTH:
        msg = f"its settings take {len(text):,} characters; keep them below {_MAX_LENGTH:,}"
        raise ImageError(msg)
    if format_name == "PNG":
        chunks = PngImagePlugin.PngInfo()
        chunks.add_itxt(_NAME, text)
        return {"pnginfo": chunks}
    if format_name == "TIFF":  # Pillow writes no EXIF block into a compressed TIFF
        return {"tiffinfo": {DESCRIPTION: text, SOFTWARE: _NAME}}
    return {"exif": _exif(text)}


def _as_text(settings: Mapping[str, object]) -> str:
    try:
        return json.dumps(dict(settings), sort_keys=True, separators=(",", ":"), allow_nan=False)
    except (TypeError, ValueError, RecursionError) as problem:
        msg = f"its settings are not JSON ({one_line(problem)}); use plain values"
        raise ImageError(msg) from problem


def read_settings(path: str | os.PathLike[str]) -> dict[str, Any] | None:
    """Read the settings that `write_image` stored in a file.

    Parameters
    ----------
    path : str or PathLike
        An image file. Its pixels are not decoded.

    Returns
    -------
    dict or None
        The settings; None if the file has none, or none that are a JSON object.

    Raises
    ------
    ImageError
        If the file is missing, damaged or not an image.

    Examples
    --------
    >>> import numpy as np
    >>> from gramstyle.images import Image, read_settings, write_image
    >>> image = Image(pixels=np.zeros((2, 3, 3), np.float32))
    >>> write_image("small.png", image, settings={"size": 512})
    >>> read_settings("small.png")
    {'size': 512}
    """
    with (
        raise_image_error(f"cannot read {label(path, 'image')}", explain_read_failure),
        open_image(path) as image,
    ):
        return _json_object(_embedded(image))


def _embedded(image: PIL.Image.Image) -> object:
    if image.format == "PNG":
        return image.info.get(_NAME)
    try:
        exif = image.getexif()
        comment = exif.get_ifd(_EXIF_POINTER).get(_USER_COMMENT)
    except Exception:  # broken EXIF raises many types, and gramstyle writes none
        return None
    if exif.get(SOFTWARE) != _NAME:
        return None
    if image.format == "TIFF":
        return exif.get(DESCRIPTION)
    if not isinstance(comment, bytes) or not comment.startswith(_ASCII):
        return None
    return comment.removeprefix(_ASCII)


def _json_object(text: object) -> dict[str, Any] | None:
    if not isinstance(text, (str, bytes)) or len(text) > _MAX_LENGTH:
        return None
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _exif(text: str) -> bytes:
    """Return an EXIF block with Software and UserComment.

    Pillow can make one, but gives the comment the type BYTE where the standard requires UNDEFINED.
    """
    software, comment = _NAME.encode() + b"\0", _ASCII + text.encode("ascii")
    # A header of 8 bytes, a directory of two entries, a directory of one, then the texts.
    second = 8 + 2 + 2 * 12 + 4
    texts = second + 2 + 12 + 4
    entry = ">HHII"  # tag, type (2 ASCII, 4 LONG, 7 UNDEFINED), count, value or its offset
    return b"".join(
        (
            b"Exif\0\0MM\0*",
            struct.pack(">IH", 8, 2),
            struct.pack(entry, SOFTWARE, 2, len(software), texts),
            struct.pack(entry, _EXIF_POINTER, 4, 1, second),
            struct.pack(">IH", 0, 1),
            struct.pack(entry, _USER_COMMENT, 7, len(comment), texts + len(software)),
            struct.pack(">I", 0),
            software,
            comment,
        )
    )
