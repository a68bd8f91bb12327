"""Tiles on a Dask cluster: the local tiles' bits, whatever happens to the workers."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gramstyle.cluster import worker
from gramstyle.cluster.client import Cluster
from gramstyle.cluster.objective import ClusterObjective, cluster_objective
from gramstyle.cluster.opening import open_cluster
from gramstyle.core.arrays import Array
from gramstyle.core.blending import ReferenceSample
from gramstyle.core.conventions import STYLE_LAYERS
from gramstyle.core.evaluation import Evaluation
from gramstyle.core.term import Reference
from gramstyle.engines.registry import open_engine
from gramstyle.engines.spec import ObjectiveSpec
from gramstyle.errors import ModelError, NonFiniteError, OptionError
from gramstyle.model import Model, read_model
from gramstyle.tiling import SpillStore, TiledObjective, Tiling
from gramstyle.tiling.objective import add_tiled_targets, stored_targets
from objectives import spec_of
from workers import until

pytest.importorskip("distributed")
pytest.importorskip("numba")

LAYER = "conv4_2"
EDGE = 48  # 3 × 4 tiles of a content image of 120 × 150 pixels: an uneven tree


def image(height: int, width: int, seed: int) -> Array:
    rng = np.random.default_rng(seed)
    return rng.uniform(0, 255, (3, height, width)).astype(np.float32)


P, A, X = image(120, 150, 1), image(90, 77, 2), image(120, 150, 3)
IMAGES: dict[Reference, Array] = {"content": P, "style": A}


def spec(model: Model, images: dict[Reference, Array], **how: Any) -> ObjectiveSpec:
    """The objective with the losses that these images are compared by."""
    canvas = images.get("content", images.get("style"))
    assert canvas is not None
    return spec_of(
        model,
        content=LAYER if "content" in images else None,
        style=dict.fromkeys(STYLE_LAYERS, 0.2) if "style" in images else {},
        alpha=1e-3,
        beta=10.0,
        size=canvas.shape[1:],
        edge=EDGE,
        spill_memory=10**8,
        **{"engine": "winograd", "threads": 1, **how},
    )


def on_cluster(
    cluster: Cluster, model: Model, images: dict[Reference, Array] = IMAGES, **how: Any
) -> ClusterObjective:
    samples = {name: [ReferenceSample(pixels)] for name, pixels in images.items()}
    return cluster_objective(cluster, spec(model, images, **how), model, samples)


def here(model: Model, images: dict[Reference, Array] = IMAGES, **how: Any) -> TiledObjective:
    """The same objective by local tiles: the oracle."""
    described = spec(model, images, **how)
    engine = open_engine(described, model)
    spill, terms = SpillStore(memory=10**8), described.terms
    for reference, pixels in images.items():
        tiling = Tiling(engine.network, *pixels.shape[1:], EDGE)
        terms = add_tiled_targets(
            engine, model.preprocessing, terms, reference, pixels, tiling, spill
        )
    return TiledObjective(
        objective=engine.objective(described, model.preprocessing, terms),
        tiling=Tiling(engine.network, described.height, described.width, EDGE),
        targets=stored_targets(terms, spill),
        recall=engine.recall,
        spill=spill,
    )


def assert_same_bits(there: Evaluation, local: Evaluation) -> None:
    assert (there.loss, there.terms, there.layers) == (local.loss, local.terms, local.layers)
    assert there.gradient.dtype == local.gradient.dtype
    np.testing.assert_array_equal(there.gradient, local.gradient)


@pytest.fixture(scope="module")
def expected(tiny_model: Model) -> Evaluation:
    return here(tiny_model).loss_and_gradient(X)


@pytest.fixture(scope="module")
def objective(cluster: Cluster, tiny_model: Model) -> ClusterObjective:
    return on_cluster(cluster, tiny_model)


def test_loss_and_gradient_are_the_local_tiles_bit_for_bit(
    objective: ClusterObjective, expected: Evaluation
) -> None:
    assert len(objective.tiling) == 12
    assert_same_bits(objective.loss_and_gradient(X), expected)


@pytest.mark.parametrize("reference", ["content", "style"])
def test_a_reconstruction_is_the_local_one_bit_for_bit(
    cluster: Cluster, tiny_model: Model, reference: Reference
) -> None:
    alone = {reference: IMAGES[reference]}
    x = image(*IMAGES[reference].shape[1:], 4)
    there = on_cluster(cluster, tiny_model, alone).loss_and_gradient(x)
    assert_same_bits(there, here(tiny_model, alone).loss_and_gradient(x))


def test_total_variation_across_tiles_is_the_local_one_bit_for_bit(
    cluster: Cluster, tiny_model: Model
) -> None:
    there, local = (
        objective.loss_and_gradient(X)
        for objective in (on_cluster(cluster, tiny_model, tv=0.5), here(tiny_model, tv=0.5))
    )
    assert 0.1 * local.loss < 0.5 * local.terms["tv"] < 0.9 * local.loss
    assert_same_bits(there, local)


def test_the_other_engine_gives_its_own_bits(cluster: Cluster, tiny_model: Model) -> None:
    pytest.importorskip("onnxruntime")
    there = on_cluster(cluster, tiny_model, engine="numpy").loss_and_gradient(X)
    assert_same_bits(there, here(tiny_model, engine="numpy").loss_and_gradient(X))


def test_two_objectives_take_turns_on_the_same_workers(
    cluster: Cluster, tiny_model: Model, objective: ClusterObjective, expected: Evaluation
) -> None:
    other = on_cluster(cluster, tiny_model, {**IMAGES, "style": image(64, 64, 9)})
    different = other.loss_and_gradient(X).loss
    assert different != expected.loss
    assert_same_bits(objective.loss_and_gradient(X), expected)
    assert other.loss_and_gradient(X).loss == different


def test_an_evaluation_sends_windows_of_x_and_nothing_of_their_size_beside(
    objective: ClusterObjective,
) -> None:
    """The content image or its targets, sent again, would double this."""
    objective.loss_and_gradient(X)
    stream = objective.cluster._client.scheduler_comm
    before = stream.byte_count
    objective.loss_and_gradient(X)
    windows = 4 * 3 * objective.tiling.window_pixels()
    # Six kilobytes for each tile's three tasks: what a task is called and what it depends on.
    assert windows <= stream.byte_count - before <= windows + 6000 * len(objective.tiling)


@pytest.fixture(scope="module")
def one_worker(own_cache: Path) -> Iterator[Cluster]:
    with open_cluster(workers=1, threads=1, patience=300) as cluster:
        yield cluster


@pytest.fixture
def single(one_worker: Cluster) -> Cluster:
    """A cluster of one worker, whatever the test before has done to it."""
    one_worker._client.cluster.scale(1)
    until(lambda: one_worker.worker_count() == 1)
    return one_worker


def test_pass_2_restores_the_responses_of_pass_1(single: Cluster, tiny_model: Model) -> None:
    """Counted on one worker: without the spill store a tile would take two forward passes.

    Of several workers one may take over pass 2 of another one's tile, and runs it forward again.
    """

    def count_from_now() -> None:
        from gramstyle.cluster import worker

        plainly = worker._WorkerState.forward

        def counted(state: Any, window: Any) -> Any:
            state.__dict__["forwards"] = state.__dict__.get("forwards", 0) + 1
            return plainly(state, window)

        worker._WorkerState.forward = counted  # type: ignore[method-assign]

    def counted() -> int:
        from gramstyle.cluster import worker

        return int(worker._process.state.__dict__["forwards"])

    objective = on_cluster(single, tiny_model)
    objective.loss_and_gradient(X)  # until the targets are there
    single._client.run(count_from_now)
    objective.loss_and_gradient(X)
    assert list(single._client.run(counted).values()) == [len(objective.tiling)]


def test_pass_2_of_a_tile_is_asked_of_the_worker_that_did_its_pass_1(
    objective: ClusterObjective, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: dict[int, tuple[str | None, str]] = {}
    plainly = objective.cluster.submit

    def submit(function: Any, *arguments: Any, near: str | None = None, **more: Any) -> Any:
        if function is worker.tile_gradient:
            asked[arguments[0].index] = near, arguments[2]
        return plainly(function, *arguments, near=near, **more)

    def stored() -> dict[int, str]:
        from gramstyle.cluster import worker

        state = worker._process.state
        return {} if state is None else dict(state._stored)

    monkeypatch.setattr(objective.cluster, "submit", submit)
    objective.loss_and_gradient(X)
    there = objective.cluster._client.run(stored)
    assert sorted(asked) == list(range(len(objective.tiling)))
    for index, (near, evaluation) in asked.items():
        assert there[near][index] == evaluation


def pids(cluster: Cluster) -> dict[str, int]:
    return dict(cluster._client.run(os.getpid))


def kill_one_at(
    cluster: Cluster, fetches: int, monkeypatch: pytest.MonkeyPatch, killed: list[int]
) -> None:
    """Kill -9 a worker once the client waits for its n-th result and a tile is done there."""
    client, original, calls = cluster._client, cluster.fetch, [0]

    def fetch(placed: Any) -> Any:
        calls[0] += 1
        if calls[0] == fetches:
            done = until(
                lambda: [
                    holder
                    for key, holders in client.who_has().items()
                    if str(key).startswith("tile_sums") or fetches > 1
                    for holder in holders
                ]
            )
            victim = pids(cluster)[done[0]]
            os.kill(victim, signal.SIGKILL)
            killed.append(victim)
        return original(placed)

    monkeypatch.setattr(cluster, "fetch", fetch)


@pytest.mark.parametrize("fetches", [1, 2], ids=["in pass 1", "in pass 2"])
def test_a_worker_killed_in_mid_evaluation_costs_a_recomputation_and_nothing_else(
    objective: ClusterObjective,
    expected: Evaluation,
    monkeypatch: pytest.MonkeyPatch,
    fetches: int,
) -> None:
    killed: list[int] = []
    kill_one_at(objective.cluster, fetches, monkeypatch, killed)
    assert_same_bits(objective.loss_and_gradient(X), expected)
    assert len(killed) == 1
    assert_same_bits(objective.loss_and_gradient(X), expected)
    assert killed[0] not in pids(objective.cluster).values()


def test_a_worker_that_joins_is_given_work(
    single: Cluster, tiny_model: Model, expected: Evaluation
) -> None:
    def has_worked() -> bool:
        from gramstyle.cluster import worker

        return worker._process.state is not None

    objective = on_cluster(single, tiny_model)
    objective.loss_and_gradient(X)
    first = list(single._client.nthreads())
    single._client.cluster.scale(2)
    until(lambda: single.worker_count() == 2)
    # Tiles as small as these stay where their targets are; so their worker leaves.
    single._client.retire_workers(first)
    assert_same_bits(objective.loss_and_gradient(X), expected)
    # Its place may have been taken by a third one, which has not.
    assert True in single._client.run(has_worked).values()


def test_a_cluster_without_workers_is_given_up_in_one_line(
    single: Cluster, tiny_model: Model
) -> None:
    impatient = Cluster(single._client, "this machine", threads=1, patience=1)
    objective = on_cluster(impatient, tiny_model)
    single._client.cluster.scale(0)
    with pytest.raises(OptionError, match="no worker for 1 seconds; start some") as raised:
        objective.loss_and_gradient(X)
    assert "\n" not in str(raised.value)


def test_what_is_not_finite_is_the_same_error_as_on_this_machine(
    cluster: Cluster, objective: ClusterObjective
) -> None:
    x = X.copy()
    x[0, 5, 5] = np.nan
    with pytest.raises(NonFiniteError, match="responses of layer conv1_1 are not finite"):
        objective.loss_and_gradient(x)


def test_a_model_that_is_not_there_is_sent_once_and_kept_by_its_hash(
    own_cache: Path, objective: ClusterObjective, tiny_model: Model
) -> None:
    kept = own_cache / "gramstyle" / f"{tiny_model.sha256}.onnx"
    assert read_model(kept).sha256 == tiny_model.sha256
    assert worker.find_model(tiny_model.sha256) == kept


def test_a_model_that_was_changed_on_its_way_is_not_kept(own_cache: Path) -> None:
    with pytest.raises(ModelError, match="another file than the model"):
        worker.keep_model("0" * 64, b"anything")
    assert not (own_cache / "gramstyle" / f"{'0' * 64}.onnx").exists()


def test_a_file_that_was_changed_since_it_was_read_is_not_placed(
    cluster: Cluster, tiny_model: Model
) -> None:
    with pytest.raises(ModelError, match="just been changed"):
        cluster.place_model(tiny_model.path, "0" * 64)


def test_a_worker_of_another_version_refuses(
    objective: ClusterObjective, tiny_model: Model
) -> None:
    other, described = worker.TileTask("9.9", 0), spec(tiny_model, IMAGES)
    placed = objective.cluster.submit(worker.reference_part, other, described, "style", A, {})
    with pytest.raises(OptionError, match=r"worker tls://.* and this is 9.9; install the same"):
        objective.cluster.fetch(placed)


def test_a_scheduler_by_its_address_computes_the_same_bits(
    trusted_address: str, tiny_model: Model, expected: Evaluation
) -> None:
    with open_cluster(scheduler=trusted_address, threads=1) as joined:
        assert_same_bits(on_cluster(joined, tiny_model).loss_and_gradient(X), expected)
