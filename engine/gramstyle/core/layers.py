"""The operations of the network: each forward function, its backward below it, then its jvp.

Shapes: X (C, H, V) is the input of an operation, Y, Z or F its output; there is no batch dimension.
dX, the derivative of the loss by X, has X's shape. So has tX, the tangent of X: its derivative
along a direction in the pixels. A backward function carries dY to dX, a jvp (Jacobian-vector
product) carries tX to tY. Each takes only the arrays that it needs. Every function computes in the
float type of its arguments. In float64 these functions are the reference that the tests compare
every faster implementation with.
"""

from collections.abc import Iterator
from types import EllipsisType
from typing import Literal, TypeAlias

from gramstyle.core.arrays import Array, namespace

# The values one position outside X: zeros, or those of other positions of X (`ring_sources`).
Padding = Literal["zeros", "replicate", "reflect", "circular"]
PADDINGS: tuple[Padding, ...] = ("zeros", "replicate", "reflect", "circular")

# The index of one of the four entries of every window.
Window: TypeAlias = tuple[slice | EllipsisType, ...]


def conv2d_forward(X: Array, W: Array, b: Array, padding: Padding = "zeros") -> Array:
    """Z[n, y, x] = b[n] + Σ_{c,i,j} W[n, c, i, j] X[c, y + i − 1, x + j − 1], X padded outside.

    X (C, H, V), W (N, C, 3, 3), b (N,) → Z (N, H, V): nine shifted matrix products.

    Examples
    --------
    >>> import numpy as np
    >>> from gramstyle.core.layers import conv2d_forward
    >>> X, W = np.ones((1, 3, 3)), np.ones((1, 1, 3, 3))
    >>> conv2d_forward(X, W, np.zeros(1))  # each sum counts the pixels that are not padding
    array([[[4., 6., 4.],
            [6., 9., 6.],
            [4., 6., 4.]]])
    """
    xp = namespace(X)
    _, H, V = X.shape
    padded = pad_forward(X, padding)
    Z = b[:, None, None] + xp.zeros((W.shape[0], H, V), dtype=X.dtype)
    for i in range(3):
        for j in range(3):
            Z += xp.tensordot(W[:, :, i, j], padded[:, i : i + H, j : j + V], axes=1)
    return Z


def conv2d_backward(dZ: Array, W: Array, padding: Padding = "zeros") -> Array:
    """dX[c, y, x] = Σ_{n,i,j} W[n, c, i, j] dZ[n, y − i + 1, x − j + 1], zeros outside dZ.

    dZ (N, H, V), W (N, C, 3, 3) → dX (C, H, V). The signs of i and j have changed: it is the
    forward function with each kernel rotated by 180° and N and C exchanged. With a padding other
    than zeros, the sum is also computed one position outside X, and `pad_backward` adds it to the
    positions where the padding comes from.

    Examples
    --------
    >>> import numpy as np
    >>> from gramstyle.core.layers import conv2d_backward
    >>> W = np.arange(9.0).reshape(1, 1, 3, 3)
    >>> dZ = np.zeros((1, 3, 3))
    >>> dZ[0, 1, 1] = 1
    >>> conv2d_backward(dZ, W)  # Z at the centre is the sum of W times X, so its derivative is W
    array([[[0., 1., 2.],
            [3., 4., 5.],
            [6., 7., 8.]]])
    """
    xp = namespace(dZ)
    outside = ring_width(padding)
    H, V = dZ.shape[1] + 2 * outside, dZ.shape[2] + 2 * outside
    padded = _with_zeros(dZ, 1 + outside)
    dX = xp.zeros((W.shape[1], H, V), dtype=dZ.dtype)
    for i in range(3):
        for j in range(3):
            flipped = W[:, :, 2 - i, 2 - j].T
            dX += xp.tensordot(flipped, padded[:, i : i + H, j : j + V], axes=1)
    return pad_backward(dX, padding) if outside else dX


