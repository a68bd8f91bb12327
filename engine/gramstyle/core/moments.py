"""The means of filters, and the products of the differences from them, which areas add up exactly.

A variance computed as the mean of the squares minus the square of the mean loses digits where the
mean is much larger than the deviation. So the differences from the mean of an area are multiplied,
and two areas are added by the formula of Chan, Golub and LeVeque (1979), "Updating Formulae and a
Pairwise Algorithm for Computing Sample Variances". docs/derivations.md derives it.
"""

from dataclasses import dataclass

import numpy as np

from gramstyle.core import losses
from gramstyle.core.arrays import Array, cast, namespace


@dataclass(frozen=True, eq=False)
class Moments:
    """The means of N filters over some positions, and the products of the differences from them.

    Attributes
    ----------
    count
        The number of positions.
    mean
        μ_i (N,), in float64.
    products
        Σ_k (F_ik − μ_i)², shape (N,); or Σ_k (F_ik − μ_i) (F_jk − μ_j) for each pair, (N, N).

    Examples
    --------
    >>> import numpy as np
    >>> from gramstyle.core.moments import moments
    >>> left, right = np.array([[1.0, 3.0]]), np.array([[8.0]])  # one filter at three positions
    >>> both = moments(left) + moments(right)
    >>> both.count, both.mean, both.products
    (3, array([4.]), array([26.]))
    """

    count: int
    mean: Array
    products: Array

    def __add__(self, other: "Moments") -> "Moments":
        # A tile may own no position of a layer.
        if not other.count:
            return self
        if not self.count:
            return other
        count = self.count + other.count
        apart = other.mean - self.mean
        squares = apart * apart if self.products.ndim == 1 else apart[:, None] * apart[None, :]
        between = squares * (self.count * other.count / count)
        return Moments(
            count,
            self.mean + apart * (other.count / count),
            self.products + other.products + cast(between, self.products.dtype),
        )


def no_moments(N: int, *, pairs: bool = False) -> Moments:
    """Return the moments of N filters over no position, in NumPy's arrays: the start of a sum.

    Examples
    --------
    >>> from gramstyle.core.moments import no_moments
    >>> no_moments(2, pairs=True).products.shape
    (2, 2)
    """
    return Moments(0, np.zeros(N), np.zeros((N, N) if pairs else N))


def moments(F: Array, *, pairs: bool = False) -> Moments:
    """Return the moments of F (N, M); with `pairs`, the products of all pairs of filters.

    Examples
    --------
    >>> import numpy as np
    >>> from gramstyle.core.moments import moments
    >>> F = np.array([[2.0, 4.0], [1.0, 1.0]])
    >>> moments(F).mean, moments(F).products
    (array([3., 1.]), array([2., 0.]))
    >>> moments(F, pairs=True).products
    array([[2., 0.],
           [0., 0.]])
    """
    xp, mean = namespace(F), _mean(F)
    H = _centred(F, mean)
    products = losses.gram(H) if pairs else xp.sum(xp.square(H), axis=1, dtype=xp.float64)
    return Moments(F.shape[1], mean, products)


def moments_jvp(tF: Array, F: Array, *, pairs: bool = False) -> Moments:
    """Return the tangents of the moments: the mean of tF, and those of the products.

    With H = F − μ the tangent of Σ H_ik² is 2 Σ H_ik tH_ik.

    Examples
    --------
    >>> import numpy as np
    >>> from gramstyle.core.moments import moments_jvp
    >>> tangent = moments_jvp(np.array([[0.0, 1.0]]), np.array([[2.0, 4.0]]))
    >>> tangent.mean, tangent.products  # the larger of two grows
    (array([0.5]), array([2.]))
    """
    xp, tmean = namespace(F), _mean(tF)
    H, tH = _centred(F, _mean(F)), _centred(tF, tmean)
    if pairs:
        return Moments(F.shape[1], tmean, losses.gram_jvp(tH, H))
    return Moments(F.shape[1], tmean, xp.sum(2.0 * H * tH, axis=1, dtype=xp.float64))


def _mean(F: Array) -> Array:
    """Return the mean of each row, in float64; 0 where there is no position."""
    xp = namespace(F)
    mean: Array = xp.sum(F, axis=1, dtype=xp.float64) / max(F.shape[1], 1)
    return mean


def _centred(F: Array, mean: Array) -> Array:
    centred: Array = F - cast(mean, F.dtype)[:, None]
    return centred
