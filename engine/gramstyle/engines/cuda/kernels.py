"""The kernels on a GPU, written once for NumPy's and CuPy's arrays.

`DeviceKernels` has the interface of `core.kernels.PlainKernels` and gives the same results to
rounding; read `PlainKernels` first. The differences:

- The backward pass of a convolution stores the padded image as (positions, channels). Each of the
  nine shifted images of `layers.conv2d_backward` is then a run of rows, which is a contiguous
  matrix. cuBLAS reads it in place; CuPy would copy a shifted slice of (channels, positions).
- The ReLU mask, the content gradient and the max pooling's backward are one CUDA kernel each. With
  NumPy, equivalent expressions replace them.
- The first evaluation allocates all large arrays.
"""

from collections.abc import Callable
from functools import cache
from math import prod
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

from gramstyle.core import layers
from gramstyle.core.arrays import Array, cast, namespace
from gramstyle.core.kernels import Area, Pooling, matrix, within
from gramstyle.core.layers import Padding


class DeviceKernels:
    """The kernels of one objective.

    The kernels own the returned arrays. A returned array stays valid during the next call and may
    be overwritten by the one after it, which is all that a backward pass needs.
    """

    def __init__(self) -> None:
        self._arrays: dict[str, Array] = {}
        self._taps: dict[int, tuple[Array, Array]] = {}
        self._unpooled: Array | None = None

    def gram(self, F: Array, owned: Area | None = None, T: Array | None = None) -> Array:
        """Return the Gram matrix (equation 3), computed in F's float type, as float64."""
        X = matrix(within(F, owned))
        if T is not None:
            X = namespace(F).multiply(X, T.reshape(-1), out=self._array("product", X.shape, F))
        return cast(X @ X.T, "float64")

    def add_style_gradient(
        self,
        dF: Array | None,
        F: Array,
        G: Array,
        A: Array,
        M: float,
        weight: float,
        owned: Area | None = None,
        T: Array | None = None,
    ) -> Array:
        """Return dF + weight · equation 6 without its mask, which the next ReLU applies."""
        N, X = F.shape[0], within(F, owned)
        D = cast(weight * (G - A) / (float(N) ** 2 * float(M) ** 2), F.dtype)
        whole = dF is None and owned is None
        gradient = self._array("seed" if whole else "product", (N, X.shape[1] * X.shape[2]), F)
        namespace(F).matmul(D, matrix(X), out=gradient)
        if T is not None:
            gradient *= (T * T).reshape(-1)  # T∘(D (T∘F)) = T²∘(D F)
        if whole:
            return gradient.reshape(F.shape)
        dF = self._zeros(F) if dF is None else dF
        total = within(dF, owned)
        total += gradient.reshape(X.shape)
        return dF

    def add_content_gradient(
        self, dF: Array | None, F: Array, P: Array, weight: float, owned: Area | None = None
    ) -> Array:
        """Return dF + weight · equation 2 without its mask, which the next ReLU applies."""
        dF = self._zeros(F) if dF is None else dF
        total = within(dF, owned)
        _steps(namespace(F)).add_difference(within(F, owned), P, F.dtype.type(weight), total)
        return dF

    def moments(self, F: Array, owned: Area | None = None) -> Array:
        """Return Σ_k F_ik and Σ_k F_ik² in float64: (2, N)."""
        xp, X = namespace(F), within(F, owned)
        squares = xp.multiply(X, X, out=self._array("product", X.shape, F))
        both = [xp.sum(each, axis=(1, 2), dtype=xp.float64) for each in (X, squares)]
        result: Array = xp.stack(both)
        return result

    def add_affine_gradient(
        self, dF: Array | None, F: Array, D: Array, d: Array, owned: Area | None = None
    ) -> Array:
        """Return dF + D F + d without the mask, which the next ReLU applies."""
        xp, X = namespace(F), within(F, owned)
        slope, shift = cast(D, F.dtype), cast(d, F.dtype)[:, None, None]
        gradient = self._array("product", X.shape, F)
        if slope.ndim == 1:
            xp.multiply(slope[:, None, None], X, out=gradient)
        else:
            xp.matmul(slope, matrix(X), out=matrix(gradient))
        gradient += shift
        dF = self._zeros(F) if dF is None else dF
        total = within(dF, owned)
        total += gradient
        return dF

    def add_gradient(
        self, dF: Array | None, F: Array, gradient: Array, owned: Area | None = None
    ) -> Array:
        """Return dF + gradient without a mask, which the next ReLU applies."""
        dF = self._zeros(F) if dF is None else dF
        there = within(dF, owned)
        there += gradient
        return dF

    def convolution_backward(
        self, dF: Array, F: Array, W: Array, padding: Padding = "zeros"
    ) -> Array:
        """Return dX (C, H, V): dF (N, H, V) through the ReLU and the convolution."""
        xp, C, outside = namespace(F), W.shape[1], layers.ring_width(padding)
        H, V = F.shape[1] + 2 * outside, F.shape[2] + 2 * outside
        line = V + 2
        padded = self._padded(dF, F, 1 + outside)
        total = self._array("total", (H * line, C), F)
        product = self._array("product", (H * line, C), F)
        for tap, kernel in enumerate(self._rotated(W)):
            start = tap // 3 * line + tap % 3
            out = product if tap else total
            xp.matmul(padded[start : start + H * line], kernel, out=out)
            if tap:
                total += product
        # The last two positions of each line are padding.
        dX = total.reshape(H, line, C)[:, :V].transpose(2, 0, 1)
        return layers.pad_backward(dX, padding) if outside else dX

    def pool_backward(self, dY: Array, X: Array, kind: Pooling) -> Array:
        """Return dX (C, H, V): dY (C, H // 2, V // 2) through a 2×2 pooling."""
        # The second of two adjacent poolings must not overwrite the array that it reads.
        second = self._unpooled is not None and dY is self._unpooled
        dX = self._unpooled = self._array("second pooling" if second else "pooling", X.shape, X)
        _, h, v = dY.shape
        dX[:, 2 * h :] = 0
        dX[:, :, 2 * v :] = 0
        members = [dX[window] for window in layers.windows(X)]
        if kind == "max":
            _steps(namespace(X)).unpool(dY, *(X[window] for window in layers.windows(X)), *members)
        else:
            for member in members:
                namespace(X).multiply(dY, X.dtype.type(0.25), out=member)
        return dX

    def release(self, F: Array) -> None:
        """Do nothing."""

    def backward_ends(self) -> None:
        """Do nothing."""

    def _padded(self, dF: Array, F: Array, border: int) -> Array:
        """Return dZ = dF where F > 0, else 0, in a border of zeros, flat: (positions, N)."""
        N, H, V = F.shape
        height, line = H + 2 * border, V + 2 * border
        # The last shifted image extends two positions beyond the last line, into padding.
        flat = self._array("padded", (height * line + 2, N), F)
        flat[height * line :] = 0
        image = flat[: height * line].reshape(height, line, N)
        image[:border] = image[H + border :] = 0
        image[:, :border] = image[:, V + border :] = 0
        inside = image[border : H + border, border : V + border]
        _steps(namespace(F)).mask(dF.transpose(1, 2, 0), F.transpose(1, 2, 0), inside)
        return flat

    def _rotated(self, W: Array) -> Array:
        """Return the kernel rotated by 180° as (9, N, C): a matrix for each tap."""
        if id(W) not in self._taps:
            N, C = W.shape[:2]
            taps = W[:, :, ::-1, ::-1].transpose(2, 3, 0, 1).reshape(9, N, C)
            taps = namespace(W).ascontiguousarray(taps)
            self._taps[id(W)] = (W, taps)  # holding W keeps its id unique
        return self._taps[id(W)][1]

    def _zeros(self, F: Array) -> Array:
        dF = self._array("seed", F.shape, F)
        dF[...] = 0
        return dF

    def _array(self, name: str, shape: tuple[int, ...], like: Array) -> Array:
        """Return the array of this name, in this shape, its contents undefined."""
        size, array = prod(shape), self._arrays.get(name)
        if array is None or array.size < size or array.dtype != like.dtype:
            self._arrays.pop(name, None)
            array = self._arrays[name] = namespace(like).empty(size, dtype=like.dtype)
        return array[:size].reshape(shape)