def conv2d_weights_backward(dZ: Array, X: Array, padding: Padding = "zeros") -> tuple[Array, Array]:
    """dW[n, c, i, j] = Σ_{y,x} dZ[n, y, x] X[c, y + i − 1, x + j − 1], db[n] = Σ_{y,x} dZ[n, y, x].

    dZ (N, H, V), X (C, H, V), padded as in the forward function → dW (N, C, 3, 3), db (N,).

    Examples
    --------
    >>> import numpy as np
    >>> from gramstyle.core.layers import conv2d_weights_backward
    >>> X, dZ = np.arange(9.0).reshape(1, 3, 3), np.zeros((1, 3, 3))
    >>> dZ[0, 1, 1] = 1
    >>> dW, db = conv2d_weights_backward(dZ, X)
    >>> dW[0, 0]  # Z at the centre is the sum of W times X, so its derivative is X
    array([[0., 1., 2.],
           [3., 4., 5.],
           [6., 7., 8.]])
    >>> db
    array([1.])
    """
    xp = namespace(dZ)
    _, H, V = X.shape
    padded = pad_forward(X, padding)
    dW = xp.zeros((dZ.shape[0], X.shape[0], 3, 3), dtype=dZ.dtype)
    for i in range(3):
        for j in range(3):
            shifted = padded[:, i : i + H, j : j + V]
            dW[:, :, i, j] = xp.tensordot(dZ, shifted, axes=((1, 2), (1, 2)))
    return dW, xp.sum(dZ, axis=(1, 2), dtype=dZ.dtype)


def conv2d_jvp(tX: Array, W: Array, padding: Padding = "zeros") -> Array:
    """tZ = W ∗ tX, padded as X: the forward function without b, which does not change with X.

    tX (C, H, V), W (N, C, 3, 3) → tZ (N, H, V).

    Examples
    --------
    >>> import numpy as np
    >>> from gramstyle.core.layers import conv2d_jvp
    >>> conv2d_jvp(np.ones((1, 3, 3)), np.ones((1, 1, 3, 3)))
    array([[[4., 6., 4.],
            [6., 9., 6.],
            [4., 6., 4.]]])
    """
    return conv2d_forward(tX, W, namespace(tX).zeros(W.shape[:1], dtype=tX.dtype), padding)


def pad_forward(X: Array, padding: Padding) -> Array:
    """Return X (C, H, V) with a ring of one position around it, (C, H + 2, V + 2).

    The rows of the ring are filled first, then its columns, corners included.

    Examples
    --------
    >>> import numpy as np
    >>> from gramstyle.core.layers import pad_forward
    >>> X = np.array([[[1.0, 2.0, 3.0]]])
    >>> pad_forward(X, "replicate")[0, 1], pad_forward(X, "circular")[0, 1]
    (array([1., 1., 2., 3., 3.]), array([3., 1., 2., 3., 1.]))
    """
    _, H, V = X.shape
    padded = _with_zeros(X, 1)
    if padding != "zeros":
        (top, bottom), (left, right) = ring_sources(H, padding), ring_sources(V, padding)
        padded[:, 0, :], padded[:, H + 1, :] = padded[:, 1 + top, :], padded[:, 1 + bottom, :]
        padded[..., 0], padded[..., V + 1] = padded[..., 1 + left], padded[..., 1 + right]
    return padded


def pad_backward(padded: Array, padding: Padding) -> Array:
    """Return dX (C, H, V) from the derivative by the padded X, (C, H + 2, V + 2).

    Each derivative in the ring is added where its value comes from, in the reverse order of
    `pad_forward`: columns, then rows. The result is a part of `padded`, which is overwritten.

    Examples
    --------
    >>> import numpy as np
    >>> from gramstyle.core.layers import pad_backward
    >>> derivative = np.zeros((1, 3, 5))
    >>> derivative[0, 1] = [10.0, 1.0, 2.0, 3.0, 40.0]
    >>> pad_backward(derivative.copy(), "replicate"), pad_backward(derivative, "circular")
    (array([[[11.,  2., 43.]]]), array([[[41.,  2., 13.]]]))
    """
    H, V = padded.shape[1] - 2, padded.shape[2] - 2
    if padding != "zeros":
        (top, bottom), (left, right) = ring_sources(H, padding), ring_sources(V, padding)
        padded[..., 1 + left] += padded[..., 0]
        padded[..., 1 + right] += padded[..., V + 1]
        padded[:, 1 + top, :] += padded[:, 0, :]
        padded[:, 1 + bottom, :] += padded[:, H + 1, :]
    return padded[:, 1 : H + 1, 1 : V + 1]


