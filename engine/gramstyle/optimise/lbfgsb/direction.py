"""The direction of an iteration: where the model of the loss has its minimum in the box."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from gramstyle.core.arrays import Array, cast, namespace, on_host
from gramstyle.optimise.descent import BRIGHTEST, DARKEST
from gramstyle.optimise.lbfgsb.blocks import Gradient, blocks, clipped, one_blas_thread
from gramstyle.optimise.lbfgsb.pairs import Pairs

# Of no pairs at all.
NO_PRODUCTS = np.zeros((0, 0))


class Line(NamedTuple):
    """A direction.

    Attributes
    ----------
    d
        The direction, in x's type.
    slope
        The slope gᵀd of the loss along it.
    longest
        How often d fits into the box.
    products
        The inner products V Vᵀ of the pairs that it was found with, (2k, 2k), on the host.
    """

    d: Array
    slope: float
    longest: float
    products: Array


def line(x: Array, g: Gradient, pairs: Pairs, products: Array) -> Line | None:
    """Return where to search; None where nothing leads down.

    Parameters
    ----------
    x, g
        Where the search starts, (n,), and the gradient there.
    pairs
        What is known of the curvature.
    products
        The inner products V Vᵀ of the oldest pairs; what is missing is computed.
    """
    theta = 1.0
    if len(pairs):
        try:
            with one_blas_thread():
                to, theta, products = minimum_of_model(x, g, pairs, products)
        except np.linalg.LinAlgError:
            return None
        d, slope, longest = _measured(x, g, to)
        if slope < 0:
            return Line(d, slope, longest, products)
        # Clipped to the box, the minimum may lie uphill.
    to = namespace(x).empty_like(x)
    for b in blocks(x):
        to[b] = cast(clipped(cast(x[b], "float64") - g.block(b) / theta), x.dtype)
    d, slope, longest = _measured(x, g, to)
    return Line(d, slope, longest, products) if slope < 0 else None


def minimum_of_model(
    x: Array, g: Gradient, pairs: Pairs, products: Array
) -> tuple[Array, float, Array]:
    """Return the model's minimum in the box, as far as two rounds find it, its θ, and V Vᵀ.

    In each round some entries are held: in the first those at a bound towards which the loss
    falls, in the second those that the first has brought to a bound. The others, the rows F of
    V, go to the model's minimum, r being the gradient of the model where the held ones are:

        d = −B_F⁻¹ r,  B_F⁻¹ = I/θ + F (K − FᵀF/θ)⁻¹ Fᵀ/θ²

    Three passes over the pairs. V Vᵀ is known but for the pairs that are new, and F Fᵀ, which
    would be most of the work, is V Vᵀ without the held columns, or the free ones alone, as few
    or many are held. The difference loses nothing: to K − FᵀF/θ, whose entries are of the size of
    V Vᵀ/θ, its rounding is that of one more term.

    Raises
    ------
    LinAlgError
        If the pairs are no model: their matrices are singular.
    """
    xp, rows = namespace(x), 2 * len(pairs)
    new = _new_rows(len(pairs), len(products) // 2)
    held_ones = sum(int(xp.count_nonzero(_outward(x[b], g.block(b)))) for b in blocks(x))
    few_held = 2 * held_ones <= x.shape[0]

    # Side by side: the columns' products, held or free; V_F g; V times the new rows.
    sums = xp.zeros((rows, rows + 1 + len(new)), dtype=xp.float64)
    for b in blocks(x):
        V, gradient = pairs.block(b), g.block(b)
        held = _outward(x[b], gradient)
        sums[:, :rows] += _products(V, held if few_held else ~held)
        sums[:, rows] += V @ (gradient * _free(held))
        for column, i in enumerate(new, start=rows + 1):
            sums[:, column] += V @ V[i, :]
    found = on_host(sums)
    products = _completed(products, new, found[:, rows + 1 :])
    model = _Model.of(products)
    free = products - found[:, :rows] if few_held else found[:, :rows]
    c = model.coefficients(free, found[:, rows], np.zeros(rows))

    # The first round's move, then: the columns' products, V_F g, V times how far the held went.
    weights = xp.asarray(c.tolist(), dtype=xp.float64)
    to: Array = xp.empty_like(x)
    sums = xp.zeros((rows, rows + 2), dtype=xp.float64)
    for b in blocks(x):
        V, gradient, here = pairs.block(b), g.block(b), cast(x[b], "float64")
        move = weights @ V - gradient / model.theta
        to[b] = cast(clipped(here + move * _free(_outward(here, gradient))), x.dtype)
        held = _at_bound(to[b])
        free_ones = _free(held)
        went = (cast(to[b], "float64") - here) * (1.0 - free_ones)
        sums[:, :rows] += _products(V, held if few_held else ~held)
        sums[:, rows] += V @ (gradient * free_ones)
        sums[:, rows + 1] += V @ went
    found = on_host(sums)
    free = products - found[:, :rows] if few_held else found[:, :rows]
    c = model.coefficients(free, found[:, rows], found[:, rows + 1])

    weights = xp.asarray(c.tolist(), dtype=xp.float64)
    for b in blocks(x):
        here, before = cast(x[b], "float64"), cast(to[b], "float64")
        move = weights @ pairs.block(b) - g.block(b) / model.theta
        free_ones = _free(_at_bound(before))
        to[b] = cast(clipped(before * (1.0 - free_ones) + (here + move) * free_ones), x.dtype)
    return to, model.theta, products


def of_last(products: Array, k: int) -> Array:
    """Return the inner products of the last k pairs alone."""
    there = len(products) // 2
    rows = np.r_[there - k : there, 2 * there - k : 2 * there]
    last: Array = products[np.ix_(rows, rows)]
    return last


class _Model(NamedTuple):
    """B = θ I − V diag(w) K⁻¹ diag(w) Vᵀ, V's columns being y, then s."""

    theta: float
    w: Array
    K: Array

    @classmethod
    def of(cls, G: Array) -> "_Model":
        """Return the model of pairs from their inner products G = V Vᵀ, V's rows y, then s."""
        k = len(G) // 2
        s_y, s_s = G[k:, :k], G[k:, k:]
        if not s_y[-1, -1] > 0:
            raise np.linalg.LinAlgError("the last pair has no curvature")
        theta = float(G[k - 1, k - 1] / s_y[-1, -1])
        below = np.tril(s_y, -1)
        middle = np.block([[-np.diag(np.diag(s_y)), below.T], [below, theta * s_s]])
        return cls(theta, np.repeat([1.0, theta], k), middle)

    def coefficients(self, G: Array, falls: Array, went: Array) -> Array:
        """Return c for which d = −g/θ + c V takes the free entries to the minimum.

        Parameters
        ----------
        G, falls
            The products F Fᵀ and F g of V's rows F without the held entries.
        went
            The product of V's rows with how far the held entries have moved.
        """
        G, u = G * np.outer(self.w, self.w), np.linalg.solve(self.K, self.w * went)
        v = np.linalg.solve(self.K - G / self.theta, self.w * falls - G @ u)
        c: Array = self.w * (u / self.theta - v / self.theta**2)
        if not np.isfinite(c).all():
            raise np.linalg.LinAlgError("the pairs contradict each other")
        return c


