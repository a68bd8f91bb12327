"""The run: its state, one iteration, and iterations until one of the ends."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Generic

import numpy as np

from gramstyle.core.arrays import Array, cast, namespace
from gramstyle.errors import NonFiniteError
from gramstyle.optimise.descent import (
    WINDOW,
    Callback,
    E,
    Iterate,
    Minimum,
    converged,
    has_converged,
)
from gramstyle.optimise.lbfgsb.blocks import Gradient, blocks, clipped, flat, moved, slope
from gramstyle.optimise.lbfgsb.direction import NO_PRODUCTS, line, of_last
from gramstyle.optimise.lbfgsb.pairs import Pairs, PairsInMemory
from gramstyle.optimise.lbfgsb.search import Point, Trial, search


@dataclass(frozen=True)
class State(Generic[E]):
    """All that the next iteration depends on. Saved and restored, a run goes on bit by bit.

    Attributes
    ----------
    iteration, evaluations
        How many so far.
    x
        The iterate, in the start's shape and float type; the best so far, as every step descends.
    evaluation
        The objective there; of it the loss and the gradient matter.
    scale
        What both are multiplied by.
    losses
        Of the last iterates, at most `WINDOW` + 1, the last one this one's.
    pairs
        `step` adds to them: the state before it is then spent.
    products
        The inner products of the pairs, (2k, 2k) in float64, on the host; without the last pair
        where it is new. Computed anew, their last digits might differ.
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
        """What a callback is told."""
        return Iterate(self.iteration, self.evaluations, self.x, self.evaluation)


def minimise(
    loss_and_gradient: Callable[[Array], E],
    x0: Array,
    *,
    iterations: int,
    tolerance: float,
    memory: int,
    callback: Callback[E] | None = None,
    pairs: Callable[[int], Pairs] = PairsInMemory,
) -> Minimum[E]:
    """Make the loss small by L-BFGS-B, every entry of x kept within 0..255.

    Takes, returns and raises what `optimise.minimise` does, on arrays of x0's namespace and, where
    x0 is in float32, in float32.

    Parameters
    ----------
    loss_and_gradient
        The objective; called with arrays of x0's shape and namespace, in float32 if x0 is, else in
        float64. Its gradients are kept: each call gives an array of its own.
    x0
        The start, clipped to 0..255.
    iterations
        How many iterations at most.
    tolerance
        End early once the loss has fallen by less than this share of itself over the last ten
        iterations; 0 never does.
    memory
        How many pairs of steps and gradient differences to remember.
    callback
        Called after every iteration; the run ends when it returns True.
    pairs
        ``pairs(memory)`` makes what remembers them.

    Returns
    -------
    Minimum
        The iterate with the smallest loss (with iteration 0, the start, among them).

    Raises
    ------
    NonFiniteError
        If a loss or gradient is NaN or infinite. The iterates before it went to `callback`.
    """
    return proceed(
        loss_and_gradient,
        # Not kept in a variable: with it the start would stay until the end.
        begin(loss_and_gradient, x0, pairs=pairs(memory)),
        iterations=iterations,
        tolerance=tolerance,
        callback=callback,
    )


def begin(loss_and_gradient: Callable[[Array], E], x0: Array, *, pairs: Pairs) -> State[E]:
    """Evaluate the start and scale loss and gradient, as `optimise.minimise` says.

    Raises
    ------
    NonFiniteError
        If the loss or its gradient is NaN or infinite.
    """
    x = clipped(x0 if x0.dtype == namespace(x0).float32 else cast(x0, "float64"))
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
    """Run from a state until `iterations` in all, or until one of `minimise`'s ends is met."""
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
            reason = converged(tolerance)
        elif state.iteration >= iterations:
            reason = "all iterations done"
    return Minimum(state.iterate, state.iteration, evaluations, reason)


def step(loss_and_gradient: Callable[[Array], E], state: State[E]) -> State[E] | None:
    """Return the state after one more iteration; None where no step lowers the loss.

    Holds the 6 vectors of n that the package's docstring lists, beside the pairs.

    Raises
    ------
    NonFiniteError
        If a loss or gradient is NaN or infinite.
    GramstyleError
        If the pairs are on a disk that is full.
    """
    xp, pairs, products, shape = namespace(state.x), state.pairs, state.products, state.x.shape
    x, g = flat(state.x), Gradient(flat(state.evaluation.gradient), state.scale)
    start = Point(0.0, state.evaluation.loss * state.scale, 0.0)
    evaluations = state.evaluations

    def at(t: float, d: Array) -> Trial[E]:
        """Evaluate the point x + t d."""
        nonlocal evaluations
        evaluations += 1
        evaluation = loss_and_gradient(xp.reshape(moved(x, d, t), shape))
        there = slope(Gradient(flat(evaluation.gradient), state.scale), d)
        # 0 times what is not finite is not finite either: the slope tells for every entry.
        if not math.isfinite(evaluation.loss) or not math.isfinite(there):
            raise NonFiniteError("the loss or its gradient is not finite")
        return Trial(Point(t, evaluation.loss * state.scale, there), evaluation)

    found = None
    while found is None:
        along = line(x, g, pairs, products)
        if along is not None:
            start = start._replace(slope=along.slope)
            found = search(partial(at, d=along.d), start, along.longest)
        if found is None:
            if not len(pairs):
                return None
            pairs.forget()  # what they say of the curvature does not hold here
            along, products = None, NO_PRODUCTS

    assert along is not None  # noqa: S101 - nothing is found without a line
    after, evaluation = moved(x, along.d, found.point.t), found.evaluation
    products = along.products
    # A difference from which the curvature cannot be told apart from none teaches nothing.
    if found.point.slope - start.slope > -start.slope * np.finfo(np.float64).eps:
        there = Gradient(flat(evaluation.gradient), state.scale)
        pairs.append(x.shape[0], _differences(x, after, g, there))
        products = of_last(products, len(pairs) - 1)
    return replace(
        state,
        iteration=state.iteration + 1,
        evaluations=evaluations,
        x=xp.reshape(after, shape),
        evaluation=evaluation,
        losses=(*state.losses, evaluation.loss)[-1 - WINDOW :],
        products=products,
    )


def _differences(
    x: Array, after: Array, g: Gradient, there: Gradient
) -> Iterator[tuple[slice, Array, Array]]:
    """Yield the new pair block by block: which entries, s and y."""
    for b in blocks(x):
        s = cast(after[b], "float64") - cast(x[b], "float64")
        yield b, s, there.block(b) - g.block(b)
