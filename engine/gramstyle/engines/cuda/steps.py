"""The steps that are not matrix products: a CUDA kernel each, and the same step in NumPy.

Arrays of responses have the shape (H, V, N) here: positions, then channels, next to each other in
memory. A kernel gives neighbouring threads neighbouring channels, which the memory of a GPU wants.

The names in the CUDA source are those of the arguments. An argument that is `raw` is a flat array,
which the kernel indexes itself; of any other argument the kernel sees one entry. `i` is the number
of the thread.
"""

from collections.abc import Callable, Sequence
from functools import cache
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

from gramstyle.core.arrays import Array
from gramstyle.core.layers import PADDINGS, Padding


class Steps(NamedTuple):
    """The steps of one namespace; the last arguments are the outputs."""

    # Elementwise: one pass over memory each.
    mask: Callable[..., Any]  # dF, F → dZ = dF where F > 0, else 0
    add_difference: Callable[..., Any]  # F, P, weight → dF += weight (F − P)
    relu: Callable[..., Any]  # b → F = max(0, F + b), in place
    largest: Callable[..., Any]  # the four of each window → Y
    mean: Callable[..., Any]  # the four of each window → Y
    unpool: Callable[..., Any]  # dY, the four of each window → dX at the four
    spread: Callable[..., Any]  # dY → dX = dY / 4 at the four
    # Flat arrays, `size` threads: see `products` for the arguments.
    patches: Callable[..., Any]
    fold: Callable[..., Any]
    unpatch: Callable[..., Any]


# The CUDA source of each step: its inputs, its outputs, its operation.
CUDA_STEPS = {
    "mask": ("T dF, T F", "T dZ", "dZ = F > 0 ? dF : (T)0;"),
    "add_difference": ("T F, T P, T weight", "T dF", "dF += weight * (F - P);"),
    # Not (F > 0 ? F : 0), which would hide NaN from the search for its layer.
    "relu": ("T b", "T F", "T Z = F + b; F = Z < 0 ? (T)0 : Z;"),
    "largest": (
        "T a, T b, T c, T d",
        "T Y",
        "T y = a > b || a != a ? a : b;y = y > c || y != y ? y : c;Y = y > d || y != y ? y : d;",
    ),
    "mean": ("T a, T b, T c, T d", "T Y", "Y = (a + b + c + d) / 4;"),
    "unpool": (
        "T dY, T a, T b, T c, T d",
        "T da, T db, T dc, T dd",
        # The first of several equal values takes the whole derivative.
        "T y = a > b ? a : b; y = c > y ? c : y; y = d > y ? d : y;"
        "bool free = true, chosen;"
        "chosen = a == y; da = chosen ? dY : (T)0; free = !chosen;"
        "chosen = free && b == y; db = chosen ? dY : (T)0; free = free && !chosen;"
        "chosen = free && c == y; dc = chosen ? dY : (T)0; free = free && !chosen;"
        "dd = free && d == y ? dY : (T)0;",
    ),
    "spread": ("T dY", "T da, T db, T dc, T dd", "da = db = dc = dd = dY / 4;"),
    # A thread copies every group-th of the C channels of one tap of one patch. 32-bit integers
    # divide several times faster than 64-bit ones; offsets into responses need 64 bits.
    "patches": (
        "raw T X, int32 H, int32 V, int32 C, int32 group, int32 first, int32 width, int32 shift, "
        "int32 padding",
        "raw T P",
        "int at = (int)i, c = at % group, tap = at / group % 9, q = at / group / 9;"
        "int y = first + q / width + tap / 3 - shift, x = q % width + tap % 3 - shift;"
        "bool inside = y >= 0 && y < H && x >= 0 && x < V;"
        "if (padding == 1) {"
        "  y = y < 0 ? 0 : y >= H ? H - 1 : y; x = x < 0 ? 0 : x >= V ? V - 1 : x;"
        "} else if (padding == 2) {"
        "  y = y < 0 ? -y : y >= H ? 2 * H - 2 - y : y;"
        "  x = x < 0 ? -x : x >= V ? 2 * V - 2 - x : x;"
        "} else if (padding == 3) {"
        "  y = y < 0 ? y + H : y >= H ? y - H : y; x = x < 0 ? x + V : x >= V ? x - V : x;"
        "}"
        "ptrdiff_t from = ((ptrdiff_t)y * V + x) * C + c, to = ((ptrdiff_t)q * 9 + tap) * C + c;"
        "for (int k = 0; k < C; k += group) P[to + k] = inside || padding ? X[from + k] : (T)0;",
    ),
    # The positions (ys, xs) of the ring whose values stand at a position of X: its own, and those
    # outside X that the padding takes from it.
    "fold": (
        "raw T ring, int32 H, int32 V, int32 C, int32 group, int32 top, int32 bottom, int32 left, "
        "int32 right",
        "raw T dX",
        "int at = (int)i, c = at % group, q = at / group, y = q / V, x = q % V;"
        "int ys[3] = {y + 1, y == top ? 0 : -1, y == bottom ? H + 1 : -1};"
        "int xs[3] = {x + 1, x == left ? 0 : -1, x == right ? V + 1 : -1};"
        "for (int k = c; k < C; k += group) {"
        "  T sum = 0;"
        "  for (int j = 0; j < 3; j++) for (int l = 0; l < 3; l++)"
        "    if (ys[j] >= 0 && xs[l] >= 0)"
        "      sum += ring[((ptrdiff_t)ys[j] * (V + 2) + xs[l]) * C + k];"
        "  dX[(ptrdiff_t)q * C + k] = sum;"
        "}",
    ),
    # As above; the value at a position of the ring is the sum over the nine taps that read it.
    "unpatch": (
        "raw T P, int32 H, int32 V, int32 C, int32 top, int32 bottom, int32 left, int32 right",
        "raw T dX",
        "int at = (int)i, c = at % C, q = at / C, y = q / V, x = q % V;"
        "int ys[3] = {y + 1, y == top ? 0 : -1, y == bottom ? H + 1 : -1};"
        "int xs[3] = {x + 1, x == left ? 0 : -1, x == right ? V + 1 : -1};"
        "T sum = 0;"
        "for (int j = 0; j < 3; j++) for (int l = 0; l < 3; l++) if (ys[j] >= 0 && xs[l] >= 0)"
        "  for (int tap = 0; tap < 9; tap++) {"
        "    int v = ys[j] - tap / 3, h = xs[l] - tap % 3;"
        "    if (v >= 0 && v < H && h >= 0 && h < V)"
        "      sum += P[(((ptrdiff_t)v * V + h) * 9 + tap) * C + c];"
        "  }"
        "dX[i] = sum;",
    ),
}


