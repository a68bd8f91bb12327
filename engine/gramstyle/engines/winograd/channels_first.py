"""Responses that lie channels before positions, as ONNX Runtime gives them, taken over.

All arrays are given flat: F (N, H, V) with a pixel's channels far apart, what is written (H, V,
width) with them side by side. A stretch of a row is moved at a time, channel by channel: it is long
enough to be fetched ahead, and what is written of it stays in the cache.
"""

import numpy as np

from gramstyle.engines.winograd.simd import compiled
from gramstyle.engines.winograd.transforms import CLOSED

_SOME = 128


@compiled
def copy_rows(F, N, H, V, width, first, last, out):
    """Copy F for some rows."""
    for y in range(first, last):
        for x0 in range(0, V, _SOME):
            for n in range(N):
                row = (n * H + y) * V
                for x in range(x0, min(x0 + _SOME, V)):
                    out[(y * V + x) * width + n] = F[row + x]


@compiled
def note_open(F, N, H, V, width, first, last, open_):
    """Note whether F > 0 for some rows."""
    for y in range(first, last):
        for x0 in range(0, V, _SOME):
            for n in range(N):
                row = (n * H + y) * V
                for x in range(x0, min(x0 + _SOME, V)):
                    open_[(y * V + x) * width + n] = 1 if F[row + x] > 0 else 0


@compiled
def note_largest(F, N, H, V, width, first, last, choice):
    """Note for some rows of windows which of the four is the largest, `CLOSED` if none is > 0."""
    v = V // 2
    for y in range(first, last):
        for x0 in range(0, v, _SOME):
            for n in range(N):
                row = (n * H + 2 * y) * V
                for x in range(x0, min(x0 + _SOME, v)):
                    at = row + 2 * x
                    largest, which = F[at], 0
                    if F[at + 1] > largest:
                        largest, which = F[at + 1], 1
                    if F[at + V] > largest:
                        largest, which = F[at + V], 2
                    if F[at + V + 1] > largest:
                        largest, which = F[at + V + 1], 3
                    choice[(y * v + x) * width + n] = np.uint8(which if largest > 0 else CLOSED)
