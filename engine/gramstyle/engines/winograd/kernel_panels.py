"""The transformed kernels of a convolution in panels (see `products`), computed for each pass.

Stored for the whole network, the transformed kernels would be four to seven times as large as the
kernels. Computing them takes little time beside the products of a pass, and they replace those of
the layer before.
"""

import numpy as np

from gramstyle.core.arrays import Array
from gramstyle.engines.winograd.layout import padded
from gramstyle.engines.winograd.simd import WIDTH, transpose
from gramstyle.engines.winograd.tiles import kernel_transform
from gramstyle.system.compiling import compiled

TAPS = 9

_kernel_of_four, _kernel_of_six = kernel_transform(4), kernel_transform(6)


def by_taps(W: Array) -> Array:
    """Return the kernels W (N, C, 3, 3) as (taps, N, C), padded, flat."""
    N, C = W.shape[:2]
    kernels = np.zeros((TAPS, padded(N), padded(C)), np.float32)
    kernels[:, :N, :C] = W.reshape(N, C, TAPS).transpose(2, 0, 1)
    return kernels.reshape(-1)


@compiled
def transform(W, N, C, start, width, tile, U, offset, plane):
    """Write a panel of U = G g Gᵀ (planes, C, N) for the kernels W (taps, C, N).

    The panel starts at channel `start` of N and has this width. It is written from an offset of U
    on, its planes `plane` apart.
    """
    for c in range(C):
        for n in range(start, start + width, WIDTH):
            to = offset + c * width + n - start
            if tile == 4:
                _kernel_of_four(W, c * N + n, C * N, U, to, plane)
            else:
                _kernel_of_six(W, c * N + n, C * N, U, to, plane)


@compiled
def transform_transposed(W, N, C, start, width, tile, U, offset, plane, square):
    """Do the same for the kernels W (taps, N, C).

    `square` is scratch memory, (taps, WIDTH, WIDTH).
    """
    size = WIDTH * WIDTH
    for c in range(0, C, WIDTH):
        for n in range(start, start + width, WIDTH):
            for tap in range(TAPS):
                transpose(W, (tap * N + n) * C + c, C, square, tap * size, WIDTH)
            for k in range(WIDTH):
                to = offset + (c + k) * width + n - start
                if tile == 4:
                    _kernel_of_four(square, k * WIDTH, size, U, to, plane)
                else:
                    _kernel_of_six(square, k * WIDTH, size, U, to, plane)
