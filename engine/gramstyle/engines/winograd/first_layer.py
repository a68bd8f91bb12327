"""The first convolution, whose three channels are too few for transformed tiles.

Each strip is one matrix product over the 27 taps of three channels. Derivatives and responses are
matrices (positions, N) with N padded, images (3, H, V).
"""

from collections.abc import Sequence

import numpy as np

from gramstyle.core.arrays import Array
from gramstyle.engines.threads import Workers
from gramstyle.engines.winograd.blocks import Block


def forward(v: Array, block: Block, F: Array, *, strips: Sequence[slice], workers: Workers) -> None:
    """Write F = max(0, W ∗ v + b)."""
    _, _, V = v.shape
    around = np.pad(v, ((0, 0), (1, 1), (1, 1)))

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
    dZ: Array, block: Block, dv: Array, *, strips: Sequence[slice], workers: Workers
) -> None:
    """Write dv (3, H, V), the derivative by the image, from dZ."""
    _, H, V = dv.shape

    def strip(rows: slice) -> None:
        top, bottom = max(rows.start - 1, 0), min(rows.stop + 1, H)
        product = workers.scratch("taps", (27, (bottom - top) * V))
        np.matmul(block.weights, dZ[top * V : bottom * V].T, out=product)
        taps = product.reshape(3, 3, 3, bottom - top, V)
        total = dv[:, rows]
        total[...] = 0
        for i in range(3):
            # Row y of dv adds row y − i + 1 of dZ, which is zero outside the image.
            first, last = max(rows.start - i + 1, 0), min(rows.stop - i + 1, H)
            lines = slice(first + i - 1 - rows.start, last + i - 1 - rows.start)
            for j in range(3):
                to, of = slice(max(j - 1, 0), V + min(j - 1, 0)), 1 - j
                shifted = taps[:, i, j, first - top : last - top, to.start + of : to.stop + of]
                total[:, lines, to] += shifted

    workers.run(strip, strips)