def _new_rows(k: int, known: int) -> list[int]:
    """Return which rows of V belong to pairs after the first `known` ones."""
    return [*range(known, k), *range(k + known, 2 * k)]


def _completed(products: Array, new: Sequence[int], columns: Array) -> Array:
    """Return V Vᵀ from what was known of it and its columns at the new rows."""
    n = len(columns)
    known = np.setdiff1d(np.arange(n), new)
    G = np.empty((n, n))
    G[np.ix_(known, known)] = products
    G[:, new] = columns
    G[new, :] = columns.T
    return G


def _products(V: Array, chosen: Array) -> Array:
    """Return C Cᵀ, C being the chosen columns of V."""
    xp = namespace(V)
    C = xp.take(V, xp.nonzero(chosen)[0], axis=1)
    result: Array = C @ C.T
    return result


def _outward(x: Array, g: Array) -> Array:
    """Tell which entries are at a bound beyond which the loss falls."""
    return ((x <= DARKEST) & (g > 0)) | ((x >= BRIGHTEST) & (g < 0))


def _at_bound(x: Array) -> Array:
    return (x <= DARKEST) | (x >= BRIGHTEST)


def _free(held: Array) -> Array:
    """Return 1 where an entry is free, else 0: a factor costs a tenth of a choice by mask."""
    return cast(~held, "float64")


def _measured(x: Array, g: Gradient, to: Array) -> tuple[Array, float, float]:
    """Return the direction from x to `to`, whose memory it takes, its slope, and how often it fits.

    Returned as in `Line`.
    """
    xp = namespace(x)
    slope, shortest = xp.zeros((), dtype=xp.float64), None
    for b in blocks(x):
        here = cast(x[b], "float64")
        to[b] = cast(cast(to[b], "float64") - here, x.dtype)
        d = cast(to[b], "float64")
        slope += xp.sum(g.block(b) * d)
        room = xp.where(d > 0, BRIGHTEST - here, here - DARKEST)
        fits = xp.min(xp.where(d == 0, math.inf, room / xp.where(d == 0, 1.0, xp.abs(d))))
        shortest = fits if shortest is None else xp.minimum(shortest, fits)
    both = on_host(xp.stack([slope, shortest]))
    # x + d is in the box by construction; rounding must not say otherwise.
    return to, float(both[0]), max(1.0, float(both[1]))
