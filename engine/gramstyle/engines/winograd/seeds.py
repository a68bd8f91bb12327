"""The derivative of a style term, added to dF while both are in the cache."""

import numpy as np

from gramstyle.engines.winograd.products import NARROW, WIDE, multiply_panel
from gramstyle.engines.winograd.simd import WIDTH, load, splat, store, where_greater
from gramstyle.system.compiling import compiled

# The largest number of positions in a product.
POSITIONS = 96

_ZERO, _ONE = np.float32(0), np.float32(1)


@compiled
def add_affine(F, D, shift, V, N, first, last, owned, T, guided, product, dF):
    """Set dF = dF + T (F D + shift) where F > 0, else 0, in the rows from `first` to `last`.

    F and dF are (H, V, N), D is (N, N) in panels, and the shift is (N,). The gradient is added in
    the owned area only: `owned` is its first and last row and its first and last column. T has a
    factor for each of its positions; if `guided` is false, the factors are 1. `product` is scratch
    memory, (POSITIONS, WIDE).
    """
    top, bottom, left, right = owned
    if top <= first and last <= bottom and left == 0 and right == V:
        count, guide = (last - first) * V, (first - top) * V
        _add(F, D, shift, N, first * V, count, T, guide, guided, product, dF)
        return
    for y in range(first, last):
        inside = top <= y < bottom and left < right
        begin, end = (left, right) if inside else (V, V)
        _close(F, dF, y * V * N, (y * V + begin) * N)
        guide = (y - top) * (right - left)
        _add(F, D, shift, N, y * V + begin, end - begin, T, guide, guided, product, dF)
        _close(F, dF, (y * V + end) * N, (y + 1) * V * N)


@compiled
def _add(F, D, shift, N, position, count, T, guide, guided, product, dF):
    """Add the gradient at adjacent positions."""
    for begin in range(0, count, POSITIONS):
        rows, first = min(POSITIONS, count - begin), position + begin
        start = 0
        while start < N:
            width = WIDE if start + WIDE <= N else NARROW
            multiply_panel(F, first * N, rows, D, start * N, N, width, product, 0, 0)
            for row in range(rows):
                factor = splat(T[guide + begin + row]) if guided else splat(_ONE)
                for c in range(0, width, WIDTH):
                    at = (first + row) * N + start + c
                    value = load(product, row * width + c) + load(shift, start + c)
                    total = load(dF, at) + factor * value
                    store(dF, at, where_greater(load(F, at), splat(_ZERO), total, splat(_ZERO)))
            start += width


@compiled
def _close(F, dF, begin, end):
    """Set dF = 0 where F is 0, between two indices."""
    for at in range(begin, end, WIDTH):
        value = where_greater(load(F, at), splat(_ZERO), load(dF, at), splat(_ZERO))
        store(dF, at, value)
