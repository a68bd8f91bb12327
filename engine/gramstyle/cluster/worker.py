"""What a worker on another machine does for an image in tiles: functions of their arguments alone.

Whoever calls them, in whatever order and how often, gets the same bits: a worker that is lost costs
time only. What a process keeps between two calls, it could compute again: the engine, and what
pass 1 has left of its tiles for pass 2.
"""

import hashlib
import os
import platform
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from gramstyle.core.arrays import Array
from gramstyle.core.conventions import CONVENTIONS
from gramstyle.core.kernels import Pooling
from gramstyle.core.network import Network, Responses
from gramstyle.core.objective import ContentTarget, Objective, StyleTarget, Sums, Weights, part_of
from gramstyle.core.preprocessing import Preprocessing
from gramstyle.engines.registry import Engine, EngineName, open_engine
from gramstyle.errors import ModelError, OptionError, RuntimeMissingError
from gramstyle.model import Model, read_model
from gramstyle.model.locate import VARIABLE, cached_model, checkout_model, make_folder_of
from gramstyle.system.files import write_atomically
from gramstyle.system.machine import available_threads
from gramstyle.tiling.areas import Tile, Tiling
from gramstyle.tiling.objective import gradient_of, sums_of
from gramstyle.tiling.spill import Shelf

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True, kw_only=True)
class Assignment:
    """What the tiles of an image are computed by and for; small, and sent with every task.

    Attributes
    ----------
    version
        Of gramstyle, the same everywhere.
    sha256
        The hash of the model's file, which each worker has or is given.
    engine, pooling, threads
        As for `open_engine`; None is as many threads as the worker was started with.
    content_layer, style_layers
        Where content and style are compared; None and none where a term is left out.
    alpha, beta, w
        The weights of equations 5 and 7, one w_l for each style layer.
    convention
        By its name in `CONVENTIONS`.
    height, width, edge
        Of the image and of its tiles' cores, in pixels.
    shelf
        How many bytes of what pass 1 leaves for pass 2 a worker keeps in memory; the rest is in
        a file.
    """

    version: str
    sha256: str
    engine: EngineName
    pooling: Pooling
    threads: int | None
    content_layer: str | None
    style_layers: tuple[str, ...]
    alpha: float
    beta: float
    w: tuple[float, ...]
    convention: str | None
    height: int
    width: int
    edge: int
    shelf: int

    @property
    def layers(self) -> tuple[str, ...]:
        """The layers that a loss term looks at."""
        content = () if self.content_layer is None else (self.content_layer,)
        return (*content, *self.style_layers)

    def objective(
        self, network: Network, preprocessing: Preprocessing, style: Mapping[str, StyleTarget],
        engine: Engine | None = None,
    ) -> Objective:  # fmt: skip
        """Return equation 7; without an engine, for `Objective.terms` only."""
        content = None
        if self.content_layer is not None:
            N = network.shapes(self.height, self.width)[self.content_layer][0]
            content = ContentTarget(self.content_layer, np.empty((N, 0, 0), np.float32))
        weights = Weights(self.alpha, self.beta, dict(zip(self.style_layers, self.w, strict=True)))
        convention = CONVENTIONS[self.convention]
        if engine is None:
            return Objective(
                network=network, preprocessing=preprocessing, content=content, style=style,
                weights=weights, convention=convention,
            )  # fmt: skip
        return Objective(
            network=network, preprocessing=preprocessing, content=content, style=style,
            weights=weights, convention=convention, forward=engine.forward,
            kernels=engine.kernels, backward=engine.backward,
        )  # fmt: skip


@dataclass(frozen=True)
class Lying:
    """An array as it lies in memory, whatever the order of its axes, which pickle would change.

    Sums over it come out in the same bits as where it was computed.
    """

    axes: tuple[int, ...]
    array: Array

    @classmethod
    def of(cls, array: Array) -> "Lying":
        """Copy an array."""
        axes = tuple(sorted(range(array.ndim), key=lambda axis: -array.strides[axis]))
        return cls(axes, array.transpose(axes).copy())

    def standing(self) -> Array:
        """Return the array with its axes in order."""
        result: Array = self.array.transpose([self.axes.index(i) for i in range(len(self.axes))])
        return result


@dataclass(frozen=True)
class Part:
    """The sums of some tiles.

    Attributes
    ----------
    sums
        Of all of them.
    where
        By a tile's index the address of the worker that has what pass 1 has left of it.
    """

    sums: Sums
    where: Mapping[int, str]

    def __add__(self, other: "Part") -> "Part":
        """Add two parts of an image."""
        return Part(self.sums + other.sums, {**self.where, **other.where})


