"""What an evaluation takes on a cluster that nobody has: simulated, step by step.

    python -m tools.simulate_reduction                      a gigapixel, 1 to 64 workers
    python -m tools.simulate_reduction 24576x16384 --workers 8 --bandwidth 10 --rate 1e7

One evaluation and one step of the optimiser, as `ClusterObjective` goes about them (needs the extra
`simulate`). Each machine has a thread and an interface, which sends one thing at a time and
receives one thing at a time; the scheduler is on the client's machine and does one task at a time.

1. The client cuts a tile's window out of the image and sends it, at most AHEAD windows for each
   worker before the first of them has been placed there. A window is placed when the worker's
   thread is next free.
2. Pass 1 of a tile, as soon as the thread is.
3. Once all windows are sent, the sums are added in the order of `tree_sum`, each pair on that of
   its two workers which has less to do.
4. The total goes to the client and then to every worker, from any that has it and sends it to
   nobody else just then.
5. Pass 2 of all tiles, the last one first, each on the worker of its pass 1. The client fetches and
   adds the derivatives in that order, one after the other.
6. The optimiser, on the client.

Left out: what came before (the model, the artwork's Gram matrices and the photograph's responses
are on the workers), workers' memory and disks, workers that are lost, and work stealing. Tiles are
dealt out in turn, as the photograph's responses are among equal workers.
"""

import argparse
import math
import sys
from collections.abc import Generator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any, cast

import numpy as np
from tools.arguments import natural, positive

from gramstyle.cluster.objective import AHEAD
from gramstyle.core.conventions import STYLE_LAYERS
from gramstyle.core.network import Network
from gramstyle.core.objective import Sums
from gramstyle.errors import GramstyleError, RuntimeMissingError
from gramstyle.model import read_model
from gramstyle.model.locate import locate_model
from gramstyle.run.options import Options
from gramstyle.tiling import Tiling
from gramstyle.tiling.objective import tree_sum

Steps = Generator[Any, Any, None]

PIXEL = 3 * 4  # bytes, as float32
ENTRY = 8  # bytes: engines sum Gram matrices in float64

# A thread does first what is lower.
_PLACE, _ADD, _COMPUTE = 0, 1, 2


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """What a cluster can do.

    Attributes
    ----------
    workers
        How many.
    bandwidth
        Of each interface in each direction, in bytes a second: what Dask's connections attain.
    rate
        Pixels a second of a worker, both passes, whole images. The default is `winograd` on two
        cores (docs/large.md).
    forward
        The share of pass 1 in that. Measured, docs/performance.md: forward, losses and Gram
        matrices are 0.51 of 1.05 s at 512×512 and 1.82 of 3.76 s at 1024×1024.
    jitter
        σ of the lognormal factor on each tile's seconds in each pass; its mean is 1.
    straggler
        How many times slower one of the workers is.
    latency
        Of a message, in seconds.
    overhead
        Seconds of the scheduler for a task. Dask's pages speak of a few hundred microseconds of
        the scheduler (distributed.dask.org/en/stable/limitations.html) and of 1 ms in all
        (distributed.dask.org/en/stable/); the worse one is taken.
    addition
        Seconds for adding two tiles' sums, unpacking included (5 MB each; measured: 0.7 ms).
    handling
        Seconds for each million of a window's pixels that the client cuts out, and again for
        adding as many derivatives (measured: 1.3 to 2.6 ms and 2.5 ms).
    optimiser
        Seconds for each million of the image's pixels (docs/large.md: 6.3 s for 12.6).
    """

    workers: int
    bandwidth: float
    rate: float = 264_000.0
    forward: float = 0.485
    jitter: float = 0.0
    straggler: float = 1.0
    latency: float = 1e-4
    overhead: float = 1e-3
    addition: float = 1e-3
    handling: float = 2.5e-3
    optimiser: float = 0.5


