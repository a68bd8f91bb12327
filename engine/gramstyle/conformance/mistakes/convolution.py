"""Mistakes in convolutions: kernels, channels, padding and biases.

Some also change the forward pass. Each of those is registered twice: with the correct P and A, and
with P and A computed in the same way.
"""

from typing import Literal

import numpy as np

from gramstyle.conformance.mistakes.pieces import ForwardPass, Pieces
from gramstyle.conformance.mistakes.registry import mistake
from gramstyle.core import layers
from gramstyle.core.arrays import Array
from gramstyle.core.layers import Padding
from gramstyle.core.network import Convolution


@mistake(
    "kernels not flipped in the backward pass",
    "The backward pass convolves with W[:, :, i, j] instead of W[:, :, 2 − i, 2 − j].",
)
class _Unflipped(Pieces):
    def convolution_backward(self, dZ: Array, W: Array) -> Array:
        return super().convolution_backward(dZ, W[:, :, ::-1, ::-1])


class _SquareLayers(Pieces):
    """A mistake that fails where N and C differ."""

    def possible(self) -> bool:
        chain = self.network.layers
        return all(c.W.shape[0] == c.W.shape[1] for c in chain if isinstance(c, Convolution))


@mistake(
    "N and C not exchanged in the backward pass",
    "The kernels are flipped, but dX[c] sums over W[c, n] instead of W[n, c]. This computes "
    "something where N = C and fails elsewhere.",
)
class _NotExchanged(_SquareLayers):
    def convolution_backward(self, dZ: Array, W: Array) -> Array:
        return super().convolution_backward(dZ, W.transpose(1, 0, 2, 3))


@mistake(
    "forward convolution in the backward pass",
    "The kernels are not flipped, and N and C are not exchanged. This computes something where "
    "N = C and fails elsewhere.",
)
class _ForwardForBackward(_SquareLayers):
    def convolution_backward(self, dZ: Array, W: Array) -> Array:
        return super().convolution(dZ, W, np.zeros(len(W)))


class _ZeroPadded(Pieces):
    """A mistake about a padding of zeros."""

    def possible(self) -> bool:
        return self.padding == "zeros"


class _PaddedBackward(_ZeroPadded):
    mode: Literal["edge", "wrap"]

    def convolution_backward(self, dZ: Array, W: Array) -> Array:
        padded = np.pad(dZ, ((0, 0), (1, 1), (1, 1)), mode=self.mode)
        return layers.conv2d_backward(padded, W)[:, 1:-1, 1:-1]


@mistake(
    "gradient padded with its edge values", "dZ is padded with its edge values instead of zeros."
)
class _EdgeBackward(_PaddedBackward):
    mode = "edge"


@mistake(
    "gradient wrapped around",
    "dZ is padded with values from the opposite side (np.roll, or an FFT) instead of zeros.",
)
class _WrapBackward(_PaddedBackward):
    mode = "wrap"


@mistake(
    "no gradient at the border",
    "dX is computed only where all nine taps are inside the image, and is 0 at the border.",
)
class _BorderLeftOut(Pieces):
    def convolution_backward(self, dZ: Array, W: Array) -> Array:
        dX = super().convolution_backward(dZ, W)
        inside = np.zeros_like(dX)
        inside[:, 1:-1, 1:-1] = dX[:, 1:-1, 1:-1]
        return inside


class _Padded(_ZeroPadded):
    used: Padding

    def convolution(self, X: Array, W: Array, b: Array) -> Array:
        return layers.conv2d_forward(X, W, b, self.used)

    def convolution_backward(self, dZ: Array, W: Array) -> Array:
        return layers.conv2d_backward(dZ, W, self.used)


@mistake(
    "convolutions padded by reflection",
    "Images are padded by reflection instead of zeros, forward and backward.",
    in_targets=True,
)
class _Reflected(_Padded):
    used = "reflect"


@mistake(
    "convolutions padded with edge values",
    "Images are padded with their edge values instead of zeros, forward and backward.",
    in_targets=True,
)
class _Edged(_Padded):
    used = "replicate"


@mistake(
    "convolutions wrapped around",
    "Images are padded with values from the opposite side instead of zeros, forward and backward.",
    in_targets=True,
)
class _Wrapped(_Padded):
    used = "circular"


class _OtherKernels(Pieces):
    def other(self, W: Array) -> Array:
        raise NotImplementedError

    def convolution(self, X: Array, W: Array, b: Array) -> Array:
        return super().convolution(X, self.other(W), b)

    def convolution_backward(self, dZ: Array, W: Array) -> Array:
        return super().convolution_backward(dZ, self.other(W))


@mistake(
    "kernels flipped forward and backward",
    "A true convolution, with W[:, :, 2 − i, 2 − j] at the tap i, j, instead of the correlation "
    "with which the network was trained.",
    in_targets=True,
)
class _Convolved(_OtherKernels):
    def other(self, W: Array) -> Array:
        return W[:, :, ::-1, ::-1]


@mistake(
    "kernels transposed",
    "W[:, :, j, i] at the tap i, j, as after reading weights in column-major order.",
    in_targets=True,
)
class _Transposed(_OtherKernels):
    def other(self, W: Array) -> Array:
        return W.transpose(0, 1, 3, 2)


@mistake(
    "kernels read as (C, N, 3, 3)",
    "The weights are stored as (N, C, 3, 3) and read with C as the first index.",
    in_targets=True,
)
class _ReadAsCN(_OtherKernels):
    def other(self, W: Array) -> Array:
        N, C = W.shape[:2]
        return W.reshape(C, N, 3, 3).transpose(1, 0, 2, 3)


@mistake(
    "kernels read as (3, 3, C, N)",
    "The weights are stored as (N, C, 3, 3) and read in the layout of TensorFlow.",
    in_targets=True,
)
class _ReadAsTensorFlow(_OtherKernels):
    def other(self, W: Array) -> Array:
        N, C = W.shape[:2]
        return W.reshape(3, 3, C, N).transpose(3, 2, 0, 1)


@mistake("biases left out", "Z does not include b.", in_targets=True)
class _WithoutBias(Pieces):
    def convolution(self, X: Array, W: Array, b: Array) -> Array:
        return super().convolution(X, W, np.zeros_like(b))


@mistake(
    "biases added after the ReLU",
    "F = max(0, W ∗ X) + b instead of max(0, W ∗ X + b), forward and backward.",
    in_targets=True,
)
class _BiasAfterReLU(Pieces):
    def forward(self, v: Array) -> ForwardPass:
        before, after, F = {}, {}, v
        for layer in self.network.layers:
            if isinstance(layer, Convolution):
                Z = before[layer.name] = self.convolution(F, layer.W, np.zeros_like(layer.b))
                F = self.relu(Z) + layer.b[:, None, None]
            else:
                F = before[layer.name] = self.pool(F, layer.kind)
            after[layer.name] = F
        return ForwardPass(before, after)

    def relu_backward(self, dF: Array, layer: str) -> Array:
        return dF * (self.image.Z[layer] > 0)
