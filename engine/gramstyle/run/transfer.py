"""Style transfer: a run through its scales."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Protocol

from gramstyle.core.arrays import Array, namespace, on_host
from gramstyle.core.evaluation import Evaluation
from gramstyle.errors import OptionError
from gramstyle.images import Source
from gramstyle.optimise import lbfgsb
from gramstyle.run.colours import Finishing, finishing_of
from gramstyle.run.inputs import Styles
from gramstyle.run.open_model import ModelSource
from gramstyle.run.optimising import Saving, optimise_scale
from gramstyle.run.options import Options
from gramstyle.run.plan import RunPlan, plan_run
from gramstyle.run.prepare import Prepared, RunResources
from gramstyle.run.progress import (
    Callback,
    History,
    Losses,
    Progress,
    Record,
    Result,
    ScaleStart,
)
from gramstyle.run.state import OptimiserState, RunState

__all__ = ["Losses", "Progress", "Record", "Result", "execute", "transfer"]


class Saver(Protocol):
    """Saves the states of a run."""

    @property
    def every(self) -> int:
        """The number of iterations from one saved state to the next."""

    def save(self, state: RunState) -> None:
        """Save a state in place of the previous one; the run still uses the state's arrays."""


def transfer(
    content: Source,
    style: Styles,
    options: Options | None = None,
    *,
    model: ModelSource | None = None,
    callback: Callback | None = None,
) -> Result:
    """Render a content image in the style of a style image.

    Parameters
    ----------
    content, style
        The photograph and the painting: a path, a Pillow image, or an array (H, W), (H, W, 3)
        or (H, W, 4) of uint8, uint16 or float in 0..1. Several paintings are a list or a tuple;
        `Options.style_blend` has their shares. An array is always one image.
    options
        The options; by default those of `Options`.
    model
        The path of the model file, or `open_model(path)`, which many runs can share;
        `gramstyle.model.locate_model` finds a file by default.
    callback
        Called after every iteration; the run ends when it returns True.

    Returns
    -------
    Result
        The image of the best iterate, as large as the options say, with the content image's
        transparency if it has any, and with its chroma if `Options.colours` is "content"; and the
        record of the run. A run that was stopped at an earlier scale returns an image of that
        scale's size.

    Raises
    ------
    ImageError, OptionError, ModelError, RuntimeMissingError
        If an image, an option, the model or the engine cannot be used.
    NonFiniteError
        If the loss becomes NaN or infinite; `callback` has received the iterates before.

    Notes
    -----
    "A Neural Algorithm of Artistic Style", Gatys, Ecker, Bethge, arXiv 1508.06576. The run of a
    large image passes through smaller scales first; see `gramstyle.run.plan.scales`.

    Examples
    --------
    >>> from gramstyle import Options, transfer
    >>> options = Options(size=32, iterations=2)
    >>> image, record = transfer("photo.jpg", "painting.jpg", options)
    >>> image.save("result.png")
    """
    return execute(plan_run(content, style, options, model=model), callback=callback)


def execute(
    plan: RunPlan,
    *,
    callback: Callback | None = None,
    saver: Saver | None = None,
    state: Callable[[], RunState] | None = None,
) -> Result:
    """Execute the plan of a run.

    Parameters
    ----------
    plan
        The plan, which can be executed once: the run releases its inputs.
    callback
        As for `transfer`.
    saver
        Receives the state after every `saver.every`-th iteration, at the end of each scale, and
        when the run is interrupted or fails; the optimiser must then be "own".
    state
        Returns the state to continue from, and must keep no reference to it. Without an optimiser's
        state the run continues from x alone. If the state's run has ended, its result is returned.

    Returns
    -------
    Result
        As for `transfer`.

    Raises
    ------
    GramstyleError
        As for `transfer` and `saver.save`; if there is no room for the state's history.
    """
    run = _Run(plan, callback, saver)
    with RunResources(plan) as resources:
        return run.execute(resources, None if state is None else state())


