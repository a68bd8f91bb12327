"""The network's input and the total variation: factors, offsets and exponents."""

import numpy as np

from gramstyle.conformance.mistakes.families.family import FamilyPieces, Values, family
from gramstyle.core.arrays import Array
from gramstyle.core.total_variation import total_variation, total_variation_gradient


@family(
    "network's input multiplied by {value}",
    "The input has a factor, as where pixels have another scale than the network was trained with.",
    Values(0.01, 20),
    in_targets=True,
)
class _Scaled(FamilyPieces):
    def preprocess(self, x: Array) -> Array:
        return self.value * super().preprocess(x)

    def preprocess_backward(self, dv: Array) -> Array:
        return self.value * super().preprocess_backward(dv)


@family(
    "{value} added to the network's input",
    "The input has an offset, as with another mean.",
    Values(0.01, 50, signed=True),
    in_targets=True,
)
class _Offset(FamilyPieces):
    def preprocess(self, x: Array) -> Array:
        return super().preprocess(x) + self.value


@family(
    "biases multiplied by {value}",
    "The biases of all convolutions have a factor.",
    Values(0.02, 10, signed=True),
    in_targets=True,
)
class _Biases(FamilyPieces):
    def convolution(self, X: Array, W: Array, b: Array) -> Array:
        return super().convolution(X, W, self.value * b)


class _Exponent(FamilyPieces):
    """Another function of differences of neighbours than their squares."""

    def variation(self) -> tuple[float, Array]:
        """Return the function and its gradient."""
        raise NotImplementedError

    def loss(self) -> float:
        if not self.tv:
            return super().loss()
        return super().loss() + self.tv * (self.variation()[0] - total_variation(self.x))

    def finish(self, gradient: Array) -> Array:
        if not self.tv:
            return gradient
        return gradient + self.tv * (self.variation()[1] - total_variation_gradient(self.x))


@family(
    "total variation with exponent {value}",
    "Σ abs(d)ᵖ over the differences d of neighbours instead of Σ d².",
    Values(1.05, 4),
)
class _EachDifference(_Exponent):
    def variation(self) -> tuple[float, Array]:
        total, gradient = 0.0, np.zeros_like(self.x)
        for axis in (1, 2):
            d = np.diff(self.x, axis=axis)
            total += float(np.sum(np.abs(d) ** self.value))
            slope = self.value * np.sign(d) * np.abs(d) ** (self.value - 1)
            gradient += _diff_backward(slope, axis)
        return total, gradient


@family(
    "total variation with exponent {value} of both differences",
    "Σ (d² + e²)^(p/2) with the differences d down and e right at each position, instead of Σ d² "
    "over all differences.",
    Values(1.05, 4),
)
class _BothDifferences(_Exponent):
    def variation(self) -> tuple[float, Array]:
        down, right = np.zeros_like(self.x), np.zeros_like(self.x)
        down[:, :-1], right[:, :, :-1] = np.diff(self.x, axis=1), np.diff(self.x, axis=2)
        squares = down**2 + right**2
        # The last position has no differences: its power would be infinite.
        slope = np.power(squares, self.value / 2 - 1, out=np.zeros_like(squares), where=squares > 0)
        slope *= self.value
        gradient = _diff_backward((slope * down)[:, :-1], 1)
        gradient += _diff_backward((slope * right)[:, :, :-1], 2)
        return float(np.sum(squares ** (self.value / 2))), gradient


def _diff_backward(slope: Array, axis: int) -> Array:
    """Return the backward pass of np.diff."""
    around = [(1, 1) if each == axis else (0, 0) for each in range(3)]
    return -np.diff(np.pad(slope, around), axis=axis)
