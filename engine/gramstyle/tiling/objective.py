"""Equation 7 over the tiles of an image: two passes, and what they share."""

import math
from collections.abc import Callable, Iterable
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

from gramstyle.core.arrays import Array, namespace
from gramstyle.core.kernels import Kernels
from gramstyle.core.network import Responses
from gramstyle.core.objective import (
    Evaluation,
    Forward,
    Objective,
    Recall,
    StyleTarget,
    Sums,
    part_of,
    where_not_finite,
)
from gramstyle.core.preprocessing import Preprocessing
from gramstyle.errors import NonFiniteError
from gramstyle.tiling.areas import Tile, Tiling
from gramstyle.tiling.spill import Shelf

T = TypeVar("T")

# The photograph's responses P (N, h, v) at a tile's owned positions of the content layer.
Targets = Callable[[Tile], Array]


@dataclass(frozen=True, kw_only=True)
class TiledObjective:
    """`Objective` for an image of any size: the same call, the same result to rounding.

    Pass 1 adds up the sums of all tiles (equations 1 and 3); pass 2 carries the derivatives that
    follow from the whole image's sums down from each tile's positions, and adds what arrives at
    the pixels.

    Attributes
    ----------
    objective
        What is evaluated. Of its content target only the layer and N are read.
    tiling
        The tiles, for the same network.
    targets
        What the content is compared with, tile by tile; None without content.
    recall
        How the engine takes up again what its forward pass has left behind. None: pass 2 runs
        forward again.
    shelf
        Where that is kept between the passes; unused without `recall`.
    """

    objective: Objective
    tiling: Tiling
    targets: Targets | None
    recall: Recall | None = None
    shelf: Shelf | None = None

    def loss_and_gradient(self, x: Array) -> Evaluation:
        """Evaluate equation 7 and its derivative at the pixels x (3, H, W), RGB, 0..255.

        Raises
        ------
        NonFiniteError
            If a loss is NaN or infinite, naming the first layer whose responses are.
        OptionError
            If the disk is full.
        """
        tiles, M = list(self.tiling), self.tiling.positions()
        responses: Responses = {}

        def tile_sums(tile: Tile) -> Sums:
            nonlocal responses
            responses, P = self._forward(tile, x), self._target(tile)
            # What is written to the shelf meanwhile is only read here.
            putting = self._put_aside(tile, beside) if tile is not tiles[-1] else None
            sums = sums_of(self.objective, tile, responses, P)
            if putting is not None:
                putting.result()
            return sums

        with ThreadPoolExecutor(1, thread_name_prefix="gramstyle-shelf") as beside:
            sums = tree_sum(map(tile_sums, tiles))  # pass 1
            terms = self.objective.terms(sums, M)
            if not math.isfinite(terms.loss):
                raise NonFiniteError(where_not_finite({}))

            gradient: Array | None = None
            for tile in reversed(tiles):  # pass 2: what the last tile has left is still there
                if tile is not tiles[-1]:
                    responses = self._again(tile, x, beside)
                dx = gradient_of(self.objective, tile, responses, self._target(tile), sums, M)
                if gradient is None:
                    gradient = namespace(x).zeros(x.shape, dtype=dx.dtype)
                gradient[:, *tile.window] += dx
        assert gradient is not None  # noqa: S101 - there is a tile
        return Evaluation.of(terms, gradient)

    def _forward(self, tile: Tile, x: Array) -> Responses:
        return forward_of(self.objective)(self._input(tile, x))

    def _again(self, tile: Tile, x: Array, beside: Executor) -> Responses:
        """Return the responses of pass 1 once more."""
        if self.recall is None or self.shelf is None:
            return self._forward(tile, x)
        taking = beside.submit(self.shelf.take, tile.index, self.recall.left(*_shape(tile)))
        responses = self.recall.again(self._input(tile, x))
        taking.result()
        return responses

    def _put_aside(self, tile: Tile, beside: Executor) -> Future[None] | None:
        """Begin to put aside what pass 1 has left of a tile."""
        if self.recall is None or self.shelf is None:
            return None
        return beside.submit(self.shelf.put, tile.index, self.recall.left(*_shape(tile)))

    def _input(self, tile: Tile, x: Array) -> Array:
        return self.objective.preprocessing.forward(x[:, *tile.window])

    def _target(self, tile: Tile) -> Array | None:
        return None if self.targets is None else self.targets(tile)


