"""One level of a run: the optimiser on a prepared transfer, and what it tells on its way."""

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import PIL.Image

from gramstyle.core.arrays import Array, on_host
from gramstyle.core.objective import Evaluation, Weights
from gramstyle.errors import GramstyleError
from gramstyle.images import Image, to_pil
from gramstyle.optimise import lbfgsb
from gramstyle.optimise import scipy_lbfgsb as optimise
from gramstyle.optimise.descent import Iterate, Minimum
from gramstyle.optimise.lbfgsb.tracked import Told, WatchedPairs
from gramstyle.run.prepare import Prepared

State: TypeAlias = lbfgsb.State[Evaluation]


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
    level
        At which level of the run, from 0: from one to the next the image grows and the losses
        jump. The start of a later level has no entry.
    """

    iteration: int
    evaluations: int
    seconds: float
    loss: float
    content: float
    style: Mapping[str, float]
    style_loss: float
    level: int = 0


@dataclass(frozen=True)
class Stage:
    """A level while it runs.

    Attributes
    ----------
    number, of
        Which level, from 0, of how many.
    width, height
        Of its image.
    iterations
        How many at most.
    history
        How many pairs L-BFGS-B remembers.
    weights
        Its α, β and w_l.
    iterated, evaluated, began
        How many iterations and evaluations, and seconds, the run had taken before it.
    ahead
        How long the levels after it take, in iterations of this one.
    total
        How many iterations the run takes at most.
    """

    number: int
    of: int
    width: int
    height: int
    iterations: int
    history: int
    weights: Weights
    iterated: int
    evaluated: int
    began: float
    ahead: float
    total: int


@dataclass(frozen=True)
class Progress:
    """What a callback is told after each iteration.

    Attributes
    ----------
    losses
        The objective at this iterate.
    iterations
        How many there will be at most, on all levels.
    x
        The iterate (3, H, W), RGB, 0..255: float64, in tiles float32.
    stage
        The level.
    """

    losses: Losses
    iterations: int
    x: Array = field(repr=False)
    stage: Stage
    _alpha: Array | None = field(repr=False)

    def image(self) -> PIL.Image.Image:
        """Return the iterate as an image, as large as its level."""
        return image_of(self.x, self._alpha)


@dataclass(frozen=True)
class Record:
    """What was done, on what, and how it went; `settings` and `summary` are ready for JSON.

    Attributes
    ----------
    settings
        Options, names and sizes of the images, the model's hash, versions.
    losses
        One entry an iteration, from the start on.
    best
        The iteration whose image was returned.
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
    """The image and the record of the run."""

    image: PIL.Image.Image
    record: Record


Callback = Callable[[Progress], bool | None]


class Ledger:
    """What a run has told so far: its losses, and its clock, which a resumed run sets on."""

    def __init__(self, losses: Iterable[Losses] = (), *, seconds: float = 0.0) -> None:
        self.losses = list(losses)
        self._began = time.perf_counter() - seconds

    @property
    def seconds(self) -> float:
        """How long the run has taken so far."""
        return time.perf_counter() - self._began

    def add(self, stage: Stage, iteration: int, evaluations: int, at: Evaluation) -> None:
        """Write down an iterate of a level."""
        self.losses.append(
            Losses(
                iteration=stage.iterated + iteration,
                evaluations=stage.evaluated + evaluations,
                seconds=self.seconds,
                loss=at.loss,
                content=at.content,
                style=at.style,
                style_loss=at.style_loss,
                level=stage.number,
            )
        )


def run(prepared: Prepared, *, callback: Callback | None = None) -> Result:
    """Optimise a prepared transfer at its one size, as `transfer` does at each level."""
    stage, ledger = stage_of(prepared), Ledger()
    minimum = optimised(prepared, stage, ledger, callback=callback)
    record = Record(
        settings=prepared.settings,
        losses=tuple(ledger.losses),
        best=minimum.best.iteration,
        seconds=ledger.seconds,
        reason=minimum.reason,
    )
    return Result(image_of(on_host(minimum.best.x), prepared.alpha), record)


