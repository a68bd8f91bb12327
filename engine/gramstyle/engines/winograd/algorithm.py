"""Winograd's convolution as Lavin and Gray write it: Y = Aᵀ [(G g Gᵀ) ⊙ (Bᵀ d B)] A.

Source: "Fast Algorithms for Convolutional Neural Networks", arXiv 1509.09308. Here g is a 3×3
kernel, d a patch of 6×6 inputs, and Y the tile of 4×4 outputs that depends on this patch only.
Adjacent patches overlap by two rows or two columns.

The matrices follow from the six points at which two polynomials are multiplied (Cook and Toom): 0,
±1/2, ±3/2 and ∞. With the customary 0, ±1, ±2 and ∞ the float32 error is three times as large.

The functions compute in the float type of their arguments. In float64 they equal `layers` to
rounding.
"""

import numpy as np

from gramstyle.core.arrays import Array

# The finite points other than 0: ±NEAR and ±FAR.
NEAR, FAR = 0.5, 1.5

# The outputs of a tile along one axis, and the inputs of its patch.
TILE, PATCH = 4, 6


def matrices() -> tuple[Array, Array, Array]:
    """Return Aᵀ (4, 6), G (6, 3) and Bᵀ (6, 6) in float64.

    A polynomial of degree 3 times one of degree 2 has degree 5, so six points determine it. G
    evaluates the kernel at the points, and A a polynomial of degree 3. B holds the interpolation
    polynomials: for a finite point the one whose zeros are all other finite points, for ∞ the one
    whose zeros are all finite points. G divides by their scale.
    """
    points = np.array([0.0, NEAR, -NEAR, FAR, -FAR])
    at = np.zeros((TILE, PATCH))
    at[:, :5] = points ** np.arange(TILE)[:, None]
    at[TILE - 1, 5] = 1.0
    g, bt = np.zeros((PATCH, 3)), np.zeros((PATCH, PATCH))
    for row, point in enumerate(points):
        others = np.delete(points, row)
        g[row] = point ** np.arange(3) / np.prod(point - others)
        bt[row, :5] = np.poly(others)[::-1]
    g[5, 2] = 1.0
    bt[5] = np.poly(points)[::-1]
    return at, g, bt


def transform_kernels(W: Array) -> Array:
    """Return U = G g Gᵀ of every kernel: W (N, C, 3, 3) → U (36, C, N), computed in float64."""
    _, G, _ = matrices()
    N, C = W.shape[:2]
    U = np.empty((PATCH, PATCH, C, N), W.dtype)
    for n in range(0, N, 64):  # all kernels at once in float64 would be the memory peak of a run
        kernels = W[n : n + 64].astype(np.float64)
        U[..., n : n + 64] = np.einsum("ia,ncab,jb->ijcn", G, kernels, G, optimize=True)
    return U.reshape(PATCH**2, C, N)


def conv2d_forward(X: Array, W: Array, b: Array) -> Array:
    """Return Z as `layers.conv2d_forward` does: X (C, H, V), W (N, C, 3, 3), b (N,) → (N, H, V)."""
    return b[:, None, None] + _convolve(X, transform_kernels(W))


def conv2d_backward(dZ: Array, W: Array) -> Array:
    """Return dX as `layers.conv2d_backward` does: dZ (N, H, V), W (N, C, 3, 3) → (C, H, V).

    The image is rotated by 180° instead of every kernel, and the result is rotated back. Forward
    and backward pass can thus share one set of transformed kernels.
    """
    U = transform_kernels(W).swapaxes(1, 2)
    rotated = np.ascontiguousarray(dZ[:, ::-1, ::-1])
    return np.ascontiguousarray(_convolve(rotated, U)[:, ::-1, ::-1])


def _convolve(X: Array, U: Array) -> Array:
    """Return the convolution of X (C, H, V) with transformed kernels U (36, C, N): (N, H, V)."""
    C, H, V = X.shape
    at, _, bt = (matrix.astype(X.dtype) for matrix in matrices())
    down, across = -(-H // TILE), -(-V // TILE)
    padded = np.pad(X, ((0, 0), (1, TILE * down + 1 - H), (1, TILE * across + 1 - V)))
    patches = np.lib.stride_tricks.sliding_window_view(padded, (PATCH, PATCH), axis=(1, 2))
    d = patches[:, ::TILE, ::TILE]  # (C, down, across, 6, 6)
    D = np.einsum("ia,cyxab,jb->ijyxc", bt, d, bt, optimize=True)
    Q = D.reshape(PATCH**2, down * across, C) @ U
    Q = Q.reshape(PATCH, PATCH, down, across, U.shape[2])
    Y = np.einsum("ia,abyxn,jb->nyixj", at, Q, at, optimize=True)
    Z: Array = Y.reshape(U.shape[2], TILE * down, TILE * across)[:, :H, :V]
    return Z
