"""The objective over the tiles of an image: two passes, and their common functions."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np

from gramstyle.core.arrays import Array, namespace, on_host
from gramstyle.core.evaluation import Evaluation, Sizes, Sums
from gramstyle.core.kernels import Area
from gramstyle.core.network import Responses
from gramstyle.core.objective import Forward, Objective, Recall, where_not_finite
from gramstyle.core.preprocessing import Preprocessing
from gramstyle.core.term import GuidedTerm, Reference, Term
from gramstyle.engines.registry import Engine
from gramstyle.errors import NonFiniteError
from gramstyle.tiling.areas import Tile, Tiling
from gramstyle.tiling.ordered import OrderedArray
from gramstyle.tiling.spill import SpillStore
from gramstyle.tiling.windows import add, cut

# A tile's arrays with one entry per position, by the term's index in the list of terms: targets,
# and the guidance (R, h, v) of guided terms.
TileTargets = Mapping[int, OrderedArray]


@dataclass(frozen=True, kw_only=True)
class TiledObjective:
    """`Objective` for an image of any size: the same interface, the same result up to rounding.

    Pass 1 adds up the sums of all tiles. Pass 2 computes the derivatives at each tile's positions
    from the whole image's sums, runs the backward pass, and adds the result to the gradient.

    Attributes
    ----------
    objective
        The objective to evaluate. Its targets with one entry per position are not used.
    tiling
        The tiles, for the same network.
    targets
        Returns a tile's targets with one entry per position.
    recall
        Restores an engine's forward pass; None runs the forward pass again in pass 2.
    spill
        Stores the results of pass 1 for pass 2; unused without `recall`.
    place
        Moves an array to the engine's memory; None if the engine computes on the host.
    """

    objective: Objective
    tiling: Tiling
    targets: Callable[[Tile], TileTargets]
    recall: Recall | None = None
    spill: SpillStore | None = None
    place: Callable[[Array], Array] | None = None

    def loss_and_gradient(self, x: Array) -> Evaluation:
        """Evaluate equation 7 and its derivative at the pixels x (3, H, W), RGB, 0..255.

        Raises
        ------
        NonFiniteError
            If the loss is NaN or infinite; names the first layer whose responses are.
        OptionError
            If the disk is full.
        """
        tiles, sizes = list(self.tiling), self.tiling.sizes()
        responses: Responses = {}

        def tile_sums(tile: Tile) -> Sums:
            nonlocal responses
            responses = self._forward(tile, x)
            # Another thread writes the responses to the spill file; this one only reads them.
            storing = self._store(tile, beside) if tile is not tiles[-1] else None
            sums = sums_of(self._objective(tile), tile, self._cut(tile, x), responses)
            if storing is not None:
                storing.result()
            return sums

        with ThreadPoolExecutor(1, thread_name_prefix="gramstyle-spill") as beside:
            sums = tree_sum(map(tile_sums, tiles))  # pass 1
            values = self.objective.values(sums, sizes)
            if not math.isfinite(values.loss):
                raise NonFiniteError(where_not_finite({}))

            gradient: Array | None = None
            for tile in reversed(tiles):  # pass 2: the engine still has the last tile
                if tile is not tiles[-1]:
                    responses = self._restored(tile, x, beside)
                window = self._cut(tile, x)
                dx = gradient_of(self._objective(tile), tile, window, responses, sums, sizes)
                dx = dx if self.place is None else on_host(dx)
                if gradient is None:
                    gradient = namespace(x).zeros(x.shape, dtype=dx.dtype)
                add(gradient, tile.window, dx)
        assert gradient is not None  # noqa: S101 - there is a tile
        return Evaluation.of(values, gradient)

    def _objective(self, tile: Tile) -> Objective:
        return for_tile(self.objective, self.targets(tile), self.place)

    def _cut(self, tile: Tile, x: Array) -> Array:
        window = cut(x, tile.window)
        return window if self.place is None else self.place(window)

    def _forward(self, tile: Tile, x: Array) -> Responses:
        return self.objective.responses(self._cut(tile, x))

    def _restored(self, tile: Tile, x: Array, beside: Executor) -> Responses:
        """Return the responses of pass 1 again, restored or recomputed."""
        if self.recall is None or self.spill is None:
            return self._forward(tile, x)
        v = self.objective.preprocessing.forward(cut(x, tile.window))
        reading = beside.submit(self.spill.take, tile.index, self.recall.left(*v.shape[1:]))
        responses = self.recall.again(v)
        reading.result()
        return responses

    def _store(self, tile: Tile, beside: Executor) -> Future[None] | None:
        """Start to store a tile's results of pass 1; return None without `recall`."""
        if self.recall is None or self.spill is None:
            return None
        rows, columns = tile.window
        left = self.recall.left(rows.stop - rows.start, columns.stop - columns.start)
        return beside.submit(self.spill.put, tile.index, left)


def for_tile(
    objective: Objective, targets: TileTargets, place: Callable[[Array], Array] | None = None
) -> Objective:
    """Return a copy of an objective with a tile's own targets, moved by `place`."""
    return replace(objective, terms=terms_in_tile(objective.terms, targets, place))


