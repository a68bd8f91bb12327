"""A photograph and a painting in, a styled image out: the run through its levels."""

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from gramstyle.core.arrays import Array, namespace, on_host
from gramstyle.core.objective import Evaluation
from gramstyle.errors import OptionError
from gramstyle.images import Source
from gramstyle.optimise import lbfgsb
from gramstyle.run import scales as pyramid
from gramstyle.run.level import (
    Callback,
    Ledger,
    Losses,
    Progress,
    Record,
    Result,
    Stage,
    State,
    image_of,
    optimised,
    run,
    stage_of,
)
from gramstyle.run.options import Options
from gramstyle.run.prepare import Prepared, plan, prepare
from gramstyle.run.scales import Level

__all__ = [
    "Course",
    "Losses",
    "Position",
    "Progress",
    "Record",
    "Result",
    "Stage",
    "chart",
    "climb",
    "run",
    "transfer",
]


@dataclass(frozen=True)
class Course:
    """A run through its levels, checked as far as it can be; nothing is in memory yet.

    Attributes
    ----------
    content, style, options
        As for `transfer`.
    model
        The network's file.
    levels
        The sizes, the smallest first.
    settings
        What a record says of the run.
    """

    content: Source
    style: Source
    options: Options
    model: Path
    levels: tuple[Level, ...]
    settings: Mapping[str, Any]


@dataclass(frozen=True)
class Position:
    """How far a run has come: with a course, all that it takes to go on.

    Attributes
    ----------
    stages
        The levels up to the present one.
    losses, seconds
        Of the whole run so far.
    evaluations
        Of the whole run so far.
    x
        The iterate.
    state
        The optimiser's there; None where it is not known, or the level has ended.
    ended
        Why the level has ended, or nothing.
    history
        Of a position that was read from somewhere: yields what the state's pairs are to be
        restored from, since they may be more than fits into memory.
    """

    stages: tuple[Stage, ...]
    losses: tuple[Losses, ...]
    seconds: float
    evaluations: int
    x: Array
    state: State | None
    ended: str = ""
    history: Callable[[], Iterator[tuple[Array, Array]]] | None = None

    @property
    def finished(self) -> bool:
        """Whether the run has ended."""
        return bool(self.ended) and self.stages[-1].number + 1 == self.stages[-1].of


