"""tools/simulate_reduction.py: what it says where the answer can be worked out by hand."""

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
from tools.simulate_reduction import Cluster, Image, additions, simulate

from gramstyle.cluster import worker as remote
from gramstyle.cluster.objective import AHEAD, ClusterObjective
from gramstyle.core.conventions import STYLE_LAYERS
from gramstyle.core.objective import Objective, StyleTarget, Sums, Weights
from gramstyle.tiling import Tiling
from tools import simulate_reduction

pytest.importorskip("simpy")

# Nothing takes any time: each test lets something.
NOTHING = Cluster(
    workers=1, bandwidth=math.inf, rate=math.inf, latency=0.0, overhead=0.0, addition=0.0,
    handling=0.0, optimiser=0.0,
)  # fmt: skip
UNEVEN = Image(6_000_000, (700_000, 1_100_000, 900_000, 1_300_000, 400_000, 2_000_000, 10), 5000)


def close(seconds: float) -> Any:
    """The same sum in another order: a few roundings of float64."""
    return pytest.approx(seconds, rel=1e-12)


def even(tiles: int, pixels: int = 1_000_000, gram: int = 5000) -> Image:
    return Image(tiles * pixels, (pixels,) * tiles, gram)


def test_one_worker_without_a_network_takes_the_sum_of_all_parts():
    cluster = replace(NOTHING, rate=2e5, addition=0.25, optimiser=3.0)
    outcome = simulate(UNEVEN, cluster)
    assert outcome.seconds == close(sum(UNEVEN.windows) / 2e5 + 6 * 0.25 + 3.0 * 6)
    assert outcome.between == 0


@pytest.mark.parametrize(("tiles", "workers"), [(12, 1), (12, 3), (12, 4), (12, 12), (64, 2)])
def test_equal_tiles_are_shared_out_without_loss(tiles, workers):
    cluster = replace(NOTHING, workers=workers, rate=2e5, optimiser=3.0)
    outcome = simulate(even(tiles), cluster)
    assert outcome.seconds == close(tiles / workers * 5.0 + 3.0 * tiles)
    assert outcome.computing == close(tiles / workers * 5.0)


@pytest.mark.parametrize("tiles", [1, 2, 3, 5, 6, 8, 16])
def test_a_tile_each_takes_a_tree_up_and_a_tree_down(tiles):
    # A sum takes 1 s on its way, an addition 0.25 s; the windows, 12 bytes, next to nothing.
    cluster = replace(NOTHING, workers=tiles, rate=0.2, addition=0.25, bandwidth=1e9)
    outcome = simulate(even(tiles, pixels=1, gram=10**9), cluster)
    levels = math.ceil(math.log2(tiles))
    up, to_the_client, down = levels * 1.25, 1.0, levels * 1.0
    # Each window holds the client's interface for 12 ns, once each way.
    assert outcome.seconds == pytest.approx(5.0 + up + to_the_client + down, abs=25e-9 * tiles)
    assert outcome.between == 2 * (tiles - 1) * 10**9


@pytest.mark.parametrize("workers", [1, 3])
def test_where_nothing_is_computed_the_clients_interface_decides(workers):
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
def test_the_scheduler_does_four_tasks_a_tile_less_one(workers):
    outcome = simulate(even(8), replace(NOTHING, workers=workers, overhead=0.5))
    assert outcome.seconds == close((4 * 8 - 1) * 0.5)
    assert outcome.limit == "scheduler"


@pytest.mark.parametrize("rounds", [1, 2, 4])
def test_messages_cost_what_the_protocol_says(rounds):
    """Of 1 s each: a window must be placed before that which is AHEAD of it goes."""
    tiles = AHEAD * rounds
    outcome = simulate(even(tiles), replace(NOTHING, latency=1.0))
    pass_1 = 2.0 * rounds  # there, and word that it is done
    tree = 2.0 * math.log2(tiles)  # told to add; word that it is done
    total = 2.0  # asked for; here
    pass_2 = 2.0  # told; word that it is done
    assert outcome.seconds == close(pass_1 + tree + total + pass_2 + 2.0 * tiles)


@pytest.mark.parametrize("straggler", [1.0, 1.5, 4.0])
@pytest.mark.parametrize("workers", [1, 4])
def test_everybody_waits_for_a_straggler(straggler, workers):
    cluster = replace(NOTHING, workers=workers, rate=2e5, straggler=straggler, optimiser=3.0)
    outcome = simulate(even(24), cluster)
    assert outcome.seconds == close(24 / workers * straggler * 5.0 + 3.0 * 24)
    assert outcome.busy["worker"] == close(24 / workers * straggler * 5.0)