@dataclass(frozen=True)
class Image:
    """What there is to do.

    Attributes
    ----------
    pixels
        Of the image.
    windows
        Each tile's pixels with what surrounds it.
    gram
        Bytes of a tile's Gram matrices.
    """

    pixels: int
    windows: tuple[int, ...]
    gram: int

    @classmethod
    def of(cls, network: Network, height: int, width: int, edge: int) -> "Image":
        """Count them for a network up to its deepest loss layer; raise as `Tiling` does."""
        windows = []
        for tile in Tiling(network, height, width, edge):
            rows, columns = tile.window
            windows.append((rows.stop - rows.start) * (columns.stop - columns.start))
        filters = (network.shapes(height, width)[name][0] for name in STYLE_LAYERS)
        return cls(height * width, tuple(windows), ENTRY * sum(N**2 for N in filters))


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What an evaluation and a step of the optimiser took.

    Attributes
    ----------
    seconds
        From the first window to the next image.
    busy
        For how many of them each part was at work; "worker" is the one that worked longest, the
        interface's two directions are added.
    computing
        The mean of all workers' seconds of work.
    sent, received
        Bytes, by the client.
    between
        Bytes, from worker to worker.
    """

    seconds: float
    busy: Mapping[str, float]
    computing: float
    sent: int
    received: int
    between: int

    @property
    def limit(self) -> str:
        """The part that was at work longest."""
        return max(self.busy, key=lambda part: self.busy[part])


def simulate(image: Image, cluster: Cluster, *, seed: int = 0) -> Outcome:
    """Go through one evaluation and one step of the optimiser.

    Parameters
    ----------
    image, cluster
        What is to be done, and by whom.
    seed
        Of the jitter, which is a tile's: the same whatever the workers and the bandwidth.

    Raises
    ------
    RuntimeMissingError
        If SimPy is not installed.
    """
    return _Evaluation(_load(), image, cluster, seed).run()


def additions(tiles: int) -> list[tuple[int, int]]:
    """Return which two sums `tree_sum` adds, addition by addition; these are numbered on."""
    pairs: list[tuple[int, int]] = []
    tree_sum(cast(list[Sums], [_Addend(number, tiles, pairs) for number in range(tiles)]))
    return pairs


@dataclass(frozen=True)
class _Addend:
    """Stands for sums, and writes down what it is added to."""

    number: int
    tiles: int
    pairs: list[tuple[int, int]]

    def __add__(self, other: "_Addend") -> "_Addend":
        self.pairs.append((self.number, other.number))
        return replace(self, number=self.tiles + len(self.pairs) - 1)


def _load() -> ModuleType:
    try:
        import simpy
    except ImportError as error:
        raise RuntimeMissingError(
            f"the simulation needs SimPy ({error}); install it with: "
            'pip install "gramstyle[simulate]"'
        ) from None
    module: ModuleType = simpy
    return module


class _Station:
    """Does one thing at a time, and knows for how long it has."""

    def __init__(self, env: Any, turns: Any) -> None:
        self.env, self.turns, self.busy = env, turns, 0.0

    def work(self, seconds: float, *priority: int) -> Steps:
        with self.turns.request(*priority) as turn:
            yield turn
            yield self.env.timeout(seconds)
        self.busy += seconds


class _Machine:
    """The client or a worker."""

    def __init__(self, simpy: ModuleType, env: Any, slowness: float = 1.0) -> None:
        self.thread = _Station(env, simpy.PriorityResource(env))
        self.out, self.into = (_Station(env, simpy.Resource(env)) for _ in range(2))
        self.slowness = slowness
        self.tasks = 0  # it has been given and has not done
        self.sent = self.received = 0


class _Evaluation:
    """One evaluation under way."""

    def __init__(self, simpy: ModuleType, image: Image, cluster: Cluster, seed: int) -> None:
        self.env = env = simpy.Environment()
        self.image, self.cluster = image, cluster
        self.client, self.scheduler = _Machine(simpy, env), _Station(env, simpy.Resource(env))
        slowness = [cluster.straggler, *[1.0] * (cluster.workers - 1)]
        self.workers = [_Machine(simpy, env, slow) for slow in slowness]
        self.pairs = additions(len(image.windows))

        tiles, sigma = len(image.windows), cluster.jitter
        jitter = np.random.default_rng(seed).lognormal(-(sigma**2) / 2, sigma, (2, tiles))
        whole = np.asarray(image.windows) / cluster.rate
        self.pass1 = (whole * cluster.forward * jitter[0]).tolist()
        self.pass2 = (whole * (1 - cluster.forward) * jitter[1]).tolist()

        # What the scheduler has been told of.
        self.placed = [env.event() for _ in range(tiles)]
        self.summed = [env.event() for _ in range(tiles + len(self.pairs))]
        self.derived = [env.event() for _ in range(tiles)]
        self.where = {tile: self._worker(tile) for tile in range(tiles)}  # sums, by their number
        self.total: dict[_Machine, Any] = {}  # by worker, the event that it has the total
        self.holders = simpy.Store(env)  # of these, those that send it to nobody

    def run(self) -> Outcome:
        self.env.run(self.env.process(self._client()))
        client, workers, cluster = self.client, self.workers, self.cluster
        optimiser = self._optimiser()
        return Outcome(
            seconds=float(self.env.now),
            busy={
                "worker": max(worker.thread.busy for worker in workers),
                "client's interface": client.out.busy + client.into.busy,
                "optimiser": optimiser,
                "client's memory": client.thread.busy - optimiser,
                "scheduler": self.scheduler.busy,
            },
            computing=sum(worker.thread.busy for worker in workers) / cluster.workers,
            sent=client.sent,
            received=client.received,
            between=sum(worker.sent for worker in workers) - client.received,
        )

    # --- the client

    def _client(self) -> Steps:
        env, tiles = self.env, len(self.image.windows)
        ahead = AHEAD * self.cluster.workers
        for tile in range(tiles):
            if tile >= ahead:
                yield self.placed[tile - ahead]
            yield from self.client.thread.work(self._handling(tile))
            env.process(self._first(tile))
        for number, pair in enumerate(self.pairs, start=tiles):
            env.process(self._add(number, pair))
        yield self.summed[-1]

        holder = self.where[len(self.summed) - 1]
        yield from self._fetch(holder, self.client, self.image.gram)
        self.total[holder] = self.summed[-1]
        self.holders.put(holder)
        for tile in reversed(range(tiles)):
            env.process(self._second(tile))
        for tile in reversed(range(tiles)):
            yield self.derived[tile]
            yield from self._fetch(self._worker(tile), self.client, self._window(tile))
            yield from self.client.thread.work(self._handling(tile))
        yield from self.client.thread.work(self._optimiser())

    def _optimiser(self) -> float:
        return self.cluster.optimiser * self.image.pixels / 1e6

    def _handling(self, tile: int) -> float:
        return self.cluster.handling * self.image.windows[tile] / 1e6

    # --- tasks

    def _first(self, tile: int) -> Steps:
        worker = self._worker(tile)
        worker.tasks += 1
        yield from self.scheduler.work(2 * self.cluster.overhead)  # of the window, and of pass 1
        yield from self._move(self.client, worker, self._window(tile))
        yield from worker.thread.work(0.0, _PLACE)
        self.env.process(self._tell(self.placed[tile]))
        yield from self._task(worker, self.pass1[tile], self.summed[tile])

    def _add(self, number: int, pair: tuple[int, int]) -> Steps:
        for addend in pair:
            yield self.summed[addend]
        yield from self.scheduler.work(self.cluster.overhead)
        here, there = sorted((self.where[i] for i in pair), key=lambda worker: worker.tasks)
        self.where[number] = here
        here.tasks += 1
        yield self.env.timeout(self.cluster.latency)
        if here is not there:
            yield from self._fetch(there, here, self.image.gram)
        yield from self._task(here, self.cluster.addition, self.summed[number], _ADD)

    def _second(self, tile: int) -> Steps:
        worker = self._worker(tile)
        worker.tasks += 1
        yield from self.scheduler.work(self.cluster.overhead)
        yield self.env.timeout(self.cluster.latency)
        if worker not in self.total:
            self.total[worker] = self.env.process(self._take_total(worker))
        yield self.total[worker]
        yield from self._task(worker, self.pass2[tile], self.derived[tile])

    def _take_total(self, worker: _Machine) -> Steps:
        holder = yield self.holders.get()
        yield from self._fetch(holder, worker, self.image.gram)
        self.holders.put(holder)
        self.holders.put(worker)

    def _task(self, worker: _Machine, seconds: float, done: Any, priority: int = _COMPUTE) -> Steps:
        yield from worker.thread.work(seconds * worker.slowness, priority)
        worker.tasks -= 1
        yield from self._tell(done)

    # --- messages

    def _tell(self, event: Any) -> Steps:
        yield self.env.timeout(self.cluster.latency)
        event.succeed()

    def _fetch(self, source: _Machine, target: _Machine, size: int) -> Steps:
        yield self.env.timeout(self.cluster.latency)  # asking for it
        yield from self._move(source, target, size)

    def _move(self, source: _Machine, target: _Machine, size: int) -> Steps:
        seconds = size / self.cluster.bandwidth
        with source.out.turns.request() as out:
            yield out
            yield from target.into.work(seconds)
        source.out.busy += seconds
        source.sent += size
        target.received += size
        yield self.env.timeout(self.cluster.latency)

    def _window(self, tile: int) -> int:
        return PIXEL * self.image.windows[tile]

    def _worker(self, tile: int) -> _Machine:
        return self.workers[tile % self.cluster.workers]


def main(arguments: list[str] | None = None) -> int:
    """Print the table; return 2 for bad input."""
    chosen = parse(arguments)
    try:
        model = read_model(locate_model(chosen.model, notify=partial(print, file=sys.stderr)))
        network = model.network.until((Options.content_layer, *STYLE_LAYERS))
        width, height = chosen.size
        image = Image.of(network, height, width, chosen.edge)
        print(table(image, chosen))
    except GramstyleError as error:
        print(f"simulate_reduction: {error}", file=sys.stderr)
        return 2
    return 0


def table(image: Image, chosen: argparse.Namespace) -> str:
    """Simulate every number of workers with every bandwidth."""
    lines = [
        f"{image.pixels / 1e6:,.0f} megapixels in {len(image.windows)} tiles, whose windows "
        f"have {sum(image.windows) / image.pixels:.2f} times the pixels; "
        f"a worker does {chosen.rate:,.0f} pixels a second.",
        "",
        "| workers | Gbit/s | s | speed-up | efficiency | workers busy | interface busy | "
        "optimiser | sent, GB | received, GB | between workers, GB | limited by |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    one = Cluster(
        workers=1, bandwidth=math.inf, latency=0.0, overhead=0.0, rate=chosen.rate,
        jitter=chosen.jitter, optimiser=chosen.optimiser,
    )  # fmt: skip
    alone = simulate(image, one, seed=chosen.seed).seconds
    for workers in chosen.workers:
        for bandwidth in chosen.bandwidth:
            cluster = replace(
                one, workers=workers, bandwidth=bandwidth * 1e9 / 8, latency=Cluster.latency,
                overhead=Cluster.overhead, straggler=chosen.straggler,
            )  # fmt: skip
            outcome = simulate(image, cluster, seed=chosen.seed)
            gain = alone / outcome.seconds
            shares = (
                outcome.computing, outcome.busy["client's interface"], outcome.busy["optimiser"]
            )  # fmt: skip
            cells = (
                f"{workers}", f"{bandwidth:g}", f"{outcome.seconds:,.1f}", f"{gain:.2f}",
                f"{gain / workers:.2f}", *(f"{share / outcome.seconds:.0%}" for share in shares),
                f"{outcome.sent / 1e9:.1f}", f"{outcome.received / 1e9:.1f}",
                f"{outcome.between / 1e9:.1f}", outcome.limit,
            )  # fmt: skip
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tools.simulate_reduction",
        description=__doc__.splitlines()[0] if __doc__ else None,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument(
        "size", nargs="?", type=size, default="32768x32768", metavar="WIDTHxHEIGHT",
        help="of the image, in pixels",
    )  # fmt: skip
    parser.add_argument("--edge", type=positive, default=1024, help="of the tiles, in pixels")
    parser.add_argument(
        "--model",
        type=Path,
        help="the network, whose layers decide the windows; None is the one that gramstyle finds",
    )
    parser.add_argument("--workers", type=positive, nargs="+", default=[1, 4, 16, 64])
    parser.add_argument(
        "--bandwidth", type=above_zero, nargs="+", default=[1.0, 10.0, 100.0],
        help="of each interface, each way, in Gbit/s",
    )  # fmt: skip
    parser.add_argument(
        "--rate", type=above_zero, default=Cluster.rate, help="pixels a second of a worker"
    )
    parser.add_argument(
        "--jitter", type=from_zero, default=Cluster.jitter,
        help="σ of the lognormal factor on each tile's seconds",
    )  # fmt: skip
    parser.add_argument(
        "--straggler", type=above_zero, default=Cluster.straggler,
        help="how many times slower one of the workers is",
    )  # fmt: skip
    parser.add_argument("--seed", type=natural, default=0, help="of the jitter")
    parser.add_argument(
        "--optimiser", type=from_zero, default=Cluster.optimiser,
        help="seconds for each megapixel of the image",
    )  # fmt: skip
    return parser.parse_args(arguments)


def size(text: str) -> tuple[int, int]:
    """An argument like 4096x3072."""
    width, cross, height = text.partition("x")
    if not cross:
        raise argparse.ArgumentTypeError(f"{text!r} is not a size like 4096x3072")
    return positive(width), positive(height)


def from_zero(text: str) -> float:
    """An argument that may be 0."""
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 <= number < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 0 upwards")
    return number


def above_zero(text: str) -> float:
    """An argument that must not be 0."""
    number = from_zero(text)
    if number == 0:
        raise argparse.ArgumentTypeError("it must be more than 0")
    return number


if __name__ == "__main__":
    sys.exit(main())