def pad_jvp(tX: Array, padding: Padding) -> Array:
    """Return the tangent of the padded X, (C, H + 2, V + 2): the padding only copies.

    Examples
    --------
    >>> import numpy as np
    >>> from gramstyle.core.layers import pad_jvp
    >>> pad_jvp(np.array([[[1.0, 2.0, 3.0]]]), "replicate")[0, 1]
    array([1., 1., 2., 3., 3.])
    """
    return pad_forward(tX, padding)


def ring_sources(length: int, padding: Padding) -> tuple[int, int]:
    """Return the positions whose values stand before the first and after the last of an edge.

    "replicate" repeats the edge, "reflect" mirrors at the edge without repeating it, and
    "circular" continues at the opposite edge. "zeros" has none.

    Examples
    --------
    >>> from gramstyle.core.layers import ring_sources
    >>> [ring_sources(5, padding) for padding in ("replicate", "reflect", "circular")]
    [(0, 4), (1, 3), (4, 0)]
    """
    if padding == "replicate":
        return 0, length - 1
    if padding == "reflect":
        return 1, length - 2
    if padding == "circular":
        return length - 1, 0
    raise ValueError(f"{padding!r} takes no values from other positions")


def ring_width(padding: Padding) -> int:
    """Return how far outside X a backward pass computes derivatives: 0 or 1 positions.

    Examples
    --------
    >>> from gramstyle.core.layers import ring_width
    >>> ring_width("zeros"), ring_width("reflect")
    (0, 1)
    """
    return 0 if padding == "zeros" else 1


def relu_forward(Z: Array) -> Array:
    """F = max(0, Z).

    Examples
    --------
    >>> import numpy as np
    >>> from gramstyle.core.layers import relu_forward
    >>> relu_forward(np.array([-1.0, 0.0, 2.0]))
    array([0., 0., 2.])
    """
    return namespace(Z).maximum(Z, 0)


def relu_backward(dF: Array, F: Array) -> Array:
    """dZ = dF where F > 0, else 0: at the kink itself the derivative is 0.

    Examples
    --------
    >>> import numpy as np
    >>> from gramstyle.core.layers import relu_backward
    >>> relu_backward(np.array([5.0, 5.0, 5.0]), np.array([0.0, 0.0, 2.0]))
    array([0., 0., 5.])
    """
    return namespace(F).where(F > 0, dF, 0)


def relu_jvp(tZ: Array, F: Array) -> Array:
    """tF = tZ where F > 0, else 0: the mask of `relu_backward`, also at the kink.

    Examples
    --------
    >>> import numpy as np
    >>> from gramstyle.core.layers import relu_jvp
    >>> relu_jvp(np.array([5.0, 5.0, 5.0]), np.array([0.0, 0.0, 2.0]))
    array([0., 0., 5.])
    """
    return namespace(F).where(F > 0, tZ, 0)


def max_pool_forward(X: Array) -> Array:
    """Y = the largest of each 2×2 window of X (C, H, V); an odd last row or column is left out.

    Examples
    --------
    >>> import numpy as np
    >>> from gramstyle.core.layers import max_pool_forward
    >>> max_pool_forward(np.array([[[1.0, 2.0, 7.0, 0.0], [4.0, 3.0, 7.0, 7.0]]]))
    array([[[4., 7.]]])
    """
    xp = namespace(X)
    a, b, c, d = (X[window] for window in windows(X))
    return xp.maximum(xp.maximum(a, b), xp.maximum(c, d))


def max_pool_backward(dY: Array, X: Array) -> Array:
    """dX = dY at the largest entry of each 2×2 window, 0 elsewhere.

    If several are equal, the first in reading order takes all, as in ONNX Runtime and PyTorch.

    Examples
    --------
    >>> import numpy as np
    >>> from gramstyle.core.layers import max_pool_backward
    >>> X = np.array([[[1.0, 2.0, 7.0, 0.0], [4.0, 3.0, 7.0, 7.0]]])
    >>> max_pool_backward(np.array([[[5.0, 6.0]]]), X)
    array([[[0., 0., 6., 0.],
            [5., 0., 0., 0.]]])
    """
    xp = namespace(X)
    dX = xp.zeros_like(X)
    for window, chosen in _first_largest(X):
        dX[window] = xp.where(chosen, dY, 0)
    return dX


