"""Read images from files, Pillow images and arrays."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import PIL.Image
from numpy.typing import NDArray

from gramstyle.errors import ImageError
from gramstyle.images.colour.srgb import converter, finite_range, on_white, scaled
from gramstyle.images.decoding import bytes_per_pixel, bytes_while_decoding, load
from gramstyle.images.deep.reading import (
    DeepImage,
    deep_image,
    deep_tiff_image,
    is_deep,
    note_of_lost_bits,
    part_reader,
)
from gramstyle.images.deep.tiff import directory_of
from gramstyle.images.encoding import print_data
from gramstyle.images.image import Image, Plane
from gramstyle.images.opening import Encoded, binary_file, identified, without_warnings
from gramstyle.images.orientation import orientation_of, upright_rows, upright_size
from gramstyle.images.original import Original
from gramstyle.images.problems import explain_read_failure, label, raise_image_error
from gramstyle.system.machine import physical_memory

Source = Encoded | PIL.Image.Image | NDArray[Any]

MAX_PIXELS = 100_000_000

# The usual extensions of these formats, by which images are found in a folder. An .mpo file is a
# JPEG that is followed by further images.
SUFFIXES = frozenset([
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".tif", ".tiff", ".avif", ".bmp", ".gif",
    ".ppm", ".pgm", ".pnm", ".jp2", ".mpo",
])  # fmt: skip
# The bytes of an `Image` for each pixel: three colours and alpha as float32.
_FLOAT_BYTES = 16


def read_image(source: Source, *, name: str = "image", max_pixels: int = MAX_PIXELS) -> Image:
    """Read an image upright and in sRGB, composited over white where it is transparent.

    Parameters
    ----------
    source : path, bytes, binary file, PIL.Image.Image or ndarray
        A JPEG, PNG, WebP, TIFF, AVIF, BMP, GIF, PPM or JPEG 2000 file (its first frame, if it
        has several): its path, its bytes, or an open file, which is read from its start. A Pillow
        image (its current frame). An array of shape (H, W), (H, W, 1), (H, W, 3) or (H, W, 4),
        where the fourth channel is alpha; arrays are sRGB: uint8 from 0 to 255, uint16 from 0 to
        65535, or floating point from 0 to 1.
    name : str, optional
        What error messages call a source that is not a path.
    max_pixels : int, optional
        The largest number of pixels (width × height). A larger image is refused before it is
        decoded.

    Returns
    -------
    Image
        Pixels of shape (H, W, 3), float32 from 0 to 255, and alpha of shape (H, W), float32 from
        0 to 1, or None. Both arrays are new and share no memory with the source.

    Raises
    ------
    ImageError
        If the source is missing, damaged, too large or not an image.

    See Also
    --------
    write_image : Write an image to a file.
    resize : Resample an image.

    Notes
    -----
    EXIF orientation is applied and ICC profiles are converted to sRGB. The colour of a fully
    transparent pixel is arbitrary, often black or random, so colours are composited over white
    and alpha is returned separately. 16-bit colour needs the packages of the extra "formats";
    without them it is read with 8 bits. 16-bit grey always keeps all 16.

    Examples
    --------
    >>> import numpy as np
    >>> from gramstyle.images import read_image
    >>> image = read_image(np.full((2, 3), 51, np.uint8))
    >>> image.width, image.height, image.pixels[0, 0].tolist()
    (3, 2, [51.0, 51.0, 51.0])
    """
    limits = _Limits(max_pixels, physical_memory(), _FLOAT_BYTES, "make it smaller")
    return _original(source, name, limits).image()


def read_original(
    source: Source,
    *,
    name: str = "image",
    max_pixels: int = MAX_PIXELS,
    max_bytes: int | None = None,
) -> Original:
    """Decode an image, as `read_image`, without its conversion to floating point.

    Parameters
    ----------
    source, name, max_pixels
        As in `read_image`.
    max_bytes : int, optional
        The memory that decoding may take; an image that takes more is refused before it is
        decoded.

    Returns
    -------
    Original
        It refers to the memory of the source if that is an array or a Pillow image.

    Raises
    ------
    ImageError
        As for `read_image`.

    Examples
    --------
    >>> from gramstyle.images import read_original
    >>> with open("photo.jpg", "rb") as file:
    ...     original = read_original(file)
    ...
    >>> original.width, original.height
    (64, 48)
    """
    return _original(source, name, _Limits(max_pixels, max_bytes))


@dataclass(frozen=True)
class _Limits:
    """The limits of a caller, the further bytes per pixel that it needs, and the remedy."""

    pixels: int
    bytes: int | None
    extra: int = 0
    remedy: str = "make it smaller or raise --memory / memory"

    def check(self, width: int, height: int, bytes_per_pixel: int) -> None:
        """Refuse an image that is too large."""
        pixels = width * height
        if not pixels:
            raise ImageError("it has no pixels; choose an image of at least 1 × 1")
        if pixels > self.pixels:
            raise ImageError(
                f"it has {width} × {height} = {pixels:,} pixels and the limit is "
                f"{self.pixels:,}; raise it with --max-pixels / max_pixels"
            )
        needed = pixels * (bytes_per_pixel + self.extra)
        if self.bytes is not None and needed > self.bytes:
            raise ImageError(
                f"decoding its {width} × {height} pixels takes {needed / 1e9:.2g} GB and "
                f"{max(self.bytes, 0) / 1e9:.2g} GB of memory is left; {self.remedy}"
            )


def _original(source: Source, name: str, limits: _Limits) -> Original:
    start = f"cannot read {label(source, name)}"
    with raise_image_error(start, explain_read_failure):
        if isinstance(source, np.ndarray):
            return _from_array(np.asarray(source), limits, start)
        if isinstance(source, PIL.Image.Image):
            with without_warnings():
                return _decoded(source, limits, start)
        with binary_file(source) as file:
            tags = directory_of(file)
            if tags is not None:
                return _from_deep(deep_tiff_image(file, tags), limits, start)
            with identified(file) as image:
                deep = deep_image(image)
                if deep is not None:
                    return _from_deep(deep, limits, start)
                return _decoded(image, limits, start)


def from_pil(image: PIL.Image.Image) -> Image:
    """Convert a Pillow image that gramstyle made; as `read_image`, but of any size.

    Raises
    ------
    ImageError
        As for `read_image`.

    Examples
    --------
    >>> import PIL.Image
    >>> from gramstyle.images import from_pil
    >>> from_pil(PIL.Image.new("RGB", (3, 2), "red")).pixels[0, 0].tolist()
    [255.0, 0.0, 0.0]
    """
    return read_original(image, max_pixels=image.width * image.height).image()


def _decoded(image: PIL.Image.Image, limits: _Limits, start: str) -> Original:
    limits.check(image.width, image.height, bytes_while_decoding(image))
    note = note_of_lost_bits() if is_deep(image) else ""
    image = load(image)
    convert = converter(image)
    # Read after decoding, since some decoders rotate the image themselves and remove the tag.
    orientation = orientation_of(image)

    def part(box: tuple[int, int, int, int]) -> tuple[Plane, Plane | None]:
        with without_warnings():
            colour, alpha = convert(image.crop(box))
            return on_white(colour, alpha), alpha

    size = upright_size(image.width, image.height, orientation)
    return Original(
        *size,
        upright_rows(part, size, orientation),
        image.width * image.height * bytes_per_pixel(image),
        start,
        print_data(image, orientation),
        note,
    )


def _from_deep(deep: DeepImage, limits: _Limits, start: str) -> Original:
    limits.check(deep.width, deep.height, deep.bytes_while_decoding)
    part = part_reader(deep)
    size = upright_size(deep.width, deep.height, deep.orientation)
    return Original(
        *size,
        upright_rows(part, size, deep.orientation),
        deep.width * deep.height * deep.bytes_per_pixel,
        start,
        print_data(deep.header, deep.orientation),
    )


def _from_array(array: NDArray[Any], limits: _Limits, start: str) -> Original:
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (1, 3, 4)):
        raise ImageError(
            f"an array of shape {array.shape} is not an image; "
            "pass (H, W), (H, W, 1), (H, W, 3) or (H, W, 4)"
        )
    height, width = array.shape[:2]
    limits.check(width, height, 0)
    white = _white_of_array(array)

    def rows(top: int, bottom: int) -> tuple[Plane, Plane | None]:
        part = array[top:bottom]
        channels = scaled(part if part.ndim == 3 else part[:, :, np.newaxis], white)
        alpha = channels[:, :, 3] / np.float32(255) if channels.shape[2] == 4 else None
        colour = np.repeat(channels, 3, axis=2) if channels.shape[2] == 1 else channels[:, :, :3]
        return on_white(colour, alpha), alpha

    return Original(width, height, rows, 0, start)


def _white_of_array(array: NDArray[Any]) -> float:
    """Return the value of white in an array, by its type."""
    if array.dtype == np.uint8:
        return 255.0
    if array.dtype.kind == "u" and array.dtype.itemsize == 2:  # in any byte order
        return 65535.0
    if array.dtype.kind != "f":
        msg = f"an array of {array.dtype} is not an image"
        raise ImageError(f"{msg}; pass uint8, uint16 or floating point from 0 to 1")
    low, high = finite_range(array)
    if low < 0 or high > 1:
        msg = f"a floating-point array must lie within 0..1 and this one spans {low:g}..{high:g}"
        raise ImageError(f"{msg}; scale it, or convert it to uint8")
    return 1.0
