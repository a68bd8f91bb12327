"""A convolution of a whole image in strips of tiles, on several threads."""

from collections.abc import Callable
from dataclasses import dataclass
from math import prod

import numpy as np

from gramstyle.core.arrays import Array
from gramstyle.engines.threads import Workers
from gramstyle.engines.winograd import kernel_panels, products
from gramstyle.engines.winograd.algorithm import OVERLAP
from gramstyle.engines.winograd.layout import GAP
from gramstyle.engines.winograd.simd import WIDTH
from gramstyle.engines.winograd.sources import across
from gramstyle.engines.winograd.storage import NO_FLOATS

# The largest number of tiles in a strip: enough for products that read the kernels a few times
# only, few enough for a strip's transformed planes to stay in the cache.
LONGEST = 96

# An image of at most so many tiles is computed panel by panel.
FEW_TILES = 128

Panel = tuple[int, int]
Strip = tuple[int, int]


@dataclass(frozen=True)
class Convolution:
    """One pass through the kernels of a convolution, from C channels to N, both padded.

    Attributes
    ----------
    kernels
        The kernels (taps, N, C), or (taps, C, N) if not `transposed`, flat.
    transposed
        Whether the kernels are stored by their outputs first, as in the forward pass.
    tile
        The edge of the tiles.
    C, N
        The channels of the input and of the output.
    edges
        The height and the width of the output.
    begin
        ``begin(D, patch, first, last)`` writes the transformed patches of these tiles to D.
    finish
        ``finish(Q, out, start, width, first, last)`` transforms their products with one panel back.
    """

    kernels: Array
    transposed: bool
    tile: int
    C: int
    N: int
    edges: tuple[int, int]
    begin: Callable[[Array, Array, int, int], None]
    finish: Callable[[Array, Array, int, int, int, int], None]

    @property
    def planes(self) -> int:
        """The number of entries of a transformed patch."""
        return (self.tile + OVERLAP) ** 2


class Convolver:
    """Computes convolutions; keeps its arrays for the next one.

    Parameters
    ----------
    workers
        The threads.
    """

    def __init__(self, workers: Workers) -> None:
        self._workers = workers
        self._kernels = self._patches = NO_FLOATS

    def __call__(self, step: Convolution) -> None:
        """Transform all tiles of an image, multiply them by the kernels, and transform them back.

        An image of many tiles is computed strip by strip, with all transformed kernels in memory.
        In one of few tiles, the kernels are most of the memory traffic: it is computed panel by
        panel, with the transformed kernels of one panel for each thread.
        """
        strips, panels = self._strips(step), products.panels(step.N)
        if strips[-1][1] <= FEW_TILES and len(panels) >= self._workers.threads:
            self._by_panels(step, strips, panels)
        else:
            self._by_strips(step, strips, panels)

    def _by_strips(self, step: Convolution, strips: list[Strip], panels: list[Panel]) -> None:
        plane = step.C * step.N + GAP
        U = self._kernels = _at_least(self._kernels, step.planes * plane)

        def transform(panel: Panel) -> None:
            self._transform_kernels(step, panel, U, panel[0] * step.C, plane)

        def strip(part: Strip) -> None:
            D = self._workers.scratch("D", (_size(step, part, step.C),))
            self._begin(step, part, D)
            for panel in panels:
                self._multiply(step, part, D, panel, U, panel[0] * step.C, plane)

        self._workers.run(transform, panels)
        self._workers.run(strip, strips)

    def _by_panels(self, step: Convolution, strips: list[Strip], panels: list[Panel]) -> None:
        ends = np.cumsum([_size(step, part, step.C) for part in strips])
        patches = self._patches = _at_least(self._patches, int(ends[-1]))
        parts = list(zip(strips, np.split(patches, ends)[:-1], strict=True))

        def multiply(panel: Panel) -> None:
            plane = step.C * panel[1] + GAP
            U = self._workers.scratch("U", (step.planes * plane,))
            self._transform_kernels(step, panel, U, 0, plane)
            for part, D in parts:
                self._multiply(step, part, D, panel, U, 0, plane)

        self._workers.run(lambda item: self._begin(step, *item), parts)
        self._workers.run(multiply, panels)

    def _begin(self, step: Convolution, part: Strip, D: Array) -> None:
        step.begin(D, self._workers.scratch("patch", (step.planes * step.C,)), *part)

    def _transform_kernels(
        self, step: Convolution, panel: Panel, U: Array, offset: int, plane: int
    ) -> None:
        """Write a panel of the transformed kernels to U from an offset, planes `plane` apart."""
        place = (step.kernels, step.N, step.C, *panel, step.tile, U, offset, plane)
        if step.transposed:
            square = self._workers.scratch("square", (kernel_panels.TAPS * WIDTH**2,))
            kernel_panels.transform_transposed(*place, square)
        else:
            kernel_panels.transform(*place)

    def _multiply(
        self,
        step: Convolution,
        part: Strip,
        D: Array,
        panel: Panel,
        U: Array,
        offset: int,
        plane: int,
    ) -> None:
        """Multiply the transformed patches of a strip by a panel, and transform them back."""
        Q = self._workers.scratch("Q", (_size(step, part, panel[1]),))
        out = self._workers.scratch("out", (step.tile**2 * WIDTH,))
        tiles = part[1] - part[0]
        products.multiply(D, U, step.planes, tiles, step.C, offset, plane, panel[1], Q)
        step.finish(Q, out, *panel, *part)

    def _strips(self, step: Convolution) -> list[Strip]:
        """Return the first and the last tile of each strip: as many strips for each thread."""
        count = prod(across(length, step.tile) for length in step.edges)
        threads = self._workers.threads
        strips = -(-count // (LONGEST * threads)) * threads
        length = -(-count // (strips * products.ROWS)) * products.ROWS
        return [(first, min(first + length, count)) for first in range(0, count, length)]


def _size(step: Convolution, part: Strip, channels: int) -> int:
    """Return the size of all planes of a strip for so many channels."""
    return step.planes * ((part[1] - part[0]) * channels + GAP)


def _at_least(memory: Array, size: int) -> Array:
    """Return memory of at least this size: the same if it is large enough."""
    return memory if len(memory) >= size else np.empty(size, np.float32)
