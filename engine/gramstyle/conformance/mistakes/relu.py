"""Mistakes at the ReLU: its mask in the backward pass, and the loss before it."""

from collections.abc import Mapping

import numpy as np

from gramstyle.conformance.mistakes.pieces import ForwardPass, Pieces
from gramstyle.conformance.mistakes.registry import mistake
from gramstyle.core.arrays import Array


@mistake("ReLU gradient passed at 0", "The mask Z >= 0 instead of Z > 0: the derivative at 0 is 0.")
class _PassedAtZero(Pieces):
    def relu_backward(self, dF: Array, layer: str) -> Array:
        return np.where(self.image.Z[layer] >= 0, dF, 0)


@mistake(
    "half of the ReLU gradient passed at 0",
    "The ReLU is written max(Z, 0), and ties share the gradient of max: ½ at Z = 0 instead of 0.",
)
class _HalfAtZero(Pieces):
    def relu_backward(self, dF: Array, layer: str) -> Array:
        Z = self.image.Z[layer]
        return np.where(Z > 0, dF, np.where(Z == 0, 0.5 * dF, 0))


@mistake(
    "ReLU left out of the backward pass",
    "Gradients pass where F = 0. The mask F >= 0, which is true everywhere, does the same; the "
    "correct mask is F > 0.",
)
class _WithoutMask(Pieces):
    def relu_backward(self, dF: Array, layer: str) -> Array:  # noqa: ARG002
        return dF


@mistake(
    "ReLU gradient from deeper layers passed at 0",
    "Gradients from deeper layers pass where Z = 0; equations 2 and 6 contain the correct mask, "
    "F > 0.",
)
class _DeeperPassedAtZero(Pieces):
    def dZ(self, layer: str, deeper: Array | None, seed: Array | None) -> Array:
        F, Z = self.image.F[layer], self.image.Z[layer]
        passed = 0 if deeper is None else np.where(Z == 0, deeper, 0)
        return np.where(F > 0, self.accumulate(deeper, seed), passed)


@mistake(
    "ReLU left out for gradients from deeper layers",
    "Gradients from deeper layers pass where F = 0; equations 2 and 6 contain the correct mask.",
)
class _DeeperWithoutMask(Pieces):
    def dZ(self, layer: str, deeper: Array | None, seed: Array | None) -> Array:
        passed = 0 if deeper is None else deeper
        return np.where(self.image.F[layer] > 0, self.accumulate(deeper, seed), passed)


@mistake(
    "ReLU masked by the gradient's sign",
    "Only positive gradients pass, as in a deconvolutional network; the correct mask is F > 0.",
)
class _Deconvolutional(Pieces):
    def relu_backward(self, dF: Array, layer: str) -> Array:  # noqa: ARG002
        return np.maximum(dF, 0)


@mistake(
    "guided backpropagation",
    "Only positive gradients pass, and only where F > 0; the correct mask is F > 0 alone.",
)
class _Guided(Pieces):
    def relu_backward(self, dF: Array, layer: str) -> Array:
        return np.maximum(super().relu_backward(dF, layer), 0)


@mistake(
    "loss computed before the ReLU",
    "The losses compare Z instead of F = max(0, Z), as happens where a framework names its layer "
    "after the convolution.",
    in_targets=True,
)
class _BeforeTheReLU(Pieces):
    def compared(self, forward_pass: ForwardPass) -> Mapping[str, Array]:
        return forward_pass.Z

    def dZ(self, layer: str, deeper: Array | None, seed: Array | None) -> Array:
        # The gradient of the layer's own loss does not cross the ReLU.
        passed = 0 if seed is None else seed
        return np.where(self.image.F[layer] > 0, self.accumulate(deeper, seed), passed)
