"""tools/simulate_reduction against closed forms, and against the real `ClusterObjective`."""

import math
import sys
from dataclasses import replace
from itertools import pairwise
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tools.simulate_reduction.__main__ import main
from tools.simulate_reduction.model import Cluster, TiledImage
from tools.simulate_reduction.simulation import additions, simulate

from gramstyle.cluster import worker
from gramstyle.cluster.objective import AHEAD, ClusterObjective
from gramstyle.core.conventions import STYLE_LAYERS
from gramstyle.core.evaluation import Sums
from gramstyle.model import read_model
from gramstyle.tiling import Tiling
from objectives import StyleTarget, Weights, composed

pytest.importorskip("simpy")

# Every step takes no time; each test changes some.
NOTHING = Cluster(
    workers=1, bandwidth=math.inf, rate=math.inf, latency=0.0, overhead=0.0, addition=0.0,
    handling=0.0, optimiser=0.0,
)  # fmt: skip
UNEVEN = TiledImage(
    6_000_000, (700_000, 1_100_000, 900_000, 1_300_000, 400_000, 2_000_000, 10), 5000
)


def close(seconds: float) -> Any:
    """The same sum in another order: a few roundings of float64."""
    return pytest.approx(seconds, rel=1e-12)


def even(tiles: int, pixels: int = 1_000_000, gram: int = 5000) -> TiledImage:
    return TiledImage(tiles * pixels, (pixels,) * tiles, gram)


def test_one_worker_on_an_infinitely_fast_network_takes_the_sum_of_all_steps():
    cluster = replace(NOTHING, rate=2e5, addition=0.25, optimiser=3.0)
    outcome = simulate(UNEVEN, cluster)
    assert outcome.seconds == close(sum(UNEVEN.windows) / 2e5 + 6 * 0.25 + 3.0 * 6)
    assert outcome.between == 0


@pytest.mark.parametrize(("tiles", "workers"), [(12, 1), (12, 3), (12, 4), (12, 12), (64, 2)])
def test_equal_tiles_keep_all_workers_busy(tiles, workers):
    cluster = replace(NOTHING, workers=workers, rate=2e5, optimiser=3.0)
    outcome = simulate(even(tiles), cluster)
    assert outcome.seconds == close(tiles / workers * 5.0 + 3.0 * tiles)
    assert outcome.computing == close(tiles / workers * 5.0)


@pytest.mark.parametrize("tiles", [1, 2, 3, 5, 6, 8, 16])
def test_with_one_tile_per_worker_the_sums_cross_the_tree_twice(tiles):
    # Sending a sum takes 1 s, an addition 0.25 s; a window of 12 bytes takes almost nothing.
    cluster = replace(NOTHING, workers=tiles, rate=0.2, addition=0.25, bandwidth=1e9)
    outcome = simulate(even(tiles, pixels=1, gram=10**9), cluster)
    levels = math.ceil(math.log2(tiles))
    up, to_the_client, down = levels * 1.25, 1.0, levels * 1.0
    # Each window occupies the client's interface for 12 ns in each direction.
    assert outcome.seconds == pytest.approx(5.0 + up + to_the_client + down, abs=25e-9 * tiles)
    assert outcome.between == 2 * (tiles - 1) * 10**9


@pytest.mark.parametrize("workers", [1, 3])
def test_without_computation_the_clients_interface_is_the_limit(workers):
    cluster = replace(NOTHING, workers=workers, bandwidth=1e6)
    there_and_back = 2 * 12 * sum(UNEVEN.windows)
    without = simulate(replace(UNEVEN, gram=0), cluster)
    assert without.seconds == close(there_and_back / 1e6)
    assert without.busy["client's interface"] == close(without.seconds)
    assert without.limit == "client's interface"
    if workers == 1:
        assert simulate(UNEVEN, cluster).seconds == close((there_and_back + 5000) / 1e6)


def test_the_client_handles_each_window_twice():
    outcome = simulate(UNEVEN, replace(NOTHING, handling=0.5, optimiser=0.1))
    assert outcome.seconds == close(2 * 0.5 * sum(UNEVEN.windows) / 1e6 + 0.1 * 6)
    assert outcome.limit == "client's memory"


@pytest.mark.parametrize("workers", [1, 4])
def test_the_scheduler_handles_four_tasks_for_each_tile_minus_one(workers):
    outcome = simulate(even(8), replace(NOTHING, workers=workers, overhead=0.5))
    assert outcome.seconds == close((4 * 8 - 1) * 0.5)
    assert outcome.limit == "scheduler"


