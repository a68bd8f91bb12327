"""Mistakes on the way down: convolution, ReLU, pooling, and what is added up between them.

Those that change the forward too are marked: there P and A may be made right, or wrong as well.
"""

from collections.abc import Mapping
from typing import Literal

import numpy as np

from gramstyle.conformance.mistakes.pieces import Pass, Pieces, mistake
from gramstyle.core import layers
from gramstyle.core.arrays import Array
from gramstyle.core.kernels import Pooling
from gramstyle.core.network import Convolution

# The ReLU


@mistake(
    "ReLU gradient passed at 0",
    "The mask is Z >= 0 and should be Z > 0: the derivative at 0 is 0.",
)
class _PassedAtZero(Pieces):
    def relu_backward(self, dF: Array, layer: str) -> Array:
        return np.where(self.image.Z[layer] >= 0, dF, 0)


@mistake(
    "half of the ReLU gradient passed at 0",
    "The ReLU is written max(Z, 0), whose gradient a tie shares: ½ at Z = 0, which should be 0.",
)
class _HalfAtZero(Pieces):
    def relu_backward(self, dF: Array, layer: str) -> Array:
        Z = self.image.Z[layer]
        return np.where(Z > 0, dF, np.where(Z == 0, 0.5 * dF, 0))


@mistake(
    "ReLU left out on the way down",
    "Gradients pass where F = 0. So does the mask F >= 0, which is everywhere; it should be F > 0.",
)
class _WithoutMask(Pieces):
    def relu_backward(self, dF: Array, layer: str) -> Array:  # noqa: ARG002
        return dF


@mistake(
    "ReLU gradient from above passed at 0",
    "Equations 2 and 6 hold their own mask, F > 0, but what comes from deeper layers passes where "
    "Z = 0.",
)
class _FromAbovePassedAtZero(Pieces):
    def dZ(self, layer: str, above: Array | None, seed: Array | None) -> Array:
        F, Z = self.image.F[layer], self.image.Z[layer]
        passed = 0 if above is None else np.where(Z == 0, above, 0)
        return np.where(F > 0, self.gather(above, seed), passed)


@mistake(
    "ReLU left out for gradients from above",
    "Gradients from deeper layers pass where F = 0; equations 2 and 6 hold their own mask.",
)
class _FromAboveWithoutMask(Pieces):
    def dZ(self, layer: str, above: Array | None, seed: Array | None) -> Array:
        passed = 0 if above is None else above
        return np.where(self.image.F[layer] > 0, self.gather(above, seed), passed)


@mistake(
    "ReLU masked by the gradient's sign",
    "Only positive gradients pass (a deconvolutional network); the mask should be F > 0.",
)
class _Deconvolutional(Pieces):
    def relu_backward(self, dF: Array, layer: str) -> Array:  # noqa: ARG002
        return np.maximum(dF, 0)


@mistake(
    "guided backpropagation",
    "Only positive gradients pass, and only where F > 0; the mask should be F > 0 alone.",
)
class _Guided(Pieces):
    def relu_backward(self, dF: Array, layer: str) -> Array:
        return np.maximum(super().relu_backward(dF, layer), 0)


@mistake(
    "loss taken before the ReLU",
    "Losses look at Z, as at a framework's layer that is named after the convolution; they should "
    "look at F = max(0, Z).",
    in_targets=True,
)
class _BeforeTheReLU(Pieces):
    def seen(self, backward_pass: Pass) -> Mapping[str, Array]:
        return backward_pass.Z

    def dZ(self, layer: str, above: Array | None, seed: Array | None) -> Array:
        # What the layer's own loss wants does not cross its ReLU.
        passed = 0 if seed is None else seed
        return np.where(self.image.F[layer] > 0, self.gather(above, seed), passed)


# Convolutions


@mistake(
    "kernels not flipped on the way down",
    "The backward convolves with W[:, :, i, j], and should with W[:, :, 2 − i, 2 − j].",
)
class _Unflipped(Pieces):
    def convolution_backward(self, dZ: Array, W: Array) -> Array:
        return layers.conv2d_backward(dZ, W[:, :, ::-1, ::-1])


class _SquareLayers(Pieces):
    """A mistake that fails where N and C differ."""

    def possible(self) -> bool:
        chain = self.network.layers
        return all(c.W.shape[0] == c.W.shape[1] for c in chain if isinstance(c, Convolution))


@mistake(
    "N and C not exchanged on the way down",
    "The kernels are flipped, but dX[c] sums over W[c, n], and should over W[n, c]. It shows where "
    "N = C, and fails elsewhere.",
)
class _NotExchanged(_SquareLayers):
    def convolution_backward(self, dZ: Array, W: Array) -> Array:
        return layers.conv2d_backward(dZ, W.transpose(1, 0, 2, 3))


@mistake(
    "the forward convolution on the way down",
    "Kernels are neither flipped nor are N and C exchanged. It shows where N = C, and fails "
    "elsewhere.",
)
class _ForwardForBackward(_SquareLayers):
    def convolution_backward(self, dZ: Array, W: Array) -> Array:
        return layers.conv2d_forward(dZ, W, np.zeros(len(W)))


