"""Run the optimiser on one prepared scale."""

from collections.abc import Callable
from dataclasses import dataclass

from gramstyle.core.arrays import Array, on_host
from gramstyle.core.evaluation import Evaluation
from gramstyle.optimise import lbfgsb
from gramstyle.optimise.interface import Iterate, Minimum
from gramstyle.optimise.lbfgsb.stateful import StatefulIterate
from gramstyle.run.prepare import Prepared
from gramstyle.run.progress import History, ScaleStart
from gramstyle.run.state import OptimiserState


@dataclass(frozen=True)
class Saving:
    """When the optimiser's state is saved, and how.

    Attributes
    ----------
    save
        Called with the state after every `every`-th iteration of the run, except the last one of
        the scale, and when the scale is interrupted or fails, so that it can be continued.
    """

    save: Callable[[OptimiserState], None]
    every: int


def optimise_scale(
    prepared: Prepared,
    start: ScaleStart,
    history: History,
    *,
    callback: Callable[[Array], bool | None],
    saving: Saving | None = None,
    state: OptimiserState | None = None,
) -> Minimum[Evaluation]:
    """Optimise one scale; return its best iterate and why it ended.

    Parameters
    ----------
    prepared, start
        The scale, and where in the run it starts.
    history
        Receives the losses after each iteration.
    callback
        Called with x (3, H, W) after every iteration; the scale ends when it returns True.
    saving
        When and how the optimiser's state is saved; the optimiser must then be "own".
    state
        The optimiser's state to continue from; None begins at `prepared.start`.
    """
    number = prepared.scale.number

    def evaluate(x: Array) -> Evaluation:
        evaluation = prepared.loss_and_gradient(x)
        if not history.losses:
            history.add(number, start, 0, 1, evaluation)
        return evaluation

    def after_iteration(iterate: Iterate[Evaluation]) -> bool | None:
        history.add(number, start, iterate.iteration, iterate.evaluations, iterate.evaluation)
        return callback(on_host(iterate.x))

    iterations, tolerance = prepared.scale.iterations, prepared.options.tolerance
    if prepared.options.minimises_by == "scipy":
        from gramstyle.optimise import scipy_lbfgsb  # SciPy takes 0.3 s to import

        return scipy_lbfgsb.minimise(
            evaluate,
            prepared.start,
            iterations=iterations,
            tolerance=tolerance,
            history=prepared.options.history,
            callback=after_iteration,
        )
    if saving is None:
        return lbfgsb.proceed(
            evaluate,
            # Not in a variable, which would keep the start in memory until the end.
            lbfgsb.begin(evaluate, prepared.start, pairs=prepared.pairs()),
            iterations=iterations,
            tolerance=tolerance,
            callback=after_iteration,
        )
    if state is None:
        state = lbfgsb.begin(evaluate, prepared.start, pairs=prepared.pairs())
    latest, saved = StatefulIterate.of(state), state.iteration
    pairs, changes = state.pairs, state.pairs.changes
    del state

    def after_state(iterate: Iterate[Evaluation]) -> bool | None:
        nonlocal latest, saved, changes
        assert isinstance(iterate, StatefulIterate)  # noqa: S101 - the optimiser began with one
        latest, changes = iterate, pairs.changes
        stops = after_iteration(iterate)
        due = (start.iteration + iterate.iteration) % saving.every == 0
        if due and iterate.iteration < iterations:
            saved = iterate.iteration
            saving.save(iterate)
        return stops

    try:
        # `latest` moves on with the iterations, so that earlier states are released.
        return lbfgsb.proceed(
            evaluate, latest, iterations=iterations, tolerance=tolerance, callback=after_state
        )
    except BaseException:
        # During an iteration the pairs may be ahead of the iterate. If saving a state has failed,
        # for example on a full disk, it is not tried again.
        if latest.iteration > saved and pairs.changes == changes:
            saving.save(latest)
        raise
