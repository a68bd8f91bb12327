"""How a result is stored in a file: bits per channel, colour profile and resolution."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import PIL.Image

from gramstyle.errors import ImageError
from gramstyle.images.deep.codecs import load_imagecodecs
from gramstyle.images.deep.tiff import load_tifffile
from gramstyle.images.orientation import upright_size

Dpi = tuple[float, float]

# The formats that store 16 bits per colour.
DEEP_FORMATS = ("PNG", "TIFF")
# Resolutions outside of these limits are mistakes in the file. JPEG stores 16 bits.
_LEAST_DPI, _MOST_DPI = 1.0, 65535.0


@dataclass(frozen=True)
class PrintData:
    """What an image file states for printing.

    Attributes
    ----------
    profile
        The embedded ICC profile; None if there is none.
    dpi
        Pixels per inch across and down the upright image; None if the file states none.
    """

    profile: bytes | None = None
    dpi: Dpi | None = None


NO_PRINT_DATA = PrintData()


@dataclass(frozen=True)
class Encoding:
    """How `write_image` stores an image.

    Attributes
    ----------
    depth
        Bits per channel: 8 or 16. PNG and TIFF store 16.
    profile
        The ICC profile of the RGB colour space to convert the image to, and to embed; None is sRGB.
    dpi
        The resolution to state, in pixels per inch across and down; None states none. WebP and AVIF
        store none.

    Examples
    --------
    >>> from gramstyle.images import Encoding
    >>> Encoding(depth=16, dpi=(300, 300)).depth
    16
    """

    depth: int = 8
    profile: bytes | None = None
    dpi: Dpi | None = None


def check_depth(depth: int, format_name: str) -> None:
    """Refuse 16 bits in a format that stores 8, or without the packages that write them."""
    if depth == 8:
        return
    if format_name not in DEEP_FORMATS:
        raise ImageError(
            f"{format_name} stores 8 bits per channel, not {depth}; choose .png or .tif"
        )
    load_tifffile() if format_name == "TIFF" else load_imagecodecs()


def print_data(image: PIL.Image.Image, orientation: object) -> PrintData:
    """Return the profile and the resolution of an image that Pillow has opened."""
    profile = image.info.get("icc_profile")
    kept = profile if isinstance(profile, bytes) and profile else None
    return PrintData(kept, _dpi(image.info, orientation))


def _dpi(info: Mapping[Any, Any], orientation: object) -> Dpi | None:
    stated = info.get("dpi")
    if not isinstance(stated, tuple):
        return None
    try:
        across, down = (float(value) for value in stated)
    except Exception:  # a damaged tag raises many types, and the image is usable without it
        return None
    if not all(math.isfinite(v) and _LEAST_DPI <= v <= _MOST_DPI for v in (across, down)):
        return None
    return upright_size(across, down, orientation)