def test_pass_1_has_its_share_of_a_workers_time():
    cluster = replace(NOTHING, rate=5e5, forward=0.25, overhead=1.0)
    # The scheduler is done with the windows after 2 and 4 s, pass 1 of the second takes 0.5 s, the
    # addition is due at 5.5 and pass 2 of the second tile at 6.5; it and the first take 1.5 s each.
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


@settings(max_examples=30, deadline=None)
@given(
    windows=st.lists(st.integers(1, 2_000_000), min_size=1, max_size=40),
    workers=st.integers(1, 9),
    bandwidth=st.sampled_from([1e6, 1e8, 1e10]),
    rate=st.sampled_from([1e5, 1e7]),
    jitter=st.sampled_from([0.0, 0.5]),
    seed=st.integers(0, 3),
)
def test_nobody_works_longer_than_it_takes_and_all_work_is_done(
    windows, workers, bandwidth, rate, jitter, seed
):
    image = Image(sum(windows), tuple(windows), 5000)
    cluster = Cluster(workers=workers, bandwidth=bandwidth, rate=rate, jitter=jitter)
    outcome = simulate(image, cluster, seed=seed)
    bytes_of_windows, tiles = 12 * sum(windows), len(windows)
    assert outcome.sent == bytes_of_windows
    assert outcome.received == bytes_of_windows + 5000
    most = (tiles - 1) + (min(workers, tiles) - 1)  # additions of another worker's, and the total
    assert outcome.between <= most * 5000
    assert outcome.between >= 2 * (min(workers, tiles) - 1) * 5000  # from each, and to each
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


def test_jitter_is_a_tiles_own_whatever_the_cluster():
    few, many = (
        simulate(UNEVEN, replace(NOTHING, workers=workers, rate=1e5, jitter=0.4, bandwidth=1e7))
        for workers in (1, 7)
    )
    assert few.computing == close(7 * many.computing)


def test_jitter_makes_a_tile_slower_as_often_as_faster_and_leaves_the_mean():
    outcome = simulate(even(4000), replace(NOTHING, rate=1e6, jitter=0.5))
    # 8000 factors, whose standard deviation is 0.53: 0.006 of their mean, and five times that.
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
    """A cluster that notes what it is asked, and has done it at once."""

    def __init__(self, tiling: Tiling) -> None:
        self.windows = [np.zeros((3, 0, 0))] * len(tiling)
        self.tiling = tiling
        self.asked: list[tuple[str, Any]] = []
        self.sent = self.received = 0
        self.sums = 0

    def worker_count(self) -> int:
        return 2

    def submit(self, function: Any, *arguments: Any, **_priority: Any) -> Any:
        if function is remote.place:
            self.sent += arguments[0].nbytes
        if function in (remote.tile_sums, remote.add):
            self.sums += 1
        name, number = function.__name__, self.sums - 1
        index = arguments[1] if function in (remote.tile_sums, remote.tile_gradient) else None
        task = SimpleNamespace(name=name, number=number, index=index, arguments=arguments)
        self.asked.append((name, task))
        return task

    def wait(self, task: Any) -> None:
        self.asked.append(("wait", task))

    def fetch(self, task: Any) -> Any:
        self.asked.append(("fetch", task))
        if task.name == "add":
            return remote.Part(Sums(0.0, {"conv1_1": np.zeros((4, 4))}), {})
        rows, columns = self.tiling[task.index].window
        dx = np.zeros((3, rows.stop - rows.start, columns.stop - columns.start), np.float32)
        self.received += dx.nbytes
        return dx


def test_the_steps_are_those_of_the_cluster_objective(tiny_model):
    network = tiny_model.network.until(STYLE_LAYERS)
    height, width, edge = 150, 203, 48
    tiling = Tiling(network, height, width, edge)
    recorder = Recorder(tiling)
    objective = Objective(
        network=network, preprocessing=tiny_model.preprocessing, content=None,
        style={"conv1_1": StyleTarget(A=np.zeros((4, 4)), M=1)},
        weights=Weights(1.0, 1.0, {"conv1_1": 1.0}),
    )  # fmt: skip
    ClusterObjective(
        objective=objective, tiling=tiling, cluster=cast(Any, recorder),
        assignment=cast(Any, None), targets=[], style=[None],
    ).loss_and_gradient(np.zeros((3, height, width), np.float32))  # fmt: skip

    image = Image.of(network, height, width, edge)
    outcome = simulate(image, Cluster(workers=2, bandwidth=1e8))
    assert recorder.sent == outcome.sent == 12 * tiling.window_pixels()
    assert recorder.received == outcome.received - image.gram
    added = [task.arguments for name, task in recorder.asked if name == "add"]
    assert [(a.number, b.number) for a, b in added] == additions(len(tiling))
    names = [name for name, _ in recorder.asked]
    tasks = ("place", "tile_sums", "add", "tile_gradient")
    assert sum(names.count(name) for name in tasks) == 4 * len(tiling) - 1
    # A few windows ahead, additions after the last window, derivatives from the last one backwards.
    assert names.index("wait") == 2 * AHEAD * 2
    assert names.index("add") > max(i for i, name in enumerate(names) if name == "place")
    fetched = [task.index for name, task in recorder.asked if name == "fetch"]
    assert fetched == [None, *reversed(range(len(tiling)))]


