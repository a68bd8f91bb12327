"""Mistakes in the style losses of means and deviations, and of covariances.

Each changes loss and gradient alike, unless its name says which of the two. The statistics of the
style image are computed with the mistake, too.
"""

import numpy as np

from gramstyle.conformance.mistakes.pieces import Pieces
from gramstyle.conformance.mistakes.registry import mistake
from gramstyle.core.arrays import Array
from gramstyle.core.mean_std import EPSILON


class _OwnStatistics(Pieces):
    """A mistake in a statistic, which the target has, too."""

    def statistic_difference(self, layer: str) -> Array:
        target = self.statistic(layer, self.style_responses[layer])
        return self.statistic(layer, self.F[layer]) - target


@mistake(
    "variance instead of deviation",
    "Variances are compared instead of standard deviations: the square root is forgotten.",
)
class _Variance(_OwnStatistics):
    def deviation(self, F: Array) -> Array:
        return super().deviation(F) ** 2

    def deviation_slope(self, F: Array) -> Array:
        return 2 * self.without_means(F)


@mistake(
    "unbiased deviation",
    "The variance is divided by M − 1 instead of M, as std does by default in some frameworks.",
)
class _Unbiased(_OwnStatistics):
    def deviation(self, F: Array) -> Array:
        M = F[0].size
        variance: Array = np.mean(self.without_means(F) ** 2, axis=1)
        deviation: Array = np.sqrt(variance * M / (M - 1) + EPSILON)
        return deviation

    def deviation_slope(self, F: Array) -> Array:
        slope: Array = super().deviation_slope(F) * F[0].size / (F[0].size - 1)
        return slope


@mistake(
    "ε beside the root of the deviation",
    "σ = √variance + ε instead of √(variance + ε).",
)
class _EpsilonBeside(_OwnStatistics):
    def deviation(self, F: Array) -> Array:
        variance: Array = np.mean(self.without_means(F) ** 2, axis=1)
        return np.sqrt(variance) + EPSILON

    def deviation_slope(self, F: Array) -> Array:
        return self.without_means(F) / (self.deviation(F)[:, None] - EPSILON)


@mistake(
    "derivative of the root missing in the gradient of the deviation",
    "(σ − σᵃ) (F − μ) instead of (σ − σᵃ) (F − μ) / σ in the gradient.",
)
class _WithoutRoot(Pieces):
    def deviation_slope(self, F: Array) -> Array:
        return self.without_means(F)


@mistake(
    "deviation as if the mean were constant",
    "(σ − σᵃ) F / σ instead of (σ − σᵃ) (F − μ) / σ in the gradient: the mean depends on F, too.",
)
class _ConstantMean(Pieces):
    def deviation_slope(self, F: Array) -> Array:
        slope: Array = F.reshape(len(F), -1) / self.deviation(F)[:, None]
        return slope


@mistake(
    "covariance divided by M − 1",
    "1 / (M − 1) instead of 1 / M, as cov does by default in many libraries.",
)
class _UnbiasedCovariance(_OwnStatistics):
    def covariance(self, F: Array) -> Array:
        covariance: Array = super().covariance(F) * F[0].size / (F[0].size - 1)
        return covariance

    def statistic_gradient(self, layer: str) -> Array:
        gradient = super().statistic_gradient(layer)
        if self.statistics[layer] == "covariance":
            gradient *= self.M(layer) / (self.M(layer) - 1)
        return gradient


@mistake(
    "covariance without the means subtracted",
    "A Gram matrix divided by M instead of a covariance, for the style image as well.",
)
class _NotCentred(_OwnStatistics):
    def covariance(self, F: Array) -> Array:
        flat = F.reshape(len(F), -1)
        covariance: Array = flat @ flat.T / flat.shape[1]
        return covariance

    def statistic_gradient(self, layer: str) -> Array:
        if self.statistics[layer] != "covariance":
            return super().statistic_gradient(layer)
        return _times_responses(self, layer)


@mistake(
    "gradient of the covariance without the means subtracted",
    "(C − A) F instead of (C − A) (F − μ) in the gradient.",
)
class _GradientNotCentred(Pieces):
    def statistic_gradient(self, layer: str) -> Array:
        if self.statistics[layer] != "covariance":
            return super().statistic_gradient(layer)
        return _times_responses(self, layer)


def _times_responses(pieces: Pieces, layer: str) -> Array:
    """Return 4 factor / M · (S − A) F."""
    D, F = pieces.statistic_difference(layer), pieces.F[layer]
    factor = 4 * pieces.statistic_factor(layer) / pieces.M(layer)
    return factor * np.tensordot(D, F, axes=1)
