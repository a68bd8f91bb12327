"""The contents of a checkpoint of a run, and the object that saves it.

The manifest describes the run: its options, the names of the images' copies, and hashes. What it
says about the machine and the output is for messages only. The arrays are the optimiser's state
and the losses so far.
"""

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np

from gramstyle.core.arrays import Array, on_host
from gramstyle.errors import OptionError
from gramstyle.images import Source
from gramstyle.run.checkpoint import copy_inputs, remove_inputs, save
from gramstyle.run.options import Options, is_named_start
from gramstyle.run.options.masks import MASK_OPTIONS, mask_sources
from gramstyle.run.options.values import MACHINE
from gramstyle.run.plan import RunPlan
from gramstyle.run.progress import Losses
from gramstyle.run.resume.environment import environment
from gramstyle.run.resume.saved_run import COLUMNS, SAVED
from gramstyle.run.settings import RunSettings, style_roles
from gramstyle.run.state import OptimiserState, RunState

# The defaults of the machine's options.
_DEFAULTS = Options()
# Control characters, which a file's name may contain.
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


@dataclass(frozen=True)
class Checkpointer:
    """Saves the states of a run into a folder; each state replaces the one before.

    Attributes
    ----------
    folder
        The folder, which the run must own (`gramstyle.run.checkpoint.owned`).
    inputs, images
        The folder in it with copies of the images, and their names by role.
    plan
        The plan of the run; its optimiser must be "own".
    output
        The image that the run will write.
    every
        The number of iterations from one saved state to the next.
    """

    folder: Path
    inputs: str
    images: Mapping[str, str]
    plan: RunPlan
    output: Path
    every: int

    @classmethod
    def beginning(cls, folder: Path, plan: RunPlan, output: Path, every: int) -> Self:
        """Copy the images of a new run into a folder; return the saver of its states.

        Raises
        ------
        CheckpointError, OptionError
            If an image cannot be copied; if it is not a file.
        """
        styles = dict(zip(style_roles(len(plan.styles)), plan.styles, strict=True))
        sources = {"content": plan.content, **styles}
        if not is_named_start(plan.options.start):
            sources["init"] = plan.options.start
        sources |= mask_sources(plan.options)
        files = {role: _file(source, role) for role, source in sources.items()}
        inputs, images = copy_inputs(folder, files)
        return cls(folder, inputs, images, plan, output, every)

    def save(self, state: RunState) -> None:
        """Save a state; raises CheckpointError if it cannot be written."""
        save(self.folder, self._manifest(state), arrays_of(state))
        remove_inputs(self.folder, except_for=self.inputs)

    def _manifest(self, state: RunState) -> dict[str, Any]:
        plan, last = self.plan, state.losses[-1] if state.losses else None
        return {
            "iteration": state.iteration,
            "options": plain_options(plan.options),
            "machine": given_of(plan.options),
            "inputs": self.inputs,
            "images": dict(self.images),
            "output": _CONTROL.sub("?", str(self.output.absolute())),
            "every": self.every,
            "fingerprints": fingerprints(plan.settings),
            "environment": environment(plan),
            "scales": [
                {"width": scale.width, "height": scale.height, "iterations": scale.iterations}
                for scale in plan.scales
            ],
            "starts": [asdict(start) for start in state.starts],
            "columns": {} if last is None else {name: list(v) for name, v in last.layers.items()},
            "seconds": state.seconds,
            "evaluations": state.evaluations,
            "ended": state.ended,
            "optimiser": None if state.optimiser is None else _plain_optimiser(state.optimiser),
        }


def check_can_be_saved(options: Options) -> None:
    """Refuse SciPy's optimiser, whose state cannot be saved; raises OptionError."""
    if options.minimises_by == "scipy":
        raise OptionError(
            "the state of SciPy's L-BFGS-B cannot be saved; leave --optimiser or --checkpoint out"
        )


def check_replaceable(folder: Path, there: Mapping[str, Any] | None) -> None:
    """Refuse to overwrite the checkpoint of a run that has not ended.

    Parameters
    ----------
    folder, there
        The folder, and the manifest that `check_folder` found in it; None if it found none.

    Raises
    ------
    OptionError
        If the run has not ended; names the command that resumes it.
    """
    if there is None:
        return
    try:
        ended = bool(there["ended"]) and len(there["starts"]) == len(there["scales"])
    except (KeyError, TypeError):
        ended = False
    if not ended:
        raise OptionError(
            f"{folder} has the checkpoint of a run that was stopped after iteration "
            f"{there['iteration']}; resume it with gramstyle resume {folder} -o OUT, or choose "
            "another folder"
        )


def fingerprints(settings: RunSettings) -> dict[str, str | None]:
    """Return the SHA-256 of the model and of each image of a run, by role."""
    images = {
        role: None if image is None else image.pixels for role, image in settings.images().items()
    }
    return {"model": settings.sha256, **images}


def arrays_of(state: RunState) -> Iterator[tuple[str, Array]]:
    """Yield the arrays of a state with their names, one in host memory at a time."""
    yield "x", on_host(state.x)
    yield "losses", np.array([_row(each) for each in state.losses]).reshape(len(state.losses), -1)
    if state.optimiser is not None:
        yield "gradient", on_host(state.optimiser.evaluation.gradient)
        yield "products", state.optimiser.products
        for number, (s, y) in enumerate(state.optimiser.pairs.saved()):
            yield f"s{number}", on_host(s)
            yield f"y{number}", on_host(y)


def plain_options(options: Options) -> dict[str, Any]:
    """Return the options that a checkpoint contains as JSON types; None stands for a default.

    An image to start from and masks are left out: the checkpoint contains the files themselves. The
    padding is always there, since a checkpoint without one is of a version that padded with zeros.
    """
    values = {name: getattr(options, name) for name in SAVED if name not in MASK_OPTIONS}
    values["padding"] = options.pads
    if options.init is not None and not is_named_start(options.init):
        del values["init"]
    return {name: value for name, value in values.items() if value is not None}


def given_of(options: Options) -> list[str]:
    """Return the names of the machine's options that are not the defaults."""
    return [name for name in MACHINE if getattr(options, name) != getattr(_DEFAULTS, name)]


def _file(source: Source | None, role: str) -> Path:
    if not isinstance(source, str | os.PathLike):
        raise OptionError(f"a checkpoint needs image files, and the {role} image is not in a file")
    return Path(source)


def _row(losses: Losses) -> list[float]:
    terms = [
        value
        for name, layers in losses.layers.items()
        for value in (losses.terms[name], *layers.values())
    ]
    return [*(float(getattr(losses, name)) for name in COLUMNS), *terms]


def _plain_optimiser(state: OptimiserState) -> dict[str, Any]:
    evaluation = state.evaluation
    return {
        "iteration": state.iteration,
        "evaluations": state.evaluations,
        "scale": state.scale,
        "losses": list(state.losses),
        "loss": evaluation.loss,
        "terms": dict(evaluation.terms),
        "layers": {name: dict(layers) for name, layers in evaluation.layers.items()},
        "pairs": len(state.pairs),
        "products": state.products.shape[0] // 2,
    }
