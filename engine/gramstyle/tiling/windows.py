"""The pixels of a tile's window, also where the window continues at the opposite edge."""

from collections.abc import Iterator

from gramstyle.core.arrays import Array, namespace
from gramstyle.core.kernels import Area


def cut(x: Array, window: Area) -> Array:
    """Return the pixels of a window of x (3, H, W): a view; a copy where the window wraps."""
    if not _wraps(x, window):
        return x[:, *window]
    height, width = (span.stop - span.start for span in window)
    result: Array = namespace(x).empty((x.shape[0], height, width), dtype=x.dtype)
    for there, here in _pieces(x, window):
        result[:, *here] = x[:, *there]
    return result


def add(total: Array, window: Area, part: Array) -> None:
    """Add the pixels of a window (3, h, w) to those of the image (3, H, W)."""
    if not _wraps(total, window):
        total[:, *window] += part
        return
    for there, here in _pieces(total, window):
        total[:, *there] += part[:, *here]


def _wraps(x: Array, window: Area) -> bool:
    return any(
        span.start < 0 or span.stop > length
        for span, length in zip(window, x.shape[1:], strict=True)
    )


def _pieces(x: Array, window: Area) -> Iterator[tuple[Area, Area]]:
    """Yield the parts of a window that are adjacent in the image: there, and in the window."""
    for rows, rows_here in _spans(window[0], x.shape[1]):
        for columns, columns_here in _spans(window[1], x.shape[2]):
            yield (rows, columns), (rows_here, columns_here)


def _spans(span: slice, length: int) -> Iterator[tuple[slice, slice]]:
    at = span.start
    while at < span.stop:
        first = at % length
        count = min(length - first, span.stop - at)
        yield slice(first, first + count), slice(at - span.start, at - span.start + count)
        at += count