# --- the tasks


def place(window: Array, _beside: Lying | None) -> Array:
    """Return a window of pixels, on the worker that has its tile's target."""
    return window


def artwork_sums(assignment: Assignment, index: int, window: Array) -> Part:
    """Return the Gram matrices of a tile of an artwork: equation 3 at its owned positions."""
    with _desk(assignment) as desk:
        tile = desk.tiling[index]
        responses = desk.forward(window)
        gram = {
            name: desk.engine.kernels.gram(responses[name], tile.owned[name])
            for name in assignment.style_layers
        }
        return Part(Sums(0.0, gram), {})


def content_target(assignment: Assignment, index: int, window: Array) -> Lying:
    """Return a photograph's responses P at a tile's owned positions of the content layer."""
    layer = assignment.content_layer
    assert layer is not None  # noqa: S101 - there is a photograph
    with _desk(assignment) as desk:
        return Lying.of(part_of(desk.forward(window)[layer], desk.tiling[index].owned, layer))


def tile_sums(
    assignment: Assignment,
    index: int,
    evaluation: str,
    window: Array,
    P: Lying | None,
    style: Mapping[str, StyleTarget],
) -> Part:
    """Do a tile's part of pass 1.

    Raises
    ------
    NonFiniteError
        As `sums_of` does.
    """
    with _desk(assignment) as desk:
        tile = desk.tiling[index]
        responses = desk.begin(evaluation, tile, window)
        objective = desk.objective(style)
        sums = sums_of(objective, tile, responses, None if P is None else P.standing())
        return Part(sums, {} if _here.address is None else {index: _here.address})


def add(first: Part, second: Part) -> Part:
    """Add two parts of an image."""
    return first + second


def tile_gradient(
    assignment: Assignment,
    index: int,
    evaluation: str,
    window: Array,
    P: Lying | None,
    style: Mapping[str, StyleTarget],
    total: Part,
) -> Array:
    """Do a tile's part of pass 2: the derivative by the pixels of its window (3, h, v)."""
    with _desk(assignment) as desk:
        tile = desk.tiling[index]
        responses = desk.resume(evaluation, tile, window)
        M = desk.tiling.positions()
        target = None if P is None else P.standing()
        dx = gradient_of(desk.objective(style), tile, responses, target, total.sums, M)
        return np.ascontiguousarray(dx)


def alone(function: Callable[[T], R], item: T) -> R:
    """Do something that takes a whole worker."""
    with _ONE_AT_A_TIME:
        return function(item)


# --- what a worker's process keeps


class _Desk:
    """An engine, and what it has left of an evaluation's tiles."""

    def __init__(self, assignment: Assignment) -> None:
        path = find_model(assignment.sha256)
        if path is None:
            raise ModelError(
                f"worker {_here.name} has not been given the model {assignment.sha256[:12]}…; "
                "start it again"
            )
        file: Model = read_model(path)
        if file.sha256 != assignment.sha256:  # it has been exchanged since it was looked for
            raise ModelError(f"{path} has just been changed on worker {_here.name}; try again")
        network = file.network.until(assignment.layers).pooled_by(assignment.pooling)
        self.assignment = assignment
        self.machinery = _machinery(assignment)
        try:
            self.engine = open_engine(
                assignment.engine,
                file,
                network,
                assignment.layers,
                pooling=assignment.pooling,
                threads=assignment.threads or _here.threads or available_threads(),
            )
        except RuntimeMissingError as error:
            raise RuntimeMissingError(f"worker {_here.name}: {error}") from None
        self.preprocessing = file.preprocessing
        self._shelf = Shelf(memory=assignment.shelf)
        self._kept: dict[int, str] = {}  # of which evaluation a tile on the shelf is
        self._last: tuple[str, int] | None = None  # the tile whose responses are the engine's now
        self._responses: Responses = {}

    @cached_property
    def tiling(self) -> Tiling:
        """The image's tiles."""
        a = self.assignment
        return Tiling(self.engine.network, a.height, a.width, a.edge)

    def objective(self, style: Mapping[str, StyleTarget]) -> Objective:
        return self.assignment.objective(
            self.engine.network, self.preprocessing, style, self.engine
        )

    def turn_to(self, assignment: Assignment) -> None:
        """Go on with another image."""
        self.close()
        self.__dict__.pop("tiling", None)
        self.assignment = assignment
        self._shelf, self._kept = Shelf(memory=assignment.shelf), {}

    def forward(self, window: Array) -> Responses:
        self._last = None
        return self.engine.forward(self.preprocessing.forward(window))

    def begin(self, evaluation: str, tile: Tile, window: Array) -> Responses:
        """Run forward, and keep for pass 2 what that leaves."""
        responses = self.forward(window)
        recall = self.engine.recall
        if recall is not None:
            self._kept.pop(tile.index, None)
            try:
                self._shelf.put(tile.index, recall.left(*window.shape[1:]))
                self._kept[tile.index] = evaluation
            except OptionError:
                pass  # the disk is full: pass 2 runs forward again
        self._last, self._responses = (evaluation, tile.index), responses
        return responses

    def resume(self, evaluation: str, tile: Tile, window: Array) -> Responses:
        """Return the responses of pass 1 once more, computed again where they are not kept."""
        last, self._last = self._last, None  # the backward pass writes over them
        if last == (evaluation, tile.index):
            return self._responses
        recall = self.engine.recall
        if recall is None or self._kept.get(tile.index) != evaluation:
            return self.forward(window)
        self._shelf.take(tile.index, recall.left(*window.shape[1:]))
        return recall.again(self.preprocessing.forward(window))

    def close(self) -> None:
        self._shelf.close()
        self._kept.clear()
        self._last = None


