"""Images of more than 8 bits per colour, which Pillow does not read in full precision.

A deep image is 16-bit RGB or grey with alpha, in a PNG or a TIFF, or floating-point RGB in a TIFF.
Pillow reads its header, so that size and memory are checked before anything is decoded.
"""

import struct
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from typing import IO, Any

import numpy as np
import PIL.Image
from numpy.typing import NDArray
from PIL import ImageFile, TiffImagePlugin

from gramstyle.errors import ImageError
from gramstyle.images.colour.managed import source_profile, srgb_profile
from gramstyle.images.colour.srgb import finite_range, grey_curves, grey_in_srgb, on_white, scaled
from gramstyle.images.deep.codecs import EXTRA, decode_png, transformed
from gramstyle.images.deep.tiff import DeepTiff, deep_tiff, read_deep_tiff
from gramstyle.images.image import Plane
from gramstyle.images.orientation import orientation_of
from gramstyle.images.strips import strips
from gramstyle.system.installing import remedy

# Pillow's names for the samples of a PNG of 16 bits, except of grey alone.
_PNG_MODES = ("RGB;16B", "RGBA;16B", "LA;16B")
_MOST_CHUNKS = 10_000
# What a PNG's bytes take while it is decoded, in the worst case.
_PNG_OVERHEAD = 8


@dataclass(frozen=True, kw_only=True)
class DeepImage:
    """A deep image whose header is known.

    Attributes
    ----------
    width, height
        The stored size in pixels.
    bytes_per_pixel
        The memory of the decoded samples.
    read
        Decodes the samples (H, W, channels).
    white
        The value of white: 65535, or 1 in floating point.
    inverted, premultiplied, opaque
        Whether white is 0; whether colours are multiplied by alpha; whether the last channel of an
        even number is not alpha.
    orientation
        EXIF's orientation, 1 to 8.
    header
        A Pillow image with the profile and the resolution of the file.
    """

    width: int
    height: int
    bytes_per_pixel: int
    read: Callable[[], NDArray[Any]]
    white: float = 65535.0
    inverted: bool = False
    premultiplied: bool = False
    opaque: bool = False
    orientation: object = 1
    header: PIL.Image.Image

    @property
    def bytes_while_decoding(self) -> int:
        """About how many bytes for each pixel decoding takes."""
        return 2 * self.bytes_per_pixel + _PNG_OVERHEAD


def deep_image(image: ImageFile.ImageFile) -> DeepImage | None:
    """Return the deep image in an opened file; None if there is none, or its library is missing."""
    if not libraries_installed():
        return None
    file = image.fp
    assert file is not None  # noqa: S101 - the file has just been opened
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        tiff = deep_tiff(image.tag_v2)
        return None if tiff is None else _of_tiff(file, tiff, image)
    if not is_deep(image):
        return None
    data = _read(file)
    width, height = image.size
    if data[12:16] != b"IHDR" or struct.unpack(">II", data[16:24]) != image.size:
        raise ImageError("its header is damaged; get a complete copy")
    return DeepImage(
        width=width,
        height=height,
        bytes_per_pixel=8,
        read=lambda: decode_png(data),
        orientation=_orientation_of_png(image, data),
        header=image,
    )


def deep_tiff_image(file: IO[bytes], tags: Mapping[int, Any]) -> DeepImage:
    """Return the deep image in a TIFF file that Pillow refuses."""
    tiff = deep_tiff(tags)
    assert tiff is not None  # noqa: S101 - `directory_of` has found it
    header = PIL.Image.new("L" if tiff.samples == 2 else "RGB", (1, 1))
    profile = tags.get(TiffImagePlugin.ICCPROFILE)
    if isinstance(profile, bytes):
        header.info["icc_profile"] = profile
    across, down = tags.get(TiffImagePlugin.X_RESOLUTION), tags.get(TiffImagePlugin.Y_RESOLUTION)
    unit = {2: 1.0, 3: 2.54}.get(tags.get(TiffImagePlugin.RESOLUTION_UNIT, 2))
    if unit and across is not None and down is not None:
        header.info["dpi"] = (across * unit, down * unit)
    return _of_tiff(file, tiff, header)


def is_deep(image: PIL.Image.Image) -> bool:
    """Return whether a file that Pillow has opened has more than the 8 bits that Pillow reads."""
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        return deep_tiff(image.tag_v2) is not None
    tile = getattr(image, "tile", None) or []
    return image.format == "PNG" and bool(tile) and tile[0].args in _PNG_MODES


