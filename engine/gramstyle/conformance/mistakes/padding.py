"""Mistakes in paddings other than zeros: what they read, and where their gradient goes.

Those that change the forward pass are registered twice, as in `convolution`.
"""

import numpy as np

from gramstyle.conformance.mistakes.pieces import Pieces
from gramstyle.conformance.mistakes.registry import mistake
from gramstyle.core import layers
from gramstyle.core.arrays import Array


class _Padded(Pieces):
    """A mistake about a padding other than zeros."""

    def possible(self) -> bool:
        return self.padding != "zeros"

    def outside_too(self, dZ: Array, W: Array) -> Array:
        """Return the derivative by the padded input, (C, H + 2, V + 2)."""
        return layers.conv2d_backward(np.pad(dZ, ((0, 0), (1, 1), (1, 1))), W)


@mistake(
    "zeros instead of the padding",
    "Images are padded with zeros instead of by replication, by reflection or circularly, forward "
    "and backward.",
    in_targets=True,
)
class _Zeros(_Padded):
    def convolution(self, X: Array, W: Array, b: Array) -> Array:
        return layers.conv2d_forward(X, W, b)

    def convolution_backward(self, dZ: Array, W: Array) -> Array:
        return layers.conv2d_backward(dZ, W)


@mistake(
    "edge repeated in a reflection",
    "A reflection begins with the edge itself (numpy's symmetric) instead of the position inside "
    "the edge, forward and backward.",
    in_targets=True,
)
class _Symmetric(_Padded):
    def possible(self) -> bool:
        return self.padding == "reflect"

    def convolution(self, X: Array, W: Array, b: Array) -> Array:
        return layers.conv2d_forward(X, W, b, "replicate")

    def convolution_backward(self, dZ: Array, W: Array) -> Array:
        return layers.conv2d_backward(dZ, W, "replicate")


@mistake(
    "wrapped along rows only",
    "Circular padding continues the rows at the opposite edge, and pads the columns with zeros, "
    "forward and backward.",
    in_targets=True,
)
class _WrappedOnce(_Padded):
    def possible(self) -> bool:
        return self.padding == "circular"

    def convolution(self, X: Array, W: Array, b: Array) -> Array:
        wrapped = np.pad(X, ((0, 0), (0, 0), (1, 1)), mode="wrap")
        return layers.conv2d_forward(wrapped, W, b)[:, :, 1:-1]

    def convolution_backward(self, dZ: Array, W: Array) -> Array:
        dX = self.outside_too(dZ, W)[:, 1:-1]
        dX[..., 1] += dX[..., -1]
        dX[..., -2] += dX[..., 0]
        return dX[..., 1:-1]


@mistake(
    "gradient of the padding left out",
    "The derivative by the padding is dropped instead of added where the padding comes from.",
)
class _Dropped(_Padded):
    def convolution_backward(self, dZ: Array, W: Array) -> Array:
        return layers.conv2d_backward(dZ, W)


@mistake(
    "gradient of the padding's corners left out",
    "The derivative by the four corners of the padding is dropped, that by its edges is added.",
)
class _CornersDropped(_Padded):
    def convolution_backward(self, dZ: Array, W: Array) -> Array:
        dX = self.outside_too(dZ, W)
        for y in (0, -1):
            for x in (0, -1):
                dX[:, y, x] = 0
        return layers.pad_backward(dX, self.padding)


@mistake(
    "gradient of a reflection added at the edge",
    "The derivative by the padding is added to the edge instead of to the position inside the edge "
    "that the reflection copies.",
)
class _AddedAtTheEdge(_Padded):
    def possible(self) -> bool:
        return self.padding == "reflect"

    def convolution_backward(self, dZ: Array, W: Array) -> Array:
        return layers.conv2d_backward(dZ, W, "replicate")
