"""Other activation functions in ReLU's place, forward and backward."""

import math

import numpy as np

from gramstyle.conformance.mistakes.families.family import FamilyPieces, Values, family
from gramstyle.core.arrays import Array


class _Activation(FamilyPieces):
    """Pieces with another activation function."""

    def relu(self, Z: Array) -> Array:
        """Return the activation."""
        raise NotImplementedError

    def slope(self, Z: Array) -> Array:
        """Return the derivative of the activation."""
        raise NotImplementedError

    def relu_backward(self, dF: Array, layer: str) -> Array:
        return dF * self.slope(self.image.Z[layer])


@family(
    "leaky ReLU with slope {value}",
    "s Z instead of 0 where Z < 0.",
    Values(1e-3, 0.8, signed=True),
    in_targets=True,
)
class _Leaky(_Activation):
    def relu(self, Z: Array) -> Array:
        return np.where(Z > 0, Z, self.value * Z)

    def slope(self, Z: Array) -> Array:
        return np.where(Z > 0, 1.0, self.value)


@family(
    "ReLU clipped at {value}",
    "min(max(0, Z), c) instead of max(0, Z), as ReLU6 does with c = 6.",
    Values(0.5, 100),
    in_targets=True,
)
class _Clipped(_Activation):
    def relu(self, Z: Array) -> Array:
        return np.clip(Z, 0, self.value)

    def slope(self, Z: Array) -> Array:
        return np.where((Z > 0) & (self.value > Z), 1.0, 0.0)


@family(
    "ReLU shifted by {value}",
    "max(0, Z − t) instead of max(0, Z).",
    Values(0.02, 10, signed=True),
    in_targets=True,
)
class _Shifted(_Activation):
    def relu(self, Z: Array) -> Array:
        return np.maximum(Z - self.value, 0)

    def slope(self, Z: Array) -> Array:
        return np.where(self.value < Z, 1.0, 0.0)


@family(
    "softplus with β = {value}",
    "log(1 + exp(β Z)) / β instead of max(0, Z).",
    Values(0.1, 20),
    in_targets=True,
)
class _Softplus(_Activation):
    def relu(self, Z: Array) -> Array:
        return np.logaddexp(0, self.value * Z) / self.value

    def slope(self, Z: Array) -> Array:
        return _sigmoid(self.value * Z)


@family(
    "ELU with α = {value}",
    "α (exp Z − 1) instead of 0 where Z < 0.",
    Values(0.01, 3),
    in_targets=True,
)
class _ELU(_Activation):
    def relu(self, Z: Array) -> Array:
        return np.where(Z > 0, Z, self.value * np.expm1(np.minimum(Z, 0)))

    def slope(self, Z: Array) -> Array:
        return np.where(Z > 0, 1.0, self.value * np.exp(np.minimum(Z, 0)))


@family(
    "SiLU with β = {value}",
    "Z / (1 + exp(−β Z)) instead of max(0, Z); SiLU, also called Swish, has β = 1.",
    Values(0.1, 10),
    in_targets=True,
)
class _SiLU(_Activation):
    def relu(self, Z: Array) -> Array:
        return Z * _sigmoid(self.value * Z)

    def slope(self, Z: Array) -> Array:
        gate = _sigmoid(self.value * Z)
        slope: Array = gate * (1 + self.value * Z * (1 - gate))
        return slope


@family(
    "GELU with β = {value}",
    "Z Φ(β Z) instead of max(0, Z), with Φ the normal distribution; GELU has β = 1.",
    Values(0.1, 10),
    in_targets=True,
)
class _GELU(_Activation):
    def relu(self, Z: Array) -> Array:
        return Z * _normal(self.value * Z)

    def slope(self, Z: Array) -> Array:
        scaled = self.value * Z
        return _normal(scaled) + scaled * np.exp(-(scaled**2) / 2) / math.sqrt(2 * math.pi)


@family(
    "gradient multiplied by {value} where the ReLU is closed",
    "The backward pass multiplies by s instead of 0 where F = 0; the forward pass is correct.",
    Values(1e-3, 0.8, signed=True),
    gradient_only=True,
)
class _LeakyBackward(FamilyPieces):
    def relu_backward(self, dF: Array, layer: str) -> Array:
        return np.where(self.image.F[layer] > 0, dF, self.value * dF)


def _sigmoid(Z: Array) -> Array:
    """Return 1 / (1 + exp(−Z)) without overflow."""
    sigmoid: Array = np.exp(-np.logaddexp(0, -Z))
    return sigmoid


def _normal(Z: Array) -> Array:
    """Return the normal distribution Φ."""
    flat = [math.erfc(-z / math.sqrt(2)) / 2 for z in Z.ravel()]
    return np.array(flat).reshape(Z.shape)
