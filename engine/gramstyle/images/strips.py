"""Divide an image into strips of rows, so that few pixels at a time are in floating point."""

from collections.abc import Iterator

# A strip of this many pixels takes about 20 MB while its colours are converted.
_PIXELS = 2**18


def strips(width: int, height: int) -> Iterator[tuple[int, int]]:
    """Yield the first row, and the row after the last, of each strip of an image."""
    rows = max(1, _PIXELS // width)
    for top in range(0, height, rows):
        yield top, min(top + rows, height)