@pytest.mark.parametrize("rounds", [1, 2, 4])
def test_latencies_add_up_as_the_protocol_prescribes(rounds):
    """Each message takes 1 s; the client sends AHEAD windows before the first one is placed."""
    tiles = AHEAD * rounds
    outcome = simulate(even(tiles), replace(NOTHING, latency=1.0))
    pass_1 = 2.0 * rounds  # the window; the notice that it is placed
    tree = 2.0 * math.log2(tiles)  # the task; the notice that it is done
    total = 2.0  # the request; the sum
    pass_2 = 2.0  # the task; the notice that it is done
    assert outcome.seconds == close(pass_1 + tree + total + pass_2 + 2.0 * tiles)


@pytest.mark.parametrize("straggler", [1.0, 1.5, 4.0])
@pytest.mark.parametrize("workers", [1, 4])
def test_all_workers_wait_for_a_straggler(straggler, workers):
    cluster = replace(NOTHING, workers=workers, rate=2e5, straggler=straggler, optimiser=3.0)
    outcome = simulate(even(24), cluster)
    assert outcome.seconds == close(24 / workers * straggler * 5.0 + 3.0 * 24)
    assert outcome.busy["worker"] == close(24 / workers * straggler * 5.0)


def test_pass_1_takes_its_fraction_of_a_workers_time():
    cluster = replace(NOTHING, rate=5e5, forward=0.25, overhead=1.0)
    # The scheduler has handled the windows after 2 and 4 s; pass 1 of the second tile takes 0.5 s.
    # The addition ends at 5.5 s. Pass 2 starts at 6.5 s and takes 1.5 s for each tile.
    assert simulate(even(2), cluster).seconds == close(4 + 0.5 + 1 + 1 + 2 * 1.5)


@pytest.mark.parametrize("jitter", [0.0, 0.3])
@pytest.mark.parametrize("workers", [1, 3, 16])
def test_more_bandwidth_never_takes_longer(workers, jitter):
    image = even(64, pixels=1_200_000, gram=4_882_432)
    seconds = [
        simulate(
            image, Cluster(workers=workers, bandwidth=gbits * 1e9 / 8, jitter=jitter, rate=1e6)
        ).seconds
        for gbits in (0.01, 0.1, 1, 3, 10, 100, math.inf)
    ]
    assert all(more < less for less, more in pairwise(seconds))
    assert seconds[0] > 5 * seconds[-1]


@settings(max_examples=30)
@given(
    windows=st.lists(st.integers(1, 2_000_000), min_size=1, max_size=40),
    workers=st.integers(1, 9),
    bandwidth=st.sampled_from([1e6, 1e8, 1e10]),
    rate=st.sampled_from([1e5, 1e7]),
    jitter=st.sampled_from([0.0, 0.5]),
    seed=st.integers(0, 3),
)
def test_no_part_is_busy_longer_than_the_run_and_all_work_is_done(
    windows, workers, bandwidth, rate, jitter, seed
):
    image = TiledImage(sum(windows), tuple(windows), 5000)
    cluster = Cluster(workers=workers, bandwidth=bandwidth, rate=rate, jitter=jitter)
    outcome = simulate(image, cluster, seed=seed)
    bytes_of_windows, tiles = 12 * sum(windows), len(windows)
    assert outcome.sent == bytes_of_windows
    assert outcome.received == bytes_of_windows + 5000
    most = (tiles - 1) + (min(workers, tiles) - 1)  # additions across workers; the total
    assert outcome.between <= most * 5000
    assert (
        outcome.between >= 2 * (min(workers, tiles) - 1) * 5000
    )  # from each worker; to each worker
    assert max(outcome.busy.values()) <= outcome.seconds * (1 + 1e-12)  # rounding
    assert outcome.computing <= outcome.busy["worker"] * (1 + 1e-12)
    assert outcome.busy["client's interface"] == close((2 * bytes_of_windows + 5000) / bandwidth)
    assert outcome.busy["scheduler"] == close((4 * tiles - 1) * cluster.overhead)
    if not jitter:
        work = sum(windows) / rate + (tiles - 1) * cluster.addition
        assert outcome.computing == close(work / workers)


