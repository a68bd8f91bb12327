"""Batch normalisation behind a convolution, folded into the weights and biases.

A trained network normalises the pre-activation of filter n with constants:

    γ[n] (Z[n] − μ[n]) / √(σ²[n] + ε) + β[n]

This is a convolution too, with s[n] = γ[n] / √(σ²[n] + ε), the weights s[n] W[n] and the biases
s[n] (b[n] − μ[n]) + β[n].
"""

from dataclasses import dataclass

import numpy as np

from gramstyle.core.arrays import Array
from gramstyle.errors import ModelError
from gramstyle.model.sources.tensors import StoredTensor

DOUBLE = np.dtype(np.float64)


@dataclass(frozen=True)
class BatchNorm:
    """The constants of a batch normalisation, each (N,).

    Attributes
    ----------
    layer
        The name of the convolution, for errors.
    mean, variance
        μ and σ².
    scale, shift
        γ and β; None is 1 and 0.
    epsilon
        ε.
    """

    layer: str
    mean: StoredTensor
    variance: StoredTensor
    scale: StoredTensor | None
    shift: StoredTensor | None
    epsilon: float

    def folded(self, W: StoredTensor, b: StoredTensor | None) -> tuple[StoredTensor, StoredTensor]:
        """Return the weights and biases, in float64, of the convolution that does both steps.

        Their `load` raises ModelError if a constant is NaN or infinite, or σ² or ε is negative.
        """

        def weights() -> Array:
            return self._factor()[:, None, None, None] * W.load().astype(DOUBLE)

        def biases() -> Array:
            centred = -self._constants(self.mean, "mean")
            if b is not None:
                centred += b.load()
            shift = 0.0 if self.shift is None else self._constants(self.shift, "β")
            shifted: Array = self._factor() * centred + shift
            return shifted

        return StoredTensor(W.shape, DOUBLE, weights), StoredTensor(W.shape[:1], DOUBLE, biases)

    def _factor(self) -> Array:
        """Return s."""
        variance = self._constants(self.variance, "variance")
        # An infinite σ² or a NaN has been refused; σ² = ε = 0 gives an s that is not finite.
        if not min(float(variance.min(initial=0.0)), self.epsilon) >= 0:
            raise ModelError(
                "expected variances and ε of 0 or more in the batch normalisation of "
                f"{self.layer}, found a negative one or NaN; is the file damaged?"
            )
        with np.errstate(divide="ignore"):
            s: Array = 1 / np.sqrt(variance + self.epsilon)
        return s if self.scale is None else self._constants(self.scale, "γ") * s

    def _constants(self, tensor: StoredTensor, what: str) -> Array:
        """Return constants in float64; raise ModelError unless they are finite."""
        values: Array = tensor.load().astype(DOUBLE)
        if not np.isfinite(values).all():
            raise ModelError(
                f"expected finite numbers for the {what} of the batch normalisation of "
                f"{self.layer}, found NaN or an infinite value; is the file damaged?"
            )
        return values


def no_biases(filters: int) -> StoredTensor:
    """Return the biases of a convolution without any: zeros."""
    return StoredTensor((filters,), DOUBLE, lambda: np.zeros(filters))
