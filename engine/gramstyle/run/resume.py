"""What a checkpoint of a run holds, and how a run goes on from it.

The manifest says what the run is: options, files, and by hash what is in them; the arrays are the
optimiser's state and the losses so far. Where machine and versions are those of the checkpoint, a
resumed run is the uninterrupted one, bit by bit; elsewhere it goes on from the image alone.
"""

import dataclasses
import os
import platform
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from gramstyle.core.arrays import Array, on_host
from gramstyle.core.objective import Evaluation, Weights
from gramstyle.errors import OptionError
from gramstyle.optimise.lbfgsb import PairsInMemory, State
from gramstyle.run.checkpoint import CheckpointError, Expected, opened, read_manifest, save
from gramstyle.run.level import Losses, Stage
from gramstyle.run.options import STARTS, Options
from gramstyle.run.transfer import Course, Position, chart

# The columns of the table of losses before those of E_l.
COLUMNS = ("iteration", "evaluations", "seconds", "loss", "content", "style_loss", "level")
FLOATS = ("float32", "float64")
# More than any run has.
MOST_LOSSES, MOST_LAYERS, MOST_PAIRS = 10_000_000, 64, 1000


@dataclass(frozen=True)
class Files:
    """What a run reads and writes, besides its images' options.

    Attributes
    ----------
    output
        The image to write.
    every
        After how many iterations a checkpoint is written.
    """

    output: Path
    every: int


@dataclass(frozen=True)
class Resumed:
    """A run to go on with.

    Attributes
    ----------
    course, files
        What it is.
    since
        Its position, read anew each time; see `climb`.
    differs
        What is not as it was, if anything: the run then goes on from its image alone.
    iteration
        How many iterations are done.
    finished
        Whether it has ended.
    """

    course: Course
    files: Files
    since: Callable[[], Position]
    differs: tuple[str, ...]
    iteration: int
    finished: bool


def checked(options: Options) -> Options:
    """Return the options of a run that is to be saved on its way.

    Raises
    ------
    OptionError
        If they ask for SciPy's optimiser, whose state cannot be saved.
    """
    if options.optimiser == "lbfgsb":
        raise OptionError(
            "the state of SciPy's L-BFGS-B cannot be saved; leave --optimiser or --checkpoint out"
        )
    return dataclasses.replace(options, optimiser="lbfgsb-device")


def check_replaceable(folder: Path, there: Mapping[str, Any] | None) -> None:
    """Refuse to begin a run in a folder with the checkpoint of one that has not ended.

    Parameters
    ----------
    folder, there
        The folder, and the manifest that `check_folder` found in it.

    Raises
    ------
    OptionError
        Saying how to go on with it.
    """
    if there is None:
        return
    try:
        last = there["stages"][-1]
        ended = bool(there["ended"]) and last["number"] + 1 == last["of"]
    except (KeyError, TypeError, IndexError):
        ended = False
    if not ended:
        raise OptionError(
            f"{folder} holds a run that was stopped after iteration {there['iteration']}; go on "
            f"with it by gramstyle resume {folder}, or choose another folder"
        )


def keeper(folder: Path, course: Course, files: Files) -> Callable[[Position], None]:
    """Return what writes a run's positions into a folder, each in the place of the one before."""

    def keep(at: Position) -> None:
        save(folder, _manifest(course, files, at), _arrays(at))

    return keep


def resume(folder: Path) -> Resumed:
    """Read a checkpoint and check that it is one of these images, this network and this program.

    Raises
    ------
    CheckpointError
        If there is none, it is damaged, or something that it was made from has changed.
    ImageError, ModelError, OptionError
        If an image or the network is not there any more.
    """
    manifest = read_manifest(folder)
    try:
        options = _options(manifest["options"])
        content, style, model = (Path(_text(manifest[k])) for k in ("content", "style", "model"))
        files = Files(Path(_text(manifest["output"])), int(manifest["every"]))
        stages = tuple(_stage(each) for each in manifest["stages"])
        course = chart(content, style, options, model=model)
        if not stages or files.every < 1 or len(stages) > len(course.levels):
            raise ValueError
        _check_same(folder, course, manifest["settings"])
        differs = _differences(manifest["here"], _here(course.settings))
        _expected(manifest, stages)
        finished = bool(manifest["ended"]) and len(stages) == len(course.levels)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError, IndexError):
        raise CheckpointError(f"{folder} holds no run that can go on; start it again") from None

    def since() -> Position:
        return _position(folder, manifest, stages, warm=bool(differs))

    return Resumed(course, files, since, differs, int(manifest["iteration"]), finished)


