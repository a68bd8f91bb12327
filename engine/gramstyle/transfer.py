"""A photograph and a painting in, a styled picture out: the run, and the record of it."""

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import PIL.Image

from gramstyle import lbfgsb, optimise
from gramstyle.arrays import Array, on_host
from gramstyle.descent import Iterate, Minimum
from gramstyle.images import Picture, Source, to_pil
from gramstyle.objective import Evaluation
from gramstyle.options import Options
from gramstyle.prepare import Prepared, prepare


@dataclass(frozen=True)
class Losses:
    """The objective after one iteration (iteration 0: at the start).

    Attributes
    ----------
    iteration, evaluations
        How many iterations, and how many evaluations of the objective, so far.
    seconds
        Since the first evaluation began.
    loss, content
        L_total and L_content.
    style
        E_l by layer.
    style_loss
        L_style = Σ w_l E_l.
    """

    iteration: int
    evaluations: int
    seconds: float
    loss: float
    content: float
    style: Mapping[str, float]
    style_loss: float


@dataclass(frozen=True)
class Progress:
    """What a callback is told after each iteration.

    Attributes
    ----------
    losses
        The objective at this iterate.
    iterations
        How many there will be at the most.
    x
        The iterate, float64 (3, H, W), RGB, 0..255.
    """

    losses: Losses
    iterations: int
    x: Array = field(repr=False)
    _alpha: Array | None = field(repr=False)

    def picture(self) -> PIL.Image.Image:
        """Return the iterate as a picture."""
        return to_pil(_as_picture(self.x, self._alpha))


@dataclass(frozen=True)
class Record:
    """What was done, on what, and how it went; `settings` and `summary` are ready for JSON.

    Attributes
    ----------
    settings
        Options, names and sizes of the pictures, the model's hash, versions.
    losses
        One entry an iteration, from the start on.
    best
        The iteration whose picture was returned.
    seconds
        From the first evaluation to the last.
    reason
        Why the run ended.
    """

    settings: Mapping[str, Any]
    losses: tuple[Losses, ...]
    best: int
    seconds: float
    reason: str

    @property
    def summary(self) -> dict[str, Any]:
        """How the run went, in a few numbers."""
        return {
            "iterations": self.losses[-1].iteration,
            "evaluations": self.losses[-1].evaluations,
            "best": self.best,
            "loss": self.losses[self.best].loss,
            "seconds": round(self.seconds, 3),
            "reason": self.reason,
        }


class Result(NamedTuple):
    """The picture and the record of the run."""

    picture: PIL.Image.Image
    record: Record


def transfer(
    content: Source,
    style: Source,
    options: Options | None = None,
    *,
    model: str | os.PathLike[str] | None = None,
    callback: Callable[[Progress], bool | None] | None = None,
) -> Result:
    """Render a photograph in the style of a painting.

    Parameters
    ----------
    content, style
        The photograph and the painting: a path, a Pillow image, or an array (H, W), (H, W, 3)
        or (H, W, 4) of uint8, uint16 or float in 0..1.
    options
        How to do it.
    model
        The network's file; see `gramstyle.model.locate_model` for what None finds.
    callback
        Called after every iteration; the run ends when it returns True.

    Returns
    -------
    Result
        The picture of the best iterate, as large as the options say, with the content's
        transparency if it has any; and the record of the run.

    Raises
    ------
    ImageError, OptionError, ModelError, RuntimeMissingError
        If something that was given cannot be used.
    NonFiniteError
        If the objective becomes NaN or infinite; `callback` has seen the iterates before.

    Notes
    -----
    "A Neural Algorithm of Artistic Style", Gatys, Ecker, Bethge, arXiv 1508.06576.
    """
    prepared = prepare(content, style, options, model=model)
    return run(prepared, callback=callback)


def run(prepared: Prepared, *, callback: Callable[[Progress], bool | None] | None = None) -> Result:
    """Optimise a prepared transfer; takes, returns and raises what `transfer` does."""
    options = prepared.options
    began = time.perf_counter()
    history: list[Losses] = []

    def evaluate(x: Array) -> Evaluation:
        evaluation = prepared.loss_and_gradient(x)
        if not history:
            history.append(losses(0, 1, evaluation))
        return evaluation

    def losses(iteration: int, evaluations: int, at: Evaluation) -> Losses:
        return Losses(
            iteration=iteration,
            evaluations=evaluations,
            seconds=time.perf_counter() - began,
            loss=at.loss,
            content=at.content,
            style=at.style,
            style_loss=at.style_loss,
        )

    def after_iteration(iterate: Iterate[Evaluation]) -> bool | None:
        history.append(losses(iterate.iteration, iterate.evaluations, iterate.evaluation))
        if callback is None:
            return None
        x = on_host(iterate.x)
        return callback(Progress(history[-1], options.iterations, x, prepared.alpha))

    minimise = optimise.minimise if options.minimises_by == "lbfgsb" else lbfgsb.minimise
    minimum: Minimum[Evaluation] = minimise(
        evaluate,
        prepared.start,
        iterations=options.iterations,
        tolerance=options.tolerance,
        memory=options.memory,
        callback=after_iteration,
    )
    record = Record(
        settings=prepared.settings,
        losses=tuple(history),
        best=minimum.best.iteration,
        seconds=time.perf_counter() - began,
        reason=minimum.reason,
    )
    return Result(to_pil(_as_picture(on_host(minimum.best.x), prepared.alpha)), record)


def _as_picture(x: Array, alpha: Array | None) -> Picture:
    return Picture(pixels=x.transpose(1, 2, 0).astype(np.float32), alpha=alpha)