class _PaddedBackward(Pieces):
    mode: Literal["edge", "wrap"]

    def convolution_backward(self, dZ: Array, W: Array) -> Array:
        padded = np.pad(dZ, ((0, 0), (1, 1), (1, 1)), mode=self.mode)
        return layers.conv2d_backward(padded, W)[:, 1:-1, 1:-1]


@mistake(
    "gradient padded with its edge",
    "dZ is continued over its border by its last value, and should be by zeros.",
)
class _EdgeBackward(_PaddedBackward):
    mode = "edge"


@mistake(
    "gradient wrapped round",
    "dZ is continued over its border from the other side (np.roll, or an FFT), and should be by "
    "zeros.",
)
class _WrapBackward(_PaddedBackward):
    mode = "wrap"


@mistake(
    "no gradient at the border",
    "dX is computed where all nine taps are inside, and is 0 at the border; it should be computed "
    "everywhere.",
)
class _BorderLeftOut(Pieces):
    def convolution_backward(self, dZ: Array, W: Array) -> Array:
        dX = super().convolution_backward(dZ, W)
        inside = np.zeros_like(dX)
        inside[:, 1:-1, 1:-1] = dX[:, 1:-1, 1:-1]
        return inside


class _Padded(Pieces):
    mode: Literal["edge", "wrap", "reflect"]

    def convolution(self, X: Array, W: Array, b: Array) -> Array:
        padded = X.reshape(len(X), -1)[:, self.sources(X)]
        return layers.conv2d_forward(padded, W, b)[:, 1:-1, 1:-1]

    def convolution_backward(self, dZ: Array, W: Array) -> Array:
        by_padded = layers.conv2d_backward(np.pad(dZ, ((0, 0), (1, 1), (1, 1))), W)
        dX = np.zeros((W.shape[1], dZ[0].size))
        for to, by in zip(dX, by_padded, strict=True):
            np.add.at(to, self.sources(dZ), by)
        return dX.reshape(-1, *dZ.shape[1:])

    def sources(self, X: Array) -> Array:
        """Which position of X each position of the padded X is a copy of."""
        _, H, V = X.shape
        return np.pad(np.arange(H * V).reshape(H, V), 1, mode=self.mode)


@mistake(
    "convolutions padded by reflection",
    "Images are continued over their border by reflection (forward and backward), and should be "
    "by zeros.",
    in_targets=True,
)
class _Reflected(_Padded):
    mode = "reflect"


@mistake(
    "convolutions padded with the edge",
    "Images are continued over their border by their last value (forward and backward), and "
    "should be by zeros.",
    in_targets=True,
)
class _Edged(_Padded):
    mode = "edge"


@mistake(
    "convolutions wrapped round",
    "Images are continued over their border from the other side (forward and backward), and "
    "should be by zeros.",
    in_targets=True,
)
class _Wrapped(_Padded):
    mode = "wrap"


class _OtherKernels(Pieces):
    def other(self, W: Array) -> Array:
        raise NotImplementedError

    def convolution(self, X: Array, W: Array, b: Array) -> Array:
        return super().convolution(X, self.other(W), b)

    def convolution_backward(self, dZ: Array, W: Array) -> Array:
        return super().convolution_backward(dZ, self.other(W))


@mistake(
    "kernels flipped forward and backward",
    "A convolution proper, W[:, :, 2 − i, 2 − j] at the tap i, j; the network was trained with a "
    "correlation.",
    in_targets=True,
)
class _Convolved(_OtherKernels):
    def other(self, W: Array) -> Array:
        return W[:, :, ::-1, ::-1]


@mistake(
    "kernels transposed",
    "W[:, :, j, i] at the tap i, j, as after reading weights in column order.",
    in_targets=True,
)
class _Transposed(_OtherKernels):
    def other(self, W: Array) -> Array:
        return W.transpose(0, 1, 3, 2)


@mistake(
    "biases left out",
    "Z lacks b.",
    in_targets=True,
)
class _WithoutBias(Pieces):
    def convolution(self, X: Array, W: Array, b: Array) -> Array:
        return super().convolution(X, W, np.zeros_like(b))


# Poolings


@mistake(
    "average pooling divided twice on the way down",
    "Each position gets dY / 16, and should get dY / 4.",
)
class _DividedTwice(Pieces):
    def avg_pool_backward(self, dY: Array, X: Array) -> Array:
        return super().avg_pool_backward(dY, X) / 4


@mistake(
    "average pooling not divided on the way down",
    "Each position gets dY, and should get dY / 4.",
)
class _NotDivided(Pieces):
    def avg_pool_backward(self, dY: Array, X: Array) -> Array:
        return super().avg_pool_backward(dY, X) * 4