def test_the_same_seed_gives_the_same_outcome():
    cluster = Cluster(workers=3, bandwidth=1e8, jitter=0.4)
    first, again, other = (simulate(UNEVEN, cluster, seed=seed) for seed in (7, 7, 8))
    assert first == again
    assert first.seconds != other.seconds


def test_the_jitter_of_a_tile_does_not_depend_on_the_cluster():
    few, many = (
        simulate(UNEVEN, replace(NOTHING, workers=workers, rate=1e5, jitter=0.4, bandwidth=1e7))
        for workers in (1, 7)
    )
    assert few.computing == close(7 * many.computing)


def test_jitter_does_not_change_the_mean():
    outcome = simulate(even(4000), replace(NOTHING, rate=1e6, jitter=0.5))
    # The mean of 8000 factors of standard deviation 0.53 has an error of 0.006; five times that.
    assert outcome.computing / 4000 == pytest.approx(1.0, abs=0.03)


@pytest.mark.parametrize("tiles", [1, 2, 3, 7, 8, 11, 64, 100])
def test_sums_are_added_in_a_tree_of_fixed_order(tiles):
    pairs = additions(tiles)
    assert len(pairs) == tiles - 1
    assert sorted(number for pair in pairs for number in pair) == list(range(2 * tiles - 2))
    parts, depth = [[tile] for tile in range(tiles)], [0] * tiles
    for first, second in pairs:
        parts.append(parts[first] + parts[second])
        depth.append(max(depth[first], depth[second]) + 1)
    assert parts[-1] == list(range(tiles))  # every tile once, in order
    assert depth[-1] == math.ceil(math.log2(tiles))


class Recorder:
    """A cluster that records each call and finishes each task at once."""

    def __init__(self, tiling: Tiling) -> None:
        self.windows = [np.zeros((3, 0, 0))] * len(tiling)
        self.tiling = tiling
        self.calls: list[tuple[str, Any]] = []
        self.sent = self.received = 0
        self.sums = 0

    def worker_count(self) -> int:
        return 2

    def submit(self, function: Any, *arguments: Any, **_priority: Any) -> Any:
        if function is worker.place:
            self.sent += arguments[0].nbytes
        if function in (worker.tile_sums, worker.add):
            self.sums += 1
        name, number = function.__name__, self.sums - 1
        on_tiles = (worker.tile_sums, worker.tile_gradient)
        index = arguments[0].index if function in on_tiles else None
        task = SimpleNamespace(name=name, number=number, index=index, arguments=arguments)
        self.calls.append((name, task))
        return task

    def wait(self, task: Any) -> None:
        self.calls.append(("wait", task))

    def fetch(self, task: Any) -> Any:
        self.calls.append(("fetch", task))
        if task.name == "add":
            return worker.Part(Sums((np.zeros((4, 4)),)), {})
        rows, columns = self.tiling[task.index].window
        dx = np.zeros((3, rows.stop - rows.start, columns.stop - columns.start), np.float32)
        self.received += dx.nbytes
        return dx


def test_the_simulation_takes_the_steps_of_the_cluster_objective(tiny_model):
    network = tiny_model.network.until(STYLE_LAYERS)
    height, width, edge = 150, 203, 48
    tiling = Tiling(network, height, width, edge)
    recorder = Recorder(tiling)
    objective = composed(
        network=network, preprocessing=tiny_model.preprocessing, content=None,
        style={"conv1_1": StyleTarget(A=np.zeros((4, 4)), M=1)},
        weights=Weights(1.0, 1.0, {"conv1_1": 1.0}),
    )  # fmt: skip
    ClusterObjective(
        objective=objective, tiling=tiling, cluster=cast(Any, recorder),
        targets=[{}] * len(tiling), shared=[None, None],
    ).loss_and_gradient(np.zeros((3, height, width), np.float32))  # fmt: skip

    image = TiledImage.of(network, height, width, edge)
    outcome = simulate(image, Cluster(workers=2, bandwidth=1e8))
    assert recorder.sent == outcome.sent == 12 * tiling.window_pixels()
    assert recorder.received == outcome.received - image.gram
    added = [task.arguments for name, task in recorder.calls if name == "add"]
    assert [(a.number, b.number) for a, b in added] == additions(len(tiling))
    names = [name for name, _ in recorder.calls]
    tasks = ("place", "tile_sums", "add", "tile_gradient")
    assert sum(names.count(name) for name in tasks) == 4 * len(tiling) - 1
    # AHEAD windows first; additions after the last window; gradients from the last tile backwards.
    assert names.index("wait") == 2 * AHEAD * 2
    assert names.index("add") > max(i for i, name in enumerate(names) if name == "place")
    fetched = [task.index for name, task in recorder.calls if name == "fetch"]
    assert fetched == [None, *reversed(range(len(tiling)))]


