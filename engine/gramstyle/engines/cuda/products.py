"""Convolutions as matrix products: patches times kernels, strip by strip.

Responses are stored as (positions, channels). The patch of a position is the row of the 9 C values
that a 3×3 convolution reads there. A convolution is then one product, (positions, 9 C) × (9 C, N),
whose result is stored as the responses are: nothing is transposed in either pass. Nine products
with shifted images need no patches, but each is only C long, and reads and writes the whole result:
docs/gpu.md compares the two by calculation. Neither has been measured on a GPU.

The patches of a strip of rows are computed, multiplied, and overwritten by those of the next strip.
"""

from math import prod

from gramstyle.core.arrays import Array, namespace
from gramstyle.core.layers import Padding, ring_sources
from gramstyle.engines.cuda.steps import padding_number, steps

# The most entries of the patches of a strip: 128 MB in float32. Chosen without a GPU: smaller
# strips take more calls, larger ones more memory.
ENTRIES = 1 << 25


class Buffers:
    """Arrays by name, allocated by the first evaluation and used again by the others.

    Parameters
    ----------
    entries
        How many entries the patches of a strip have at most; a strip has at least one row.
    """

    def __init__(self, entries: int = ENTRIES) -> None:
        self.entries = entries
        self._arrays: dict[str, Array] = {}

    def __call__(self, name: str, shape: tuple[int, ...], like: Array) -> Array:
        """Return the array of this name, in this shape, its contents undefined."""
        size, array = prod(shape), self._arrays.get(name)
        if array is None or array.size < size or array.dtype != like.dtype:
            self._arrays.pop(name, None)  # free the old one before allocating the new one
            del array
            array = self._arrays[name] = namespace(like).empty(size, dtype=like.dtype)
        return array[:size].reshape(shape)


def convolve(
    X: Array, taps: Array, Z: Array, buffers: Buffers, padding: Padding = "zeros", ring: int = 0
) -> None:
    """Z[y, x] = patch of X around (y − ring, x − ring) times the taps.

    Parameters
    ----------
    X
        The input (H, V, C), contiguous.
    taps
        The kernels (9 C, N): the rows are the taps in reading order, and the channels of each.
    Z
        The result (H + 2 ring, V + 2 ring, N), contiguous.
    padding
        The values outside X.
    ring
        How far outside X results are computed, with zeros as padding.
    """
    xp, run = namespace(X), steps(namespace(X)).patches
    (H, V, C), (height, width, N) = X.shape, Z.shape
    group = _group(C)
    rows = max(1, buffers.entries // (9 * C * width))
    for first in range(0, height, rows):
        count = min(rows, height - first) * width
        P = buffers("patches", (count, 9 * C), X)
        run(
            X.reshape(-1), H, V, C, group, first, width, 1 + ring, padding_number(padding),
            P.reshape(-1), size=count * 9 * group,
        )  # fmt: skip
        xp.matmul(P, taps, out=Z.reshape(-1, N)[first * width : first * width + count])


def fold(padded: Array, dX: Array, padding: Padding) -> None:
    """dX (H, V, C) from the derivative by the padded X (H + 2, V + 2, C): `layers.pad_backward`."""
    H, V, C = dX.shape
    group = _group(C)
    edges = (*ring_sources(H, padding), *ring_sources(V, padding))
    run = steps(namespace(dX)).fold
    run(padded.reshape(-1), H, V, C, group, *edges, dX.reshape(-1), size=H * V * group)


def unpatch(P: Array, dX: Array, padding: Padding) -> None:
    """dX (H, V, C) from the derivatives P by its patches, (H V, 9 C): added where they are from."""
    H, V, C = dX.shape
    outside = (-1, -1)  # at no position of X
    rows = outside if padding == "zeros" else ring_sources(H, padding)
    columns = outside if padding == "zeros" else ring_sources(V, padding)
    run = steps(namespace(dX)).unpatch
    run(P.reshape(-1), H, V, C, *rows, *columns, dX.reshape(-1), size=dX.size)


def positions_first(F: Array) -> Array:
    """Return responses (N, H, V) as (H, V, N), without a copy."""
    return F.transpose(1, 2, 0)


def channels_first(F: Array) -> Array:
    """Return responses (H, V, N) as (N, H, V), without a copy."""
    return F.transpose(2, 0, 1)


def as_stored(name: str, F: Array, buffers: Buffers) -> Array:
    """Return the responses F (N, H, V) of a layer, copied into the engine's memory order."""
    stored = buffers(f"responses of {name}", (*F.shape[1:], F.shape[0]), F)
    stored[...] = positions_first(F)
    return channels_first(stored)


def _group(C: int) -> int:
    """Return how many threads copy C channels: a thread that copies four divides less."""
    return C // 4 if C % 4 == 0 else C
