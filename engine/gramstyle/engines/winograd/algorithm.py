"""Winograd's convolution as Lavin and Gray write it: Y = Aᵀ [(G g Gᵀ) ⊙ (Bᵀ d B)] A.

"Fast Algorithms for Convolutional Neural Networks", arXiv 1509.09308. Here g is a 3×3 kernel, d a
tile of 6×6 inputs, Y the 4×4 outputs that depend on nothing else. Each tile takes two rows and
two columns of its neighbours with it.

The matrices follow from six points at which two polynomials are multiplied (Cook and Toom): 0,
±1/2, ±3/2 and ∞. With the customary 0, ±1, ±2 and ∞ the float32 error is three times as large.

Everything here keeps the float type it is given; in float64 it equals `layers` to rounding.
"""

import numpy as np

from gramstyle.core.arrays import Array

# The finite points other than 0: ±NEAR and ±FAR.
NEAR, FAR = 0.5, 1.5

# Outputs of a tile along one axis, and inputs.
TILE, PATCH = 4, 6


def matrices() -> tuple[Array, Array, Array]:
    """Return Aᵀ (4, 6), G (6, 3) and Bᵀ (6, 6) in float64.

    A polynomial of degree 3 times one of degree 2 has degree 5: six points determine it. G
    evaluates the kernel at the points, A does so transposed with the outputs, and B holds the
    polynomials that interpolate between them: for a finite point p that with the zeros of all
    others, for ∞ that with the zeros of all. Its scale is divided out in G.
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
    """U = G g Gᵀ for every kernel: W (N, C, 3, 3) → U (36, C, N), computed in float64."""
    _, G, _ = matrices()
    N, C = W.shape[:2]
    U = np.empty((PATCH, PATCH, C, N), W.dtype)
    for some in range(0, N, 64):  # or the float64 in between would be the peak of a run's memory
        kernels = W[some : some + 64].astype(np.float64)
        U[..., some : some + 64] = np.einsum("ia,ncab,jb->ijcn", G, kernels, G, optimize=True)
    return U.reshape(PATCH**2, C, N)


def conv2d_forward(X: Array, W: Array, b: Array) -> Array:
    """Return what `layers.conv2d_forward` does: X (C, H, V), W (N, C, 3, 3), b (N,) → Z."""
    return b[:, None, None] + _convolve(X, transform_kernels(W))


def conv2d_backward(dZ: Array, W: Array) -> Array:
    """Return what `layers.conv2d_backward` does: dZ (N, H, V), W (N, C, 3, 3) → dX (C, H, V).

    Instead of every kernel the image is turned by 180°, and the result turned back. So the
    transformed kernels of the forward serve here too, and need not be kept twice.
    """
    U = transform_kernels(W).swapaxes(1, 2)
    turned = np.ascontiguousarray(dZ[:, ::-1, ::-1])
    return np.ascontiguousarray(_convolve(turned, U)[:, ::-1, ::-1])


def _convolve(X: Array, U: Array) -> Array:
    """X (C, H, V), U (36, C, N) → (N, H, V)."""
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
