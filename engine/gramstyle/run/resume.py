"""Resume a run from its checkpoint.

On the same machine and with the same versions, a resumed run has the same result as an
uninterrupted one, bit by bit. Otherwise it continues from the image alone.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from gramstyle.core.arrays import Array
from gramstyle.core.objective import Evaluation
from gramstyle.errors import OptionError
from gramstyle.optimise.lbfgsb import PairsInMemory
from gramstyle.run.checkpoint import CheckpointError, Expected, opened, read_manifest
from gramstyle.run.checkpointer import COLUMNS, Checkpointer, fingerprints
from gramstyle.run.options import Options
from gramstyle.run.plan import RunPlan, plan_run
from gramstyle.run.progress import Losses, ScaleStart
from gramstyle.run.state import OptimiserState, RunState

FLOATS = ("float32", "float64")
# Limits that no run exceeds: the iterations, the columns of the table, the pairs.
MOST_LOSSES, MOST_LAYERS, MOST_PAIRS = 10_000_000, 64, 1000


@dataclass(frozen=True)
class Resumed:
    """A run that can be resumed.

    Attributes
    ----------
    plan, checkpointer
        The plan of the run, and the object that saves its states.
    state
        Reads the state of the run, for `execute`.
    differs
        The names of what has changed; if there are any, the run continues from its image alone.
    iteration
        How many iterations are done.
    finished
        Whether the run has ended.
    """

    plan: RunPlan
    checkpointer: Checkpointer
    state: Callable[[], RunState]
    differs: tuple[str, ...]
    iteration: int
    finished: bool


def resume(folder: Path) -> Resumed:
    """Read a checkpoint, and check that its images, its network and its scales are unchanged.

    Raises
    ------
    CheckpointError
        If there is no checkpoint, it is damaged, or an image or the network has changed.
    ImageError, ModelError, OptionError
        If an image or the network is missing; if the scales have changed.
    """
    manifest = read_manifest(folder)
    try:
        options = _options(manifest["options"])
        content, style, model = (Path(_text(manifest[k])) for k in ("content", "style", "model"))
        starts = starts_in(manifest)
        plan = plan_run(content, style, options, model=model)
        checkpointer = Checkpointer(
            folder, plan, Path(_text(manifest["output"])), int(manifest["every"])
        )
        if not starts or checkpointer.every < 1:
            raise ValueError
        _check_same(folder, plan, manifest["fingerprints"])
        _check_scales(plan, manifest["scales"], len(starts) - 1)
        differs = _differences(manifest["environment"], plan.settings.environment())
        expected_arrays(manifest)
        finished = bool(manifest["ended"]) and len(starts) == len(plan.scales)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError, IndexError):
        raise _not_resumable(folder) from None
    return Resumed(
        plan=plan,
        checkpointer=checkpointer,
        state=partial(_state, folder, manifest, warm=bool(differs)),
        differs=differs,
        iteration=int(manifest["iteration"]),
        finished=finished,
    )


def _not_resumable(folder: Path) -> CheckpointError:
    return CheckpointError(f"{folder} has no run that can be resumed; start it again")


def starts_in(manifest: Mapping[str, Any]) -> tuple[ScaleStart, ...]:
    """Return the starts of a manifest's scales; raises the errors of `expected_arrays`."""
    return tuple(_start(each) for each in manifest["starts"])


def expected_arrays(manifest: Mapping[str, Any]) -> dict[str, Expected]:
    """Return the shapes and dtypes of the arrays that a manifest announces, by name.

    Raises
    ------
    KeyError, TypeError, ValueError
        If the manifest is invalid.
    """
    starts = starts_in(manifest)
    shape = tuple(_whole(edge, 10**6) for edge in manifest["x"]["shape"])
    scale = manifest["scales"][len(starts) - 1]
    if shape != (3, scale["height"], scale["width"]):
        raise ValueError
    columns = _columns(manifest)
    rows, width = _whole(manifest["losses"], MOST_LOSSES), len(COLUMNS) + len(columns)
    width += sum(len(layers) for layers in columns.values())
    if width > MOST_LAYERS or not rows:
        raise ValueError
    size = int(np.prod(shape))
    found = {
        "x": Expected(shape, FLOATS),
        "losses": Expected((rows, width), ("float64",)),
    }
    optimiser = manifest["optimiser"]
    if optimiser is not None:
        pairs = _whole(optimiser["pairs"], min(MOST_PAIRS, starts[-1].history))
        products = tuple(_whole(edge, 2 * pairs) for edge in optimiser["products"])
        # The products of a new last pair are not computed yet.
        if products not in [(2 * k, 2 * k) for k in (max(0, pairs - 1), pairs)]:
            raise ValueError
        found |= {
            "gradient": Expected(shape, FLOATS),
            "products": Expected(products, ("float64",)),
        }
        for number in range(pairs):
            found |= {f"{name}{number}": Expected((size,), FLOATS) for name in "sy"}
    return found