def stage_of(
    prepared: Prepared,
    *,
    number: int = 0,
    of: int = 1,
    later: float = 0.0,
    after: int = 0,
    iterated: int = 0,
    evaluated: int = 0,
    began: float = 0.0,
) -> Stage:
    """Describe the level that a prepared transfer is.

    Parameters
    ----------
    number, of, iterated, evaluated, began
        As in `Stage`.
    later, after
        Of the levels after it: how long they take, in iterations of this one, and how many there
        are of theirs.
    """
    settings = prepared.settings
    canvas = settings["content"] or settings["style"]
    iterations = prepared.options.iterations
    return Stage(
        number=number,
        of=of,
        width=canvas["width"],
        height=canvas["height"],
        iterations=iterations,
        history=prepared.options.history,
        weights=prepared.weights,
        iterated=iterated,
        evaluated=evaluated,
        began=began,
        ahead=later,
        total=iterated + iterations + after,
    )


def optimised(
    prepared: Prepared,
    stage: Stage,
    ledger: Ledger,
    *,
    callback: Callback | None = None,
    keep: Callable[[State], None] | None = None,
    every: int = 1,
    state: State | None = None,
) -> Minimum[Evaluation]:
    """Optimise one level.

    Parameters
    ----------
    prepared, stage
        The level.
    ledger
        Is added to.
    callback
        As for `transfer`.
    keep
        Called with the optimiser's state after every `every`-th iteration of the run but the
        level's last, and where the level is interrupted or fails, so that it can go on from there.
    state
        The optimiser's to go on from; None begins at the start.
    """

    def evaluate(x: Array) -> Evaluation:
        evaluation = prepared.loss_and_gradient(x)
        if not ledger.losses:
            ledger.add(stage, 0, 1, evaluation)
        return evaluation

    def after_iteration(iterate: Iterate[Evaluation]) -> bool | None:
        ledger.add(stage, iterate.iteration, iterate.evaluations, iterate.evaluation)
        if callback is None:
            return None
        progress = Progress(
            ledger.losses[-1], stage.total, on_host(iterate.x), stage, prepared.alpha
        )
        return callback(progress)

    iterations, tolerance = prepared.options.iterations, prepared.options.tolerance
    if prepared.options.minimises_by == "lbfgsb":
        return optimise.minimise(
            evaluate,
            prepared.start,
            iterations=iterations,
            tolerance=tolerance,
            memory=prepared.options.history,
            callback=after_iteration,
        )
    if keep is None:
        return lbfgsb.proceed(
            evaluate,
            # In no variable: with it the start would stay until the end.
            lbfgsb.begin(evaluate, prepared.start, pairs=prepared.pairs()),
            iterations=iterations,
            tolerance=tolerance,
            callback=after_iteration,
        )
    if state is None:
        state = lbfgsb.begin(evaluate, prepared.start, pairs=prepared.pairs())
    pairs = WatchedPairs(state.pairs)
    latest = Told.of(state, pairs)
    kept = state.iteration
    del state

    def after_state(iterate: Iterate[Evaluation]) -> bool | None:
        nonlocal latest, kept
        assert isinstance(iterate, Told)  # noqa: S101 - what it was begun with
        latest, pairs.touched = iterate, False
        stops = after_iteration(iterate)
        total = stage.iterated + iterate.iteration
        if total % every == 0 and iterate.iteration < iterations:
            kept = iterate.iteration
            keep(iterate)
        return stops

    try:
        # `latest` moves on with it: the states before are let go.
        return lbfgsb.proceed(
            evaluate, latest, iterations=iterations, tolerance=tolerance, callback=after_state
        )
    except (GramstyleError, KeyboardInterrupt):
        # In the middle of an iteration the pairs may be ahead of the iterate; and what has been
        # tried once, on a full disk perhaps, is not tried again.
        if latest.iteration > kept and not pairs.touched:
            keep(latest)
        raise


def image_of(x: Array, alpha: Array | None) -> PIL.Image.Image:
    """Return an iterate as an image."""
    return to_pil(Image(pixels=x.transpose(1, 2, 0).astype(np.float32), alpha=alpha))
