"""Read images from files, Pillow images and arrays."""

import io
import os
import stat
import struct
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import PIL.Image
from numpy.typing import NDArray
from PIL import ImageFile, TiffImagePlugin

from gramstyle.errors import ImageError
from gramstyle.images.colour import finite_range, on_white, scaled, to_srgb
from gramstyle.images.image import Image, Plane
from gramstyle.images.problems import as_path, explain_read_failure, raise_image_error

Source = str | os.PathLike[str] | bytes | PIL.Image.Image | NDArray[Any]

MAX_PIXELS = 100_000_000

# The formats that may be decoded. Pillow supports many more, some of which start other programs
# (EPS).
_READABLE = ("JPEG", "PNG", "WEBP", "TIFF", "AVIF", "BMP", "GIF", "PPM", "JPEG2000")
# The usual extensions of these formats, by which images are found in a folder.
SUFFIXES = frozenset([
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".tif", ".tiff", ".avif", ".bmp", ".gif",
    ".ppm", ".pgm", ".pnm", ".jp2",
])  # fmt: skip
_ORIENTATION = 0x0112  # EXIF
_WIDTH, _HEIGHT = 256, 257  # TIFF

# warnings.catch_warnings changes the state of the whole process, so only one thread may use it.
_warnings_lock = threading.Lock()


def read_image(source: Source, *, name: str = "image", max_pixels: int = MAX_PIXELS) -> Image:
    """Read an image upright and in sRGB, composited over white where it is transparent.

    Parameters
    ----------
    source : path, PIL.Image.Image or ndarray
        A JPEG, PNG, WebP, TIFF, AVIF, BMP, GIF, PPM or JPEG 2000 file (its first frame, if it
        has several), a Pillow image (its current frame), or an array of shape (H, W), (H, W, 1),
        (H, W, 3) or (H, W, 4), where the fourth channel is alpha. Arrays are sRGB: uint8 from 0
        to 255, uint16 from 0 to 65535, or floating point from 0 to 1.
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
    and alpha is returned separately. Pillow reduces 16-bit colour to 8 bits; 16-bit grey keeps
    all 16.

    Examples
    --------
    >>> import numpy as np
    >>> from gramstyle.images import read_image
    >>> image = read_image(np.full((2, 3), 51, np.uint8))
    >>> image.width, image.height, image.pixels[0, 0].tolist()
    (3, 2, [51.0, 51.0, 51.0])
    """
    with raise_image_error(f"cannot read {_label(source, name)}", explain_read_failure):
        if isinstance(source, np.ndarray):
            return _from_array(np.asarray(source), max_pixels)
        if isinstance(source, PIL.Image.Image):
            with _without_warnings():
                return _decoded(source, max_pixels)
        if isinstance(source, (str, os.PathLike)):
            with open_image(source) as image:
                return _decoded(image, max_pixels)
        if isinstance(source, bytes):
            with _without_warnings(), _identified(io.BytesIO(source)) as image:
                return _decoded(image, max_pixels)
        msg = f"it is a {type(source).__name__}; pass a path, a Pillow image or a NumPy array"
        raise ImageError(msg)


def _label(source: object, name: str) -> str:
    """Return what error messages call a source: a path in quotes, with line breaks escaped."""
    if isinstance(source, (str, os.PathLike)):
        return repr(os.fspath(source))
    return " ".join(name.split())


@contextmanager
def _without_warnings() -> Iterator[None]:
    """Suppress Pillow's warnings: most concern odd metadata, which the user cannot repair."""
    with _warnings_lock, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@contextmanager
def open_image(path: str | os.PathLike[str]) -> Iterator[ImageFile.ImageFile]:
    """Open an image file and read only its header."""
    path = as_path(path)
    status = path.stat()
    if stat.S_ISDIR(status.st_mode):
        raise ImageError("it is a folder; name an image in it")
    if not stat.S_ISREG(status.st_mode):  # opening a pipe could block forever
        raise ImageError("it is not a regular file; save the image to disk first")
    if not status.st_size:
        raise ImageError("the file is empty; get a complete copy")
    with path.open("rb") as file, _without_warnings(), _identified(file) as image:
        yield image