@cache
def steps(xp: ModuleType) -> Steps:
    """Return the steps for a namespace: CUDA kernels if it can compile them, else NumPy's."""
    if not hasattr(xp, "ElementwiseKernel"):
        return NUMPY_STEPS
    kernels = {
        name: xp.ElementwiseKernel(inputs, outputs, operation, f"gramstyle_{name}")
        for name, (inputs, outputs, operation) in CUDA_STEPS.items()
    }
    return Steps(**kernels)


def _mask(dF: Array, F: Array, dZ: Array) -> None:
    np.multiply(dF, F > 0, out=dZ)


def _add_difference(F: Array, P: Array, weight: Any, dF: Array) -> None:
    dF += weight * (F - P)


def _relu(b: Array, F: Array) -> None:
    F += b
    np.maximum(F, 0, out=F)


def _largest(a: Array, b: Array, c: Array, d: Array, Y: Array) -> None:
    np.maximum(np.maximum(a, b), np.maximum(c, d), out=Y)


def _mean(a: Array, b: Array, c: Array, d: Array, Y: Array) -> None:
    np.divide(a + b + c + d, 4, out=Y)


def _unpool(dY: Array, *members: Array) -> None:
    inputs, outputs = members[:4], members[4:]
    largest = np.maximum(np.maximum(inputs[0], inputs[1]), np.maximum(inputs[2], inputs[3]))
    free = np.ones(dY.shape, bool)
    for member, out in zip(inputs, outputs, strict=True):
        chosen = free & (member == largest)
        np.multiply(dY, chosen, out=out)
        free &= ~chosen


def _spread(dY: Array, *outputs: Array) -> None:
    for out in outputs:
        np.divide(dY, 4, out=out)


# NumPy's names of the paddings, in the order of `PADDINGS`.
_MODES = ("constant", "edge", "reflect", "wrap")


def _patches(
    X: Array, H: int, V: int, C: int, group: int, first: int, width: int, shift: int, padding: int,
    P: Array, *, size: int,
) -> None:  # fmt: skip
    rows, around = size // (9 * group * width), [(shift, shift)] * 2 + [(0, 0)]
    mode: Any = _MODES[padding]
    padded = np.pad(np.asarray(X).reshape(H, V, C), around, mode=mode)
    patches = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(0, 1))
    chosen = patches[first : first + rows, :width].transpose(0, 1, 3, 4, 2)
    P.reshape(chosen.shape)[...] = chosen


def _fold(
    padded: Array, H: int, V: int, C: int, group: int, top: int, bottom: int, left: int, right: int,
    dX: Array, *, size: int,
) -> None:  # fmt: skip
    del group, size
    ring = padded.reshape(H + 2, V + 2, C).copy()
    ring[:, 1 + left] += ring[:, 0]
    ring[:, 1 + right] += ring[:, V + 1]
    ring[1 + top] += ring[0]
    ring[1 + bottom] += ring[H + 1]
    dX.reshape(H, V, C)[...] = ring[1 : H + 1, 1 : V + 1]


def _unpatch(
    P: Array, H: int, V: int, C: int, top: int, bottom: int, left: int, right: int,
    dX: Array, *, size: int,
) -> None:  # fmt: skip
    patches = P.reshape(H, V, 3, 3, C)
    ring = np.zeros((H + 2, V + 2, C), P.dtype)
    for j in range(3):
        for l in range(3):  # noqa: E741 - the letters of the kernel
            ring[j : j + H, l : l + V] += patches[:, :, j, l]
    if top < 0:  # zeros as padding take nothing from X
        dX.reshape(H, V, C)[...] = ring[1 : H + 1, 1 : V + 1]
    else:
        _fold(ring.reshape(-1), H, V, C, 1, top, bottom, left, right, dX, size=size)


NUMPY_STEPS = Steps(
    _mask, _add_difference, _relu, _largest, _mean, _unpool, _spread, _patches, _fold, _unpatch
)


def padding_number(padding: Padding) -> int:
    """Return the number of a padding in the source of `patches`."""
    return PADDINGS.index(padding)


def windows(X: Array) -> Sequence[Array]:
    """Return the four entries of each 2×2 window of X (H, V, C), in reading order."""
    height, width = X.shape[0] // 2 * 2, X.shape[1] // 2 * 2
    return [X[row:height:2, column:width:2] for row in range(2) for column in range(2)]
