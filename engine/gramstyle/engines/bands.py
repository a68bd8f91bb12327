"""Bands of rows: the pieces of an image that threads work on.

The split depends on the shapes alone, never on the number of threads, so that a sum over bands has
the same bits whatever the number of threads.
"""

from dataclasses import dataclass
from typing import Self

from gramstyle.core.arrays import Array
from gramstyle.core.kernels import Area


@dataclass(frozen=True)
class Guide:
    """A guidance (h, v) of the owned positions, by bands of them.

    Attributes
    ----------
    T
        The guidance.
    top, left
        The row and the column of the responses where it begins.
    """

    T: Array
    top: int
    left: int

    @classmethod
    def of(cls, T: Array, owned: Area | None) -> Self:
        """Return the guide of the owned positions; of all of them if `owned` is None."""
        return cls(T, 0, 0) if owned is None else cls(T, owned[0].start, owned[1].start)

    def at(self, here: Area) -> Array:
        """Return the guidance (M,) in an area of the responses."""
        rows, columns = here
        return self.T[
            rows.start - self.top : rows.stop - self.top,
            columns.start - self.left : columns.stop - self.left,
        ].reshape(-1)


def owned_area(shape: tuple[int, ...], owned: Area | None) -> Area:
    """Return the owned rows and columns of responses (N, H, V): all of them if `owned` is None."""
    return (slice(0, shape[1]), slice(0, shape[2])) if owned is None else owned


def bands(rows: slice, height: int) -> list[slice]:
    """Split rows into bands of this height; the last band may be lower."""
    return [
        slice(first, min(first + height, rows.stop))
        for first in range(rows.start, rows.stop, height)
    ]


def area_bands(area: Area, positions: int) -> list[Area]:
    """Split an area into bands of about `positions` positions; an empty area has none."""
    rows, columns = area
    width = columns.stop - columns.start
    if not width:
        return []
    return [(band, columns) for band in bands(rows, max(1, positions // width))]
