"""The tasks that a worker runs for an image in tiles: pure functions.

Their results depend only on their arguments, so tasks can run in any order and can be repeated: a
lost worker costs only time. A process caches the engine between tasks, and the results of pass 1
for pass 2; it can compute both again.
"""

import hashlib
import os
import platform
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from gramstyle.core.arrays import Array
from gramstyle.core.evaluation import Sums
from gramstyle.core.network import Responses
from gramstyle.core.objective import Objective
from gramstyle.core.term import Reference, Term
from gramstyle.engines.registry import open_engine
from gramstyle.engines.spec import ObjectiveSpec
from gramstyle.errors import ModelError, OptionError, RuntimeMissingError
from gramstyle.model import Model, read_model
from gramstyle.model.locate import (
    VARIABLE,
    cache_folder,
    cached_model,
    checkout_model,
    make_folder_of,
)
from gramstyle.system.files import write_atomically
from gramstyle.tiling.areas import Tile, Tiling
from gramstyle.tiling.objective import (
    TileTargets,
    for_tile,
    gradient_of,
    sums_of,
    terms_in_tile,
    tile_targets,
)
from gramstyle.tiling.spill import SpillStore

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True)
class TileTask:
    """The tile that a task computes.

    Attributes
    ----------
    version
        The version of gramstyle, which must be the same everywhere.
    index
        The index of the tile.
    """

    version: str
    index: int


@dataclass(frozen=True)
class Part:
    """The sums of some tiles.

    Attributes
    ----------
    sums
        The sums of all of them.
    where
        The address of the worker that has a tile's results of pass 1, by the tile's index.
    """

    sums: Sums
    where: Mapping[int, str]

    def __add__(self, other: "Part") -> "Part":
        """Add two parts of an image."""
        return Part(self.sums + other.sums, {**self.where, **other.where})


# --- the tasks


def place(value: T, _beside: TileTargets) -> T:
    """Return a value, such as a window of pixels, on the worker that has the tile's targets.

    Tasks that share a value take the result of this task, so that the value is sent once.
    """
    return value


def reference_part(
    task: TileTask, spec: ObjectiveSpec, reference: Reference, window: Array, guides: TileTargets
) -> Part:
    """Return a tile's part of the targets that are sums over a reference image.

    `guides` is the tile's part of the guidance of that image, as `tile_guides` returns it.
    """
    return Part(_targets(task, spec, reference, window, guides)[1], {})


def reference_targets(
    task: TileTask, spec: ObjectiveSpec, reference: Reference, window: Array, guides: TileTargets
) -> TileTargets:
    """Return a tile's targets with one entry per position; `guides` as in `reference_part`."""
    return _targets(task, spec, reference, window, guides)[0]


def with_guides(targets: TileTargets, guides: TileTargets) -> TileTargets:
    """Return a tile's targets with its part of the guidance of the generated image."""
    return {**targets, **guides}


def _targets(
    task: TileTask, spec: ObjectiveSpec, reference: Reference, window: Array, guides: TileTargets
) -> tuple[TileTargets, Sums]:
    with _working_on(task, spec) as worker:
        responses, tile = worker.forward(window), worker.tiling[task.index]
        terms = terms_in_tile(spec.terms, guides)
        return tile_targets(worker.engine, terms, reference, tile, responses)


def tile_sums(
    task: TileTask,
    spec: ObjectiveSpec,
    evaluation: str,
    window: Array,
    targets: TileTargets,
    terms: tuple[Term, ...],
) -> Part:
    """Return a tile's sums: its part of pass 1.

    Parameters
    ----------
    task
        The tile.
    spec
        The description of the objective; the worker has its model.
    evaluation
        The name of the evaluation, which identifies x.
    window
        The tile's window of x, (3, h, v), float32.
    targets, terms
        The tile's own targets, and the terms with the summed targets.

    Raises
    ------
    NonFiniteError
        As `sums_of` does.
    """
    with _working_on(task, spec) as worker:
        tile = worker.tiling[task.index]
        responses = worker.first_pass(evaluation, tile, window)
        sums = sums_of(worker.objective(terms, targets), tile, window, responses)
        return Part(sums, {} if _process.address is None else {task.index: _process.address})