def test_the_bytes_of_an_image_are_those_of_its_arrays(tiny_model):
    network = tiny_model.network.until(STYLE_LAYERS)
    image = TiledImage.of(network, 100, 117, 48)
    x = np.zeros((3, 100, 117), np.float32)
    windows = [x[:, *tile.window] for tile in Tiling(network, 100, 117, 48)]
    assert [12 * pixels for pixels in image.windows] == [window.nbytes for window in windows]
    assert image.pixels == 100 * 117
    filters = [4, 5, 6, 7, 8]  # in the tiny network's five blocks
    assert image.gram == sum(np.zeros((N, N)).nbytes for N in filters)


@pytest.mark.real_model
def test_a_gigapixel_of_vgg19(real_model):
    image = TiledImage.of(real_model.network.until(STYLE_LAYERS), 32768, 32768, 1024)
    inner, border = 1024 + 2 * 80, 1024 + 80
    assert len(image.windows) == 1024
    assert sum(image.windows) == (30 * inner + 2 * border) ** 2
    assert image.gram == 8 * (64**2 + 128**2 + 256**2 + 2 * 512**2)


def table(capsys, *arguments):
    assert main(list(arguments)) == 0
    printed = capsys.readouterr().out.splitlines()
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in printed if "|" in line]


def test_the_table_has_a_row_for_each_cluster(capsys, tiny_model_path):
    heads, _, *rows = table(
        capsys, "208x144", "--edge", "48", "--model", str(tiny_model_path), "--rate", "1000",
        "--workers", "1", "5", "--bandwidth", "0.0005", "1000", "--optimiser", "1000",
    )  # fmt: skip
    assert [row[:2] for row in rows] == [[n, b] for n in ("1", "5") for b in ("0.0005", "1000")]
    image = TiledImage.of(read_model(tiny_model_path).network.until(STYLE_LAYERS), 144, 208, 48)
    one = Cluster(workers=1, bandwidth=1.25e11, rate=1000.0, optimiser=1000.0)
    for row, workers in ((rows[1], 1), (rows[3], 5)):
        outcome = simulate(image, replace(one, workers=workers))
        cells = dict(zip(heads, row, strict=True))
        assert float(cells["s"]) == pytest.approx(outcome.seconds, abs=0.05)  # the table rounds it
        free = replace(one, bandwidth=math.inf, latency=0.0, overhead=0.0)
        gain = simulate(image, free).seconds / outcome.seconds
        assert float(cells["speed-up"]) == pytest.approx(gain, abs=0.005)
        assert float(cells["efficiency"]) == pytest.approx(gain / workers, abs=0.005)
    assert [row[-1] for row in rows] == ["worker", "worker", "client's interface", "worker"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--edge", "8"], "tiles of 8 pixels are too small"),
        (["8x8"], "too small"),
        (["--model", "nowhere.onnx"], "nowhere.onnx"),
    ],
)
def test_bad_input_ends_in_one_line_and_code_2(capsys, tiny_model_path, arguments, words):
    model = [] if "--model" in arguments else ["--model", str(tiny_model_path)]
    assert main([*arguments, *model]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert words in printed.err
    assert printed.err.count("\n") == 1


def test_without_simpy_the_error_names_the_package(capsys, monkeypatch, tiny_model_path):
    monkeypatch.setitem(sys.modules, "simpy", None)
    assert main(["64x64", "--model", str(tiny_model_path)]) == 2
    assert 'pip install "simpy>=' in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        ["4096"], ["0x5"], ["ax5"], ["--workers", "0"], ["--bandwidth", "0"],
        ["--bandwidth", "inf"],
        ["--rate", "0"], ["--rate", "fast"], ["--jitter", "-1"], ["--straggler", "nan"],
        ["--optimiser", "-1"], ["--seed", "-1"],
    ],
)  # fmt: skip
def test_an_invalid_argument_is_refused(capsys, arguments):
    with pytest.raises(SystemExit) as refused:
        main(arguments)
    assert refused.value.code == 2
    assert "error: argument" in capsys.readouterr().err