def _state(folder: Path, manifest: Mapping[str, Any], *, warm: bool) -> RunState:
    """Read a run's state, except L-BFGS-B's history; if warm, also except the optimiser's state."""
    expected, optimiser = expected_arrays(manifest), manifest["optimiser"]
    starts = starts_in(manifest)
    try:
        with opened(folder, expected=expected) as there:
            _check_unchanged(folder, manifest, there.run)
            columns = _columns(manifest)
            losses = tuple(_losses(row, columns) for row in there.read("losses").tolist())
            if any(not 0 <= each.scale < len(starts) for each in losses):
                raise ValueError
            x = there.read("x")
            at = None if optimiser is None or warm else _optimiser(optimiser, x, there.read)
        return RunState(
            starts=starts,
            losses=losses,
            seconds=float(manifest["seconds"]),
            evaluations=_whole(manifest["evaluations"], MOST_LOSSES),
            x=x,
            optimiser=at,
            ended=_text(manifest["ended"]),
            read_history=partial(_history, folder, manifest, expected),
        )
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
        raise _not_resumable(folder) from None


def _history(
    folder: Path, manifest: Mapping[str, Any], expected: Mapping[str, Expected]
) -> Iterator[tuple[Array, Array]]:
    """Yield the pairs of a checkpoint, one in memory at a time."""
    with opened(folder, expected=expected) as there:
        _check_unchanged(folder, manifest, there.run)
        for number in range(manifest["optimiser"]["pairs"]):
            yield there.read(f"s{number}"), there.read(f"y{number}")


def _check_unchanged(folder: Path, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    if before != now:
        raise CheckpointError(f"another run has just been saved into {folder}; wait for its end")


def _optimiser(state: Mapping[str, Any], x: Array, read: Callable[[str], Array]) -> OptimiserState:
    evaluation = Evaluation(
        float(state["loss"]),
        _numbers(state["terms"]),
        {_text(name): _numbers(layers) for name, layers in state["layers"].items()},
        read("gradient"),
    )
    return OptimiserState(
        iteration=_whole(state["iteration"], MOST_LOSSES),
        evaluations=_whole(state["evaluations"], MOST_LOSSES),
        x=x,
        evaluation=evaluation,
        scale=float(state["scale"]),
        losses=tuple(float(loss) for loss in state["losses"]),
        pairs=PairsInMemory(1),  # to be filled from the state's history
        products=read("products"),
    )


def _columns(manifest: Mapping[str, Any]) -> dict[str, list[str]]:
    """Return the layers of each loss, in the order of the table's columns."""
    return {
        _text(name): [_text(layer) for layer in layers]
        for name, layers in manifest["columns"].items()
    }


def _losses(row: list[float], columns: Mapping[str, list[str]]) -> Losses:
    iteration, evaluations, seconds, loss, scale, *rest = row
    values = iter(rest)
    terms, layers = dict[str, float](), dict[str, dict[str, float]]()
    for name, there in columns.items():
        terms[name] = next(values)
        layers[name] = {layer: next(values) for layer in there}
    return Losses(
        iteration=int(iteration),
        evaluations=int(evaluations),
        seconds=seconds,
        loss=loss,
        terms=terms,
        layers=layers,
        scale=int(scale),
    )


def _start(entry: Mapping[str, Any]) -> ScaleStart:
    names = ("iteration", "evaluations", "history")
    values = {name: _whole(entry[name], MOST_LOSSES) for name in names}
    return ScaleStart(**values, seconds=float(entry["seconds"]))


def _options(fields: Mapping[str, Any]) -> Options:
    values = dict(fields)
    for name in ("content_layers", "content_weights", "style_layers", "style_weights"):
        values[name] = None if values[name] is None else tuple(values[name])
    init = values["init"]
    values["init"] = init if init is None else _text(init)
    return Options(**values)


def _check_same(folder: Path, plan: RunPlan, saved: Mapping[str, Any]) -> None:
    """Refuse images or a network that differ from those of the checkpoint."""
    now = fingerprints(plan.settings)
    if saved["model"] != now["model"]:
        raise CheckpointError(
            f"{folder} was made with another network than {plan.model}; put the original back"
        )
    for role, image in plan.settings.images().items():
        if saved[role] != now[role]:
            there = "there is now" if image is None else image.name
            raise CheckpointError(
                f"{folder} was made with another {role} image than {there}; put the original back"
            )


def _check_scales(plan: RunPlan, saved: list[Mapping[str, Any]], number: int) -> None:
    """Refuse a plan whose scales are not those of the checkpoint."""
    there = saved[number]
    here = plan.scales[min(number, len(plan.scales) - 1)]
    now = {"width": here.width, "height": here.height, "iterations": here.iterations}
    if now != dict(there) or len(plan.scales) != len(saved):
        raise OptionError(
            f"the run was at scale {number + 1} of {len(saved)} ({there['width']} × "
            f"{there['height']}, {there['iterations']} iterations), which is now scale "
            f"{here.number + 1} of {len(plan.scales)} ({here.width} × {here.height}, "
            f"{here.iterations} iterations); start it again"
        )


def _differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> tuple[str, ...]:
    names = sorted({*map(str, before), *now})
    return tuple(name for name in names if before.get(name) != now.get(name))


def _numbers(entry: Mapping[str, Any]) -> dict[str, float]:
    return {_text(name): float(value) for name, value in entry.items()}


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


def _whole(value: object, most: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= most:
        raise ValueError
    return value
