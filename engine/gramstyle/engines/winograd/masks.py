"""Masks applied outside a convolution: the backward pass of a pooling, and a masked sum.

The forward pass stores what the backward pass needs to know of responses that it does not keep.
Under a ReLU, a mask has one bit for each value, set where F > 0. Under a max pooling, a byte says
which of a window's four entries is the largest, the first of equal ones, or `CLOSED`. All arrays
are flat, (H, V, C); a mask has (H, V, C / 8) bytes, the bit of the first channel the lowest. The
backward pass of a pooling computes the rows of windows from `first` to `last`.
"""

import numpy as np

from gramstyle.engines.winograd.simd import (
    WIDTH,
    load,
    load_bytes,
    splat,
    store,
    where_equal,
    where_greater,
    where_mask,
)
from gramstyle.system.compiling import compiled

# The argmax byte of a window in which no entry is above 0: its ReLUs are closed.
CLOSED = 4

_QUARTER, _ZERO = np.float32(0.25), np.float32(0)


@compiled
def max_pool_backward(dY, argmax, v, C, first, last, V, dX):
    """Write dX = dY (h, v, C) at each window's largest entry, else 0."""
    for y in range(first, last):
        for x in range(v):
            at = (y * v + x) * C
            for k in range(4):
                to = ((2 * y + k // 2) * V + 2 * x + k % 2) * C
                which = splat(np.float32(k))
                for c in range(0, C, WIDTH):
                    largest = load_bytes(argmax, at + c)
                    value = where_equal(largest, which, load(dY, at + c), splat(_ZERO))
                    store(dX, to + c, value)


@compiled
def avg_pool_backward(dY, mask, v, C, first, last, V, dX):
    """Write dX = dY / 4 where the mask is set, else 0."""
    for y in range(first, last):
        for x in range(v):
            at = (y * v + x) * C
            for k in range(4):
                to = ((2 * y + k // 2) * V + 2 * x + k % 2) * C
                for c in range(0, C, WIDTH):
                    store(dX, to + c, where_mask(mask, to + c, _QUARTER * load(dY, at + c)))


@compiled
def add_masked(dF, seed, F, first, last):
    """Set dF = dF + seed where F > 0, else 0, from index `first` to `last`; seed starts at 0."""
    zero = splat(_ZERO)
    for at in range(first, last, WIDTH):
        value = load(dF, at) + load(seed, at - first)
        store(dF, at, where_greater(load(F, at), zero, value, zero))
