"""Write images of 16 bits per channel, as PNG and TIFF."""

import io
from typing import Any

import numpy as np
import PIL.Image
from numpy.typing import NDArray

from gramstyle.errors import ImageError
from gramstyle.images.colour.managed import srgb_profile
from gramstyle.images.colour.srgb import undo_on_white
from gramstyle.images.deep.codecs import encode_png, transformed
from gramstyle.images.deep.reading import chunks_of
from gramstyle.images.deep.tiff import write_deep_tiff
from gramstyle.images.image import Image, Plane
from gramstyle.images.settings import DESCRIPTION, SOFTWARE
from gramstyle.images.strips import strips

_WHITE = 65535
_SIGNATURE_AND_HEADER = 8 + 25
_INCH = 2


def deep_levels(image: Image, profile: bytes | None) -> NDArray[np.uint16]:
    """Return an image as 16-bit levels, rounded once: (H, W, 3), or (H, W, 4) with alpha.

    Parameters
    ----------
    image
        Values outside 0..255 are clipped.
    profile
        The RGB profile to convert the colours to; None is sRGB.

    Raises
    ------
    ImageError
        If a value is NaN or infinite.
    """
    channels = 3 if image.alpha is None else 4
    levels = np.empty((image.height, image.width, channels), np.uint16)
    for top, bottom in strips(image.width, image.height):
        colours, alpha = image.pixels[top:bottom], None
        if image.alpha is not None:
            # Use the rounded alpha, which a reader of the file will see.
            levels[top:bottom, :, 3] = _rounded(image.alpha[top:bottom])
            alpha = levels[top:bottom, :, 3].astype(np.float32) / np.float32(_WHITE)
            colours = undo_on_white(colours, alpha, least=1 / _WHITE)
        shares = colours / np.float32(255)
        _check_finite(shares)
        if profile is not None:
            shares = transformed(np.clip(shares, 0, 1), srgb_profile(), profile)
        levels[top:bottom, :, :3] = _rounded(shares)
    return levels


def deep_png(levels: NDArray[np.uint16], **options: Any) -> bytes:
    """Return levels as the bytes of a PNG, with the metadata of Pillow's save().

    The library writes no metadata: its file gets those that Pillow writes into a file of one pixel.
    """
    sample = io.BytesIO()
    PIL.Image.new("RGB", (1, 1)).save(sample, "PNG", **options)
    written = sample.getvalue()
    metadata = b"".join(
        written[start:end]
        for kind, start, end in chunks_of(written)
        if kind not in (b"IHDR", b"IDAT", b"IEND")
    )
    data = encode_png(levels)
    return data[:_SIGNATURE_AND_HEADER] + metadata + data[_SIGNATURE_AND_HEADER:]


def deep_tiff_file(levels: NDArray[np.uint16], **options: Any) -> bytes:
    """Return levels as the bytes of a TIFF, with the metadata of Pillow's save()."""
    given: dict[str, Any] = {"iccprofile": options["icc_profile"]}
    if "dpi" in options:
        given |= {"resolution": options["dpi"], "resolutionunit": _INCH}
    tags = options.get("tiffinfo", {})
    if DESCRIPTION in tags:
        given |= {"description": tags[DESCRIPTION], "software": tags[SOFTWARE]}
    return write_deep_tiff(levels, **given)


def _rounded(shares: Plane) -> NDArray[np.uint16]:
    _check_finite(shares)
    levels = np.rint(shares * np.float32(_WHITE))
    rounded: NDArray[np.uint16] = np.clip(levels, 0, _WHITE).astype(np.uint16)
    return rounded


def _check_finite(values: Plane) -> None:
    if not np.isfinite(values).all():
        raise ImageError("the image has a value that is NaN or infinite; repeat the run")
