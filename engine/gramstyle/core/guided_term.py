"""The style term of regions: guided Gram matrices at one layer."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar, Self

from gramstyle.core import guided, losses
from gramstyle.core.arrays import Array, namespace
from gramstyle.core.conventions import PAPER, Convention
from gramstyle.core.kernels import Area, Kernels, matrix, within
from gramstyle.core.term import Reference


@dataclass(frozen=True, kw_only=True)
class GuidedStyleTerm:
    """The style term of several regions: E_l = Σ_r λ_r E_r; `weight` is w_l.

    E_r is equation 4 with the guided Gram matrices of region r, and with m_r = Σ T_r² for M. Its
    weight is λ_r = share_r · m_r / M: a region counts by the part of the image that it covers, so
    that the style is as strong at each of its positions as without regions. Where one region with
    the share 1 covers the image, the term is `StyleTerm`.

    Attributes
    ----------
    shares
        A factor for each region; 1 is the strength of the style without regions.
    T, m
        The guidance (H, V) of each region, or that of an area, and Σ T² over the whole image, which
        is the generated image or, while targets are computed, the style image. None where T is 0
        everywhere.
    A
        The guided Gram matrices (R, N, N) of the style image; None before they are computed.
    M
        Σ T² over the style image for each region; 0 where it has no such region.
    convention
        The convention whose factor multiplies the equations.

    Examples
    --------
    >>> import numpy as np
    >>> from gramstyle.core.guided_term import GuidedStyleTerm
    >>> from gramstyle.core.kernels import PlainKernels
    >>> F, kernels = np.full((2, 1, 3), 3.0), PlainKernels()
    >>> left, right = np.array([[1.0, 0.5, 0.0]]), np.array([[0.0, 0.5, 1.0]])
    >>> term = GuidedStyleTerm(layer="conv1_1", weight=0.2, shares=(1.0, 1.0))
    >>> term = term.guided_by([left, right])
    >>> G = term.sums(F, kernels)
    >>> term.m, G[0, 0].tolist()
    ((1.25, 1.25), [11.25, 11.25])
    >>> term = term.compared_with(G, M=3)
    >>> term.value(G, N=2, M=3)
    0.0
    """

    name: ClassVar[str] = "style"
    reference: ClassVar[Reference] = "style"
    per_position: ClassVar[bool] = False

    layer: str
    weight: float
    shares: tuple[float, ...]
    convention: Convention = PAPER
    T: tuple[Array | None, ...] = field(default=(), compare=False, repr=False)
    m: tuple[float, ...] = field(default=(), compare=False)
    A: Array | None = field(default=None, compare=False, repr=False)
    M: tuple[float, ...] = field(default=(), compare=False)

    def guided_by(self, T: Sequence[Array | None]) -> Self:
        """Return a copy with the guidance of a whole image, and its sums Σ T²."""
        return replace(self.in_part(T), m=tuple(map(_squares, T)))

    def in_part(self, T: Sequence[Array | None]) -> Self:
        """Return a copy with a part of the guidance; the sums stay those of the whole image."""
        return replace(
            self, T=tuple(None if t is None or not namespace(t).any(t) else t for t in T)
        )

    def sums(self, F: Array, kernels: Kernels, area: Area | None = None) -> Array:
        """Return G_r = (T_r∘F) (T_r∘F)ᵀ of each region, (R, N, N), over an area."""
        xp, N = namespace(F), F.shape[0]
        found = [None if T is None else kernels.gram(F, area, _like(F, T)) for T in self.T]
        dtype = next((G.dtype for G in found if G is not None), F.dtype)
        stacked: Array = xp.stack(
            [xp.zeros((N, N), dtype=dtype) if G is None else G for G in found]
        )
        return stacked

    def value(self, sums: Array, N: int, M: int) -> float:
        """Return E_l = Σ_r λ_r E_r, as the convention scales it."""
        total = 0.0
        for r, weight in enumerate(self._weights(M)):
            total += weight * losses.style_loss(sums[r, ...], self._scaled(r), N, self.m[r])
        return self.convention.style_factor * total

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
        """Return dF + weight · Σ_r λ_r/(N² m_r²) T_r∘((G_r − A_r) (T_r∘F)) where F > 0."""
        del N
        weight *= self.convention.style_factor
        for r, each in enumerate(self._weights(M)):
            T = self.T[r]
            if T is not None:
                dF = kernels.add_style_gradient(
                    dF,
                    F,
                    sums[r, ...],
                    self._scaled(r),
                    self.m[r],
                    weight * each,
                    area,
                    _like(F, T),
                )
        if dF is None:  # no region reaches into the area
            dF = kernels.add_gradient(None, F, 0 * within(F, area), area)
        return dF

    def sums_jvp(self, tF: Array, F: Array) -> Array:
        """Return the tangent of each region's G_r, (R, N, N)."""
        xp, N = namespace(F), F.shape[0]
        flat, tflat = matrix(F), matrix(tF)
        stacked: Array = xp.stack(
            [
                xp.zeros((N, N), dtype=F.dtype)
                if T is None
                else guided.guided_gram_jvp(tflat, flat, _row(F, T))
                for T in self.T
            ]
        )
        return stacked

    def value_jvp(self, tsums: Array, sums: Array, N: int, M: int) -> float:
        """Return the derivative of E_l = Σ_r λ_r E_r, as the convention scales it."""
        total = 0.0
        for r, weight in enumerate(self._weights(M)):
            if self.T[r] is not None:
                tG, G = tsums[r, ...], sums[r, ...]
                total += weight * losses.style_loss_jvp(tG, G, self._scaled(r), N, self.m[r])
        return self.convention.style_factor * total

    def gradient_jvp(
        self, tF: Array, F: Array, tsums: Array, sums: Array, N: int, M: int, weight: float
    ) -> Array:
        """Return weight · Σ_r λ_r · the tangent of ∂E_r/∂F, where F > 0."""
        flat, tflat, weight = matrix(F), matrix(tF), weight * self.convention.style_factor
        result = 0 * flat
        for r, each in enumerate(self._weights(M)):
            T = self.T[r]
            if T is not None:
                tG, G, A = tsums[r, ...], sums[r, ...], self._scaled(r)
                result += (
                    weight
                    * each
                    * guided.guided_style_gradient_jvp(
                        tflat, flat, _row(F, T), tG, G, A, N, self.m[r]
                    )
                )
        shaped: Array = namespace(F).reshape(result, F.shape)
        return shaped

    def target(self, F: Array, kernels: Kernels, area: Area | None = None) -> Array:
        """Return the guided Gram matrices (R, N, N) over an area."""
        return self.sums(F, kernels, area)

    def compared_with(self, target: Array | None, M: int) -> Self:
        """Return a copy of the term whose target is A, of an image with this term's guidance."""
        del M
        return replace(self, A=target, M=() if target is None else self.m)

    def plus_share(self, other: Self, share: float) -> Self:
        """Return a copy with share · the other's A/M added, in each region that the other has.

        M becomes the sum of the shares, so that A/M is the weighted mean.
        """
        assert other.A is not None  # noqa: S101 - it is a copy with a target
        known = (0.0,) * len(self.shares) if self.A is None else self.M
        parts, M = [], []
        for r, m in enumerate(other.M):
            own = 0 * other.A[r] if self.A is None else self.A[r]
            parts.append(own + other.A[r] * (share / m) if m else own)
            M.append(known[r] + share if m else known[r])
        return replace(self, A=namespace(other.A).stack(parts), M=tuple(M))

    def _weights(self, M: int) -> list[float]:
        """Return λ_r of each region."""
        return [share * m / M for share, m in zip(self.shares, self.m, strict=True)]

    def _scaled(self, r: int) -> Array:
        """Return A of a region, rescaled to the m of the generated image."""
        assert self.A is not None  # noqa: S101 - the term has its target; see with_targets
        scaled: Array = self.A[r, ...] * (self.m[r] / self.M[r])
        return scaled


def _like(F: Array, T: Array) -> Array:
    """Return a guidance in F's float type and memory, that of a GPU or the host's."""
    result: Array = namespace(F).asarray(T, dtype=F.dtype)
    return result


def _row(F: Array, T: Array) -> Array:
    """Return a guidance (H, V) as (M,), in F's float type and memory."""
    result: Array = namespace(F).reshape(_like(F, T), (-1,))
    return result


def _squares(T: Array | None) -> float:
    """Return Σ T², summed in float64."""
    if T is None:
        return 0.0
    xp = namespace(T)
    return float(xp.sum(xp.square(T), dtype=xp.float64))
