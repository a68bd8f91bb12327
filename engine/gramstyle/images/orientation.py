"""Read a stored image upright, as EXIF's orientation says, a few rows at a time."""

from collections.abc import Callable
from typing import TypeVar

import numpy as np
import PIL.Image

from gramstyle.images.image import Plane

_TAG = 0x0112  # EXIF
# The orientations (of 1 to 8) whose rows are stored as columns, and whose first row is stored last.
_SWAPPED, _FLIPPED = (5, 6, 7, 8), (3, 4, 7, 8)

T = TypeVar("T")

# Returns colours on white and alpha of a box (left, top, right, bottom) of a stored image.
Part = Callable[[tuple[int, int, int, int]], tuple[Plane, Plane | None]]
Rows = Callable[[int, int], tuple[Plane, Plane | None]]


def orientation_of(image: PIL.Image.Image) -> object:
    """Return EXIF's orientation, 1 (upright) to 8."""
    try:
        return image.getexif().get(_TAG, 1)
    except Exception:  # broken EXIF raises many types, and the image is usable without it
        return 1


def upright_size(width: T, height: T, orientation: object) -> tuple[T, T]:
    """Return what the width and the height of a stored image are once it is upright.

    Both may also be the resolutions across and down.
    """
    return (height, width) if orientation in _SWAPPED else (width, height)


def upright_rows(part: Part, size: tuple[int, int], orientation: object) -> Rows:
    """Return the function that reads rows of the upright image.

    Parameters
    ----------
    part
        Reads a box of the stored image.
    size
        The width and height of the upright image.
    """
    width, height = size

    def rows(top: int, bottom: int) -> tuple[Plane, Plane | None]:
        if orientation in _FLIPPED:
            top, bottom = height - bottom, height - top
        swapped = orientation in _SWAPPED
        colour, alpha = part((top, 0, bottom, width) if swapped else (0, top, width, bottom))
        return (
            _upright(colour, orientation),
            None if alpha is None else _upright(alpha, orientation),
        )

    return rows


def _upright(array: Plane, orientation: object) -> Plane:
    if orientation in _SWAPPED:
        array = np.swapaxes(array, 0, 1)
    if orientation in _FLIPPED:
        array = array[::-1]
    if orientation in (2, 3, 6, 7):
        array = array[:, ::-1]
    return np.ascontiguousarray(array)
