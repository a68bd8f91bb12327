"""The first convolution, whose three channels are too few for transformed tiles.

Each strip is one matrix product over the 27 taps of three channels. Derivatives and responses are
matrices (positions, N) with N padded, images (3, H, V).
"""

from collections.abc import Sequence

import numpy as np

from gramstyle.core import layers
from gramstyle.core.arrays import Array
from gramstyle.engines.threads import Workers
from gramstyle.engines.winograd.blocks import Block


def forward(v: Array, block: Block, F: Array, *, strips: Sequence[slice], workers: Workers) -> None:
    """Write F = max(0, W ∗ v + b)."""
    _, _, V = v.shape
    around = layers.pad_forward(v, block.padding)

    def strip(rows: slice) -> None:
        n = rows.stop - rows.start
        taps = workers.scratch("taps", (3, 3, 3, n, V))
        for i in range(3):
            for j in range(3):
                taps[:, i, j] = around[:, rows.start + i : rows.stop + i, j : j + V]
        here = F[rows.start * V : rows.stop * V]
        np.matmul(taps.reshape(27, n * V).T, block.weights, out=here)
        here += block.b
        np.maximum(here, 0, out=here)

    workers.run(strip, strips)


def backward(
    dZ: Array, V: int, block: Block, dv: Array, *, strips: Sequence[slice], workers: Workers
) -> None:
    """Write dv, the derivative by the image, from dZ (H · V, N).

    dv is (3, H, V), or (3, H + 2, V + 2) to include the derivative by the padding.
    """
    H, outside = len(dZ) // V, (dv.shape[2] - V) // 2

    def strip(part: slice) -> None:
        rows = slice(part.start - outside, part.stop - outside)  # of dZ
        top, bottom = max(rows.start - 1, 0), min(rows.stop + 1, H)
        product = workers.scratch("taps", (27, (bottom - top) * V))
        np.matmul(block.weights, dZ[top * V : bottom * V].T, out=product)
        taps = product.reshape(3, 3, 3, bottom - top, V)
        total = dv[:, part]
        total[...] = 0
        for i in range(3):
            # Row y of dv adds row y − i + 1 of dZ, which is zero outside the image.
            first, last = max(rows.start - i + 1, 0), min(rows.stop - i + 1, H)
            lines = slice(first + i - 1 - rows.start, last + i - 1 - rows.start)
            for j in range(3):
                # Column x of dv adds column x − j + 1 of dZ.
                left = j - 1 + outside
                to = slice(max(left, 0), min(V + left, V + 2 * outside))
                shifted = taps[:, i, j, first - top : last - top, to.start - left : to.stop - left]
                total[:, lines, to] += shifted

    workers.run(strip, strips)
