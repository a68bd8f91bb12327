"""The content term: equations 1 and 2 at one layer."""

from dataclasses import dataclass, field, replace
from typing import ClassVar, Self

from gramstyle.core import losses
from gramstyle.core.arrays import Array
from gramstyle.core.conventions import PAPER, Convention
from gramstyle.core.kernels import Area, Kernels, within
from gramstyle.core.term import Reference


@dataclass(frozen=True, kw_only=True)
class ContentTerm:
    """The content term: equations 1 and 2 at one layer.

    Attributes
    ----------
    P
        The content image's responses (N, H, V), or those of an area; None before they are computed.
    convention
        The convention whose factor multiplies the equations.

    Examples
    --------
    >>> import numpy as np
    >>> from gramstyle.core.kernels import PlainKernels
    >>> from gramstyle.core.terms import ContentTerm
    >>> F, P, kernels = np.full((2, 1, 3), 3.0), np.ones((2, 1, 3)), PlainKernels()
    >>> term = ContentTerm(layer="conv4_2").compared_with(P, M=3)
    >>> term.value(term.sums(F, kernels), N=2, M=3)
    12.0
    >>> term.add_gradient(None, F, None, N=2, M=3, weight=0.5, kernels=kernels)
    array([[[1., 1., 1.]],
           [[1., 1., 1.]]])
    """

    name: ClassVar[str] = "content"
    reference: ClassVar[Reference] = "content"
    per_position: ClassVar[bool] = True

    layer: str
    weight: float = 1.0
    convention: Convention = PAPER
    P: Array | None = field(default=None, compare=False, repr=False)

    def sums(self, F: Array, kernels: Kernels, area: Area | None = None) -> float:
        """Return ½ Σ (F − P)² over an area (equation 1)."""
        del kernels
        return losses.content_loss(within(F, area), self._known(self.P))

    def value(self, sums: float, N: int, M: int) -> float:
        """Return L_content (equation 1), as the convention scales it."""
        return self.convention.content_factor(N, M) * sums

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
        """Return dF + weight · (F − P) where F > 0 (equation 2)."""
        del sums
        weight *= self.convention.content_factor(N, M)
        return kernels.add_content_gradient(dF, F, self._known(self.P), weight, area)

    def sums_jvp(self, tF: Array, F: Array) -> float:
        """Return Σ (F − P) tF, the derivative of equation 1."""
        return losses.content_loss_jvp(tF, F, self._known(self.P))

    def value_jvp(self, tsums: float, sums: float, N: int, M: int) -> float:
        """Return the derivative of L_content, as the convention scales it."""
        del sums
        return self.convention.content_factor(N, M) * tsums

    def gradient_jvp(
        self, tF: Array, F: Array, tsums: float, sums: float, N: int, M: int, weight: float
    ) -> Array:
        """Return weight · tF where F > 0, the tangent of equation 2."""
        del tsums, sums
        return weight * self.convention.content_factor(N, M) * losses.content_gradient_jvp(tF, F)

    def target(self, F: Array, kernels: Kernels, area: Area | None = None) -> Array:
        """Return a copy of the responses (N, h, v) in an area, in F's memory order."""
        del kernels
        return within(F, area).copy(order="K")

    def compared_with(self, target: Array, M: int) -> Self:
        """Return a copy of the term whose target is P."""
        del M
        return replace(self, P=target)

    @staticmethod
    def _known(P: Array | None) -> Array:
        assert P is not None, "the content term has no P yet; see with_targets"  # noqa: S101
        return P
