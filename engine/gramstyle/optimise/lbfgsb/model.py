"""The quadratic model of the loss, from the inner products of the pairs: matrices of 2k × 2k."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from gramstyle.core.arrays import Array

# The inner products of an empty history.
NO_PRODUCTS = np.zeros((0, 0))


class Model(NamedTuple):
    """B = θ I − Vᵀ diag(w) K⁻¹ diag(w) V, where V's rows are y, then s."""

    theta: float
    w: Array
    K: Array

    @classmethod
    def of(cls, G: Array) -> "Model":
        """Return the model of pairs from their inner products G = V Vᵀ; V's rows are y, then s."""
        k = len(G) // 2
        s_y, s_s = G[k:, :k], G[k:, k:]
        if not s_y[-1, -1] > 0:
            raise np.linalg.LinAlgError("the last pair has no curvature")
        theta = float(G[k - 1, k - 1] / s_y[-1, -1])
        below = np.tril(s_y, -1)
        middle = np.block([[-np.diag(np.diag(s_y)), below.T], [below, theta * s_s]])
        return cls(theta, np.repeat([1.0, theta], k), middle)

    def coefficients(self, G: Array, F_g: Array, displacement: Array) -> Array:  # noqa: N803
        """Return c for which d = −g/θ + c V moves the free entries to the minimum.

        Parameters
        ----------
        G, F_g
            The products F Fᵀ and F g of the free columns F of V.
        displacement
            The products of V's rows with the displacement of the fixed entries.
        """
        G, u = G * np.outer(self.w, self.w), np.linalg.solve(self.K, self.w * displacement)
        v = np.linalg.solve(self.K - G / self.theta, self.w * F_g - G @ u)
        c: Array = self.w * (u / self.theta - v / self.theta**2)
        if not np.isfinite(c).all():
            raise np.linalg.LinAlgError("the pairs contradict each other")
        return c


def new_rows(k: int, known: int) -> list[int]:
    """Return the rows of V that belong to pairs after the first `known` ones."""
    return [*range(known, k), *range(k + known, 2 * k)]


def complete(products: Array, new: Sequence[int], columns: Array) -> Array:
    """Return V Vᵀ from its known part and its columns at the new rows."""
    n = len(columns)
    known = np.setdiff1d(np.arange(n), new)
    G = np.empty((n, n))
    G[np.ix_(known, known)] = products
    G[:, new] = columns
    G[new, :] = columns.T
    return G


def products_of_last(products: Array, k: int) -> Array:
    """Return the inner products of the last k pairs only."""
    n = len(products) // 2
    rows = np.r_[n - k : n, 2 * n - k : 2 * n]
    last: Array = products[np.ix_(rows, rows)]
    return last
