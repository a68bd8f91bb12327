"""Paddings with a constant, with a part of the edge, and on some sides only."""

from collections.abc import Sequence

import numpy as np

from gramstyle.conformance.cases import Case
from gramstyle.conformance.mistakes.families.family import FamilyPieces, Values, family
from gramstyle.core import layers
from gramstyle.core.arrays import Array

RING = ((0, 0), (1, 1), (1, 1))


@family(
    "convolutions padded with {value}",
    "Images are padded with a constant instead of zeros or the padding of the case.",
    Values(0.01, 100, signed=True),
    in_targets=True,
)
class _Constant(FamilyPieces):
    def convolution(self, X: Array, W: Array, b: Array) -> Array:
        padded = np.pad(X, RING, constant_values=self.value)
        return layers.conv2d_forward(padded, W, b)[:, 1:-1, 1:-1]

    def convolution_backward(self, dZ: Array, W: Array) -> Array:
        return layers.conv2d_backward(dZ, W)


@family(
    "convolutions padded with {value} of the edge",
    "Positions outside an image have a multiple of the nearest value inside.",
    Values(0.02, 2, signed=True),
    in_targets=True,
)
class _PartOfTheEdge(FamilyPieces):
    def convolution(self, X: Array, W: Array, b: Array) -> Array:
        padded = self.value * layers.pad_forward(X, "replicate")
        padded[:, 1:-1, 1:-1] = X
        return layers.conv2d_forward(padded, W, b)[:, 1:-1, 1:-1]

    def convolution_backward(self, dZ: Array, W: Array) -> Array:
        inside = layers.conv2d_backward(dZ, W)
        edges = layers.conv2d_backward(dZ, W, "replicate") - inside
        return inside + self.value * edges


# How many positions are padded above and on the left, of two; 1 and 1 are correct.
SIDES = {
    f"{above} above and {2 - above} below, {left} left and {2 - left} right": (above, left)
    for above in range(3)
    for left in range(3)
    if (above, left) != (1, 1)
}


@family(
    "convolutions padded {place}",
    "The zeros are on one side only, or the responses are shifted by a position.",
    in_targets=True,
)
class _OneSided(FamilyPieces):
    @classmethod
    def places(cls, case: Case) -> Sequence[str]:
        return tuple(SIDES) if case.padding == "zeros" else ()

    def inside(self, H: int, V: int) -> tuple[slice, slice, slice]:
        """Return the positions of Z in a convolution of an image with two zeros around it."""
        above, left = SIDES[self.place]
        return slice(None), slice(3 - above, 3 - above + H), slice(3 - left, 3 - left + V)

    def convolution(self, X: Array, W: Array, b: Array) -> Array:
        padded = np.pad(X, ((0, 0), (2, 2), (2, 2)))
        return layers.conv2d_forward(padded, W, b)[self.inside(*X.shape[1:])]

    def convolution_backward(self, dZ: Array, W: Array) -> Array:
        N, H, V = dZ.shape
        padded = np.zeros((N, H + 4, V + 4))
        padded[self.inside(H, V)] = dZ
        return layers.conv2d_backward(padded, W)[:, 2:-2, 2:-2]