def sums_of(objective: Objective, tile: Tile, responses: Responses, P: Array | None) -> Sums:
    """Return what a tile adds to the image's sums.

    Raises
    ------
    NonFiniteError
        If that is NaN or infinite, naming the first layer whose responses are.
    """
    sums = objective.sums(responses, P, tile.owned)
    grams_finite = all(bool(namespace(G).isfinite(G).all()) for G in sums.gram.values())
    if not (math.isfinite(sums.content) and grams_finite):
        raise NonFiniteError(where_not_finite(responses))
    return sums


def gradient_of(
    objective: Objective,
    tile: Tile,
    responses: Responses,
    P: Array | None,
    sums: Sums,
    M: dict[str, int],
) -> Array:
    """Return what a tile adds to the gradient: by the pixels of its window (3, h, v)."""
    add_seed = objective.seeds(responses, P, sums, M, tile.owned)
    return objective.preprocessing.backward(objective.carry_down(responses, add_seed))


def tree_sum(parts: Iterable[Sums]) -> Sums:
    """Add parts in pairs, then the pairs in pairs: an order that depends on their number alone."""
    waiting: list[tuple[int, Sums]] = []  # (how many parts are in it, their sum), descending
    for part in parts:
        count, total = 1, part
        while waiting and waiting[-1][0] == count:
            total = waiting.pop()[1] + total
            count *= 2
        waiting.append((count, total))
    _, total = waiting.pop()
    while waiting:
        total = waiting.pop()[1] + total
    return total


def tiled_style_targets(
    forward: Forward,
    kernels: Kernels,
    preprocessing: Preprocessing,
    names: tuple[str, ...],
    a: Array,
    tiling: Tiling,
) -> dict[str, StyleTarget]:
    """Return the Gram matrices of an artwork a (3, H, W) at the named layers, tile by tile."""
    M = tiling.positions()

    def tile_grams(tile: Tile) -> Sums:
        responses = forward(preprocessing.forward(a[:, *tile.window]))
        return Sums(0.0, {name: kernels.gram(responses[name], tile.owned[name]) for name in names})

    sums = tree_sum(map(tile_grams, tiling))
    return {name: StyleTarget(A=sums.gram[name], M=M[name]) for name in names}


def tiled_content_targets(
    forward: Forward,
    preprocessing: Preprocessing,
    layer: str,
    p: Array,
    tiling: Tiling,
    shelf: Shelf,
) -> Targets:
    """Put the responses of a photograph p (3, H, W) at one layer on a shelf, tile by tile."""
    # Each as it lies in memory, since engines differ in that: its axes, shape and type there.
    lies: dict[int, tuple[tuple[int, ...], tuple[int, ...], str]] = {}
    for tile in tiling:
        responses = forward(preprocessing.forward(p[:, *tile.window]))
        P = part_of(responses[layer], tile.owned, layer)
        axes = tuple(sorted(range(3), key=lambda axis: -P.strides[axis]))
        lying = P.transpose(axes).copy()
        lies[tile.index] = (axes, lying.shape, lying.dtype.str)
        shelf.put(("P", tile.index), [lying])

    def target(tile: Tile) -> Array:
        axes, shape, dtype = lies[tile.index]
        lying = namespace(p).empty(shape, dtype=dtype)
        shelf.take(("P", tile.index), [lying])
        P: Array = lying.transpose([axes.index(axis) for axis in range(3)])
        return P

    return target


def forward_of(objective: Objective) -> Forward:
    """Return what computes an objective's responses."""
    if objective.forward is not None:
        return objective.forward
    return objective.network.until(objective.layers).forward


def _shape(tile: Tile) -> tuple[int, int]:
    rows, columns = tile.window
    return rows.stop - rows.start, columns.stop - columns.start