def terms_in_tile(
    terms: Sequence[Term], targets: TileTargets, place: Callable[[Array], Array] | None = None
) -> tuple[Term, ...]:
    """Return the terms with a tile's own targets, and with its part of the guidance."""
    result = list(terms)
    for index, target in targets.items():
        term, array = result[index], target.restored()
        if isinstance(term, GuidedTerm):
            result[index] = term.in_part(list(array))
        else:
            result[index] = term.compared_with(array if place is None else place(array), 0)
    return tuple(result)


def tile_guides(
    terms: Sequence[Term], tile: Tile, reference: Reference | None = None
) -> TileTargets:
    """Return a tile's part (R, h, v) of the guidance of each guided term.

    Parameters
    ----------
    terms
        The terms, with the guidance of the image that the tile is of.
    tile
        The tile.
    reference
        The reference image that the tile is of, if it is of one; other terms are then skipped.
    """
    return {
        index: OrderedArray.of(_cropped(term.T, tile.places[term.layer]))
        for index, term in enumerate(terms)
        if isinstance(term, GuidedTerm) and reference in (None, term.reference)
    }


def _cropped(T: Sequence[Array | None], place: Area) -> Array:
    """Return a part (R, h, v) of the guidance of all regions."""
    shape = [span.stop - span.start for span in place]
    return np.stack([np.zeros(shape, np.float32) if t is None else t[*place] for t in T])


def sums_of(objective: Objective, tile: Tile, window: Array, responses: Responses) -> Sums:
    """Return a tile's part of the image's sums.

    Raises
    ------
    NonFiniteError
        If a sum is NaN or infinite; names the first layer whose responses are.
    """
    sums = objective.sums(window, responses, tile.owned)
    if not sums.finite:
        raise NonFiniteError(where_not_finite(responses))
    return sums


def gradient_of(
    objective: Objective,
    tile: Tile,
    window: Array,
    responses: Responses,
    sums: Sums,
    sizes: Sizes,
) -> Array:
    """Return a tile's part of the gradient (3, h, v): the derivative by its window's pixels."""
    return objective.gradient(window, responses, sums, sizes, tile.owned)


def tree_sum(parts: Iterable[Sums]) -> Sums:
    """Return the sum of parts, added pairwise in an order that depends on their number alone."""
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


def tile_targets(
    engine: Engine, terms: Iterable[Term], reference: Reference, tile: Tile, responses: Responses
) -> tuple[TileTargets, Sums]:
    """Return a tile's targets with one entry per position, and its part of the summed targets.

    Parameters
    ----------
    terms
        All terms of the objective; those of another reference image are skipped.
    tile, responses
        The tile of the reference image, and the responses to its window.
    """
    own: dict[int, OrderedArray] = {}
    parts = []
    for index, term in enumerate(terms):
        if term.reference == reference:
            target = term.target(responses[term.layer], engine.kernels, tile.owned[term.layer])
            if term.per_position:
                own[index] = OrderedArray.of(on_host(target))
            else:
                parts.append(target)
    return own, Sums(tuple(parts))


def with_summed_targets(
    terms: Iterable[Term], reference: Reference, total: Sums, sizes: Sizes
) -> tuple[Term, ...]:
    """Return the terms with the targets that are sums over the positions of a reference image."""
    parts = iter(total.parts)
    return tuple(
        term.compared_with(next(parts), sizes[term.layer].M)
        if term.reference == reference and not term.per_position
        else term
        for term in terms
    )


def add_tiled_targets(
    engine: Engine,
    preprocessing: Preprocessing,
    terms: tuple[Term, ...],
    reference: Reference,
    pixels: Array,
    tiling: Tiling,
    spill: SpillStore,
) -> tuple[Term, ...]:
    """Compute the targets from a reference image, tile by tile.

    Parameters
    ----------
    pixels, tiling
        The image's pixels (3, H, W), RGB, 0..255, and its tiles.
    spill
        Receives the targets with one entry per position; `stored_targets` reads them.

    Returns
    -------
    tuple of Term
        The terms with the summed targets.
    """
    forward: Forward = engine.forward

    def parts() -> Iterator[Sums]:
        for tile in tiling:
            responses = forward(preprocessing.forward(cut(pixels, tile.window)))
            here = terms_in_tile(terms, tile_guides(terms, tile, reference))
            own, part = tile_targets(engine, here, reference, tile, responses)
            for index, target in own.items():
                spill.put_ordered((index, tile.index), target)
            yield part

    return with_summed_targets(terms, reference, tree_sum(parts()), tiling.sizes())


def stored_targets(terms: tuple[Term, ...], spill: SpillStore) -> Callable[[Tile], TileTargets]:
    """Return a function that reads a tile's targets from the spill store, and adds its guidance."""
    own = [index for index, term in enumerate(terms) if term.per_position]

    def targets(tile: Tile) -> TileTargets:
        stored = {index: spill.take_ordered((index, tile.index)) for index in own}
        return {**stored, **tile_guides(terms, tile)}

    return targets