def test_an_images_bytes_are_its_arrays(tiny_model):
    network = tiny_model.network.until(STYLE_LAYERS)
    image = Image.of(network, 100, 117, 48)
    x = np.zeros((3, 100, 117), np.float32)
    windows = [x[:, *tile.window] for tile in Tiling(network, 100, 117, 48)]
    assert [12 * pixels for pixels in image.windows] == [window.nbytes for window in windows]
    assert image.pixels == 100 * 117
    filters = [4, 5, 6, 7, 8]  # of the tiny network's five blocks
    assert image.gram == sum(np.zeros((N, N)).nbytes for N in filters)


@pytest.mark.real_model
def test_a_gigapixel_of_vgg19(real_model):
    image = Image.of(real_model.network.until(STYLE_LAYERS), 32768, 32768, 1024)
    inner, border = 1024 + 2 * 80, 1024 + 80
    assert len(image.windows) == 1024
    assert sum(image.windows) == (30 * inner + 2 * border) ** 2
    assert image.gram == 8 * (64**2 + 128**2 + 256**2 + 2 * 512**2)


def table(capsys, *arguments):
    assert simulate_reduction.main(list(arguments)) == 0
    printed = capsys.readouterr().out.splitlines()
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in printed if "|" in line]


def test_the_table_has_a_row_for_each_cluster(capsys, tiny_model_path):
    heads, _, *rows = table(
        capsys, "208x144", "--edge", "48", "--model", str(tiny_model_path), "--rate", "1000",
        "--workers", "1", "5", "--bandwidth", "0.0005", "1000", "--optimiser", "1000",
    )  # fmt: skip
    assert [row[:2] for row in rows] == [[n, b] for n in ("1", "5") for b in ("0.0005", "1000")]
    image = Image.of(
        simulate_reduction.read_model(tiny_model_path).network.until(STYLE_LAYERS), 144, 208, 48
    )
    one = Cluster(workers=1, bandwidth=1.25e11, rate=1000.0, optimiser=1000.0)
    for row, workers in ((rows[1], 1), (rows[3], 5)):
        outcome = simulate(image, replace(one, workers=workers))
        cells = dict(zip(heads, row, strict=True))
        assert float(cells["s"]) == pytest.approx(outcome.seconds, abs=0.05)  # as it is rounded
        free = replace(one, bandwidth=math.inf, latency=0.0, overhead=0.0)
        gain = simulate(image, free).seconds / outcome.seconds
        assert float(cells["speed-up"]) == pytest.approx(gain, abs=0.005)
        assert float(cells["efficiency"]) == pytest.approx(gain / workers, abs=0.005)
    assert [row[-1] for row in rows] == ["worker", "worker", "client's interface", "worker"]


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (["--edge", "8"], "tiles of 8 pixels are too small"),
        (["8x8"], "too small"),
        (["--model", "nowhere.onnx"], "nowhere.onnx"),
    ],
)
def test_what_cannot_be_simulated_is_said_in_one_line(capsys, tiny_model_path, arguments, what):
    model = [] if "--model" in arguments else ["--model", str(tiny_model_path)]
    assert simulate_reduction.main([*arguments, *model]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert what in printed.err
    assert printed.err.count("\n") == 1


def test_without_simpy_it_names_the_extra(capsys, monkeypatch, tiny_model_path):
    monkeypatch.setitem(sys.modules, "simpy", None)
    assert simulate_reduction.main(["64x64", "--model", str(tiny_model_path)]) == 2
    assert 'pip install "gramstyle[simulate]"' in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        ["4096"], ["0x5"], ["ax5"], ["--workers", "0"], ["--bandwidth", "0"],
        ["--bandwidth", "inf"],
        ["--rate", "0"], ["--rate", "fast"], ["--jitter", "-1"], ["--straggler", "nan"],
        ["--optimiser", "-1"], ["--seed", "-1"],
    ],
)  # fmt: skip
def test_an_argument_that_is_none_is_refused(capsys, arguments):
    with pytest.raises(SystemExit) as refused:
        simulate_reduction.main(arguments)
    assert refused.value.code == 2
    assert "error: argument" in capsys.readouterr().err