def _manifest(course: Course, files: Files, at: Position) -> dict[str, Any]:
    options = course.options
    fields = {f.name: getattr(options, f.name) for f in dataclasses.fields(options)}
    if options.init is not None and options.init not in STARTS:
        fields["init"] = os.path.abspath(str(options.init))  # noqa: PTH100 - no link resolved
    state = at.state
    return {
        "iteration": at.losses[-1].iteration if at.losses else 0,
        "options": fields,
        "content": _absolute(course.content),
        "style": _absolute(course.style),
        "model": _absolute(course.model),
        "output": _absolute(files.output),
        "every": files.every,
        "settings": dict(course.settings),
        "here": _here(course.settings),
        "stages": [asdict(stage) for stage in at.stages],
        "layers": list(at.losses[-1].style) if at.losses else [],
        "losses": len(at.losses),
        "seconds": at.seconds,
        "evaluations": at.evaluations,
        "ended": at.ended,
        "x": {"shape": list(at.x.shape), "dtype": str(at.x.dtype)},
        "state": None
        if state is None
        else {
            "iteration": state.iteration,
            "evaluations": state.evaluations,
            "scale": state.scale,
            "losses": list(state.losses),
            "loss": state.evaluation.loss,
            "content": state.evaluation.content,
            "style": dict(state.evaluation.style),
            "style_loss": state.evaluation.style_loss,
            "pairs": len(state.pairs),
            "products": list(state.products.shape),
        },
    }


def _arrays(at: Position) -> Iterator[tuple[str, Array]]:
    yield "x", on_host(at.x)
    yield "losses", np.array([_row(each) for each in at.losses]).reshape(len(at.losses), -1)
    if at.state is not None:
        yield "gradient", on_host(at.state.evaluation.gradient)
        yield "products", at.state.products
        for number, (s, y) in enumerate(at.state.pairs.saved()):
            yield f"s{number}", on_host(s)
            yield f"y{number}", on_host(y)


def _row(losses: Losses) -> list[float]:
    return [*(float(getattr(losses, name)) for name in COLUMNS), *losses.style.values()]


def _expected(manifest: Mapping[str, Any], stages: tuple[Stage, ...]) -> dict[str, Expected]:
    """Return what arrays a manifest announces.

    Raises
    ------
    KeyError, TypeError, ValueError
        If it announces none that make sense.
    """
    shape = tuple(_whole(edge, 10**6) for edge in manifest["x"]["shape"])
    if shape != (3, stages[-1].height, stages[-1].width):
        raise ValueError
    layers = [_text(name) for name in manifest["layers"]]
    rows = _whole(manifest["losses"], MOST_LOSSES)
    if len(layers) > MOST_LAYERS or not rows:
        raise ValueError
    size = int(np.prod(shape))
    found = {
        "x": Expected(shape, FLOATS),
        "losses": Expected((rows, len(COLUMNS) + len(layers)), ("float64",)),
    }
    state = manifest["state"]
    if state is not None:
        pairs = _whole(state["pairs"], min(MOST_PAIRS, stages[-1].history))
        products = tuple(_whole(edge, 2 * pairs) for edge in state["products"])
        # The last pair's are not computed yet where it is new.
        if products not in [(2 * k, 2 * k) for k in (max(0, pairs - 1), pairs)]:
            raise ValueError
        found |= {
            "gradient": Expected(shape, FLOATS),
            "products": Expected(products, ("float64",)),
        }
        for number in range(pairs):
            found |= {f"{name}{number}": Expected((size,), FLOATS) for name in "sy"}
    return found


def _position(
    folder: Path, manifest: Mapping[str, Any], stages: tuple[Stage, ...], *, warm: bool
) -> Position:
    """Read a position, but for L-BFGS-B's history."""
    expected, state, layers = _expected(manifest, stages), manifest["state"], manifest["layers"]
    try:
        with opened(folder, expected=expected) as there:
            _check_unchanged(folder, manifest, there.run)
            losses = tuple(_losses(row, layers) for row in there.read("losses").tolist())
            if any(not 0 <= each.level < len(stages) for each in losses):
                raise ValueError
            x = there.read("x")
            at = None if state is None or warm else _state(state, x, there.read)
        return Position(
            stages=stages,
            losses=losses,
            seconds=float(manifest["seconds"]),
            evaluations=_whole(manifest["evaluations"], MOST_LOSSES),
            x=x,
            state=at,
            ended=_text(manifest["ended"]),
            history=partial(_history, folder, manifest, expected),
        )
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
        raise CheckpointError(f"{folder} holds no run that can go on; start it again") from None


