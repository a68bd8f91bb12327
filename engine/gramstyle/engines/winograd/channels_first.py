"""Conversion of responses that are stored channels first, as ONNX Runtime returns them.

All arrays are flat. The input F is (N, H, V), the output (H, V, width). The loops move a part of a
row, channel by channel: long enough for the processor to fetch ahead, short enough for the output
to stay in the cache.
"""

import numpy as np

from gramstyle.engines.winograd.masks import CLOSED
from gramstyle.system.compiling import compiled

# Positions in a part of a row.
_PART = 128


@compiled
def copy(F, N, H, V, width, first, last, out):
    """Copy the rows of F from `first` to `last`."""
    for y in range(first, last):
        for x0 in range(0, V, _PART):
            for n in range(N):
                row = (n * H + y) * V
                for x in range(x0, min(x0 + _PART, V)):
                    out[(y * V + x) * width + n] = F[row + x]


@compiled
def write_mask(F, N, H, V, width, first, last, mask):
    """Write the mask F > 0 of the rows from `first` to `last`, a bit for each value."""
    for y in range(first, last):
        for x0 in range(0, V, _PART):
            for n in range(0, N, 8):
                for x in range(x0, min(x0 + _PART, V)):
                    bits = 0
                    for k in range(min(8, N - n)):
                        if F[((n + k) * H + y) * V + x] > 0:
                            bits |= 1 << k
                    mask[((y * V + x) * width + n) // 8] = bits


@compiled
def write_argmax(F, N, H, V, width, first, last, argmax):
    """Write which entry of each window is the largest; rows count windows."""
    v = V // 2
    for y in range(first, last):
        for x0 in range(0, v, _PART):
            for n in range(N):
                row = (n * H + 2 * y) * V
                for x in range(x0, min(x0 + _PART, v)):
                    at = row + 2 * x
                    largest, which = F[at], 0
                    if F[at + 1] > largest:
                        largest, which = F[at + 1], 1
                    if F[at + V] > largest:
                        largest, which = F[at + V], 2
                    if F[at + V + 1] > largest:
                        largest, which = F[at + V + 1], 3
                    argmax[(y * v + x) * width + n] = np.uint8(which if largest > 0 else CLOSED)
