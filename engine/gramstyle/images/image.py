"""An image in memory, its size and its resampling."""

from dataclasses import dataclass

import numpy as np
import PIL.Image
from numpy.typing import NDArray

from gramstyle.errors import OptionError

Plane = NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Image:
    """An image in memory.

    Attributes
    ----------
    pixels : ndarray of float32, shape (height, width, 3)
        sRGB, 0 to 255. Where the image is transparent: its colours composited over white.
    alpha : ndarray of float32, shape (height, width), or None
        Opacity, 0 to 1; None where the source has no transparency.
    """

    pixels: NDArray[np.float32]
    alpha: NDArray[np.float32] | None = None

    @property
    def height(self) -> int:
        """Number of rows."""
        return int(self.pixels.shape[0])

    @property
    def width(self) -> int:
        """Number of columns."""
        return int(self.pixels.shape[1])


def fitted_size(width: int, height: int, longer_edge: int) -> tuple[int, int]:
    """Return the size with the given longer edge and the same aspect ratio, to the nearest pixel.

    Parameters
    ----------
    width, height : int
        The current size in pixels, at least 1 each.
    longer_edge : int
        The new longer edge in pixels; it may exceed the current one.

    Returns
    -------
    tuple of int
        Width and height in pixels, at least 1 each.

    Raises
    ------
    OptionError
        If a number is below 1.
    """
    if min(width, height, longer_edge) < 1:
        msg = f"an image of {width} × {height} cannot get a longer edge of {longer_edge} pixels"
        raise OptionError(f"{msg}; give numbers from 1 up")
    longer = max(width, height)
    # Integer arithmetic, since a float quotient can fall on the wrong side of a half.
    return (
        max(1, (2 * width * longer_edge + longer) // (2 * longer)),
        max(1, (2 * height * longer_edge + longer) // (2 * longer)),
    )


def resize(image: Image, width: int, height: int) -> Image:
    """Resample an image with an antialiasing Lanczos filter, entirely in floating point.

    Colours need no weighting by alpha: compositing over white is linear in the premultiplied
    colour, so filtering pixels and alpha separately keeps them consistent.

    Parameters
    ----------
    image : Image
    width, height : int
        The new size in pixels.

    Returns
    -------
    Image
        The resampled image, clipped to 0..255, since the filter overshoots at edges. The same
        object if the size does not change.

    Raises
    ------
    OptionError
        If `width` or `height` is below 1.
    """
    if min(width, height) < 1:
        msg = f"an image cannot be resized to {width} × {height}; give a size of at least 1 × 1"
        raise OptionError(msg)
    if (width, height) == (image.width, image.height):
        return image
    planes = [_resampled(image.pixels[:, :, channel], width, height) for channel in range(3)]
    alpha = None if image.alpha is None else _resampled(image.alpha, width, height)
    return Image(
        np.clip(np.stack(planes, axis=-1), 0, 255),
        None if alpha is None else np.clip(alpha, 0, 1),
    )


def _resampled(plane: Plane, width: int, height: int) -> Plane:
    image = PIL.Image.fromarray(np.ascontiguousarray(plane, dtype=np.float32))  # Pillow's mode "F"
    return np.asarray(image.resize((width, height), PIL.Image.Resampling.LANCZOS))
