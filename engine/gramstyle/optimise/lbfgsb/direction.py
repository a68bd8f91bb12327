"""The search direction: towards the minimum of the quadratic model of the loss in the box."""

import math
from typing import NamedTuple

import numpy as np

from gramstyle.core.arrays import Array, cast, namespace, on_host
from gramstyle.optimise.interface import LOWER, UPPER
from gramstyle.optimise.lbfgsb.blocks import Gradient, blocks, clip
from gramstyle.optimise.lbfgsb.model import Model, complete, new_rows
from gramstyle.optimise.lbfgsb.pairs import Pairs
from gramstyle.system.blas import one_blas_thread


class Direction(NamedTuple):
    """A search direction.

    Attributes
    ----------
    d
        The direction, in x's type.
    slope
        The slope gᵀd of the loss along it.
    longest
        The largest t for which x + t d is in the box.
    products
        The inner products V Vᵀ of the pairs of the model, (2k, 2k), on the host.
    """

    d: Array
    slope: float
    longest: float
    products: Array


def find_direction(x: Array, g: Gradient, pairs: Pairs, products: Array) -> Direction | None:
    """Return a direction of descent, or None if there is none.

    The direction of the model is used if it descends, otherwise the projected gradient.

    Parameters
    ----------
    x, g
        The start of the search, (n,), and the gradient there.
    pairs
        The history, which defines the model.
    products
        The inner products V Vᵀ of the oldest pairs; the others are computed.
    """
    theta = 1.0
    if len(pairs):
        try:
            # The products of one block are so small that a second thread gains nothing; on busy
            # cores it multiplies the time.
            with one_blas_thread():
                to, theta, products = minimise_model(x, g, pairs, products)
        except np.linalg.LinAlgError:
            return None
        d, slope, longest = _into_direction(x, g, to)
        if slope < 0:
            return Direction(d, slope, longest, products)
        # The minimum of the model, clipped to the box, may lie uphill.
    to = namespace(x).empty_like(x)
    for b in blocks(x):
        to[b] = cast(clip(cast(x[b], "float64") - g.block(b) / theta), x.dtype)
    d, slope, longest = _into_direction(x, g, to)
    return Direction(d, slope, longest, products) if slope < 0 else None


def minimise_model(
    x: Array, g: Gradient, pairs: Pairs, products: Array
) -> tuple[Array, float, Array]:
    """Return the model's minimum in the box, approximated in two rounds, its θ, and V Vᵀ.

    Each round fixes some entries: the first, those at a bound beyond which the loss falls; the
    second, those that the first round has moved to a bound. The other entries, the columns F of
    V, move to the model's minimum. With r, the model's gradient after the fixed entries' moves:

        d = −B_F⁻¹ r,  B_F⁻¹ = I/θ + Fᵀ (K − F Fᵀ/θ)⁻¹ F/θ²

    The computation takes three passes over the pairs. V Vᵀ is computed only for new pairs. F Fᵀ,
    which would be most of the work, is V Vᵀ minus the products of the fixed columns if few are
    fixed, otherwise the products of the free columns. The subtraction is accurate enough: its
    rounding adds one more term to K − F Fᵀ/θ, whose entries are of the size of V Vᵀ/θ.

    Raises
    ------
    LinAlgError
        If the pairs define no model because their matrices are singular.
    """
    xp, rows = namespace(x), 2 * len(pairs)
    new = new_rows(len(pairs), len(products) // 2)
    n_fixed = sum(int(xp.count_nonzero(_outward(x[b], g.block(b)))) for b in blocks(x))
    few_fixed = 2 * n_fixed <= x.shape[0]

    # Columns of `sums`: the products of the fixed or free columns; V_F g; V times the new rows.
    sums = xp.zeros((rows, rows + 1 + len(new)), dtype=xp.float64)
    for b in blocks(x):
        V, gradient = pairs.block(b), g.block(b)
        fixed = _outward(x[b], gradient)
        sums[:, :rows] += _products(V, fixed if few_fixed else ~fixed)
        sums[:, rows] += V @ (gradient * _free(fixed))
        for column, i in enumerate(new, start=rows + 1):
            sums[:, column] += V @ V[i, :]
    found = on_host(sums)
    products = complete(products, new, found[:, rows + 1 :])
    model = Model.of(products)
    free = products - found[:, :rows] if few_fixed else found[:, :rows]
    c = model.coefficients(free, found[:, rows], np.zeros(rows))

    # Apply the first round's move. Columns of `sums`: the products of the fixed or free columns;
    # V_F g; V times the displacement of the fixed entries.
    weights = xp.asarray(c.tolist(), dtype=xp.float64)
    to: Array = xp.empty_like(x)
    sums = xp.zeros((rows, rows + 2), dtype=xp.float64)
    for b in blocks(x):
        V, gradient, here = pairs.block(b), g.block(b), cast(x[b], "float64")
        move = weights @ V - gradient / model.theta
        to[b] = cast(clip(here + move * _free(_outward(here, gradient))), x.dtype)
        fixed = _at_bound(to[b])
        free_mask = _free(fixed)
        displacement = (cast(to[b], "float64") - here) * (1.0 - free_mask)
        sums[:, :rows] += _products(V, fixed if few_fixed else ~fixed)
        sums[:, rows] += V @ (gradient * free_mask)
        sums[:, rows + 1] += V @ displacement
    found = on_host(sums)
    free = products - found[:, :rows] if few_fixed else found[:, :rows]
    c = model.coefficients(free, found[:, rows], found[:, rows + 1])

    weights = xp.asarray(c.tolist(), dtype=xp.float64)
    for b in blocks(x):
        here, before = cast(x[b], "float64"), cast(to[b], "float64")
        move = weights @ pairs.block(b) - g.block(b) / model.theta
        free_mask = _free(_at_bound(before))
        to[b] = cast(clip(before * (1.0 - free_mask) + (here + move) * free_mask), x.dtype)
    return to, model.theta, products


def _products(V: Array, chosen: Array) -> Array:
    """Return C Cᵀ, where C consists of the chosen columns of V."""
    xp = namespace(V)
    C = xp.take(V, xp.nonzero(chosen)[0], axis=1)
    result: Array = C @ C.T
    return result


def _outward(x: Array, g: Array) -> Array:
    """Return which entries are at a bound beyond which the loss falls."""
    return ((x <= LOWER) & (g > 0)) | ((x >= UPPER) & (g < 0))


def _at_bound(x: Array) -> Array:
    return (x <= LOWER) | (x >= UPPER)


def _free(fixed: Array) -> Array:
    """Return 1 for a free entry, else 0: a factor takes a tenth of the time of a mask."""
    return cast(~fixed, "float64")


def _into_direction(x: Array, g: Gradient, to: Array) -> tuple[Array, float, float]:
    """Turn `to` into the direction from x to it, in place; return d, slope and longest."""
    xp = namespace(x)
    slope, shortest = xp.zeros((), dtype=xp.float64), None
    for b in blocks(x):
        here = cast(x[b], "float64")
        to[b] = cast(cast(to[b], "float64") - here, x.dtype)
        d = cast(to[b], "float64")
        slope += xp.sum(g.block(b) * d)
        room = xp.where(d > 0, UPPER - here, here - LOWER)
        fits = xp.min(xp.where(d == 0, math.inf, room / xp.where(d == 0, 1.0, xp.abs(d))))
        shortest = fits if shortest is None else xp.minimum(shortest, fits)
    both = on_host(xp.stack([slope, shortest]))
    # x + d is in the box by construction, independently of the rounding of the ratio.
    return to, float(both[0]), max(1.0, float(both[1]))