class _Run:
    """A run while it is executed: its history, and where its scales have started."""

    def __init__(self, plan: RunPlan, callback: Callback | None, saver: Saver | None) -> None:
        self.plan = plan
        self.callback = callback
        self.saver = saver
        self.history = History()
        self.starts: list[ScaleStart] = []
        self.evaluations = 0
        self.stopped = False

    def execute(self, resources: RunResources, state: RunState | None) -> Result:
        # In a list: the function that pops the state from it holds the only reference.
        pending = [] if state is None else [state]
        first = 0
        if state is not None:
            if state.finished(len(self.plan.scales)):
                return self._finished(state)
            self.history = History(state.losses, seconds=state.seconds)
            self.starts, self.evaluations = list(state.starts), state.evaluations
            first = state.scale + bool(state.ended)
        del state
        for number in range(first, len(self.plan.scales)):
            best, x, reason, finishing = self._scale(resources, number, pending)
            if self.stopped:
                break
            ended = self._state(x, None, reason)
            if self.saver is not None:
                self.saver.save(ended)
            if not ended.finished(len(self.plan.scales)):
                pending.append(ended)
                del x
            del ended
        return self._result(finishing, x, self._record(best, reason))

    def _scale(
        self, resources: RunResources, number: int, pending: list[RunState]
    ) -> tuple[int, Array, str, Finishing]:
        """Optimise a scale; return the best iteration, its x, the reason, what x lacks."""
        within = bool(pending) and not pending[0].ended
        start = pending.pop().x if pending and not within else None
        history = None
        if within and pending[0].optimiser is not None:
            history = self.starts[-1].history
            _check_history(history, self.plan.scales[number].layout.history)
        preparing = resources.prepare(number, start, history=history)
        del start
        with preparing as prepared:
            return self._optimise(prepared, pending if within else None)

    def _optimise(
        self, prepared: Prepared, pending: list[RunState] | None
    ) -> tuple[int, Array, str, Finishing]:
        """Optimise a prepared scale, from a pending state of this scale or from its start."""
        if pending is not None:
            here = replace(self.starts.pop(), history=prepared.scale.layout.history)
        else:
            here = ScaleStart(
                iteration=self.history.iteration,
                evaluations=self.evaluations,
                seconds=self.history.seconds if prepared.scale.number else 0.0,
                history=prepared.scale.layout.history,
            )
        self.starts.append(here)
        minimum = optimise_scale(
            prepared,
            here,
            self.history,
            callback=partial(self._after_iteration, prepared),
            saving=None if self.saver is None else Saving(self._save, self.saver.every),
            state=_continued(prepared, here, self.history, pending) if pending else None,
        )
        self.evaluations = here.evaluations + minimum.evaluations
        best = here.iteration + minimum.best.iteration
        x = prepared.image(on_host(minimum.best.x))
        return best, x, minimum.reason, prepared.finishing

    def _after_iteration(self, prepared: Prepared, x: Array) -> bool | None:
        if self.callback is None:
            return None
        scales, number = self.plan.scales, prepared.scale.number
        later = sum(scale.iterations for scale in scales[number + 1 :])
        progress = Progress(
            losses=self.history.losses[-1],
            iterations=self.starts[-1].iteration + prepared.scale.iterations + later,
            x=prepared.image(x),
            scale=prepared.scale,
            scales=len(scales),
            start=self.starts[-1],
            ahead=self.plan.ahead(number),
            seconds_per_iteration=self.history.seconds_per_iteration(self.starts[-1]),
            _finishing=prepared.finishing,
        )
        self.stopped = bool(self.callback(progress))
        return self.stopped

    def _save(self, state: OptimiserState) -> None:
        assert self.saver is not None  # noqa: S101 - only a run with a saver saves
        evaluations = self.starts[-1].evaluations + state.evaluations
        self.saver.save(replace(self._state(state.x, state, ""), evaluations=evaluations))

    def _state(self, x: Array, optimiser: OptimiserState | None, ended: str) -> RunState:
        return RunState(
            starts=tuple(self.starts),
            losses=tuple(self.history.losses),
            seconds=self.history.seconds,
            evaluations=self.evaluations,
            x=x,
            optimiser=optimiser,
            ended=ended,
        )

    def _record(self, best: int, reason: str) -> Record:
        return Record(
            settings=self.plan.settings,
            losses=tuple(self.history.losses),
            best=best,
            seconds=self.history.seconds,
            reason=reason,
        )

    def _finished(self, state: RunState) -> Result:
        """Return the result of a run that had ended before."""
        self.history = History(state.losses, seconds=state.seconds)
        images = self.plan.inputs.take_images(self.plan.last.number)
        finishing = finishing_of(images, self.plan.options)
        record = replace(self._record(state.iteration, state.ended), seconds=state.seconds)
        return self._result(finishing, state.x, record)

    def _result(self, finishing: Finishing, x: Array, record: Record) -> Result:
        return Result(finishing.image(x), self.plan.encoding, record)


def _check_history(wanted: int, there: int) -> None:
    if there < wanted:
        raise OptionError(
            f"the run has a history of {wanted} pairs, and there is room for {there} now; make "
            "room for temporary files, or set TMPDIR to another folder"
        )


def _continued(
    prepared: Prepared, start: ScaleStart, history: History, pending: list[RunState]
) -> OptimiserState:
    """Return the optimiser's state to continue from, with its arrays where the optimiser runs."""
    state = pending.pop()
    x, optimiser, last = state.x, state.optimiser, history.losses[-1]
    if optimiser is None:  # only the image is known
        x = _placed(x, prepared)
        begun = lbfgsb.begin(prepared.loss_and_gradient, x, pairs=prepared.pairs())
        return replace(
            begun,
            iteration=last.iteration - start.iteration,
            evaluations=last.evaluations - start.evaluations + 1,
        )
    read = state.read_history
    del state
    pairs, rows = prepared.pairs(), optimiser.pairs.saved() if read is None else read()
    pairs.restore(map(partial(_placed_pair, prepared), rows))
    at = optimiser.evaluation
    evaluation = Evaluation(at.loss, at.terms, at.layers, _placed(at.gradient, prepared))
    return replace(optimiser, x=_placed(x, prepared), evaluation=evaluation, pairs=pairs)


def _placed(array: Array, prepared: Prepared) -> Array:
    """Return a host array in the memory where the optimiser runs: the host's or the GPU's."""
    if prepared.options.device == "cpu":
        return array
    placed: Array = namespace(prepared.start).asarray(array)
    return placed


def _placed_pair(prepared: Prepared, row: tuple[Array, Array]) -> tuple[Array, Array]:
    """Return a pair in that memory. Used by `map`: a generator would keep two pairs at a time."""
    return _placed(row[0], prepared), _placed(row[1], prepared)
