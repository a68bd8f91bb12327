"""Winograd's convolution as Lavin and Gray write it: Y = Aᵀ [(G g Gᵀ) ⊙ (Bᵀ d B)] A.

Source: "Fast Algorithms for Convolutional Neural Networks", arXiv 1509.09308. Here g is a 3×3
kernel, d a patch of (m + 2)×(m + 2) inputs, and Y the tile of m×m outputs that depends on this
patch only: F(m×m, 3×3). Adjacent patches overlap by two rows or two columns.

The matrices follow from the m + 2 points at which two polynomials are multiplied (Cook and Toom):
0, some pairs ±p, and ∞. The larger the tile, the fewer the multiplications, and the larger the
error: a tile of 4×4 takes 36 multiplications, 2.25 for each output, and one of 6×6 takes 64, 1.78
for each output, instead of 9. The points decide the error; those in `POINTS` are the best of those
that we compared (docs/performance.md).

The functions compute in the float type of their arguments. In float64 they equal `layers` to
rounding.
"""

from collections.abc import Sequence
from types import MappingProxyType
from typing import Any

import numpy as np

from gramstyle.core.arrays import Array

# The points p of the pairs ±p, by the size of the tile.
POINTS = MappingProxyType({4: (0.5**0.5, 2**0.5), 6: (0.5, 1.0, 2.0)})

# The outputs that a tile has along one axis, and the inputs of its patch that exceed them.
TILES, OVERLAP = tuple(POINTS), 2


def matrices(tile: int) -> tuple[Array, Array, Array]:
    """Return Aᵀ (m, m + 2), G (m + 2, 3) and Bᵀ (m + 2, m + 2) in float64, for tiles of m×m."""
    at, g, bt = (np.array(rows, np.float64) for rows in exact_matrices(POINTS[tile]))
    return at, g, bt


def exact_matrices(points: Sequence[Any]) -> tuple[list[list[Any]], ...]:
    """Return Aᵀ, G and Bᵀ as rows, in the number type of the points p of the pairs ±p.

    A polynomial of degree m − 1 times one of degree 2 has degree m + 1, so m + 2 points determine
    it. G evaluates the kernel at the points, and A a polynomial of degree m − 1. B holds the
    interpolation polynomials: for a finite point the one whose zeros are all other finite points,
    for ∞ the one whose zeros are all finite points. G divides by their scale.
    """
    finite = [0 * points[0], *(signed for p in points for signed in (p, -p))]
    m = len(finite) - 1
    at = [[*(point**k for point in finite), int(k == m - 1)] for k in range(m)]
    g, bt = [], []
    for row, point in enumerate(finite):
        others = finite[:row] + finite[row + 1 :]
        scale = 1
        for other in others:
            scale = scale * (point - other)
        g.append([point**k / scale for k in range(3)])
        bt.append([*_polynomial(others), 0])
    g.append([0, 0, 1])
    bt.append(_polynomial(finite))
    return at, g, bt


def _polynomial(zeros: Sequence[Any]) -> list[Any]:
    """Return the coefficients of the monic polynomial with these zeros, the lowest power first."""
    coefficients: list[Any] = [1]
    for zero in zeros:
        shifted, scaled = [0, *coefficients], [*(zero * each for each in coefficients), 0]
        coefficients = [a - b for a, b in zip(shifted, scaled, strict=True)]
    return coefficients


def transform_kernels(W: Array, tile: int) -> Array:
    """Return U = G g Gᵀ of every kernel: W (N, C, 3, 3) → U (planes, C, N), in float64 inside."""
    _, G, _ = matrices(tile)
    N, C = W.shape[:2]
    U = np.empty((len(G), len(G), C, N), W.dtype)
    for n in range(0, N, 64):  # all kernels at once in float64 would be the memory peak of a run
        kernels = W[n : n + 64].astype(np.float64)
        U[..., n : n + 64] = np.einsum("ia,ncab,jb->ijcn", G, kernels, G, optimize=True)
    return U.reshape(len(G) ** 2, C, N)


def conv2d_forward(X: Array, W: Array, b: Array, tile: int) -> Array:
    """Return Z as `layers.conv2d_forward` does: X (C, H, V), W (N, C, 3, 3), b (N,) → (N, H, V)."""
    return b[:, None, None] + _convolve(X, transform_kernels(W, tile), tile)


def conv2d_backward(dZ: Array, W: Array, tile: int) -> Array:
    """Return dX as `layers.conv2d_backward` does: dZ (N, H, V), W (N, C, 3, 3) → (C, H, V).

    The image is rotated by 180° instead of every kernel, and the result is rotated back. Forward
    and backward pass can thus share one set of transformed kernels.
    """
    U = transform_kernels(W, tile).swapaxes(1, 2)
    rotated = np.ascontiguousarray(dZ[:, ::-1, ::-1])
    return np.ascontiguousarray(_convolve(rotated, U, tile)[:, ::-1, ::-1])


def _convolve(X: Array, U: Array, tile: int) -> Array:
    """Return X (C, H, V) convolved with transformed kernels U (planes, C, N): (N, H, V)."""
    C, H, V = X.shape
    at, _, bt = (matrix.astype(X.dtype) for matrix in matrices(tile))
    down, across, edge = -(-H // tile), -(-V // tile), tile + OVERLAP
    padded = np.pad(X, ((0, 0), (1, tile * down + 1 - H), (1, tile * across + 1 - V)))
    patches = np.lib.stride_tricks.sliding_window_view(padded, (edge, edge), axis=(1, 2))
    d = patches[:, ::tile, ::tile]  # (C, down, across, m + 2, m + 2)
    D = np.einsum("ia,cyxab,jb->ijyxc", bt, d, bt, optimize=True)
    Q = D.reshape(edge**2, down * across, C) @ U
    Q = Q.reshape(edge, edge, down, across, U.shape[2])
    Y = np.einsum("ia,abyxn,jb->nyixj", at, Q, at, optimize=True)
    Z: Array = Y.reshape(U.shape[2], tile * down, tile * across)[:, :H, :V]
    return Z
