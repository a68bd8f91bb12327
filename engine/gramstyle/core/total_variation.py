"""Total variation, a measure of roughness. A further loss term, not in Gatys et al. (2015).

It has the squared form of Mahendran and Vedaldi (2015, arXiv 1412.0035, section 3, β = 2), which is
smooth everywhere. The term divides it by the number of pixels, so that one weight suits every size.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Self

from gramstyle.core.arrays import Array, cast, namespace, number
from gramstyle.core.kernels import Area, Kernels
from gramstyle.core.term import PIXELS


def total_variation(x: Array, area: Area | None = None, wraps: bool = False) -> float:
    """Return V = Σ_{c,i,j} (x[c,i,j+1] − x[c,i,j])² + (x[c,i+1,j] − x[c,i,j])².

    Parameters
    ----------
    x
        An image (C, H, V), or a window of one.
    area
        The positions (i, j) to sum over; all by default. If x is a window, it must extend one pixel
        beyond them to the right and below, except at the edge of the image. Differences that have
        no second pixel are left out.
    wraps
        Whether the first row and the first column follow the last ones, as in an image that
        continues at its opposite edge.

    Examples
    --------
    >>> import numpy as np
    >>> from gramstyle.core.total_variation import total_variation
    >>> x = np.array([[[0.0, 3.0], [0.0, 1.0]]])
    >>> total_variation(x)  # 3² + 1² along the rows, 0² + 2² along the columns
    14.0
    """
    xp = namespace(x)
    return sum(
        number(xp.sum(xp.square(x[second] - x[first]), dtype=xp.float64))
        for first, second in _pairs(x, area, wraps)
    )


def total_variation_gradient(x: Array, area: Area | None = None, wraps: bool = False) -> Array:
    """Return ∂V/∂x, of x's shape: each difference d = b − a adds −2 d at a and 2 d at b.

    Examples
    --------
    >>> import numpy as np
    >>> from gramstyle.core.total_variation import total_variation_gradient
    >>> total_variation_gradient(np.array([[[0.0, 3.0], [0.0, 1.0]]]))
    array([[[-6., 10.],
            [-2., -2.]]])
    """
    dx: Array = namespace(x).zeros_like(x)
    for first, second in _pairs(x, area, wraps):
        d = 2 * (x[second] - x[first])
        dx[first] -= d
        dx[second] += d
    return dx


def total_variation_jvp(tx: Array, x: Array, wraps: bool = False) -> float:
    """Σ 2 d td over all differences d of neighbours: the derivative of V along tx.

    The gradient is linear in x, so its tangent is `total_variation_gradient` of tx.

    Examples
    --------
    >>> import numpy as np
    >>> from gramstyle.core.total_variation import total_variation_jvp
    >>> total_variation_jvp(np.array([[[0.0, 1.0]]]), np.array([[[0.0, 3.0]]]))
    6.0
    """
    xp = namespace(x)
    return sum(
        2 * number(xp.sum((x[second] - x[first]) * (tx[second] - tx[first]), dtype=xp.float64))
        for first, second in _pairs(x, None, wraps)
    )


@dataclass(frozen=True, kw_only=True)
class TotalVariationTerm:
    """The total variation term: L_tv = V / M, where M is the number of pixels.

    Attributes
    ----------
    wraps
        Whether the image continues at its opposite edge, as with circular padding.

    Examples
    --------
    >>> import numpy as np
    >>> from gramstyle.core.kernels import PlainKernels
    >>> from gramstyle.core.total_variation import TotalVariationTerm
    >>> term, x = TotalVariationTerm(), np.array([[[0.0, 3.0], [0.0, 1.0]]])
    >>> term.value(term.sums(x, PlainKernels()), N=1, M=4)
    3.5
    """

    name: ClassVar[str] = "tv"
    reference: ClassVar[None] = None
    per_position: ClassVar[bool] = False

    layer: str = PIXELS
    weight: float = 1.0
    wraps: bool = False

    def sums(self, F: Array, kernels: Kernels, area: Area | None = None) -> float:
        """Return V over an area of the pixels F (3, H, V)."""
        del kernels
        return total_variation(F, area, self.wraps)

    def value(self, sums: float, N: int, M: int) -> float:
        """Return L_tv = V / M."""
        del N
        return sums / M

    def add_gradient(
        self,
        dF: Array | None,
        F: Array,
        sums: float,
        N: int,
        M: int,
        weight: float,
        kernels: Kernels,
        area: Area | None = None,
    ) -> Array:
        """Return dF + weight · ∂L_tv/∂F, which extends to one pixel beyond the area."""
        del sums, N, kernels
        dx = (weight / M) * total_variation_gradient(F, area, self.wraps)
        return dx if dF is None else dF + cast(dx, dF.dtype)

    def sums_jvp(self, tF: Array, F: Array) -> float:
        """Return the derivative of V along the tangent tF of the pixels F (3, H, V)."""
        return total_variation_jvp(tF, F, self.wraps)

    def value_jvp(self, tsums: float, sums: float, N: int, M: int) -> float:
        """Return the derivative of L_tv = V / M."""
        del sums, N
        return tsums / M

    def gradient_jvp(
        self, tF: Array, F: Array, tsums: float, sums: float, N: int, M: int, weight: float
    ) -> Array:
        """Return weight · the tangent of ∂L_tv/∂F, which is linear in F."""
        del F, tsums, sums, N
        return (weight / M) * total_variation_gradient(tF, wraps=self.wraps)

    def target(self, F: Array, kernels: Kernels, area: Area | None = None) -> None:
        """Return None: the term has no target."""

    def compared_with(self, target: None, M: int) -> Self:
        """Return the term itself."""
        del target, M
        return self


Index = tuple[slice, slice, slice]


def _pairs(x: Array, area: Area | None, wraps: bool) -> Iterator[tuple[Index, Index]]:
    """Yield the indices of the first and of the second pixels of all differences.

    A window of an image that wraps ends with its area only if it is the whole edge: the pixel after
    the area's last is then the first of the window.
    """
    owned = (slice(0, x.shape[1]), slice(0, x.shape[2])) if area is None else area
    for axis in (1, 2):
        start, stop, length = owned[axis - 1].start, owned[axis - 1].stop, x.shape[axis]
        inside = min(stop, length - 1)
        spans = [(slice(start, inside), slice(start + 1, inside + 1))]
        if wraps and stop == length:
            spans.append((slice(length - 1, length), slice(0, 1)))
        for first, second in spans:
            yield _along(owned, axis, first), _along(owned, axis, second)


def _along(owned: Area, axis: int, span: slice) -> Index:
    """Return the index of an area of all channels, with another span along an axis."""
    return (slice(None), span, owned[1]) if axis == 1 else (slice(None), owned[0], span)
