"""An image in memory and its size."""

from dataclasses import dataclass

import numpy as np
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

    Examples
    --------
    >>> import numpy as np
    >>> from gramstyle.images import Image
    >>> image = Image(pixels=np.zeros((2, 3, 3), np.float32))
    >>> image.width, image.height
    (3, 2)
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

    Examples
    --------
    >>> from gramstyle.images import fitted_size
    >>> fitted_size(6000, 4000, 512)
    (512, 341)
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
