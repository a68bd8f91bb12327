"""Batch normalisation behind a convolution, folded into the weights and biases.

A trained network normalises the pre-activation of filter n with constants:

    γ[n] (Z[n] − μ[n]) / √(σ²[n] + ε) + β[n]

This is a convolution too, with s[n] = γ[n] / √(σ²[n] + ε), the weights s[n] W[n] and the biases
s[n] (b[n] − μ[n]) + β[n].
"""

from dataclasses import dataclass

import numpy as np

from gramstyle.core.arrays import Array
from gramstyle.model.sources.tensors import StoredTensor

DOUBLE = np.dtype(np.float64)


@dataclass(frozen=True)
class BatchNorm:
    """The constants of a batch normalisation, each (N,).

    Attributes
    ----------
    mean, variance
        μ and σ².
    scale, shift
        γ and β; None is 1 and 0.
    epsilon
        ε.
    """

    mean: StoredTensor
    variance: StoredTensor
    scale: StoredTensor | None
    shift: StoredTensor | None
    epsilon: float

    def folded(self, W: StoredTensor, b: StoredTensor | None) -> tuple[StoredTensor, StoredTensor]:
        """Return the weights and biases, in float64, of the convolution that does both steps."""

        def weights() -> Array:
            return self._factor()[:, None, None, None] * W.load().astype(DOUBLE)

        def biases() -> Array:
            centred = -self.mean.load().astype(DOUBLE)
            if b is not None:
                centred += b.load()
            shift = 0.0 if self.shift is None else self.shift.load().astype(DOUBLE)
            shifted: Array = self._factor() * centred + shift
            return shifted

        return StoredTensor(W.shape, DOUBLE, weights), StoredTensor(W.shape[:1], DOUBLE, biases)

    def _factor(self) -> Array:
        """Return s, which is not finite if a variance is negative: the caller refuses that."""
        with np.errstate(invalid="ignore", divide="ignore"):
            s: Array = 1 / np.sqrt(self.variance.load().astype(DOUBLE) + self.epsilon)
        return s if self.scale is None else self.scale.load() * s


def no_biases(filters: int) -> StoredTensor:
    """Return the biases of a convolution without any: zeros."""
    return StoredTensor((filters,), DOUBLE, lambda: np.zeros(filters))