def max_pool_jvp(tX: Array, X: Array) -> Array:
    """tY = tX at the largest entry of each 2×2 window of X, the first of several.

    Examples
    --------
    >>> import numpy as np
    >>> from gramstyle.core.layers import max_pool_jvp
    >>> X = np.array([[[1.0, 2.0, 7.0, 0.0], [4.0, 3.0, 7.0, 7.0]]])
    >>> max_pool_jvp(np.array([[[0.1, 0.2, 0.3, 0.4], [0.5, 0.6, 0.7, 0.8]]]), X)
    array([[[0.5, 0.3]]])
    """
    xp = namespace(X)
    tY = xp.zeros((X.shape[0], X.shape[1] // 2, X.shape[2] // 2), dtype=tX.dtype)
    for window, chosen in _first_largest(X):
        tY = xp.where(chosen, tX[window], tY)
    return tY


def avg_pool_forward(X: Array) -> Array:
    """Y = the mean of each 2×2 window of X (C, H, V); an odd last row or column is left out.

    Examples
    --------
    >>> import numpy as np
    >>> from gramstyle.core.layers import avg_pool_forward
    >>> avg_pool_forward(np.array([[[1.0, 2.0], [4.0, 3.0]]]))
    array([[[2.5]]])
    """
    a, b, c, d = (X[window] for window in windows(X))
    return (a + b + c + d) / 4


def avg_pool_backward(dY: Array, X: Array) -> Array:
    """dX = dY / 4 at each of a window's four positions; only the shape of X is used.

    Examples
    --------
    >>> import numpy as np
    >>> from gramstyle.core.layers import avg_pool_backward
    >>> avg_pool_backward(np.array([[[8.0]]]), np.zeros((1, 2, 3)))
    array([[[2., 2., 0.],
            [2., 2., 0.]]])
    """
    dX = namespace(dY).zeros(X.shape, dtype=dY.dtype)
    for window in windows(X):
        dX[window] = dY / 4
    return dX


def avg_pool_jvp(tX: Array) -> Array:
    """tY = the mean of each 2×2 window of tX (C, H, V): the mean is linear.

    Examples
    --------
    >>> import numpy as np
    >>> from gramstyle.core.layers import avg_pool_jvp
    >>> avg_pool_jvp(np.array([[[1.0, 2.0], [4.0, 3.0]]]))
    array([[[2.5]]])
    """
    return avg_pool_forward(tX)


def windows(X: Array) -> list[Window]:
    """Return the indices of the four entries of each 2×2 window of X, in reading order.

    Examples
    --------
    >>> import numpy as np
    >>> from gramstyle.core.layers import windows
    >>> X = np.arange(8).reshape(1, 2, 4)
    >>> [X[window].tolist() for window in windows(X)]
    [[[[0, 2]]], [[[1, 3]]], [[[4, 6]]], [[[5, 7]]]]
    """
    H, V = X.shape[-2:]
    return [
        (..., slice(i, H // 2 * 2, 2), slice(j, V // 2 * 2, 2)) for i in range(2) for j in range(2)
    ]


def _first_largest(X: Array) -> Iterator[tuple[Window, Array]]:
    """Yield the index of each entry of the windows, and where it is the first largest one."""
    xp = namespace(X)
    Y = max_pool_forward(X)
    free = xp.full(Y.shape, True)
    for window in windows(X):
        chosen = free & (X[window] == Y)
        yield window, chosen
        free &= ~chosen


def _with_zeros(X: Array, width: int) -> Array:
    """Return X (C, H, V) in a border of zeros, (C, H + 2 · width, V + 2 · width)."""
    C, H, V = X.shape
    padded = namespace(X).zeros((C, H + 2 * width, V + 2 * width), dtype=X.dtype)
    padded[:, width : H + width, width : V + width] = X
    return padded
