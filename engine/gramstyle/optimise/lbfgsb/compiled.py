"""The loops of L-BFGS-B over all entries, compiled with Numba.

Each function computes a part of the entries, from `first` to `last`, and writes its sums to an
array of its own, in float64. `V` (2m, n) stores the pairs, and `order` says in which of its rows
are the k differences y, oldest first, then the k steps s. A part is computed in tiles, which are so
short that what is read twice is still in the cache.
"""

from functools import partial

import numpy as np

from gramstyle.optimise.interface import LOWER, UPPER
from gramstyle.system.compiling import compiled, inlined

# Entries in a tile.
TILE = 1024

_loop = partial(compiled, any_order=True)


@inlined
def _outward(x, g):
    """Return whether an entry is at a bound beyond which the loss falls."""
    return (x <= LOWER and g > 0.0) or (x >= UPPER and g < 0.0)


@inlined
def _at_bound(x):
    return x <= LOWER or x >= UPPER


@inlined
def _clip(x):
    return min(max(x, LOWER), UPPER)


@inlined
def _move(V, order, c, g, scale, theta, start, count, move):
    """Write the move −g/θ + c V of a tile."""
    k = len(order) // 2
    for j in range(count):
        move[j] = -(scale * np.float64(g[start + j])) / theta
    for i in range(k):
        a, b = c[i], c[k + i]
        y = V[order[i], start : start + count]
        s = V[order[k + i], start : start + count]
        for j in range(count):
            move[j] += a * np.float64(y[j]) + b * np.float64(s[j])


@inlined
def _add_products(C, count, out):
    """Add C Cᵀ of the first `count` columns of C, below the diagonal, to `out`."""
    for r in range(len(C)):
        a = C[r]
        for q in range(r + 1):
            b = C[q]
            total = 0.0
            for m in range(count):
                total += a[m] * b[m]
            out[r, q] += total


@_loop
def first_sums(V, order, new, x, g, scale, first, last, out):
    """Write the sums of the first round.

    Columns of `out`: the products C Cᵀ of the fixed columns C of V, below the diagonal; V_F g of
    the free ones, F; the products of V with the new rows.
    """
    rows, columns = len(order), 1 + len(new)
    factors = np.empty((columns, TILE))
    C = np.empty((rows, TILE))
    chosen = np.empty(TILE, np.int64)
    out[:] = 0.0
    for start in range(first, last, TILE):
        count, n_chosen = min(TILE, last - start), 0
        for j in range(count):
            gradient = scale * np.float64(g[start + j])
            fixed = _outward(np.float64(x[start + j]), gradient)
            factors[0, j] = 0.0 if fixed else gradient
            chosen[n_chosen] = j
            n_chosen += fixed
        for i in range(len(new)):
            row, factor = V[order[new[i]], start : start + count], factors[1 + i]
            for j in range(count):
                factor[j] = row[j]
        for r in range(rows):
            row = V[order[r], start : start + count]
            for i in range(columns):
                factor, total = factors[i], 0.0
                for j in range(count):
                    total += np.float64(row[j]) * factor[j]
                out[r, rows + i] += total
            for m in range(n_chosen):
                C[r, m] = row[chosen[m]]
        _add_products(C, n_chosen, out)


@_loop
def second_sums(V, order, c, x, g, scale, theta, first, last, to, out):
    """Write where the first round leads, and the sums over the entries that it fixes newly.

    Columns of `out`: their products N Nᵀ, below the diagonal; N g; N times their displacement.
    """
    rows = len(order)
    move, C = np.empty(TILE), np.empty((rows, TILE))
    chosen, gradients, moved = np.empty(TILE, np.int64), np.empty(TILE), np.empty(TILE)
    out[:] = 0.0
    for start in range(first, last, TILE):
        count, n_chosen = min(TILE, last - start), 0
        _move(V, order, c, g, scale, theta, start, count, move)
        for j in range(count):
            here, gradient = np.float64(x[start + j]), scale * np.float64(g[start + j])
            fixed = _outward(here, gradient)
            to[start + j] = here if fixed else _clip(here + move[j])
            there = np.float64(to[start + j])
            chosen[n_chosen], gradients[n_chosen], moved[n_chosen] = j, gradient, there - here
            n_chosen += _at_bound(there) and not fixed
        if n_chosen == 0:
            continue
        for r in range(rows):
            row, of_gradient, of_move = V[order[r], start : start + count], 0.0, 0.0
            for m in range(n_chosen):
                value = np.float64(row[chosen[m]])
                C[r, m] = value
                of_gradient += value * gradients[m]
                of_move += value * moved[m]
            out[r, rows] += of_gradient
            out[r, rows + 1] += of_move
        _add_products(C, n_chosen, out)


@_loop
def direction(V, order, c, x, g, scale, theta, fixes, first, last, to, out):
    """Turn `to` into the direction d; write its slope, and the largest t in the box.

    If `fixes`, the entries at a bound in `to` stay there. The others move by −g/θ + c V.
    """
    move, slope, longest = np.empty(TILE), 0.0, np.inf
    for start in range(first, last, TILE):
        count = min(TILE, last - start)
        _move(V, order, c, g, scale, theta, start, count, move)
        for j in range(count):
            here = np.float64(x[start + j])
            if not (fixes and _at_bound(np.float64(to[start + j]))):
                to[start + j] = _clip(here + move[j])
            to[start + j] = np.float64(to[start + j]) - here
            d = np.float64(to[start + j])
            slope += scale * np.float64(g[start + j]) * d
            room = UPPER - here if d > 0.0 else here - LOWER
            if d != 0.0:
                longest = min(longest, room / abs(d))
    out[0], out[1] = slope, longest


@compiled
def clipped_step(x, d, t, first, last, out):
    """Write x + t d, clipped to the bounds.

    With a fused product, an entry whose step ends at a bound would often miss it by 1e-17.
    """
    for j in range(first, last):
        out[j] = _clip(np.float64(x[j]) + t * np.float64(d[j]))


@_loop
def slope(g, scale, d, first, last):
    """Return gᵀd."""
    total = 0.0
    for j in range(first, last):
        total += scale * np.float64(g[j]) * np.float64(d[j])
    return total


@compiled
def difference(x, after, g, g_after, scale, first, last, s, y):
    """Write the step s and the difference y of the gradients."""
    for j in range(first, last):
        s[j] = np.float64(after[j]) - np.float64(x[j])
        y[j] = scale * np.float64(g_after[j]) - scale * np.float64(g[j])