class _Steps(NamedTuple):
    """Elementwise steps, each one pass over memory; the last arguments are the outputs."""

    mask: Callable[..., Any]  # dF, F → dZ = dF where F > 0, else 0
    add_difference: Callable[..., Any]  # F, P, weight → dF += weight (F − P)
    unpool: Callable[..., Any]  # dY, the four of each window → dX at the four


# The CUDA source of each step: its inputs, its outputs, its operation.
CUDA_STEPS = {
    "mask": ("T dF, T F", "T dZ", "dZ = F > 0 ? dF : 0;"),
    "add_difference": ("T F, T P, T weight", "T dF", "dF += weight * (F - P);"),
    "unpool": (
        "T dY, T a, T b, T c, T d",
        "T da, T db, T dc, T dd",
        # The first of several equal values takes the whole derivative.
        "T y = a > b ? a : b; y = c > y ? c : y; y = d > y ? d : y;"
        "bool free = true, chosen;"
        "chosen = a == y; da = chosen ? dY : 0; free = !chosen;"
        "chosen = free && b == y; db = chosen ? dY : 0; free = free && !chosen;"
        "chosen = free && c == y; dc = chosen ? dY : 0; free = free && !chosen;"
        "dd = free && d == y ? dY : 0;",
    ),
}


@cache
def _steps(xp: ModuleType) -> _Steps:
    """Return the steps for a namespace: CUDA kernels if it can compile them, else NumPy's."""
    if not hasattr(xp, "ElementwiseKernel"):
        return _Steps(_mask, _add_difference, _unpool)
    kernels = {
        name: xp.ElementwiseKernel(inputs, outputs, operation, f"gramstyle_{name}")
        for name, (inputs, outputs, operation) in CUDA_STEPS.items()
    }
    return _Steps(**kernels)


def _mask(dF: Array, F: Array, dZ: Array) -> None:
    np.multiply(dF, F > 0, out=dZ)


def _add_difference(F: Array, P: Array, weight: Any, dF: Array) -> None:
    dF += weight * (F - P)


def _unpool(dY: Array, *members: Array) -> None:
    inputs, outputs = members[:4], members[4:]
    largest = np.maximum(np.maximum(inputs[0], inputs[1]), np.maximum(inputs[2], inputs[3]))
    free = np.ones(dY.shape, bool)
    for member, out in zip(inputs, outputs, strict=True):
        chosen = free & (member == largest)
        np.multiply(dY, chosen, out=out)
        free &= ~chosen
