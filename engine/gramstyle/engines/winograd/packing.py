"""The transformed kernels of a convolution, computed directly in panels (see `products`)."""

import numpy as np

from gramstyle.core.arrays import Array
from gramstyle.engines.threads import Workers
from gramstyle.engines.winograd.algorithm import matrices
from gramstyle.engines.winograd.layout import padded
from gramstyle.engines.winograd.products import NARROW, WIDE
from gramstyle.system.compiling import compiled


def transformed_panels(W: Array, tile: int, workers: Workers) -> Array:
    """Return `products.pack(algorithm.transform_kernels(W, tile))` for W (N, C, 3, 3), padded.

    The result is the same up to rounding, in a tenth of the time and without other large arrays.
    """
    _, G, _ = matrices(tile)
    N, C = W.shape[:2]
    source = np.ascontiguousarray(W, np.float32).reshape(-1)
    U = np.empty(len(G) ** 2 * padded(C) * padded(N), np.float32)

    def strip(n: int) -> None:
        _transform(source, G, N, C, padded(N), padded(C), n, U)

    workers.run(strip, range(0, padded(N), NARROW))
    return U


@compiled
def _transform(W, G, N, C, columns, rows, first, U):
    """Write U = G g Gᵀ, in panels, for the NARROW filters from `first` on, in float64 inside."""
    edge = len(G)
    g, half = np.zeros((3, 3, NARROW)), np.zeros((edge, 3, NARROW))
    wide = columns // WIDE * WIDE
    start, width = (first // WIDE * WIDE, WIDE) if first < wide else (first, NARROW)
    for c in range(rows):
        for k in range(NARROW):
            inside = first + k < N and c < C
            for tap in range(9):
                at = ((first + k) * C + c) * 9 + tap
                g[tap // 3, tap % 3, k] = W[at] if inside else 0.0
        for i in range(edge):
            for b in range(3):
                for k in range(NARROW):
                    half[i, b, k] = (
                        G[i, 0] * g[0, b, k] + G[i, 1] * g[1, b, k] + G[i, 2] * g[2, b, k]
                    )
        for i in range(edge):
            for j in range(edge):
                at = ((i * edge + j) * columns + start) * rows + c * width + first - start
                for k in range(NARROW):
                    value = (
                        half[i, 0, k] * G[j, 0] + half[i, 1, k] * G[j, 1] + half[i, 2, k] * G[j, 2]
                    )
                    U[at + k] = np.float32(value)
