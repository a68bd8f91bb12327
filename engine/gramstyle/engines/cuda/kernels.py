"""The heavy steps for a GPU, written once for NumPy's and CuPy's arrays.

Same interface and same results (to rounding) as `kernels.PlainKernels`, which is what to read
first. What differs:

- The convolution's backward keeps positions in rows: the image lies padded and flat, (positions,
  channels), so that each of the nine shifted images of `layers.conv2d_backward` is a run of rows.
  That is a contiguous matrix, which cuBLAS reads where it is; of a shifted slice of
  (channels, positions) CuPy would make a copy.
- A mask, a seed and an unpooling are one CUDA kernel each, reading and writing where the next
  product wants it. With NumPy they are the expressions beside the kernels.
- Nothing big is allocated after the first evaluation.
"""

from collections.abc import Callable
from functools import cache
from math import prod
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

from gramstyle.core import layers
from gramstyle.core.arrays import Array, cast, namespace
from gramstyle.core.kernels import Area, Pooling


class DeviceKernels:
    """The steps of one evaluation; lives as long as the objective that uses it.

    An array that a method returns lies in the memory of these kernels and is valid until the
    next but one call. A backward pass needs no more.
    """

    def __init__(self) -> None:
        self._memory: dict[str, Array] = {}
        self._taps: dict[int, tuple[Array, Array]] = {}
        self._unpooled: Array | None = None

    def gram(self, F: Array, owned: Area | None = None) -> Array:
        """Equation 3 over all owned positions, in F's float type; the result in float64."""
        matrix = _matrix(_within(F, owned))
        return cast(matrix @ matrix.T, "float64")

    def add_style_gradient(
        self,
        dF: Array | None,
        F: Array,
        G: Array,
        A: Array,
        M: int,
        weight: float,
        owned: Area | None = None,
    ) -> Array:
        """dF + weight · equation 6, whose mask is left to the ReLU that the pass crosses next."""
        N, X = F.shape[0], _within(F, owned)
        D = cast(weight * (G - A) / (float(N) ** 2 * float(M) ** 2), F.dtype)
        whole = dF is None and owned is None
        gradient = self._array("seed" if whole else "product", (N, X.shape[1] * X.shape[2]), F)
        namespace(F).matmul(D, _matrix(X), out=gradient)
        if whole:
            return gradient.reshape(F.shape)
        dF = self._zeros(F) if dF is None else dF
        there = _within(dF, owned)
        there += gradient.reshape(X.shape)
        return dF

    def add_content_gradient(
        self, dF: Array | None, F: Array, P: Array, weight: float, owned: Area | None = None
    ) -> Array:
        """dF + weight · equation 2, whose mask is left to the ReLU that the pass crosses next."""
        dF = self._zeros(F) if dF is None else dF
        there = _within(dF, owned)
        _steps(namespace(F)).add_difference(_within(F, owned), P, F.dtype.type(weight), there)
        return dF

    def convolution_backward(self, dF: Array, F: Array, W: Array) -> Array:
        """Through the ReLU, then through the convolution: dF, F (N, H, V) → dX (C, H, V)."""
        xp = namespace(F)
        C, (_, H, V) = W.shape[1], F.shape
        line = V + 2
        padded = self._padded(dF, F)
        total = self._array("total", (H * line, C), F)
        product = self._array("product", (H * line, C), F)
        for tap, kernel in enumerate(self._turned(W)):
            start = tap // 3 * line + tap % 3
            out = product if tap else total
            xp.matmul(padded[start : start + H * line], kernel, out=out)
            if tap:
                total += product
        # Each line ends in two positions that belong to no column.
        return total.reshape(H, line, C)[:, :V].transpose(2, 0, 1)

    def pool_backward(self, dY: Array, X: Array, kind: Pooling) -> Array:
        """Through a 2×2 pooling: dY (C, H // 2, V // 2), X (C, H, V) → dX (C, H, V)."""
        # Two poolings in a row must not write what they read.
        again = self._unpooled is not None and dY is self._unpooled
        dX = self._unpooled = self._array("pooled again" if again else "pooled", X.shape, X)
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

    def _padded(self, dF: Array, F: Array) -> Array:
        """dZ = dF where F > 0, else 0, with a border of zeros, flat: (positions, N)."""
        N, H, V = F.shape
        # The last shifted image reaches two positions beyond the last line, for two results that
        # nobody reads.
        flat = self._array("padded", ((H + 2) * (V + 2) + 2, N), F)
        flat[(H + 2) * (V + 2) :] = 0
        image = flat[: (H + 2) * (V + 2)].reshape(H + 2, V + 2, N)
        image[0] = image[H + 1] = 0
        image[:, 0] = image[:, V + 1] = 0
        inside = image[1 : H + 1, 1 : V + 1]
        _steps(namespace(F)).mask(dF.transpose(1, 2, 0), F.transpose(1, 2, 0), inside)
        return flat

    def _turned(self, W: Array) -> Array:
        """Return the kernel turned by 180°, tap by tap: (9, N, C), each tap a matrix."""
        if id(W) not in self._taps:
            N, C = W.shape[:2]
            taps = W[:, :, ::-1, ::-1].transpose(2, 3, 0, 1).reshape(9, N, C)
            taps = namespace(W).ascontiguousarray(taps)
            self._taps[id(W)] = (W, taps)  # W stays alive with it, so that no other takes its id
        return self._taps[id(W)][1]

    def _zeros(self, F: Array) -> Array:
        dF = self._array("seed", F.shape, F)
        dF[...] = 0
        return dF

    def _array(self, name: str, shape: tuple[int, ...], like: Array) -> Array:
        """Return the array of that name in this shape, its contents undefined."""
        size, kept = prod(shape), self._memory.get(name)
        if kept is None or kept.size < size or kept.dtype != like.dtype:
            self._memory.pop(name, None)
            kept = self._memory[name] = namespace(like).empty(size, dtype=like.dtype)
        return kept[:size].reshape(shape)


