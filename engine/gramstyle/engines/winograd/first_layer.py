"""The first convolution, whose three channels are too few for transformed tiles.

It is one product over the 27 taps of three channels. Responses and derivatives are (H, V, N), flat
and padded; the image and its derivative are (3, height, width), flat, and include the padding where
a function says so. The kernels are (27, N) or (N, 27), in panels (see `products`).
"""

import numpy as np

from gramstyle.engines.winograd.products import NARROW, WIDE, multiply_panel
from gramstyle.engines.winograd.simd import WIDTH, load, relu, store
from gramstyle.system.compiling import compiled

# The largest number of positions in a product, the taps, and the taps with their padding.
POSITIONS, TAPS, PADDED_TAPS = 96, 27, 32

_ZERO = np.float32(0)


@compiled
def forward(v, W, b, N, H, V, first, last, taps, product, F):
    """Write F = max(0, W ∗ v + b) in the rows from `first` to `last`; v is (3, H + 2, V + 2).

    `taps` (POSITIONS, TAPS) and `product` (POSITIONS, WIDE) are scratch memory.
    """
    line, channel = V + 2, (H + 2) * (V + 2)
    for y in range(first, last):
        for x in range(0, V, POSITIONS):
            count = min(POSITIONS, V - x)
            for c in range(3):
                for i in range(3):
                    at = c * channel + (y + i) * line + x
                    for k in range(count):
                        to = k * TAPS + c * 9 + i * 3
                        taps[to] = v[at + k]
                        taps[to + 1] = v[at + k + 1]
                        taps[to + 2] = v[at + k + 2]
            start = 0
            while start < N:
                width = WIDE if start + WIDE <= N else NARROW
                u = start * TAPS
                multiply_panel(taps, 0, count, W, u, TAPS, width, product, 0, 0)
                for k in range(count):
                    to = (y * V + x + k) * N + start
                    for n in range(0, width, WIDTH):
                        value = load(product, k * width + n) + load(b, start + n)
                        store(F, to + n, relu(value))
                start += width


@compiled
def backward(dZ, W, N, H, V, ring, first, last, product, dv):
    """Write dv in the rows from `first` to `last`; it is (3, H + 2 · ring, V + 2 · ring).

    `product` (POSITIONS, PADDED_TAPS) is scratch memory.
    """
    height, line = H + 2 * ring, V + 2 * ring
    for c in range(3):
        for y in range(first, last):
            for x in range(line):
                dv[(c * height + y) * line + x] = _ZERO
    for y in range(max(0, first - ring - 1), min(H, last - ring + 1)):
        for x in range(0, V, POSITIONS):
            count = min(POSITIONS, V - x)
            start = 0
            while start < PADDED_TAPS:
                width = WIDE if start + WIDE <= PADDED_TAPS else NARROW
                d, u = (y * V + x) * N, start * N
                multiply_panel(dZ, d, count, W, u, N, width, product, 0, 0)
                for tap in range(start, min(start + width, TAPS)):
                    c, i, j = tap // 9, tap // 3 % 3, tap % 3
                    row = y + i - 1 + ring
                    # dZ at (y, x) adds to dv at (y + i − 1, x + j − 1), which may lie outside.
                    if first <= row < last:
                        left = x + j - 1 + ring
                        at = (c * height + row) * line + left
                        for k in range(max(0, -left), min(count, line - left)):
                            dv[at + k] += product[k * width + tap - start]
                start += width
