"""The run that a checkpoint describes: every entry of its manifest, its type and range checked.

A checkpoint may come from somebody else. It describes what is computed, from the images in its
folder. It does not choose the machine, limit its use, or name the file of the result.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from math import prod
from pathlib import Path
from typing import Any

from gramstyle.errors import OptionError
from gramstyle.optimise.interface import WINDOW
from gramstyle.run.checkpoint import (
    START_AGAIN,
    Entries,
    Expected,
    input_in,
    naming_folder,
    read_manifest,
    refuse,
)
from gramstyle.run.options import BOUNDS, MOST_STYLES, STARTS, Options
from gramstyle.run.options.masks import MASK_OPTIONS, MASK_ROLES, mask_values
from gramstyle.run.options.values import (
    FROM_FILES,
    MACHINE,
    check_known,
    fitting,
    options_from,
)
from gramstyle.run.progress import ScaleStart
from gramstyle.run.resume.environment import NAMES
from gramstyle.run.settings import style_roles

FLOATS = ("float32", "float64")
# The columns of the table of losses, before those of the terms and of their layers.
COLUMNS = ("iteration", "evaluations", "seconds", "loss", "scale")
# Limits that no run exceeds: of evaluations and rows, of an edge in pixels, of terms and layers.
MOST_LOSSES, MOST_PIXELS, MOST_LAYERS = 10_000_000, BOUNDS["size"][1], 64
MOST_SECONDS = 1e9  # 30 years

ENTRIES = (
    "iteration", "options", "machine", "inputs", "images", "output", "every", "fingerprints",
    "environment", "scales", "starts", "columns", "seconds", "evaluations", "ended", "optimiser",
)  # fmt: skip
# The options that a checkpoint contains.
SAVED = tuple(name for name in FROM_FILES if name != "content_layer")

Layers = Mapping[str, tuple[str, ...]]


@dataclass(frozen=True)
class SavedScale:
    """A scale of a saved run: its size in pixels and its maximum number of iterations."""

    width: int
    height: int
    iterations: int


@dataclass(frozen=True)
class SavedOptimiser:
    """The optimiser's state, except its arrays; the attributes are those of `lbfgsb.State`.

    Attributes
    ----------
    pairs
        The number of pairs in the history.
    products
        For how many of them the inner products are known: all, or all but a new last one.
    """

    iteration: int
    evaluations: int
    scale: float
    losses: tuple[float, ...]
    loss: float
    terms: Mapping[str, float]
    layers: Mapping[str, Mapping[str, float]]
    pairs: int
    products: int


@dataclass(frozen=True)
class SavedRun:
    """A saved run, except its arrays.

    Attributes
    ----------
    folder
        The checkpoint's folder.
    manifest
        The manifest as it was read.
    iteration
        How many iterations are done.
    images
        The copies of the run's images in the folder, by role.
    output
        The image that the run was to write, for a message only.
    every
        The number of iterations from one saved state to the next.
    given
        The names of the machine's options that were given when the run was started.
    fingerprints, environment
        Hashes of model and images by role; what the bits of the result depend on.
    scales, starts
        All scales, and where those so far have started.
    columns
        The layers of each loss in the table of losses.
    seconds, evaluations, ended, optimiser
        As in `RunState`.
    """

    folder: Path
    manifest: Mapping[str, Any]
    iteration: int
    images: Mapping[str, Path]
    output: str
    every: int
    given: tuple[str, ...]
    fingerprints: Mapping[str, str | None]
    environment: Mapping[str, str]
    scales: tuple[SavedScale, ...]
    starts: tuple[ScaleStart, ...]
    columns: Layers
    seconds: float
    evaluations: int
    ended: str
    optimiser: SavedOptimiser | None

    @property
    def styles(self) -> tuple[Path, ...]:
        """The copies of the style images."""
        return tuple(self.images[role] for role in style_roles(MOST_STYLES) if role in self.images)

    @property
    def finished(self) -> bool:
        """Whether the run has ended."""
        return bool(self.ended) and len(self.starts) == len(self.scales)

    @property
    def scale(self) -> SavedScale:
        """The scale at which the run is."""
        return self.scales[len(self.starts) - 1]

    def options(self, machine: Mapping[str, Any]) -> Options:
        """Return the options of the run on a machine, which its options by name describe.

        Raises
        ------
        CheckpointError
            If an option of the run is unknown or has a wrong value.
        """
        # A checkpoint without this entry is of a version that padded with zeros.
        values = {"padding": "zeros", **self.manifest["options"]}
        # The run continues on the engine of this device; the environment shows the change.
        values = fitting(values, machine.get("device", "cpu"))
        with naming_folder(self.folder):
            try:
                check_known(values, SAVED)
                start = values.get("init")
                if start is not None and start not in STARTS:
                    raise OptionError("init is not the name of a start")
                if "init" in self.images:
                    values["init"] = str(self.images["init"])
                if not values.keys().isdisjoint(MASK_OPTIONS):
                    raise OptionError("it names masks instead of containing them")
                values |= mask_values({role: str(path) for role, path in self.images.items()})
                return options_from({**values, **machine})
            except OptionError as error:
                refuse(f"its options: {error}; {START_AGAIN}")

    def expected(self) -> dict[str, Expected]:
        """Return the shapes and types of the arrays, by name."""
        shape = (3, self.scale.height, self.scale.width)
        width = len(COLUMNS) + sum(1 + len(layers) for layers in self.columns.values())
        found = {
            "x": Expected(shape, FLOATS),
            "losses": Expected((self.iteration + 1, width), ("float64",)),
        }
        if self.optimiser is not None:
            products = (2 * self.optimiser.products,) * 2
            found |= {
                "gradient": Expected(shape, FLOATS),
                "products": Expected(products, ("float64",)),
            }
            for number in range(self.optimiser.pairs):
                found |= {f"{name}{number}": Expected((prod(shape),), FLOATS) for name in "sy"}
        return found


def read_saved_run(folder: Path) -> SavedRun:
    """Read and check the manifest in a checkpoint's folder.

    Raises
    ------
    CheckpointError
        If there is no checkpoint, it is damaged, or an entry has a wrong type or value.
    """
    manifest = read_manifest(folder)
    with naming_folder(folder):
        return _saved_run(folder, Entries(manifest).exactly(ENTRIES), manifest)


def _saved_run(folder: Path, run: Entries, manifest: Mapping[str, Any]) -> SavedRun:
    iteration = run.whole("iteration", most=MOST_LOSSES)
    run.table("options")
    scales = tuple(_scale(each) for each in run.tables("scales", most=BOUNDS["scales"][1]))
    starts = tuple(_start(each, iteration) for each in run.tables("starts", most=len(scales)))
    columns = _layers(run.table("columns"))
    optimiser = run.optional_table("optimiser")
    images = _images(folder, run.text("inputs"), run.table("images"))
    return SavedRun(
        folder=folder,
        manifest=manifest,
        iteration=iteration,
        images=images,
        output=run.text("output"),
        every=run.whole("every", least=1, most=BOUNDS["iterations"][1]),
        given=tuple(name for name in run.texts("machine", most=len(MACHINE)) if name in MACHINE),
        fingerprints=_fingerprints(run.table("fingerprints"), images),
        environment=_environment(run.table("environment")),
        scales=scales,
        starts=starts,
        columns=columns,
        seconds=run.number("seconds", least=0, most=MOST_SECONDS),
        evaluations=run.whole("evaluations", most=MOST_LOSSES),
        ended=run.text("ended"),
        optimiser=None if optimiser is None else _optimiser(optimiser, starts[-1], columns),
    )


def _scale(entry: Entries) -> SavedScale:
    entry.exactly(tuple(each.name for each in fields(SavedScale)))
    return SavedScale(
        width=entry.whole("width", least=1, most=MOST_PIXELS),
        height=entry.whole("height", least=1, most=MOST_PIXELS),
        iterations=entry.whole("iterations", least=1, most=BOUNDS["iterations"][1]),
    )


def _start(entry: Entries, iteration: int) -> ScaleStart:
    entry.exactly(tuple(each.name for each in fields(ScaleStart)))
    return ScaleStart(
        iteration=entry.whole("iteration", most=iteration),
        evaluations=entry.whole("evaluations", most=MOST_LOSSES),
        seconds=entry.number("seconds", least=0, most=MOST_SECONDS),
        history=entry.whole("history", least=1, most=BOUNDS["history"][1]),
    )


def _images(folder: Path, inputs: str, names: Entries) -> dict[str, Path]:
    start = ("init",) if "init" in names else ()
    styles = max(1, sum(1 for role in names if role in style_roles(MOST_STYLES)))
    masks = tuple(role for role in MASK_ROLES if role in names)
    roles = ("content", *style_roles(styles), *start, *masks)
    names.exactly(roles)
    return {role: input_in(folder, inputs, role, names.text(role)) for role in roles}


def _fingerprints(entry: Entries, images: Mapping[str, Path]) -> dict[str, str | None]:
    names = ("model", *(role for role in images if role != "init"), "start")
    entry.exactly(names)
    return {name: entry.optional_text(name) for name in names}


def _environment(entry: Entries) -> dict[str, str]:
    return {name: entry.text(name) for name in entry if name in NAMES}


def _layers(entry: Entries) -> dict[str, tuple[str, ...]]:
    return {name: entry.texts(name, most=MOST_LAYERS) for name in list(entry)[:MOST_LAYERS]}


def _numbers(entry: Entries, names: tuple[str, ...]) -> dict[str, float]:
    entry.exactly(names)
    return {name: entry.number(name) for name in names}


def _optimiser(entry: Entries, start: ScaleStart, columns: Layers) -> SavedOptimiser:
    entry.exactly(tuple(each.name for each in fields(SavedOptimiser)))
    layers = entry.table("layers").exactly(tuple(columns))
    pairs = entry.whole("pairs", most=start.history)
    return SavedOptimiser(
        iteration=entry.whole("iteration", most=MOST_LOSSES),
        evaluations=entry.whole("evaluations", most=MOST_LOSSES),
        scale=entry.number("scale"),
        losses=entry.numbers("losses", most=WINDOW + 1),
        loss=entry.number("loss"),
        terms=_numbers(entry.table("terms"), tuple(columns)),
        layers={name: _numbers(layers.table(name), there) for name, there in columns.items()},
        pairs=pairs,
        products=entry.whole("products", least=max(0, pairs - 1), most=pairs),
    )
