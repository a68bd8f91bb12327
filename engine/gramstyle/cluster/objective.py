"""Equation 7 over the tiles of an image on a cluster: the same two passes, the same bits."""

import math
import uuid
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np

from gramstyle.cluster import worker as remote
from gramstyle.cluster.client import Cluster, Placed
from gramstyle.cluster.worker import Assignment, Part
from gramstyle.core.arrays import Array
from gramstyle.core.kernels import Pooling
from gramstyle.core.objective import (
    Evaluation,
    Objective,
    StyleTarget,
    Sums,
    Weights,
    where_not_finite,
)
from gramstyle.engines.registry import EngineName
from gramstyle.errors import NonFiniteError
from gramstyle.model import Model
from gramstyle.tiling import Tile, Tiling
from gramstyle.tiling.objective import tree_sum

# How many windows for each worker may be on their way there: enough for none to wait, and no more
# on the network than that. The scheduler keeps all of them, in case a worker is lost.
AHEAD = 4

# Windows of pixels go before the work on them, additions before more work.
_FIRST, _SOON = 2, 1


@dataclass(frozen=True, kw_only=True)
class ClusterObjective:
    """`TiledObjective` on a cluster: the same call, and with the same engine the same bits.

    An evaluation sends each tile's window of x once, as float32, and brings back the sums of all
    tiles and each tile's derivatives. Everything else is on the workers already.

    Attributes
    ----------
    objective
        What is evaluated; without an engine, for here the sums of tiles are looked at only.
    tiling
        The tiles.
    cluster
        Who works.
    assignment
        What workers are told of all this.
    targets
        The photograph's responses by tile, on the workers; empty without content.
    style
        The artwork's Gram matrices, likewise.
    """

    objective: Objective
    tiling: Tiling
    cluster: Cluster
    assignment: Assignment
    targets: list[Placed]
    style: list[Placed]

    def loss_and_gradient(self, x: Array) -> Evaluation:
        """Evaluate equation 7 and its derivative at the pixels x (3, H, W), RGB, 0..255.

        Of x in float64 the values rounded to float32 count; the gradient is in float32.

        Raises
        ------
        NonFiniteError
            If a loss is NaN or infinite, naming the first layer whose responses are.
        OptionError
            If the cluster is gone; see `Cluster.fetch`.
        """
        cluster, M = self.cluster, self.tiling.positions()
        evaluation = uuid.uuid4().hex
        tiles, inputs, parts = list(self.tiling), list[tuple[Any, ...]](), list[Placed]()

        def submit(tile: Tile, window: Array) -> Placed:
            P = self.targets[tile.index] if self.targets else None
            placed = cluster.submit(remote.place, window, P, priority=_FIRST)
            arguments = (self.assignment, tile.index, evaluation, placed, P, self.style[0])
            inputs.append(arguments)
            parts.append(cluster.submit(remote.tile_sums, *arguments))
            return placed

        _send_windows(cluster, tiles, x, submit)  # pass 1
        total = _sum_up(cluster, parts)
        parts.clear()
        found: Part = cluster.fetch(total)
        terms = self.objective.terms(found.sums, M)
        if not math.isfinite(terms.loss):
            raise NonFiniteError(where_not_finite({}))

        # Pass 2, the last tile first, as `TiledObjective` goes: the order in which windows that
        # overlap are added.
        # Left to itself Dask moves a tile to any worker that is idler, not knowing that there the
        # tile is run forward again.
        waiting = [
            cluster.submit(
                remote.tile_gradient, *inputs[tile.index], total, near=found.where.get(tile.index)
            )
            for tile in reversed(tiles)
        ]
        inputs.clear()
        waiting.reverse()
        gradient = np.zeros(x.shape, np.float32)
        for tile in reversed(tiles):
            gradient[:, *tile.window] += cluster.fetch(waiting.pop())
        return Evaluation.of(terms, gradient)

    def close(self) -> None:
        """Let the workers forget the targets."""
        self.targets.clear()
        self.style.clear()


