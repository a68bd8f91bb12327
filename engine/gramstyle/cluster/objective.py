"""The objective over the tiles of an image on a cluster: the same two passes, the same bits."""

import math
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, cast

import numpy as np

from gramstyle.cluster import worker
from gramstyle.cluster.client import Cluster, Placed
from gramstyle.cluster.worker import Part, TileTask
from gramstyle.core.arrays import Array
from gramstyle.core.blending import ReferenceSample, with_blended_targets
from gramstyle.core.evaluation import Evaluation, Sums
from gramstyle.core.guides import Guides, with_guides
from gramstyle.core.network import Network
from gramstyle.core.objective import Objective, where_not_finite
from gramstyle.core.term import GuidedTerm, Reference, Term
from gramstyle.engines.spec import ObjectiveSpec
from gramstyle.errors import NonFiniteError
from gramstyle.model import Model
from gramstyle.tiling import Tile, Tiling
from gramstyle.tiling.objective import tile_guides, tree_sum, with_summed_targets
from gramstyle.tiling.windows import add, cut

# How many windows per worker are sent ahead: enough that no worker waits. The scheduler stores all
# of them, in case a worker is lost.
AHEAD = 4

# The priorities of windows of pixels and of additions; all other tasks have priority 0.
_FIRST, _SOON = 2, 1


@dataclass(frozen=True, kw_only=True)
class ClusterObjective:
    """`TiledObjective` on a cluster: the same interface, and with the same engine the same bits.

    An evaluation sends each tile's window of x once, as float32, and fetches the sums of all tiles
    and each tile's derivatives. Everything else is on the workers already.

    Attributes
    ----------
    objective
        The objective, without an engine: here only the sums of tiles are evaluated.
    tiling
        The tiles.
    cluster
        The cluster, which must stay open.
    targets
        Each tile's own targets, on the workers.
    shared
        The spec, and the terms with the summed targets, on the workers.
    """

    objective: Objective
    tiling: Tiling
    cluster: Cluster
    targets: list[Placed]
    shared: list[Placed]

    def loss_and_gradient(self, x: Array) -> Evaluation:
        """Evaluate equation 7 and its derivative at the pixels x (3, H, W), RGB, 0..255.

        x is rounded to float32; the gradient is in float32.

        Raises
        ------
        NonFiniteError
            If the loss is NaN or infinite; names the first layer whose responses are.
        OptionError
            If the cluster fails; see `Cluster.fetch`.
        """
        cluster, evaluation = self.cluster, uuid.uuid4().hex
        tiles, inputs, parts = list(self.tiling), list[tuple[Any, ...]](), list[Placed]()

        def submit(tile: Tile, window: Array) -> Placed:
            targets = self.targets[tile.index]
            placed = cluster.submit(worker.place, window, targets, priority=_FIRST)
            spec, terms = self.shared
            arguments = (_task(tile), spec, evaluation, placed, targets, terms)
            inputs.append(arguments)
            parts.append(cluster.submit(worker.tile_sums, *arguments))
            return placed

        _send_windows(cluster, tiles, x, submit)  # pass 1
        total = _sum_up(cluster, parts)
        parts.clear()
        found: Part = cluster.fetch(total)
        values = self.objective.values(found.sums, self.tiling.sizes())
        if not math.isfinite(values.loss):
            raise NonFiniteError(where_not_finite({}))

        # Pass 2 starts with the last tile, as `TiledObjective` does: that is the order in which
        # windows that overlap are added. Each tile is sent to the worker that did its pass 1: Dask
        # might move it to an idle worker, where the forward pass would have to run again.
        waiting = [
            cluster.submit(
                worker.tile_gradient, *inputs[tile.index], total, near=found.where.get(tile.index)
            )
            for tile in reversed(tiles)
        ]
        inputs.clear()
        waiting.reverse()
        gradient = np.zeros(x.shape, np.float32)
        for tile in reversed(tiles):
            add(gradient, tile.window, cluster.fetch(waiting.pop()))
        return Evaluation.of(values, gradient)

    def close(self) -> None:
        """Release the targets on the workers."""
        self.targets.clear()
        self.shared.clear()


