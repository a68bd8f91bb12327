"""Resume a run from its checkpoint.

In the same environment, a resumed run has the same result as an uninterrupted one, bit for bit.
With other kernels or versions, the last bits may differ. If the optimiser's state cannot be used,
the run continues from the image alone.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from gramstyle.core.arrays import Array
from gramstyle.core.evaluation import Evaluation
from gramstyle.errors import OptionError
from gramstyle.optimise.lbfgsb import PairsInMemory
from gramstyle.run.checkpoint import START_AGAIN, CheckpointError, naming_folder, opened, refuse
from gramstyle.run.open_model import ModelSource
from gramstyle.run.options.values import MACHINE
from gramstyle.run.plan import RunPlan, plan_run
from gramstyle.run.progress import Losses
from gramstyle.run.resume.checkpointer import Checkpointer, fingerprints
from gramstyle.run.resume.environment import changed, environment, fits
from gramstyle.run.resume.saved_run import (
    MOST_LOSSES,
    MOST_SECONDS,
    Layers,
    SavedOptimiser,
    SavedRun,
    read_saved_run,
)
from gramstyle.run.state import OptimiserState, RunState


@dataclass(frozen=True)
class Resumed:
    """A run that can be resumed.

    Attributes
    ----------
    plan
        The plan of the run.
    saved
        The run as it was saved.
    state
        Reads the state of the run, for `execute`.
    differs
        The names of what has changed in the environment.
    warm
        Whether the run continues from its image alone, without the optimiser's state.
    missing
        The names of the machine's options that were given when the run was started, but not now.
    """

    plan: RunPlan
    saved: SavedRun
    state: Callable[[], RunState]
    differs: tuple[str, ...]
    warm: bool
    missing: tuple[str, ...]

    def checkpointer(self, output: Path) -> Checkpointer:
        """Return the object that saves the states of the run, which now writes this image."""
        saved = self.saved
        images = {role: path.name for role, path in saved.images.items()}
        inputs = saved.manifest["inputs"]
        return Checkpointer(saved.folder, inputs, images, self.plan, output, saved.every)


def resume(
    folder: Path,
    *,
    model: ModelSource | None = None,
    machine: Mapping[str, Any] | None = None,
    notify: Callable[[str], None] | None = None,
) -> Resumed:
    """Read a checkpoint, and check that its images, its network and its scales are unchanged.

    Parameters
    ----------
    folder
        The checkpoint's folder. Nothing outside it is read except the model.
    model
        The path of the model file, or an open model; `gramstyle.model.locate_model` finds one by
        default.
    machine
        Options of the machine (`MACHINE`) by name, which a checkpoint does not contain.
    notify
        As in `plan_run`.

    Raises
    ------
    CheckpointError
        If there is no checkpoint, it is damaged, or an image or the network has changed.
    ImageError, ModelError, OptionError
        If an image or the network cannot be used; if the scales have changed.
    """
    machine = {} if machine is None else machine
    saved = read_saved_run(folder)
    options = saved.options(machine)
    content = saved.images["content"]
    plan = plan_run(content, saved.styles, options, model=model, notify=notify)
    _check_same(saved, plan)
    _check_scales(plan, saved)
    _check_columns(plan, saved)
    differs = changed(saved.environment, environment(plan))
    return Resumed(
        plan=plan,
        saved=saved,
        state=partial(_state, saved, warm=not fits(differs)),
        differs=differs,
        warm=not fits(differs),
        missing=tuple(name for name in saved.given if name in MACHINE and name not in machine),
    )


def _state(saved: SavedRun, *, warm: bool) -> RunState:
    """Read a run's state, except L-BFGS-B's history; if warm, also except the optimiser's state."""
    folder, expected = saved.folder, saved.expected()
    with opened(folder, expected=expected) as there:
        _check_unchanged(saved, there.run)
        losses = tuple(_losses(row, saved.columns) for row in there.read("losses").tolist())
        with naming_folder(folder):
            _check_rows(losses, scales=len(saved.starts))
        x = there.read("x")
        optimiser = saved.optimiser
        at = None if optimiser is None or warm else _optimiser(optimiser, x, there.read)
    return RunState(
        starts=saved.starts,
        losses=losses,
        seconds=saved.seconds,
        evaluations=saved.evaluations,
        x=x,
        optimiser=at,
        ended=saved.ended,
        read_history=partial(_history, saved),
    )