def _history(
    folder: Path, manifest: Mapping[str, Any], expected: Mapping[str, Expected]
) -> Iterator[tuple[Array, Array]]:
    """Yield the pairs of a checkpoint, one in memory at a time."""
    with opened(folder, expected=expected) as there:
        _check_unchanged(folder, manifest, there.run)
        for number in range(manifest["state"]["pairs"]):
            yield there.read(f"s{number}"), there.read(f"y{number}")


def _check_unchanged(folder: Path, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    if before != now:
        raise CheckpointError(f"another run has just been saved into {folder}; wait for its end")


def _state(state: Mapping[str, Any], x: Array, read: Callable[[str], Array]) -> State[Evaluation]:
    style = {_text(name): float(value) for name, value in state["style"].items()}
    evaluation = Evaluation(
        float(state["loss"]),
        float(state["content"]),
        style,
        float(state["style_loss"]),
        read("gradient"),
    )
    return State(
        iteration=_whole(state["iteration"], MOST_LOSSES),
        evaluations=_whole(state["evaluations"], MOST_LOSSES),
        x=x,
        evaluation=evaluation,
        scale=float(state["scale"]),
        losses=tuple(float(loss) for loss in state["losses"]),
        pairs=PairsInMemory(1),  # to be filled from the position's history
        products=read("products"),
    )


def _losses(row: list[float], layers: list[str]) -> Losses:
    iteration, evaluations, seconds, loss, content, style_loss, level, *style = row
    return Losses(
        iteration=int(iteration),
        evaluations=int(evaluations),
        seconds=seconds,
        loss=loss,
        content=content,
        style=dict(zip(layers, style, strict=True)),
        style_loss=style_loss,
        level=int(level),
    )


def _stage(entry: Mapping[str, Any]) -> Stage:
    weights = entry["weights"]
    w = {_text(name): float(value) for name, value in weights["w"].items()}
    values = {
        name: _whole(entry[name], MOST_LOSSES)
        for name in (
            "number", "of", "width", "height", "iterations", "history", "iterated", "evaluated",
            "total",
        )
    }  # fmt: skip
    return Stage(
        **values,
        weights=Weights(float(weights["alpha"]), float(weights["beta"]), w),
        began=float(entry["began"]),
        ahead=float(entry["ahead"]),
    )


def _options(fields: Mapping[str, Any]) -> Options:
    values = dict(fields)
    for name in ("style_layers", "style_weights"):
        values[name] = None if values[name] is None else tuple(values[name])
    init = values["init"]
    values["init"] = init if init is None else _text(init)
    return Options(**values)


def _check_same(folder: Path, course: Course, saved: Mapping[str, Any]) -> None:
    """Refuse other images and another network than those of the checkpoint."""
    now = course.settings
    if saved["model"]["sha256"] != now["model"]["sha256"]:
        raise CheckpointError(f"{folder} is of another network than {course.model}; put that back")
    for name in ("content", "style", "start"):
        before, after = saved[name], now[name]
        if (before and before["pixels"]) != (after and after["pixels"]):
            raise CheckpointError(
                f"{folder} is of another {name} image than "
                f"{after['name'] if after else 'there is now'}; put that back"
            )


def _here(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return all that bits depend on besides what was asked for."""
    names = ("program", "engine", "tile", "threads")
    return {
        **{name: settings[name] for name in names},
        **settings["versions"],
        "machine": platform.machine(),
        "system": platform.system(),
        "processors": os.cpu_count(),
    }


def _differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> tuple[str, ...]:
    names = sorted({*map(str, before), *now})
    return tuple(name for name in names if before.get(name) != now.get(name))


def _absolute(source: object) -> str:
    return os.path.abspath(os.fspath(source))  # type: ignore[call-overload,no-any-return] # noqa: PTH100


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


def _whole(value: object, most: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= most:
        raise ValueError
    return value