def cluster_objective(
    cluster: Cluster,
    spec: ObjectiveSpec,
    model: Model,
    references: Mapping[Reference, Sequence[ReferenceSample]],
    guides: Guides | None = None,
) -> ClusterObjective:
    """Place the model and the images on a cluster, and compute the targets there.

    Parameters
    ----------
    cluster
        From `open_cluster`; it must stay open as long as the result is used.
    spec
        The description of the objective, in tiles.
    model
        The model with the spec's hash.
    references
        The samples of the images that the terms compare with. The content image has one, of the
        size of the spec.
    guides
        The guidance of the generated image, if terms are guided.

    Raises
    ------
    GramstyleError
        A worker's error, such as a missing engine, a model that cannot be stored or an image that
        is too small; or an error of the cluster, as in `Cluster.fetch`.
    """
    assert spec.edge is not None  # noqa: S101 - as above
    network = spec.network(model)
    tiling = Tiling(network, spec.height, spec.width, spec.edge)
    cluster.place_model(model.path, spec.model)

    terms, targets = spec.terms, list[Placed]([{}] * len(tiling))
    for reference, samples in references.items():
        if any(each.reference == reference and not each.per_position for each in terms):
            add_targets = partial(_add_summed_targets, cluster, spec, network, reference)
            terms = with_blended_targets(terms, reference, samples, add_targets)
        if any(each.reference == reference and each.per_position for each in terms):
            (sample,) = samples
            targets = _placed(
                cluster, spec, tiling, reference, terms, sample.pixels, worker.reference_targets
            )
    terms = with_guides(terms, guides)
    if guides is not None:
        targets = [
            cluster.submit(worker.with_guides, own, tile_guides(terms, tile))
            for own, tile in zip(targets, tiling, strict=True)
        ]
    return ClusterObjective(
        objective=Objective(
            network=network, preprocessing=model.preprocessing, terms=terms, weights=spec.weights
        ),
        tiling=tiling,
        cluster=cluster,
        targets=targets,
        # Each tile has its own part of the guidance; the whole stays here.
        shared=[cluster.submit(worker.place, each, {}) for each in (spec, _unguided(terms))],
    )


def _add_summed_targets(
    cluster: Cluster,
    spec: ObjectiveSpec,
    network: Network,
    reference: Reference,
    terms: tuple[Term, ...],
    pixels: Array,
) -> tuple[Term, ...]:
    """Compute the targets that are sums over a reference image on the workers."""
    assert spec.edge is not None  # noqa: S101 - it has tiles
    _, height, width = pixels.shape
    there = replace(spec, height=height, width=width)
    tiles = Tiling(network, height, width, spec.edge)
    parts = _placed(cluster, there, tiles, reference, terms, pixels, worker.reference_part)
    found: Part = cluster.fetch(_sum_up(cluster, parts))
    return with_summed_targets(terms, reference, found.sums, tiles.sizes())


def _placed(
    cluster: Cluster,
    spec: ObjectiveSpec,
    tiling: Tiling,
    reference: Reference,
    terms: Sequence[Term],
    pixels: Array,
    function: Callable[..., Any],
) -> list[Placed]:
    """Call a function on the workers for each tile of a reference image.

    The terms have the guidance of the image.
    """
    results: list[Placed] = []
    shared = cluster.submit(worker.place, spec, {})

    def submit(tile: Tile, window: Array) -> Placed:
        guides = tile_guides(terms, tile, reference)
        results.append(cluster.submit(function, _task(tile), shared, reference, window, guides))
        return results[-1]

    _send_windows(cluster, list(tiling), pixels, submit)
    return results


def _unguided(terms: Sequence[Term]) -> tuple[Term, ...]:
    """Return the terms without guidance; its sums remain."""
    return tuple(
        term.in_part([None] * len(term.T)) if isinstance(term, GuidedTerm) else term
        for term in terms
    )


def _task(tile: Tile) -> TileTask:
    return TileTask(worker.installed_version(), tile.index)


def _send_windows(
    cluster: Cluster, tiles: Sequence[Tile], x: Array, submit: Callable[[Tile, Array], Placed]
) -> None:
    """Submit the windows of an image, a few ahead of the workers."""
    ahead = AHEAD * max(1, cluster.worker_count())
    sent: list[Placed] = []
    for number, tile in enumerate(tiles):
        if number >= ahead:
            cluster.wait(sent[number - ahead])
        # A copy, since the optimiser continues to write to x.
        sent.append(submit(tile, np.array(cut(x, tile.window), np.float32)))


@dataclass(frozen=True)
class _Addend:
    """Sums on a worker; adding two of them submits a task."""

    cluster: Cluster
    placed: Placed

    def __add__(self, other: "_Addend") -> "_Addend":
        total = self.cluster.submit(worker.add, self.placed, other.placed, priority=_SOON)
        return _Addend(self.cluster, total)


def _sum_up(cluster: Cluster, parts: Iterable[Placed]) -> Placed:
    """Add up sums on the workers, in the order of `tree_sum`."""
    addends = [_Addend(cluster, part) for part in parts]
    return cast(_Addend, tree_sum(cast(list[Sums], addends))).placed
