"""The steps of the style loss of regions, any one of which a mistake replaces."""

from collections.abc import Mapping

import numpy as np

from gramstyle.core.arrays import Array
from gramstyle.core.conventions import Convention
from gramstyle.core.terms import GuidedStyleTerm


class RegionPieces:
    """The part of `Pieces` that computes the style loss of regions.

    `guided` has the style terms of regions, `guidance` the guidance (R, h, v) in the style image.
    """

    guided: Mapping[str, GuidedStyleTerm]
    guidance: Mapping[str, Array]
    convention: Convention
    own_targets: bool

    @property
    def F(self) -> Mapping[str, Array]:
        """The responses of x that the losses compare, (N, H, V) by layer."""
        raise NotImplementedError

    @property
    def style_responses(self) -> Mapping[str, Array]:
        """The responses of the style image that the losses compare, (N, H, V) by layer."""
        raise NotImplementedError

    def M(self, layer: str) -> int:
        """Return the number of positions of x at a layer."""
        raise NotImplementedError

    def gram(self, F: Array) -> Array:
        """Return the Gram matrix G = F Fᵀ (equation 3)."""
        raise NotImplementedError

    def T(self, layer: str) -> Array:
        """Return the guidance (R, H, V) of the regions."""
        return np.array([*self.guided[layer].T])

    def region_m(self, T: Array) -> float:
        """Return what the Gram matrix of a region with the guidance T is divided by."""
        return float(np.sum(T**2))

    def region_gram(self, F: Array, T: Array) -> Array:
        """Return the guided Gram matrix of a region."""
        return self.gram(T * F)

    def region_target(self, layer: str, r: int) -> Array:
        """Return the guided Gram matrix of the style image, divided by its own Σ T²."""
        if self.own_targets:
            T = self.guidance[layer][r]
            return self.region_gram(self.style_responses[layer], T) / self.region_m(T)
        term = self.guided[layer]
        assert term.A is not None  # noqa: S101 - the terms of a case have their targets
        A: Array = term.A[r] / term.M[r]
        return A

    def region_weight(self, layer: str, r: int) -> float:
        """Return λ_r: the share of a region, times the part of the image that it covers."""
        return self.guided[layer].shares[r] * float(np.sum(self.T(layer)[r] ** 2)) / self.M(layer)

    def region_difference(self, layer: str, r: int) -> Array:
        """Return G / m − A / m_a of a region."""
        T = self.T(layer)[r]
        return self.region_gram(self.F[layer], T) / self.region_m(T) - self.region_target(layer, r)

    def region_factor(self, layer: str, r: int) -> float:
        """Return λ_r / (4 N²), times the convention's factor."""
        N = len(self.F[layer])
        return self.region_weight(layer, r) * self.convention.style_factor / (4.0 * N**2)

    def regions_loss(self, layer: str) -> float:
        """Return E_l = Σ_r λ_r E_r."""
        return sum(
            self.region_factor(layer, r) * float(np.sum(self.region_difference(layer, r) ** 2))
            for r in range(len(self.T(layer)))
        )

    def regions_gradient(self, layer: str) -> Array:
        """Return ∂E_l/∂F; the backward pass applies its mask."""
        total = np.zeros_like(self.F[layer])
        for r, T in enumerate(self.T(layer)):
            D = (
                4.0
                * self.region_factor(layer, r)
                / self.region_m(T)
                * self.region_difference(layer, r)
            )
            total += self.region_gram_gradient(D, self.F[layer], T)
        return total

    def region_gram_gradient(self, D: Array, F: Array, T: Array) -> Array:
        """Return T ∘ (D (T ∘ F))."""
        return T * np.tensordot(D, T * F, axes=1)