@mistake(
    "odd row gets gradient in average pooling",
    "At an odd size the last row or column gets dY / 4 from the window beside it, and should get "
    "0: it is in no window.",
)
class _OddRow(Pieces):
    def avg_pool_backward(self, dY: Array, X: Array) -> Array:
        dX = super().avg_pool_backward(dY, X)
        H, V = (size // 2 * 2 for size in X.shape[1:])
        odd = ((0, 0), (0, X.shape[1] - H), (0, X.shape[2] - V))
        return np.pad(dX[:, :H, :V], odd, mode="edge")


@mistake(
    "max pooling's gradient to all positions",
    "Each position of a window gets dY, and the largest alone should.",
)
class _Unpooled(Pieces):
    def max_pool_backward(self, dY: Array, X: Array) -> Array:
        return 4 * layers.avg_pool_backward(dY, X)


@mistake(
    "max pooling crossed as average pooling",
    "Each position of a window gets dY / 4; the largest alone should get dY.",
)
class _CrossedAsAverage(Pieces):
    def max_pool_backward(self, dY: Array, X: Array) -> Array:
        return layers.avg_pool_backward(dY, X)


@mistake(
    "max pooling's gradient to all that are equal",
    "Of several largest in a window each gets dY; the first in reading order should take all.",
)
class _TiesToAll(Pieces):
    def max_pool_backward(self, dY: Array, X: Array) -> Array:
        return _to_all(dY, X)


@mistake(
    "max pooling's gradient shared by those that are equal",
    "Of several largest in a window each gets its part of dY; the first in reading order should "
    "take all.",
)
class _TiesShared(Pieces):
    def max_pool_backward(self, dY: Array, X: Array) -> Array:
        largest = _to_all(np.ones_like(dY), X)
        return _to_all(dY / sum(largest[window] for window in layers.windows(X)), X)


@mistake(
    "max pooling's gradient to the last that is equal",
    "Of several largest in a window the last in reading order takes all; the first should.",
)
class _TiesToTheLast(Pieces):
    def max_pool_backward(self, dY: Array, X: Array) -> Array:
        dX = _to_all(dY, X)
        free = np.ones(dY.shape, bool)
        Y = layers.max_pool_forward(X)
        for window in reversed(layers.windows(X)):
            chosen = free & (X[window] == Y)
            dX[window] = np.where(chosen, dY, 0)
            free &= ~chosen
        return dX


def _to_all(dY: Array, X: Array) -> Array:
    """Give dY to every position that is as large as the largest of its window."""
    dX, Y = np.zeros_like(X), layers.max_pool_forward(X)
    for window in layers.windows(X):
        dX[window] = np.where(X[window] == Y, dY, 0)
    return dX


@mistake(
    "the other pooling",
    "Average pooling stands for max pooling or the other way round, forward and backward.",
    in_targets=True,
)
class _OtherPooling(Pieces):
    def pool(self, X: Array, kind: Pooling) -> Array:
        return super().pool(X, "avg" if kind == "max" else "max")

    def pool_backward(self, dY: Array, X: Array, kind: Pooling) -> Array:
        return super().pool_backward(dY, X, "avg" if kind == "max" else "max")


@mistake(
    "first row left out at odd sizes",
    "At an odd size pooling starts at the second row or column; it should start at the first, and "
    "leave the last one out.",
    in_targets=True,
)
class _FirstRowLeftOut(Pieces):
    def pool(self, X: Array, kind: Pooling) -> Array:
        return super().pool(X[:, X.shape[1] % 2 :, X.shape[2] % 2 :], kind)

    def pool_backward(self, dY: Array, X: Array, kind: Pooling) -> Array:
        y, x = X.shape[1] % 2, X.shape[2] % 2
        return np.pad(super().pool_backward(dY, X[:, y:, x:], kind), ((0, 0), (y, 0), (x, 0)))


# What is added up on the way


@mistake(
    "a layer's own loss written over the gradient from above",
    "dF = seed is written for dF += seed: what the deeper layers want is lost.",
)
class _Overwritten(Pieces):
    def gather(self, above: Array | None, seed: Array | None) -> Array:
        return super().gather(above if seed is None else None, seed)


@mistake(
    "only the deepest layer's loss sent down",
    "The pass starts at the deepest layer and passes the others' losses by.",
)
class _OnlyTheDeepest(Pieces):
    def gather(self, above: Array | None, seed: Array | None) -> Array:
        return super().gather(above, seed if above is None else None)


@mistake(
    "content over style at one layer",
    "Where content and style look at the same layer the one is written over the other, and both "
    "should be added.",
)
class _ContentOverStyle(Pieces):
    def seeds(self) -> dict[str, Array]:
        result = super().seeds()
        if self.content_layer:
            result[self.content_layer] = self.alpha * self.content_gradient()
        return result


@mistake(
    "each loss's gradient divided by its sum of absolute values",
    "A loss's gradient is normalised at its layer before its weight is applied; it should be "
    "passed on as it is.",
)
class _NormalisedSeeds(Pieces):
    def content_gradient(self) -> Array:
        return _normalised(super().content_gradient())

    def style_gradient(self, layer: str) -> Array:
        return _normalised(super().style_gradient(layer))


def _normalised(gradient: Array) -> Array:
    return gradient / float(np.sum(np.abs(gradient)))