def cluster_objective(
    cluster: Cluster,
    *,
    file: Model,
    engine: EngineName,
    pooling: Pooling,
    content_layer: str,
    style_layers: tuple[str, ...],
    photograph: Array | None,
    artwork: Array | None,
    weights: Weights,
    convention: str | None,
    edge: int,
    shelf: int,
) -> ClusterObjective:
    """Place the model and the images on a cluster, and compute the targets there.

    Parameters
    ----------
    cluster
        From `open_cluster`; it must stay open as long as the result is used.
    file
        The network's file.
    engine, pooling
        What computes on the workers; see `open_engine`.
    content_layer, style_layers
        Where content and style are compared.
    photograph, artwork
        Their pixels (3, H, W), RGB, 0..255; without one of them its term is left out. The result
        has the size of the photograph, else of the artwork.
    weights
        α, β and w_l.
    convention
        The formulas, by their name in `Options`.
    edge
        Of the tiles, in pixels.
    shelf
        How many bytes each worker may keep in memory of what pass 1 leaves for pass 2.

    Raises
    ------
    GramstyleError
        What goes wrong on a worker, such as a missing engine, a model that cannot be kept or a
        image that is too small; the cluster itself, as in `Cluster.fetch`.
    """
    canvas = artwork if photograph is None else photograph
    assert canvas is not None  # noqa: S101 - a plan has at least one image
    height, width = canvas.shape[1:]
    assignment = Assignment(
        version=remote.installed_version(),
        sha256=file.sha256,
        engine=engine,
        pooling=pooling,
        threads=cluster.threads,
        content_layer=None if photograph is None else content_layer,
        style_layers=() if artwork is None else style_layers,
        alpha=weights.alpha,
        beta=weights.beta,
        w=tuple(weights.w[name] for name in (() if artwork is None else style_layers)),
        convention=convention,
        height=height,
        width=width,
        edge=edge,
        shelf=shelf,
    )
    network = file.network.until(assignment.layers).pooled_by(pooling)
    tiling = Tiling(network, height, width, edge)
    cluster.place_model(file.path, file.sha256)

    style: dict[str, StyleTarget] = {}
    if artwork is not None:
        tiles = Tiling(network, artwork.shape[1], artwork.shape[2], edge)
        style = _style_targets(cluster, assignment, artwork, tiles)
    targets: list[Placed] = []
    if photograph is not None:
        _send_windows(
            cluster,
            list(tiling),
            photograph,
            lambda tile, window: _appended(
                targets, cluster.submit(remote.content_target, assignment, tile.index, window)
            ),
        )
    return ClusterObjective(
        objective=assignment.objective(network, file.preprocessing, style),
        tiling=tiling,
        cluster=cluster,
        assignment=assignment,
        targets=targets,
        style=[cluster.submit(remote.place, style, None)],
    )


def _style_targets(
    cluster: Cluster, assignment: Assignment, a: Array, tiling: Tiling
) -> dict[str, StyleTarget]:
    """Return the Gram matrices of an artwork a (3, H, W), tile by tile."""
    there = replace(assignment, height=tiling.height, width=tiling.width)
    parts: list[Placed] = []
    _send_windows(
        cluster,
        list(tiling),
        a,
        lambda tile, window: _appended(
            parts, cluster.submit(remote.artwork_sums, there, tile.index, window)
        ),
    )
    found: Part = cluster.fetch(_sum_up(cluster, parts))
    M = tiling.positions()
    return {name: StyleTarget(A=G, M=M[name]) for name, G in found.sums.gram.items()}


def _send_windows(
    cluster: Cluster, tiles: Sequence[Tile], x: Array, submit: Callable[[Tile, Array], Placed]
) -> None:
    """Submit the windows of an image, a few ahead of the workers."""
    ahead = AHEAD * max(1, cluster.worker_count())
    sent: list[Placed] = []
    for number, tile in enumerate(tiles):
        if number >= ahead:
            cluster.wait(sent[number - ahead])
        # A copy of its own: the optimiser goes on writing to x.
        sent.append(submit(tile, np.array(x[:, *tile.window], np.float32)))


def _appended(placed: list[Placed], one: Placed) -> Placed:
    placed.append(one)
    return one


@dataclass(frozen=True)
class _Addend:
    """Sums on the workers, which are added there."""

    cluster: Cluster
    placed: Placed

    def __add__(self, other: "_Addend") -> "_Addend":
        total = self.cluster.submit(remote.add, self.placed, other.placed, priority=_SOON)
        return _Addend(self.cluster, total)


def _sum_up(cluster: Cluster, parts: Iterable[Placed]) -> Placed:
    """Add up sums on the workers: in the order of `tree_sum`, which it calls."""
    addends = [_Addend(cluster, part) for part in parts]
    return cast(_Addend, tree_sum(cast(list[Sums], addends))).placed