def _history(saved: SavedRun) -> Iterator[tuple[Array, Array]]:
    """Yield the pairs of a checkpoint, one in memory at a time."""
    pairs = 0 if saved.optimiser is None else saved.optimiser.pairs
    with opened(saved.folder, expected=saved.expected()) as there:
        _check_unchanged(saved, there.run)
        for number in range(pairs):
            yield there.read(f"s{number}"), there.read(f"y{number}")


def _check_unchanged(saved: SavedRun, now: Mapping[str, Any]) -> None:
    if saved.manifest != now:
        raise CheckpointError(
            f"another run has just been saved into {saved.folder}; wait for its end"
        )


def _optimiser(state: SavedOptimiser, x: Array, read: Callable[[str], Array]) -> OptimiserState:
    return OptimiserState(
        iteration=state.iteration,
        evaluations=state.evaluations,
        x=x,
        evaluation=Evaluation(state.loss, state.terms, state.layers, read("gradient")),
        scale=state.scale,
        losses=state.losses,
        pairs=PairsInMemory(1),  # to be filled from the state's history
        products=read("products"),
    )


def _losses(row: list[float], columns: Layers) -> Losses:
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


def _check_rows(losses: tuple[Losses, ...], *, scales: int) -> None:
    """Refuse a table of losses whose rows are not those of the iterations."""
    for number, row in enumerate(losses):
        if row.iteration != number or not 0 <= row.scale < scales:
            refuse(f"row {number} of its losses is of another iteration or scale; {START_AGAIN}")
        if not (0 <= row.seconds <= MOST_SECONDS and 0 <= row.evaluations <= MOST_LOSSES):
            refuse(f"row {number} of its losses has a time that no run takes; {START_AGAIN}")


def _check_same(saved: SavedRun, plan: RunPlan) -> None:
    """Refuse images or a network that differ from those of the checkpoint."""
    now, folder = fingerprints(plan.settings), saved.folder
    if saved.fingerprints["model"] != now["model"]:
        raise CheckpointError(
            f"{folder} was made with another network than {plan.model}; name the original one "
            "with --model"
        )
    for role, image in plan.settings.images().items():
        if saved.fingerprints[role] != now[role]:
            there = "there is now" if image is None else image.name
            raise CheckpointError(
                f"{folder} was made with another {role} image than {there}; put the original back"
            )


def _check_scales(plan: RunPlan, saved: SavedRun) -> None:
    """Refuse a plan whose scales are not those of the checkpoint."""
    number, there = len(saved.starts) - 1, saved.scale
    here = plan.scales[min(number, len(plan.scales) - 1)]
    now = here.width, here.height, here.iterations
    if now != (there.width, there.height, there.iterations) or len(plan.scales) != len(
        saved.scales
    ):
        raise OptionError(
            f"the run was at scale {number + 1} of {len(saved.scales)} ({there.width} × "
            f"{there.height}, {there.iterations} iterations), which is now scale "
            f"{here.number + 1} of {len(plan.scales)} ({here.width} × {here.height}, "
            f"{here.iterations} iterations); start it again"
        )


def _check_columns(plan: RunPlan, saved: SavedRun) -> None:
    """Refuse a table of losses with other terms or layers than those of the plan."""
    spec = plan.last.spec
    terms = {name: {t.layer for t in spec.terms if t.name == name} for name in spec.weights}
    if {name: set(layers) for name, layers in saved.columns.items()} != terms:
        with naming_folder(saved.folder):
            refuse(f"its losses are not those of its options; {START_AGAIN}")
