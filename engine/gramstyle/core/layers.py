"""The operations of the network, each forward function with its backward function below it.

Shapes: X (C, H, V) is the input of an operation, Y, Z or F its output; there is no batch dimension.
dX is the derivative of the loss by X and has X's shape. A backward function takes only the arrays
that it needs. Every function computes in the float type of its arguments. In float64 these
functions are the reference that the tests compare every faster implementation with.
"""

from types import EllipsisType

from gramstyle.core.arrays import Array, namespace


def conv2d_forward(X: Array, W: Array, b: Array) -> Array:
    """Z[n, y, x] = b[n] + Σ_{c,i,j} W[n, c, i, j] X[c, y + i − 1, x + j − 1], zeros outside X.

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
    padded = _padded(X)
    Z = b[:, None, None] + xp.zeros((W.shape[0], H, V), dtype=X.dtype)
    for i in range(3):
        for j in range(3):
            Z += xp.tensordot(W[:, :, i, j], padded[:, i : i + H, j : j + V], axes=1)
    return Z


def conv2d_backward(dZ: Array, W: Array) -> Array:
    """dX[c, y, x] = Σ_{n,i,j} W[n, c, i, j] dZ[n, y − i + 1, x − j + 1], zeros outside dZ.

    dZ (N, H, V), W (N, C, 3, 3) → dX (C, H, V). The signs of i and j have changed: it is the
    forward function with each kernel rotated by 180° and N and C exchanged.

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
    _, H, V = dZ.shape
    padded = _padded(dZ)
    dX = xp.zeros((W.shape[1], H, V), dtype=dZ.dtype)
    for i in range(3):
        for j in range(3):
            flipped = W[:, :, 2 - i, 2 - j].T
            dX += xp.tensordot(flipped, padded[:, i : i + H, j : j + V], axes=1)
    return dX


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
    Y = max_pool_forward(X)
    free = xp.full(Y.shape, True)
    for window in windows(X):
        chosen = free & (X[window] == Y)
        dX[window] = xp.where(chosen, dY, 0)
        free &= ~chosen
    return dX


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


def windows(X: Array) -> list[tuple[slice | EllipsisType, ...]]:
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


def _padded(X: Array) -> Array:
    """Return X (C, H, V) with a border of zeros, (C, H + 2, V + 2)."""
    C, H, V = X.shape
    padded = namespace(X).zeros((C, H + 2, V + 2), dtype=X.dtype)
    padded[:, 1 : H + 1, 1 : V + 1] = X
    return padded
