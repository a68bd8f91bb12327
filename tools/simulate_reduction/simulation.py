"""The events of one evaluation on a cluster, with SimPy; the only `import simpy`."""

from collections.abc import Generator
from dataclasses import dataclass, replace
from types import ModuleType
from typing import Any, cast

import numpy as np

from gramstyle.cluster.objective import AHEAD
from gramstyle.core.evaluation import Sums
from gramstyle.errors import RuntimeMissingError
from gramstyle.system.installing import remedy
from gramstyle.tiling.objective import tree_sum

from .model import PIXEL, Cluster, Outcome, TiledImage

Steps = Generator[Any, Any, None]

# A thread does tasks of lower numbers first.
_PLACE, _ADD, _COMPUTE = 0, 1, 2


def simulate(image: TiledImage, cluster: Cluster, *, seed: int = 0) -> Outcome:
    """Simulate one evaluation and one step of the optimiser.

    Parameters
    ----------
    image, cluster
        The work, and the machines that do it.
    seed
        Seed of the jitter. A tile's jitter does not depend on the cluster.

    Raises
    ------
    RuntimeMissingError
        If SimPy is not installed.
    """
    return _Evaluation(_load(), image, cluster, seed).run()


def additions(tiles: int) -> list[tuple[int, int]]:
    """Return the pairs of sums that `tree_sum` adds, in order.

    The sums of the tiles have the numbers 0 to tiles − 1; each result gets the next number.
    """
    pairs: list[tuple[int, int]] = []
    tree_sum(cast(list[Sums], [_Addend(number, tiles, pairs) for number in range(tiles)]))
    return pairs


@dataclass(frozen=True)
class _Addend:
    """Stands in for the sums of a tile and records each addition."""

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
            f"the simulation needs SimPy ({error}); {remedy('simulate', error)}"
        ) from None
    module: ModuleType = simpy
    return module


class _Unit:
    """A unit that does one thing at a time and counts the seconds for which it is busy."""

    def __init__(self, env: Any, queue: Any) -> None:
        self.env, self.queue, self.busy = env, queue, 0.0

    def work(self, seconds: float, *priority: int) -> Steps:
        with self.queue.request(*priority) as turn:
            yield turn
            yield self.env.timeout(seconds)
        self.busy += seconds


class _Machine:
    """The client or a worker."""

    def __init__(self, simpy: ModuleType, env: Any, slowness: float = 1.0) -> None:
        self.thread = _Unit(env, simpy.PriorityResource(env))
        self.out, self.into = (_Unit(env, simpy.Resource(env)) for _ in range(2))
        self.slowness = slowness
        self.tasks = 0  # assigned and not finished
        self.sent = self.received = 0


class _Evaluation:
    """One evaluation in progress."""

    def __init__(self, simpy: ModuleType, image: TiledImage, cluster: Cluster, seed: int) -> None:
        self.env = env = simpy.Environment()
        self.image, self.cluster = image, cluster
        self.client, self.scheduler = _Machine(simpy, env), _Unit(env, simpy.Resource(env))
        slowness = [cluster.straggler, *[1.0] * (cluster.workers - 1)]
        self.workers = [_Machine(simpy, env, slow) for slow in slowness]
        self.pairs = additions(len(image.windows))

        tiles, sigma = len(image.windows), cluster.jitter
        jitter = np.random.default_rng(seed).lognormal(-(sigma**2) / 2, sigma, (2, tiles))
        whole = np.asarray(image.windows) / cluster.rate
        self.pass1 = (whole * cluster.forward * jitter[0]).tolist()
        self.pass2 = (whole * (1 - cluster.forward) * jitter[1]).tolist()

        # Events, at the time when the scheduler learns of them.
        self.placed = [env.event() for _ in range(tiles)]
        self.summed = [env.event() for _ in range(tiles + len(self.pairs))]
        self.derived = [env.event() for _ in range(tiles)]
        self.where = {tile: self._worker(tile) for tile in range(tiles)}  # of sums, by number
        self.total: dict[_Machine, Any] = {}  # the event that a worker receives the total
        self.idle_holders = simpy.Store(env)  # workers that have the total and are not sending it

    def run(self) -> Outcome:
        self.env.run(self.env.process(self._run_client()))
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

    def _run_client(self) -> Steps:
        env, tiles = self.env, len(self.image.windows)
        ahead = AHEAD * self.cluster.workers
        for tile in range(tiles):
            if tile >= ahead:
                yield self.placed[tile - ahead]
            yield from self.client.thread.work(self._handling(tile))
            env.process(self._run_pass_1(tile))
        for number, pair in enumerate(self.pairs, start=tiles):
            env.process(self._add(number, pair))
        yield self.summed[-1]

        holder = self.where[len(self.summed) - 1]
        yield from self._fetch(holder, self.client, self.image.gram)
        self.total[holder] = self.summed[-1]
        self.idle_holders.put(holder)
        for tile in reversed(range(tiles)):
            env.process(self._run_pass_2(tile))
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

    def _run_pass_1(self, tile: int) -> Steps:
        worker = self._worker(tile)
        worker.tasks += 1
        yield from self.scheduler.work(2 * self.cluster.overhead)  # the window and pass 1
        yield from self._transfer(self.client, worker, self._window(tile))
        yield from worker.thread.work(0.0, _PLACE)
        self.env.process(self._notify(self.placed[tile]))
        yield from self._run_task(worker, self.pass1[tile], self.summed[tile])

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
        yield from self._run_task(here, self.cluster.addition, self.summed[number], _ADD)

    def _run_pass_2(self, tile: int) -> Steps:
        worker = self._worker(tile)
        worker.tasks += 1
        yield from self.scheduler.work(self.cluster.overhead)
        yield self.env.timeout(self.cluster.latency)
        if worker not in self.total:
            self.total[worker] = self.env.process(self._receive_total(worker))
        yield self.total[worker]
        yield from self._run_task(worker, self.pass2[tile], self.derived[tile])

    def _receive_total(self, worker: _Machine) -> Steps:
        holder = yield self.idle_holders.get()
        yield from self._fetch(holder, worker, self.image.gram)
        self.idle_holders.put(holder)
        self.idle_holders.put(worker)

    def _run_task(
        self, worker: _Machine, seconds: float, done: Any, priority: int = _COMPUTE
    ) -> Steps:
        yield from worker.thread.work(seconds * worker.slowness, priority)
        worker.tasks -= 1
        yield from self._notify(done)

    # --- messages

    def _notify(self, event: Any) -> Steps:
        yield self.env.timeout(self.cluster.latency)
        event.succeed()

    def _fetch(self, source: _Machine, target: _Machine, size: int) -> Steps:
        yield self.env.timeout(self.cluster.latency)  # the request
        yield from self._transfer(source, target, size)

    def _transfer(self, source: _Machine, target: _Machine, size: int) -> Steps:
        seconds = size / self.cluster.bandwidth
        with source.out.queue.request() as out:
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