@dataclass
class _Here:
    """What this process goes by, and how many threads it may use; None where nobody has said."""

    name: str
    address: str | None = None
    threads: int | None = None
    desk: _Desk | None = None


_here = _Here(f"{platform.node()}:{os.getpid()}")
_ONE_AT_A_TIME = threading.Lock()


def introduce(address: str, threads: int) -> None:
    """Tell this process under which address it is known, and how many threads are its own."""
    _here.name = f"{address} ({platform.node()}:{os.getpid()})"
    _here.address, _here.threads = address, threads


def own_name() -> str:
    """Return how this process is called."""
    return _here.name


def own_threads() -> int | None:
    """Return how many threads are its own; None where nobody has said."""
    return _here.threads


class _desk:  # noqa: N801 - used as a function
    """Give the process's desk for an assignment to one task at a time."""

    def __init__(self, assignment: Assignment) -> None:
        self._assignment = assignment

    def __enter__(self) -> _Desk:
        _ONE_AT_A_TIME.acquire()
        try:
            check_version(self._assignment.version)
            desk = _here.desk
            if desk is None or desk.machinery != _machinery(self._assignment):
                if desk is not None:
                    desk.close()
                _here.desk = desk = None  # the old engine goes before the new one comes
                _here.desk = desk = _Desk(self._assignment)
            elif desk.assignment != self._assignment:
                desk.turn_to(self._assignment)
            return desk
        except BaseException:
            _ONE_AT_A_TIME.release()
            raise

    def __exit__(self, *_: object) -> None:
        _ONE_AT_A_TIME.release()


def _machinery(assignment: Assignment) -> tuple[Any, ...]:
    """Return what an engine depends on."""
    a = assignment
    return (a.sha256, a.engine, a.pooling, a.threads, frozenset(a.layers))


# --- version and model


def installed_version() -> str:
    """Return gramstyle's version here."""
    try:
        return version("gramstyle")
    except PackageNotFoundError:
        return "(not installed)"


def check_version(wanted: str) -> None:
    """Refuse to work for another version.

    Raises
    ------
    OptionError
        Naming this worker and both versions.
    """
    found = installed_version()
    if found != wanted:
        raise OptionError(
            f"worker {_here.name} has gramstyle {found} and this is {wanted}; install the same "
            "on all"
        )


def find_model(sha256: str) -> Path | None:
    """Return the model file with this hash, if this machine has it where gramstyle looks."""
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
    """Keep a model file in the user's cache under its hash.

    Raises
    ------
    ModelError
        If it is not what it should be, or there is no room for it.
    """
    if sha256_of(data) != sha256:
        raise ModelError(
            f"what worker {_here.name} received is not the model {sha256[:12]}…; try again"
        )
    write_atomically(make_folder_of(_by_hash(sha256)), data, error=ModelError)


def sha256_of(data: bytes) -> str:
    """Return a file's hash, as `Model.sha256` has it."""
    return hashlib.sha256(data).hexdigest()


def _by_hash(sha256: str) -> Path:
    return cached_model().with_name(f"{sha256}.onnx")