class _Steps(NamedTuple):
    """What is one pass over memory each; the last arguments are written."""

    mask: Callable[..., Any]  # dF, F → dZ = dF where F > 0, else 0
    add_difference: Callable[..., Any]  # F, P, weight → dF += weight (F − P)
    unpool: Callable[..., Any]  # dY, the four of each window → dX at the four


# The same in CUDA: parameters that are read, parameters that are written, what is done.
CUDA_STEPS = {
    "mask": ("T dF, T F", "T dZ", "dZ = F > 0 ? dF : 0;"),
    "add_difference": ("T F, T P, T weight", "T dF", "dF += weight * (F - P);"),
    "unpool": (
        "T dY, T a, T b, T c, T d",
        "T da, T db, T dc, T dd",
        # Of several that are equal the first takes all.
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
    """Return the passes for a namespace: CUDA kernels where it can make them."""
    if not hasattr(xp, "ElementwiseKernel"):
        return _Steps(_mask, _add_difference, _unpool)
    kernels = {
        name: xp.ElementwiseKernel(read, written, operation, f"gramstyle_{name}")
        for name, (read, written, operation) in CUDA_STEPS.items()
    }
    return _Steps(**kernels)


def _mask(dF: Array, F: Array, dZ: Array) -> None:
    np.multiply(dF, F > 0, out=dZ)


def _add_difference(F: Array, P: Array, weight: Any, dF: Array) -> None:
    dF += weight * (F - P)


def _unpool(dY: Array, *members: Array) -> None:
    read, written = members[:4], members[4:]
    largest = np.maximum(np.maximum(read[0], read[1]), np.maximum(read[2], read[3]))
    free = np.ones(dY.shape, bool)
    for member, out in zip(read, written, strict=True):
        chosen = free & (member == largest)
        np.multiply(dY, chosen, out=out)
        free &= ~chosen


def _within(F: Array, owned: Area | None) -> Array:
    return F if owned is None else F[:, owned[0], owned[1]]


def _matrix(F: Array) -> Array:
    return F.reshape(F.shape[0], -1)