def add(first: Part, second: Part) -> Part:
    """Add two parts of an image."""
    return first + second


def tile_gradient(
    task: TileTask,
    spec: ObjectiveSpec,
    evaluation: str,
    window: Array,
    targets: TileTargets,
    terms: tuple[Term, ...],
    total: Part,
) -> Array:
    """Return the derivative by the pixels of a tile's window (3, h, v): its part of pass 2."""
    with _working_on(task, spec) as worker:
        tile = worker.tiling[task.index]
        responses = worker.restored(evaluation, tile, window)
        objective, sizes = worker.objective(terms, targets), worker.tiling.sizes()
        return np.ascontiguousarray(
            gradient_of(objective, tile, window, responses, total.sums, sizes)
        )


def alone(function: Callable[[T], R], item: T) -> R:
    """Call a function with an item while no other task computes in this process."""
    with _ONE_AT_A_TIME:
        return function(item)


# --- the state of a worker's process


class _WorkerState:
    """An engine, and the results of pass 1 of an evaluation's tiles."""

    def __init__(self, spec: ObjectiveSpec) -> None:
        path = find_model(spec.model)
        if path is None:
            raise ModelError(
                f"worker {_process.name} has not received the model {spec.model[:12]}…; "
                "start it again"
            )
        model: Model = read_model(path)
        if model.sha256 != spec.model:  # it has been replaced since it was found
            raise ModelError(f"{path} has just been changed on worker {_process.name}; try again")
        self.spec = spec
        self.engine_key = _engine_key(spec)
        try:
            self.engine = open_engine(_with_threads(spec), model)
        except RuntimeMissingError as error:
            raise RuntimeMissingError(f"worker {_process.name}: {error}") from None
        self.preprocessing = model.preprocessing
        self._spill = SpillStore(memory=spec.spill_memory)
        self._stored: dict[int, str] = {}  # the evaluation that a stored tile belongs to
        self._last: tuple[str, int] | None = None  # the tile whose responses the engine has now
        self._responses: Responses = {}

    @cached_property
    def tiling(self) -> Tiling:
        """The image's tiles."""
        assert self.spec.edge is not None  # noqa: S101 - a cluster computes tiles
        return Tiling(self.engine.network, self.spec.height, self.spec.width, self.spec.edge)

    def objective(self, terms: tuple[Term, ...], targets: TileTargets) -> Objective:
        return for_tile(self.engine.objective(self.spec, self.preprocessing, terms), targets)

    def change_image(self, spec: ObjectiveSpec) -> None:
        """Continue with another image and the same engine."""
        self.close()
        self.__dict__.pop("tiling", None)
        self.spec = spec
        self._spill, self._stored = SpillStore(memory=spec.spill_memory), {}

    def forward(self, window: Array) -> Responses:
        self._last = None
        return self.engine.forward(self.preprocessing.forward(window))

    def first_pass(self, evaluation: str, tile: Tile, window: Array) -> Responses:
        """Run the forward pass, and store its results for pass 2."""
        responses = self.forward(window)
        recall = self.engine.recall
        if recall is not None:
            self._stored.pop(tile.index, None)
            try:
                self._spill.put(tile.index, recall.left(*window.shape[1:]))
                self._stored[tile.index] = evaluation
            except OptionError:
                pass  # the disk is full: pass 2 runs forward again
        self._last, self._responses = (evaluation, tile.index), responses
        return responses

    def restored(self, evaluation: str, tile: Tile, window: Array) -> Responses:
        """Return the responses of pass 1 again, restored or recomputed."""
        last, self._last = self._last, None  # the backward pass writes over them
        if last == (evaluation, tile.index):
            return self._responses
        recall = self.engine.recall
        if recall is None or self._stored.get(tile.index) != evaluation:
            return self.forward(window)
        self._spill.take(tile.index, recall.left(*window.shape[1:]))
        return recall.again(self.preprocessing.forward(window))

    def close(self) -> None:
        self._spill.close()
        self._stored.clear()
        self._last = None


