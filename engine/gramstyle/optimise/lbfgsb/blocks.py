"""Operations on vectors of n entries, block by block: temporary arrays are one block long."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from gramstyle.core.arrays import Array, cast, namespace
from gramstyle.optimise.interface import LOWER, UPPER

# Entries in a block. On the host, a block of ten pairs in float64 takes 2.6 MB and fits the cache;
# a device works better on few large products (42 MB).
BLOCK, DEVICE_BLOCK = 1 << 14, 1 << 18


class Gradient(NamedTuple):
    """The gradient (n,) as the objective returned it, and the factor that scales it."""

    unscaled: Array
    scale: float

    def block(self, entries: slice) -> Array:
        """Return these entries, scaled, in float64."""
        return self.scale * cast(self.unscaled[entries], "float64")


def blocks(vector: Array) -> Iterator[slice]:
    """Yield the slices of the blocks of a vector (n,)."""
    n = vector.shape[0]
    length = BLOCK if isinstance(vector, np.ndarray) else DEVICE_BLOCK
    for start in range(0, n, length):
        yield slice(start, min(start + length, n))


def flat(array: Array) -> Array:
    """Return the array reshaped to (n,), without a copy."""
    vector: Array = namespace(array).reshape(array, (-1,))
    return vector


def clip(x: Array) -> Array:
    """Return x, of any shape, clipped to its bounds."""
    result: Array = namespace(x).clip(x, LOWER, UPPER)
    return result


def clipped_step(x: Array, d: Array, t: float) -> Array:
    """Return x + t d clipped to the bounds; all are (n,) and in x's type."""
    result: Array = namespace(x).empty_like(x)
    for b in blocks(x):
        exact = cast(x[b], "float64") + t * cast(d[b], "float64")
        result[b] = cast(clip(exact), x.dtype)
    return result


def slope(g: Gradient, d: Array) -> float:
    """Return gᵀd, summed in float64; not finite if an entry of g is not, even where d is 0."""
    xp = namespace(d)
    total = xp.zeros((), dtype=xp.float64)
    # The caller checks whether the sum is finite and reports it, so NumPy need not warn.
    with np.errstate(invalid="ignore"):
        for b in blocks(d):
            total += xp.sum(g.block(b) * cast(d[b], "float64"))
    return float(total)
