"""Bands of rows: the pieces of an image that threads work on.

The split depends on the shapes alone, never on the number of threads, so that a sum over bands has
the same bits whatever the number of threads.
"""

from gramstyle.core.kernels import Area


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
