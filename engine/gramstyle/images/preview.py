"""Small images for a screen: quick to encode, and without metadata."""

import io

import PIL.Image

from gramstyle.images.image import Image, fitted_size
from gramstyle.images.original import Original
from gramstyle.images.writing import to_pil

# WebP's quality, and its method, whose slower ones save a tenth of the bytes.
_QUALITY, _METHOD = 80, 2


def preview(image: Image, longest: int) -> tuple[bytes, tuple[int, int]]:
    """Return an image as a small lossy WebP, and its width and height.

    Parameters
    ----------
    image
        The image, which is reduced if its longer edge has more than `longest` pixels.
    longest
        The longest edge in pixels.
    """
    shown = to_pil(image)
    size = _size(image.width, image.height, longest)
    if size != shown.size:
        shown = shown.resize(size, PIL.Image.Resampling.BILINEAR, reducing_gap=2.0)
    return _webp(shown), shown.size


def thumbnail(original: Original, longest: int) -> bytes:
    """Return a decoded image as a small lossy WebP; raises ImageError."""
    size = _size(original.width, original.height, longest)
    return _webp(to_pil(original.resized(*size)))


def _size(width: int, height: int, longest: int) -> tuple[int, int]:
    if max(width, height) <= longest:
        return width, height
    return fitted_size(width, height, longest)


def _webp(image: PIL.Image.Image) -> bytes:
    data = io.BytesIO()
    image.save(data, "WEBP", quality=_QUALITY, method=_METHOD)
    return data.getvalue()
