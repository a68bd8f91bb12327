"""Vectors of n entries in blocks: nothing here makes another array as long as they are."""

from collections.abc import Iterator
from contextlib import AbstractContextManager
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from threadpoolctl import ThreadpoolController

from gramstyle.core.arrays import Array, cast, namespace
from gramstyle.optimise.descent import BRIGHTEST, DARKEST

# Entries in a block. On the host a block of ten pairs in float64, 2.6 MB, stays in the cache; on
# a device there is more to gain from few and large products: 42 MB.
BLOCK, DEVICE_BLOCK = 1 << 14, 1 << 18


class Gradient(NamedTuple):
    """The gradient (n,) in the type in which it came, and what it is multiplied by."""

    unscaled: Array
    scale: float

    def block(self, entries: slice) -> Array:
        """Return these entries, scaled, in float64."""
        return self.scale * cast(self.unscaled[entries], "float64")


def blocks(vector: Array) -> Iterator[slice]:
    """Split (n,) into blocks."""
    n = vector.shape[0]
    length = BLOCK if isinstance(vector, np.ndarray) else DEVICE_BLOCK
    for start in range(0, n, length):
        yield slice(start, min(start + length, n))


def flat(array: Array) -> Array:
    """Return the array as (n,), without a copy."""
    vector: Array = namespace(array).reshape(array, (-1,))
    return vector


def clipped(x: Array) -> Array:
    """Return x, of any shape, within its bounds."""
    inside: Array = namespace(x).clip(x, DARKEST, BRIGHTEST)
    return inside


def moved(x: Array, d: Array, t: float) -> Array:
    """Return x + t d within its bounds, all (n,) and in x's type."""
    there: Array = namespace(x).empty_like(x)
    for b in blocks(x):
        exact = cast(x[b], "float64") + t * cast(d[b], "float64")
        there[b] = cast(clipped(exact), x.dtype)
    return there


def slope(g: Gradient, d: Array) -> float:
    """Return gᵀd, summed in float64; not finite where g is not, even where d is 0."""
    xp = namespace(d)
    total = xp.zeros((), dtype=xp.float64)
    # What is not finite is found by the sum, and said by whoever asked for it.
    with np.errstate(invalid="ignore"):
        for b in blocks(d):
            total += xp.sum(g.block(b) * cast(d[b], "float64"))
    return float(total)


def one_blas_thread() -> AbstractContextManager[Any]:
    """Hold the host's BLAS to one thread.

    Products of one block are so short that a second thread gains nothing, and costs a multiple of
    the whole where the cores have other work.
    """
    limit: AbstractContextManager[Any] = _libraries().limit(limits=1, user_api="blas")
    return limit


@cache
def _libraries() -> ThreadpoolController:
    return ThreadpoolController()
