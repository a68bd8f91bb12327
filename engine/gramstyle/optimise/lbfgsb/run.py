"""The optimiser's state, one iteration, and iterations until a stopping condition is met."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Generic

import numpy as np

from gramstyle.core.arrays import Array, cast, namespace
from gramstyle.errors import NonFiniteError
from gramstyle.optimise.interface import (
    WINDOW,
    Callback,
    E,
    Iterate,
    Minimum,
    convergence_reason,
    has_converged,
)
from gramstyle.optimise.lbfgsb.blocks import Gradient, clip, flat, slope
from gramstyle.optimise.lbfgsb.loops import loops_over
from gramstyle.optimise.lbfgsb.model import NO_PRODUCTS, products_of_last
from gramstyle.optimise.lbfgsb.pairs import Pairs, PairsInMemory
from gramstyle.optimise.lbfgsb.search import Point, Trial, search


@dataclass(frozen=True)
class State(Generic[E]):
    """Everything that the next iteration depends on.

    A run that is resumed from a saved state is bit-identical to an uninterrupted one.

    Attributes
    ----------
    iteration, evaluations
        The number of iterations and of evaluations so far.
    x
        The iterate, in the start's shape and float type; the best so far, as every step descends.
    evaluation
        The objective's evaluation at x; only its loss and gradient are used.
    scale
        The factor by which both are multiplied.
    losses
        The losses of the last iterates, oldest first, at most `WINDOW` + 1, including this one.
    pairs
        The history. `step` appends to it, so the previous state cannot be used again.
    products
        The inner products of the pairs, (2k, 2k) in float64, on the host, without the last pair
        if it is new. They are stored because the last digits of recomputed ones could differ.
    """

    iteration: int
    evaluations: int
    x: Array
    evaluation: E
    scale: float
    losses: tuple[float, ...]
    pairs: Pairs
    products: Array

    @property
    def iterate(self) -> Iterate[E]:
        """The iterate that a callback receives."""
        return Iterate(self.iteration, self.evaluations, self.x, self.evaluation)


def minimise(
    loss_and_gradient: Callable[[Array], E],
    x0: Array,
    *,
    iterations: int,
    tolerance: float,
    history: int,
    callback: Callback[E] | None = None,
    pairs: Callable[[int], Pairs] = PairsInMemory,
) -> Minimum[E]:
    """Minimise a loss by L-BFGS-B with every entry of x bounded to 0..255.

    Like `gramstyle.optimise.scipy_lbfgsb.minimise`, but on arrays of any namespace and in float32
    if x0 is float32.

    Parameters
    ----------
    loss_and_gradient : callable
        The objective. It is called with arrays of x0's shape and namespace, float32 if x0 is,
        else float64, and returns an object with `.loss`, a float, and `.gradient`, an array of
        that shape. It must return a new gradient array at each call.
    x0 : array
        The start, of any shape, clipped to 0..255.
    iterations : int
        The maximum number of iterations.
    tolerance : float
        The relative tolerance: the run ends when the loss has fallen by less than this fraction
        of itself over the last ten iterations. With 0 it never ends for that reason.
    history : int
        The maximum number of pairs (step, gradient difference) to store.
    callback : callable, optional
        Called with an `Iterate` after every iteration; the run ends when it returns True.
    pairs : callable, optional
        ``pairs(history)`` creates the storage of the pairs: `PairsInMemory` or `PairsOnDisk`.

    Returns
    -------
    Minimum
        The iterate with the smallest loss (the start counts as iteration 0), the numbers of
        iterations and evaluations, and the reason for the end.

    Raises
    ------
    NonFiniteError
        If a loss or gradient is NaN or infinite. `callback` has received all earlier iterates.

    See Also
    --------
    gramstyle.optimise.scipy_lbfgsb.minimise : The reference, with an example.
    """
    return proceed(
        loss_and_gradient,
        # Not assigned to a variable, which would hold the start in memory until the end.
        begin(loss_and_gradient, x0, pairs=pairs(history)),
        iterations=iterations,
        tolerance=tolerance,
        callback=callback,
    )


def begin(loss_and_gradient: Callable[[Array], E], x0: Array, *, pairs: Pairs) -> State[E]:
    """Evaluate the start and determine the scale of loss and gradient.

    The scale √n / ‖∇₀‖ makes the first step move the pixels by one grey level (root mean square).

    Raises
    ------
    NonFiniteError
        If the loss or its gradient is NaN or infinite.
    """
    x = clip(x0 if x0.dtype == namespace(x0).float32 else cast(x0, "float64"))
    at = loss_and_gradient(x)
    g = flat(at.gradient)
    squares = slope(Gradient(g, 1.0), g)
    if not math.isfinite(at.loss) or not math.isfinite(squares):
        raise NonFiniteError("the loss or its gradient at the start is not finite")
    scale = math.sqrt(x.size / squares) if squares else 0.0
    return State(0, 1, x, at, scale, (at.loss,), pairs, NO_PRODUCTS)


def proceed(
    loss_and_gradient: Callable[[Array], E],
    state: State[E],
    *,
    iterations: int,
    tolerance: float,
    callback: Callback[E] | None = None,
) -> Minimum[E]:
    """Iterate from a state until a stopping condition of `minimise` is met.

    `iterations` is the maximum in total, including those of the state.
    """
    evaluations, reason = state.evaluations, ""

    def counted(x: Array) -> E:
        nonlocal evaluations
        evaluations += 1
        return loss_and_gradient(x)

    if state.scale == 0.0:
        reason = "the gradient is zero at the start"
    elif state.iteration >= iterations:
        reason = "all iterations done" if iterations else "no iterations asked for"
    while not reason:
        following = step(counted, state)
        if following is None:
            reason = "L-BFGS-B found no better image (no lower loss along its last direction)"
            break
        state = following
        if callback is not None and callback(state.iterate):
            reason = "stopped by the caller"
        elif has_converged(state.losses, tolerance):
            reason = convergence_reason(tolerance)
        elif state.iteration >= iterations:
            reason = "all iterations done"
    return Minimum(state.iterate, state.iteration, evaluations, reason)


def step(loss_and_gradient: Callable[[Array], E], state: State[E]) -> State[E] | None:
    """Return the state after one more iteration, or None if no step lowers the loss.

    Holds the 6 vectors of n that the package's docstring lists, in addition to the pairs.

    Raises
    ------
    NonFiniteError
        If a loss or gradient is NaN or infinite.
    GramstyleError
        If the pairs are on disk and the disk is full.
    """
    xp, pairs, products, shape = namespace(state.x), state.pairs, state.products, state.x.shape
    x, g = flat(state.x), Gradient(flat(state.evaluation.gradient), state.scale)
    loops, start = loops_over(pairs), Point(0.0, state.evaluation.loss * state.scale, 0.0)
    evaluations = state.evaluations

    def evaluate(t: float, d: Array) -> Trial[E]:
        """Evaluate the point x + t d."""
        nonlocal evaluations
        evaluations += 1
        evaluation = loss_and_gradient(xp.reshape(loops.clipped_step(x, d, t), shape))
        slope_at_t = loops.slope(Gradient(flat(evaluation.gradient), state.scale), d)
        # 0 times an infinity or NaN is NaN, so the slope covers every entry of the gradient.
        if not math.isfinite(evaluation.loss) or not math.isfinite(slope_at_t):
            raise NonFiniteError("the loss or its gradient is not finite")
        return Trial(Point(t, evaluation.loss * state.scale, slope_at_t), evaluation)

    found = None
    while found is None:
        direction = loops.find_direction(x, g, products)
        if direction is not None:
            start = start._replace(slope=direction.slope)
            found = search(partial(evaluate, d=direction.d), start, direction.longest)
        if found is None:
            if not len(pairs):
                return None
            pairs.clear()  # their model of the curvature is wrong here
            direction, products = None, NO_PRODUCTS

    assert direction is not None  # noqa: S101 - the search needs a direction
    after, evaluation = loops.clipped_step(x, direction.d, found.point.t), found.evaluation
    products = direction.products
    # Skip a pair whose curvature is lost in rounding.
    if found.point.slope - start.slope > -start.slope * np.finfo(np.float64).eps:
        g_after = Gradient(flat(evaluation.gradient), state.scale)
        loops.append_pair(x, after, g, g_after)
        products = products_of_last(products, len(pairs) - 1)
    return replace(
        state,
        iteration=state.iteration + 1,
        evaluations=evaluations,
        x=xp.reshape(after, shape),
        evaluation=evaluation,
        losses=(*state.losses, evaluation.loss)[-1 - WINDOW :],
        products=products,
    )
