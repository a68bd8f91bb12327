"""The style term: equations 3, 4 and 6 at one layer."""

from dataclasses import dataclass, field, replace
from typing import ClassVar, Self

from gramstyle.core import losses
from gramstyle.core.arrays import Array, namespace
from gramstyle.core.conventions import PAPER, Convention
from gramstyle.core.kernels import Area, Kernels, matrix
from gramstyle.core.term import Reference


@dataclass(frozen=True, kw_only=True)
class StyleTerm:
    """The style term: equations 3, 4 and 6 at one layer; `weight` is w_l.

    Attributes
    ----------
    A
        The style image's Gram matrix (N, N), summed over its positions; None before it is computed.
    M
        The number of positions that A is summed over.
    convention
        The convention whose factor multiplies the equations.

    Examples
    --------
    >>> import numpy as np
    >>> from gramstyle.core.kernels import PlainKernels
    >>> from gramstyle.core.terms import StyleTerm
    >>> F, kernels = np.full((2, 1, 3), 3.0), PlainKernels()
    >>> term = StyleTerm(layer="conv1_1", weight=0.2).compared_with(np.zeros((2, 2)), M=3)
    >>> G = term.sums(F, kernels)
    >>> term.value(G, N=2, M=3)
    20.25
    >>> term.add_gradient(None, F, G, N=2, M=3, weight=0.2, kernels=kernels).round(4)
    array([[[0.9, 0.9, 0.9]],
           [[0.9, 0.9, 0.9]]])
    """

    name: ClassVar[str] = "style"
    reference: ClassVar[Reference] = "style"
    per_position: ClassVar[bool] = False

    layer: str
    weight: float
    convention: Convention = PAPER
    A: Array | None = field(default=None, compare=False, repr=False)
    M: int = field(default=0, compare=False)

    def sums(self, F: Array, kernels: Kernels, area: Area | None = None) -> Array:
        """Return G = F Fᵀ (N, N) over an area (equation 3)."""
        return kernels.gram(F, area)

    def value(self, sums: Array, N: int, M: int) -> float:
        """Return E_l (equation 4), as the convention scales it."""
        return self.convention.style_factor * losses.style_loss(sums, self._scaled(M), N, M)

    def add_gradient(
        self,
        dF: Array | None,
        F: Array,
        sums: Array,
        N: int,
        M: int,
        weight: float,
        kernels: Kernels,
        area: Area | None = None,
    ) -> Array:
        """Return dF + weight · 1/(N² M²) (G − A) F where F > 0 (equation 6)."""
        del N
        weight *= self.convention.style_factor
        return kernels.add_style_gradient(dF, F, sums, self._scaled(M), M, weight, area)

    def sums_jvp(self, tF: Array, F: Array) -> Array:
        """Return tG (N, N), the tangent of equation 3."""
        return losses.gram_jvp(matrix(tF), matrix(F))

    def value_jvp(self, tsums: Array, sums: Array, N: int, M: int) -> float:
        """Return the derivative of E_l, as the convention scales it."""
        slope = losses.style_loss_jvp(tsums, sums, self._scaled(M), N, M)
        return self.convention.style_factor * slope

    def gradient_jvp(
        self, tF: Array, F: Array, tsums: Array, sums: Array, N: int, M: int, weight: float
    ) -> Array:
        """Return weight · 1/(N² M²) (tG F + (G − A) tF) where F > 0, the tangent of equation 6."""
        A, weight = self._scaled(M), weight * self.convention.style_factor
        tangent = losses.style_gradient_jvp(matrix(tF), matrix(F), tsums, sums, A, N, M)
        result: Array = weight * namespace(F).reshape(tangent, F.shape)
        return result

    def target(self, F: Array, kernels: Kernels, area: Area | None = None) -> Array:
        """Return the Gram matrix (N, N) over an area (equation 3)."""
        return kernels.gram(F, area)

    def compared_with(self, target: Array, M: int) -> Self:
        """Return a copy of the term whose target is A, summed over M positions."""
        return replace(self, A=target, M=M)

    def plus_share(self, other: Self, share: float) -> Self:
        """Return a copy whose A/M is this term's, if it has one, plus share · the other's A/M."""
        assert other.A is not None  # noqa: S101 - it is a copy with a target
        A = other.A * (share / other.M)
        return self.compared_with(A if self.A is None else self._scaled(1) + A, 1)

    def _scaled(self, M: int) -> Array:
        """Return A, rescaled to the M positions of the generated image.

        Differs from Gatys et al. (2015) if the style image and the content image differ in size:
        equation 4 has one M for both. Here each Gram matrix is divided by its own M.
        """
        assert self.A is not None, "the style term has no A yet; see with_targets"  # noqa: S101
        return self.A * (M / self.M)