def _identified(file: io.BufferedReader | io.BytesIO) -> ImageFile.ImageFile:
    """Do what PIL.Image.open does, except for its check of PIL.Image.MAX_IMAGE_PIXELS.

    That limit belongs to the whole process, so lifting it for one image, even briefly, lifts it
    for every thread. `_decoded` checks each image against its caller's own limit instead.
    """
    PIL.Image.init()
    prefix = file.read(16)
    problem: Exception | None = None
    for format_name in _READABLE:
        factory, accepts = PIL.Image.OPEN[format_name]
        accepted = accepts is None or accepts(prefix)
        if isinstance(accepted, str):
            msg = f"this Pillow has no {format_name} decoder; convert the image to PNG"
            raise ImageError(msg)
        if accepted:
            file.seek(0)
            try:
                return factory(file, "")  # without a name, Pillow does not map it into memory
            except (SyntaxError, IndexError, KeyError, TypeError, struct.error) as exception:
                problem = exception
    if problem is not None:
        raise problem
    raise ImageError("it is not an image of a known format; convert it to PNG or JPEG")


def from_pil(image: PIL.Image.Image) -> Image:
    """Convert a Pillow image that gramstyle made; as `read_image`, but of any size.

    Raises
    ------
    ImageError
        As for `read_image`.
    """
    return read_image(image, max_pixels=image.width * image.height)


def _decoded(image: PIL.Image.Image, max_pixels: int) -> Image:
    _check_size(image.width, image.height, max_pixels)
    if isinstance(image, TiffImagePlugin.TiffImageFile) and image.tile:
        # Pillow checks its own limit again when it allocates a TIFF's pixels, unless they are
        # allocated already. The tags contain the size before rotation.
        image.im = PIL.Image.new(image.mode, (image.tag_v2[_WIDTH], image.tag_v2[_HEIGHT])).im
    image.load()
    colour, alpha = to_srgb(image)
    # Read after decoding, since some decoders rotate the image themselves and remove the tag.
    orientation = _orientation(image)
    return Image(
        _upright(on_white(colour, alpha), orientation),
        None if alpha is None else _upright(alpha, orientation),
    )


def _check_size(width: int, height: int, max_pixels: int) -> None:
    if not width * height:
        raise ImageError("it has no pixels; choose an image of at least 1 × 1")
    if width * height > max_pixels:
        raise ImageError(
            f"it has {width} × {height} = {width * height:,} pixels and the limit is "
            f"{max_pixels:,}; raise it with --max-pixels / max_pixels"
        )


def _orientation(image: PIL.Image.Image) -> object:
    """Return EXIF's orientation, 1 (upright) to 8."""
    try:
        return image.getexif().get(_ORIENTATION, 1)
    except Exception:  # broken EXIF raises many types, and the image is usable without it
        return 1


def _upright(array: Plane, orientation: object) -> Plane:
    if orientation in (5, 6, 7, 8):
        array = np.swapaxes(array, 0, 1)
    if orientation in (3, 4, 7, 8):
        array = array[::-1]
    if orientation in (2, 3, 6, 7):
        array = array[:, ::-1]
    return np.ascontiguousarray(array)


def _from_array(array: NDArray[Any], max_pixels: int) -> Image:
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (1, 3, 4)):
        raise ImageError(
            f"an array of shape {array.shape} is not an image; "
            "pass (H, W), (H, W, 1), (H, W, 3) or (H, W, 4)"
        )
    _check_size(array.shape[1], array.shape[0], max_pixels)
    white = _white_of_array(array)
    channels = scaled(array if array.ndim == 3 else array[:, :, np.newaxis], white)
    alpha = channels[:, :, 3] / np.float32(255) if channels.shape[2] == 4 else None
    colour = np.repeat(channels, 3, axis=2) if channels.shape[2] == 1 else channels[:, :, :3]
    return Image(np.ascontiguousarray(on_white(colour, alpha)), alpha)


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