def libraries_installed() -> bool:
    """Return whether the packages of the extra are installed, without importing them."""
    return all(find_spec(name) is not None for name in ("imagecodecs", "tifffile"))


def note_of_lost_bits() -> str:
    """Return what a message says about a deep image that is read with 8 bits."""
    return (
        "has 16 bits per colour, of which 8 are read without imagecodecs and tifffile; "
        f"{remedy(EXTRA)}"
    )


def part_reader(deep: DeepImage) -> Callable[[tuple[int, int, int, int]], Any]:
    """Decode an image; return the function that reads a box of it: colours on white, and alpha.

    Raises
    ------
    ImageError
        If a value is not finite, or a floating-point value is outside of 0..1.
    """
    samples = deep.read()
    if samples.shape[:2] != (deep.height, deep.width):
        raise ImageError("its size contradicts its header; get a complete copy")
    if samples.dtype.kind == "f":
        _check_floats(samples)
    if samples.shape[2] == 2:
        colours = partial(_grey_in_srgb, curves=grey_curves(deep.header))
    else:
        colours = partial(_in_srgb, profile=source_profile(deep.header, "RGB"))
    has_alpha = samples.shape[2] in (2, 4) and not deep.opaque

    def part(box: tuple[int, int, int, int]) -> tuple[Plane, Plane | None]:
        left, top, right, bottom = box
        levels = scaled(samples[top:bottom, left:right], deep.white)
        alpha = levels[:, :, -1] / np.float32(255) if has_alpha else None
        stored = levels[:, :, :3] if levels.shape[2] > 2 else levels[:, :, :1]
        if deep.inverted:
            stored = 255 - stored
        if alpha is not None and deep.premultiplied:
            stored = np.minimum(stored / np.maximum(alpha, 1e-6)[:, :, np.newaxis], 255)
        return on_white(colours(stored), alpha), alpha

    return part


def chunks_of(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Yield the kind of each chunk of a PNG, and where the chunk begins and ends."""
    place = 8
    for _ in range(_MOST_CHUNKS):
        if place + 12 > len(data):
            return
        (length,) = struct.unpack(">I", data[place : place + 4])
        end = place + 12 + length
        yield data[place + 4 : place + 8], place, end
        place = end


def _of_tiff(file: IO[bytes], tiff: DeepTiff, header: PIL.Image.Image) -> DeepImage:
    return DeepImage(
        width=tiff.width,
        height=tiff.height,
        bytes_per_pixel=tiff.samples * tiff.bytes,
        read=lambda: read_deep_tiff(file, tiff),
        white=65535.0 if tiff.kind == "u" else 1.0,
        inverted=tiff.inverted,
        premultiplied=tiff.extra == 1,
        opaque=tiff.extra == 0,
        orientation=tiff.orientation,
        header=header,
    )


def _read(file: IO[bytes]) -> bytes:
    place = file.tell()
    file.seek(0)
    data = file.read()
    file.seek(place)
    return data


def _orientation_of_png(image: PIL.Image.Image, data: bytes) -> object:
    """Return EXIF's orientation; Pillow would decode the whole image to find EXIF at its end."""
    if "exif" not in image.info and "Raw profile type exif" not in image.info:
        places = [(start, end) for kind, start, end in chunks_of(data) if kind == b"eXIf"]
        exif = [b"Exif\0\0" + data[start + 8 : end - 4] for start, end in places]
        image.info["exif"] = exif[0] if exif else b""
    return orientation_of(image)


def _check_floats(samples: NDArray[Any]) -> None:
    """Refuse floating-point colours that are not finite, or not from 0 to 1."""
    height, width = samples.shape[:2]
    ranges = [finite_range(samples[top:bottom]) for top, bottom in strips(width, height)]
    low, high = min(low for low, _ in ranges), max(high for _, high in ranges)
    if low < 0 or high > 1:
        msg = f"its values range from {low:g} to {high:g}"
        raise ImageError(f"{msg}; scale floating-point colours to 0..1")


def _grey_in_srgb(grey: Plane, curves: NDArray[np.float32] | None) -> Plane:
    """Return grey values, (H, W, 1) from 0 to 255, in sRGB."""
    return grey_in_srgb(grey[:, :, 0], curves)


def _in_srgb(colours: Plane, profile: bytes | None) -> Plane:
    """Return colours of a profile, (H, W, 3) from 0 to 255, in sRGB; None is sRGB."""
    if profile is None:
        return colours
    light = transformed(colours / np.float32(255), profile, srgb_profile())
    return light * np.float32(255)