@dataclass
class _Process:
    """The process: its name in messages, its address and its threads; None if unknown."""

    name: str
    address: str | None = None
    threads: int | None = None
    state: _WorkerState | None = None


_process = _Process(f"{platform.node()}:{os.getpid()}")
_ONE_AT_A_TIME = threading.Lock()


def introduce(address: str, threads: int) -> None:
    """Set the address of this process in the cluster, and how many threads it may use."""
    _process.name = f"{address} ({platform.node()}:{os.getpid()})"
    _process.address, _process.threads = address, threads


def own_name() -> str:
    """Return the name of this process in messages."""
    return _process.name


def own_threads() -> int | None:
    """Return how many threads this process may use; None if unknown."""
    return _process.threads


@contextmanager
def _working_on(task: TileTask, spec: ObjectiveSpec) -> Iterator[_WorkerState]:
    """Yield the state of the process for a spec, to one task at a time."""
    with _ONE_AT_A_TIME:
        check_version(task.version)
        state = _process.state
        if state is None or state.engine_key != _engine_key(spec):
            if state is not None:
                state.close()
            _process.state = state = None  # releases the old engine before the new one is opened
            _process.state = state = _WorkerState(spec)
        elif state.spec != spec:
            state.change_image(spec)
        yield state


def _engine_key(spec: ObjectiveSpec) -> tuple[Any, ...]:
    """Return what an engine depends on."""
    layers = frozenset(spec.layers)
    return (spec.model, spec.engine, spec.pooling, spec.padding, spec.threads, layers)


def _with_threads(spec: ObjectiveSpec) -> ObjectiveSpec:
    return replace(spec, threads=spec.threads or _process.threads)


# --- version and model


def installed_version() -> str:
    """Return gramstyle's version here."""
    try:
        return version("gramstyle")
    except PackageNotFoundError:
        return "(not installed)"


def check_version(wanted: str) -> None:
    """Refuse a task from another version of gramstyle.

    Raises
    ------
    OptionError
        If the versions differ; names this worker and both versions.
    """
    found = installed_version()
    if found != wanted:
        raise OptionError(
            f"worker {_process.name} has gramstyle {found} and this is {wanted}; install the same "
            "on all"
        )


def find_model(sha256: str) -> Path | None:
    """Return the path of the model file with this hash; None if gramstyle finds none here."""
    named = os.environ.get(VARIABLE)
    places = (None if named is None else Path(named), checkout_model(), cached_model())
    for path in (*places, _by_hash(sha256)):
        try:
            if path is not None and sha256_of(path.read_bytes()) == sha256:
                return path
        except OSError:
            pass
    return None


def keep_model(sha256: str, data: bytes) -> None:
    """Store a model file in the user's cache under its hash.

    Raises
    ------
    ModelError
        If the data have another hash, or the file cannot be written.
    """
    if sha256_of(data) != sha256:
        raise ModelError(
            f"worker {_process.name} received another file than the model {sha256[:12]}…; try again"
        )
    target = _by_hash(sha256)
    if target is None:
        raise ModelError(
            f"worker {_process.name} has no home directory for the model; set GRAMSTYLE_MODEL to "
            "its file there"
        )
    write_atomically(make_folder_of(target), data, error=ModelError)


def sha256_of(data: bytes) -> str:
    """Return the SHA-256 of a file's contents in hexadecimal, as in `Model.sha256`."""
    return hashlib.sha256(data).hexdigest()


def _by_hash(sha256: str) -> Path | None:
    folder = cache_folder()
    return None if folder is None else folder / f"{sha256}.onnx"
