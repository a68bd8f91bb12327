"""Mistakes in guided Gram matrices, the style loss of regions.

Each changes loss and gradient alike, unless its name says which of the two.
"""

import numpy as np

from gramstyle.conformance.mistakes.pieces import Pieces
from gramstyle.conformance.mistakes.registry import mistake
from gramstyle.core.arrays import Array


@mistake(
    "guidance once instead of twice in the style gradient",
    "D (T∘F) instead of T∘(D (T∘F)): the chain rule multiplies by T a second time.",
)
class _GuidanceOnce(Pieces):
    def region_gram_gradient(self, D: Array, F: Array, T: Array) -> Array:
        return np.tensordot(D, T * F, axes=1)


@mistake(
    "guidance left out of the style gradient",
    "D F instead of T∘(D (T∘F)): every position moves, also those outside of the region.",
)
class _NoGuidanceInGradient(Pieces):
    def region_gram_gradient(self, D: Array, F: Array, T: Array) -> Array:
        del T
        return np.tensordot(D, F, axes=1)


@mistake(
    "guidance applied after the Gram matrix",
    "The mean of T² times F Fᵀ instead of (T∘F) (T∘F)ᵀ: the matrix is that of the whole image.",
)
class _AfterGram(Pieces):
    def region_gram(self, F: Array, T: Array) -> Array:
        return float(np.mean(T**2)) * self.gram(F)

    def region_gram_gradient(self, D: Array, F: Array, T: Array) -> Array:
        return float(np.mean(T**2)) * np.tensordot(D, F, axes=1)


@mistake(
    "number of positions instead of the sum of T² for a region",
    "G / M − A / m_a instead of G / m − A / m_a: small regions are compared with too large an A.",
)
class _PositionsForSquares(Pieces):
    def region_m(self, T: Array) -> float:
        return float(T.size)


@mistake(
    "sum of T instead of the sum of T² for a region",
    "G / Σ T instead of G / Σ T²: they differ where T is neither 0 nor 1.",
)
class _SumOfT(Pieces):
    def region_m(self, T: Array) -> float:
        return float(np.sum(T))


@mistake(
    "guidance not squared in the Gram matrix",
    "Σ T F Fᵀ instead of Σ T² F Fᵀ: T multiplies the products instead of the responses.",
)
class _NotSquaredGuidance(Pieces):
    def region_gram(self, F: Array, T: Array) -> Array:
        return super().region_gram(F, np.sqrt(T))

    def region_gram_gradient(self, D: Array, F: Array, T: Array) -> Array:
        return super().region_gram_gradient(D, F, np.sqrt(T))


@mistake(
    "weights of regions left out",
    "Σ E_r instead of Σ λ_r E_r with λ_r = share · m / M: a small region is as strong as a large "
    "one.",
)
class _NoRegionWeights(Pieces):
    def region_weight(self, layer: str, r: int) -> float:
        del layer, r
        return 1.0