def transfer(
    content: Source,
    style: Source,
    options: Options | None = None,
    *,
    model: str | os.PathLike[str] | None = None,
    callback: Callback | None = None,
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
        The image of the best iterate, as large as the options say, with the content's
        transparency if it has any; and the record of the run. A run that was stopped on its way
        up gives an image as large as the level it was stopped at.

    Raises
    ------
    ImageError, OptionError, ModelError, RuntimeMissingError
        If something that was given cannot be used.
    NonFiniteError
        If the objective becomes NaN or infinite; `callback` has seen the iterates before.

    Notes
    -----
    "A Neural Algorithm of Artistic Style", Gatys, Ecker, Bethge, arXiv 1508.06576. Sizes above
    512 pixels are reached by way of smaller ones, see `gramstyle.run.scales`.
    """
    options = Options() if options is None else options
    if len(pyramid.edges(options.size, options.scales)) == 1:
        return run(prepare(content, style, options, model=model), callback=callback)
    return climb(chart(content, style, options, model=model), callback=callback)


def chart(
    content: Source,
    style: Source,
    options: Options,
    *,
    model: str | os.PathLike[str] | None = None,
    notify: Callable[[str], None] | None = None,
) -> Course:
    """Check a run at its final size, and lay out its levels; takes and raises what `plan` does."""
    planned = plan(content, style, options, model=model, notify=notify)
    images = [each for each in (planned.photograph, planned.artwork) if each is not None]
    levels = pyramid.levels(
        options.size,
        iterations=options.iterations,
        scales=options.scales,
        shorter=min(min(each.width, each.height) for each in images),
    )
    climbed = {"levels": [level.edge for level in levels]} if len(levels) > 1 else {}
    return Course(
        content=content,
        style=style,
        options=options,
        model=planned.model.path,
        levels=levels,
        settings={**planned.settings, **climbed},
    )


def climb(
    course: Course,
    *,
    callback: Callback | None = None,
    keep: Callable[[Position], None] | None = None,
    every: int = 1,
    since: Callable[[], Position] | None = None,
) -> Result:
    """Run through the levels of a course.

    Parameters
    ----------
    course
        The run.
    callback
        As for `transfer`.
    keep
        Called with the position after every `every`-th iteration and at the end of each level, and
        where the run is interrupted or fails; the optimiser must then be "lbfgsb-device". The
        arrays in it are the run's own.
    since
        Gives the position to go on from, and keeps nothing of it. One without the optimiser's
        state goes on from its x alone; one that is finished gives its result at once.

    Returns
    -------
    Result
        As of `transfer`.

    Raises
    ------
    GramstyleError
        As `transfer` and `keep` do; if the position is none of this course.
    """
    ledger, stages, ended, held = Ledger(), list[Stage](), "", list[_Held]()
    evaluations, stopped, reason = 0, False, ""
    if since is not None:
        at = since()
        if at.finished:
            return _finished(course, at)
        ledger, stages, ended = Ledger(at.losses, seconds=at.seconds), list(at.stages), at.ended
        evaluations = at.evaluations
        held.append(_Held(at.x, at.state, at.history))
        del at

    def watched(progress: Progress) -> bool | None:
        nonlocal stopped
        stopped = bool(callback is not None and callback(progress))
        return stopped

    def keep_state(state: State) -> None:
        assert keep is not None  # noqa: S101 - given to `optimised` only where it is
        total = stages[-1].evaluated + state.evaluations
        keep(Position(tuple(stages), tuple(ledger.losses), ledger.seconds, total, state.x, state))

    for number in range(len(stages) if ended else max(0, len(stages) - 1), len(course.levels)):
        amid = bool(held) and not ended
        # Its start is not needed where the optimiser goes on.
        start = "content" if amid else _as_source(held.pop().x) if held else None
        options = _options(course, number, start)
        if amid and held[0].state is not None:
            options = replace(options, history=stages[-1].history)
        prepared = prepare(course.content, course.style, options, model=course.model)
        prepared = replace(prepared, options=replace(prepared.options, init=None))
        del start
        stage = _stage(course, number, prepared, ledger, evaluations)
        if amid:
            _check_same(stage, stages[-1], remembers=held[0].state is not None)
            stages[-1] = replace(stages[-1], history=stage.history)
        else:
            stages.append(stage)
        minimum = optimised(
            prepared,
            stages[-1],
            ledger,
            callback=watched,
            keep=None if keep is None else keep_state,
            every=every,
            state=_going_on(prepared, stages[-1], ledger, held) if amid else None,
        )
        evaluations = stages[-1].evaluated + minimum.evaluations
        x, alpha, reason = on_host(minimum.best.x), prepared.alpha, minimum.reason
        best = stages[-1].iterated + minimum.best.iteration
        del prepared, minimum
        if stopped:
            break
        ended = reason
        position = Position(
            tuple(stages), tuple(ledger.losses), ledger.seconds, evaluations, x, None, ended
        )
        if keep is not None:
            keep(position)
        if not position.finished:
            held.append(_Held(x))
            del x
        del position
    record = Record(
        settings=course.settings,
        losses=tuple(ledger.losses),
        best=best,
        seconds=ledger.seconds,
        reason=reason,
    )
    return Result(image_of(x, alpha), record)


class _Held(NamedTuple):
    """Of a position what is large; in a list, so that whoever takes it out has it last."""

    x: Array
    state: State | None = None
    history: Callable[[], Iterator[tuple[Array, Array]]] | None = None


def _options(course: Course, number: int, start: Source | None) -> Options:
    """Return the options of a level."""
    options, level = course.options, course.levels[number]
    if isinstance(start, np.ndarray):
        # A start is larger than the images where a small photograph is made large.
        most = max(options.max_pixels, start.shape[0] * start.shape[1])
        options = replace(options, max_pixels=most)
    return replace(
        options,
        size=level.edge,
        scales=1,
        iterations=level.iterations,
        init=options.init if start is None else start,
    )


def _stage(
    course: Course, number: int, prepared: Prepared, ledger: Ledger, evaluations: int
) -> Stage:
    """Return a level that begins now."""
    levels = course.levels
    edge, later = levels[number].edge, levels[number + 1 :]
    return stage_of(
        prepared,
        number=number,
        of=len(levels),
        later=sum(level.iterations * (level.edge / edge) ** 2 for level in later),
        after=sum(level.iterations for level in later),
        iterated=ledger.losses[-1].iteration if ledger.losses else 0,
        evaluated=evaluations,
        began=ledger.seconds if number else 0.0,
    )


def _check_same(stage: Stage, saved: Stage, *, remembers: bool) -> None:
    here, there = ((s.number, s.of, s.width, s.height, s.iterations) for s in (stage, saved))
    if here != there:
        raise OptionError(
            f"the run to go on with was at level {saved.number + 1} of {saved.of} ({saved.width} × "
            f"{saved.height}, {saved.iterations} iterations), where there is now level "
            f"{stage.number + 1} of {stage.of} ({stage.width} × {stage.height}, {stage.iterations} "
            "iterations); start it again"
        )
    if remembers and stage.history < saved.history:
        raise OptionError(
            f"the run remembers {saved.history} steps, and there is room for {stage.history} now; "
            "make room for passing files, or name another folder for them by TMPDIR"
        )


def _going_on(prepared: Prepared, stage: Stage, ledger: Ledger, held: list[_Held]) -> State:
    """Return the optimiser's state to go on from, in the place where the level keeps it."""
    x, state, history = held.pop()
    last = ledger.losses[-1]
    if state is None:  # all there is to go on from is the image
        x = _placed(x, prepared)
        begun = lbfgsb.begin(prepared.loss_and_gradient, x, pairs=prepared.pairs())
        return replace(
            begun,
            iteration=last.iteration - stage.iterated,
            evaluations=last.evaluations - stage.evaluated + 1,
        )
    pairs, rows = prepared.pairs(), state.pairs.saved() if history is None else history()
    pairs.restore(map(partial(_placed_pair, prepared), rows))
    at = state.evaluation
    gradient = _placed(at.gradient, prepared)
    evaluation = Evaluation(at.loss, at.content, at.style, at.style_loss, gradient)
    return replace(state, x=_placed(x, prepared), evaluation=evaluation, pairs=pairs)


def _placed(array: Array, prepared: Prepared) -> Array:
    """Return an array of the host where the optimiser's are."""
    if prepared.options.device == "cpu":
        return array
    there: Array = namespace(prepared.start).asarray(array)
    return there


def _placed_pair(prepared: Prepared, row: tuple[Array, Array]) -> tuple[Array, Array]:
    """Do so with a pair: for `map`, where a generator would keep one until it has the next."""
    return _placed(row[0], prepared), _placed(row[1], prepared)


def _as_source(x: Array) -> Array:
    """Return an iterate as an image to start from: float32 (H, W, 3), 0..1."""
    source: Array = np.clip(x.transpose(1, 2, 0).astype(np.float32) / np.float32(255), 0, 1)
    return source


def _finished(course: Course, at: Position) -> Result:
    """Return the result of a run that has ended."""
    planned = plan(course.content, course.style, course.options, model=course.model)
    record = Record(
        settings=course.settings,
        losses=at.losses,
        best=at.losses[-1].iteration,
        seconds=at.seconds,
        reason=at.ended,
    )
    alpha = None if planned.photograph is None else planned.photograph.alpha
    return Result(image_of(at.x, alpha), record)
