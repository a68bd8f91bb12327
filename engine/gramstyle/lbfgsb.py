"""L-BFGS-B over the array namespace: the picture and all that is remembered stay on its device.

The same method as SciPy's (Byrd, Lu, Nocedal, Zhu, "A limited memory algorithm for bound
constrained optimization", 1995), written in passes over blocks of entries, so that it runs on a
GPU, and on histories that are not in memory. An iteration has three parts:

1. The model: f(x + d) ≈ f + gᵀd + ½ dᵀBd with B = θ I − V K⁻¹ Vᵀ, where the 2k rows of V are
   the last k differences y of the gradient and, times θ, the last k steps s (their section 3).
2. The direction: the model's minimum over the entries that are free to move, clipped to the
   box; then those that were clipped are held at their bound and the others find their minimum
   again. Differs from Byrd et al. (1995), who follow the gradient's path, bound after bound, to
   see which entries to hold: that is one step after the other for every entry.
3. The search along it for the strong Wolfe conditions, with their constants.

Sums over entries are in float64, block by block in a fixed order. The matrices of 2k × 2k are
solved on the host: an iteration waits for the device three times, and once more at each point
that it evaluates.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Generic, NamedTuple, Protocol

import numpy as np

from gramstyle.arrays import Array, cast, namespace, on_host
from gramstyle.descent import (
    BRIGHTEST,
    DARKEST,
    WINDOW,
    Callback,
    E,
    Iterate,
    Minimum,
    converged,
    has_converged,
)
from gramstyle.errors import NonFiniteError

# Entries in a block: its rows of float64 take 40 MB at ten pairs.
BLOCK = 1 << 18

# The strong Wolfe conditions: the loss falls by this share of what its slope promises, and the
# slope to this share of itself.
SUFFICIENT, FLAT = 1e-3, 0.9

# How many points of one line are tried, and how far beyond the last one the next may lie.
TRIALS, STRETCH = 20, 10.0


class Pairs(Protocol):
    """The last steps s and differences y of the gradient: where they are is nobody else's."""

    def __len__(self) -> int:
        """How many pairs there are."""

    def append(self, s: Array, y: Array) -> None:
        """Add a pair, both (n,) in float64; the oldest goes where there are too many."""

    def forget(self) -> None:
        """Drop them all."""

    def block(self, entries: slice) -> Array:
        """Return these entries of all y, oldest first, then of all s: (2k, entries), float64."""


class PairsInMemory:
    """Pairs on the device of the arrays that are appended.

    Attributes
    ----------
    rows
        The pairs (s, y), oldest first, each (n,): all there is to save.

    Parameters
    ----------
    memory
        How many pairs to keep.
    dtype
        In which type; "float64" takes twice the memory and gains nothing on pictures.
    """

    def __init__(self, memory: int, *, dtype: str = "float32") -> None:
        self.rows: list[tuple[Array, Array]] = []
        self._memory = memory
        self._dtype = dtype

    def __len__(self) -> int:
        return len(self.rows)

    def append(self, s: Array, y: Array) -> None:
        """Add a pair; the oldest goes where there are too many."""
        if len(self.rows) == self._memory:
            self.rows.pop(0)  # its memory before the new pair's
        self.rows.append((cast(s, self._dtype), cast(y, self._dtype)))

    def forget(self) -> None:
        """Drop them all."""
        self.rows.clear()

    def block(self, entries: slice) -> Array:
        """Return these entries of all y, then of all s."""
        xp = namespace(self.rows[0][0])
        both = [y[entries] for _, y in self.rows] + [s[entries] for s, _ in self.rows]
        return cast(xp.stack(both), "float64")


@dataclass(frozen=True)
class State(Generic[E]):
    """All that the next iteration depends on. Saved and restored, a run goes on bit by bit.

    Attributes
    ----------
    iteration, evaluations
        How many so far.
    x
        The iterate, float64, in the shape of the start; the best so far, as every step descends.
    evaluation
        The objective there; of it the loss and the gradient matter.
    scale
        What both are multiplied by.
    losses
        Of the last iterates, at most `WINDOW` + 1, the last one this one's.
    pairs
        `step` adds to them: the state before it is then spent.
    """

    iteration: int
    evaluations: int
    x: Array
    evaluation: E
    scale: float
    losses: tuple[float, ...]
    pairs: Pairs

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

    Takes, returns and raises what `optimise.minimise` does, on arrays of x0's namespace.

    Parameters
    ----------
    loss_and_gradient
        The objective; called with float64 arrays of x0's shape and namespace. Its gradients are
        kept: each call gives an array of its own.
    x0
        The start, clipped to 0..255.
    iterations
        How many iterations at the most.
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
    state = begin(loss_and_gradient, x0, pairs=pairs(memory))
    return proceed(
        loss_and_gradient, state, iterations=iterations, tolerance=tolerance, callback=callback
    )


def begin(loss_and_gradient: Callable[[Array], E], x0: Array, *, pairs: Pairs) -> State[E]:
    """Evaluate the start and scale loss and gradient, as `optimise.minimise` says.

    Raises
    ------
    NonFiniteError
        If the loss or its gradient is NaN or infinite.
    """
    x = namespace(x0).clip(cast(x0, "float64"), DARKEST, BRIGHTEST)
    at = loss_and_gradient(x)
    g = _Gradient(_flat(at.gradient), 1.0)
    squares = _slope(g, cast(g.unscaled, "float64"))
    if not math.isfinite(at.loss) or not math.isfinite(squares):
        raise NonFiniteError("the loss or its gradient at the start is not finite")
    scale = math.sqrt(x.size / squares) if squares else 0.0
    return State(0, 1, x, at, scale, (at.loss,), pairs)


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
            reason = "L-BFGS-B found no better picture (no lower loss along its last direction)"
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

    Raises
    ------
    NonFiniteError
        If a loss or gradient is NaN or infinite.
    """
    xp, pairs, shape = namespace(state.x), state.pairs, state.x.shape
    x, g = _flat(state.x), _Gradient(_flat(state.evaluation.gradient), state.scale)
    evaluations = state.evaluations

    def at(t: float, d: Array) -> _Trial[E]:
        """Evaluate the point x + t d."""
        nonlocal evaluations
        evaluations += 1
        there = xp.reshape(xp.clip(x + t * d, DARKEST, BRIGHTEST), shape)
        evaluation = loss_and_gradient(there)
        slope = _slope(_Gradient(_flat(evaluation.gradient), state.scale), d)
        # 0 times what is not finite is not finite either: the slope tells for every entry.
        if not math.isfinite(evaluation.loss) or not math.isfinite(slope):
            raise NonFiniteError("the loss or its gradient is not finite")
        return _Trial(t, evaluation.loss * state.scale, slope, there, evaluation)

    found = None
    while found is None:
        line = _line(x, g, pairs)
        if line is not None:
            loss = state.evaluation.loss * state.scale
            start = _Trial(0.0, loss, line.slope, state.x, state.evaluation)
            found = _search(partial(at, d=line.d), start, line.longest)
        if found is None:
            if not len(pairs):
                return None
            pairs.forget()  # what they say of the curvature does not hold here

    # A difference from which the curvature cannot be told apart from none teaches nothing.
    if found.slope - start.slope > -start.slope * np.finfo(np.float64).eps:
        after = cast(_flat(found.evaluation.gradient), "float64")
        pairs.append(_flat(found.x) - x, state.scale * (after - cast(g.unscaled, "float64")))
    return replace(
        state,
        iteration=state.iteration + 1,
        evaluations=evaluations,
        x=found.x,
        evaluation=found.evaluation,
        losses=(*state.losses, found.evaluation.loss)[-1 - WINDOW :],
    )


class _Gradient(NamedTuple):
    """The gradient (n,) in the type in which it came, and what it is multiplied by."""

    unscaled: Array
    scale: float

    def block(self, entries: slice) -> Array:
        return self.scale * cast(self.unscaled[entries], "float64")


# The direction


class _Line(NamedTuple):
    """A direction d, the slope gᵀd of the loss along it, and how often d fits into the box."""

    d: Array
    slope: float
    longest: float


def _line(x: Array, g: _Gradient, pairs: Pairs) -> _Line | None:
    """Return where to search; None where nothing leads down."""
    theta = 1.0
    if len(pairs):
        try:
            to, theta = _minimum_of_model(x, g, pairs)
        except np.linalg.LinAlgError:
            return None
        line = _measured(x, g, to)
        if line.slope < 0:
            return line
        # Clipped to the box, the minimum may lie uphill.
    xp = namespace(x)
    to = xp.empty_like(x)
    for b in _blocks(x):
        to[b] = xp.clip(x[b] - g.block(b) / theta, DARKEST, BRIGHTEST)
    line = _measured(x, g, to)
    return line if line.slope < 0 else None


def _minimum_of_model(x: Array, g: _Gradient, pairs: Pairs) -> tuple[Array, float]:
    """Return the model's minimum in the box, as far as two rounds find it, and its θ.

    In each round some entries are held: in the first those at a bound towards which the loss
    falls, in the second those that the first has brought to a bound. The others, the rows F of
    V, go to the model's minimum, r being the gradient of the model where the held ones are:

        d = −B_F⁻¹ r,  B_F⁻¹ = I/θ + F (K − FᵀF/θ)⁻¹ Fᵀ/θ²

    Raises
    ------
    LinAlgError
        If the pairs are no model: their matrices are singular.
    """
    xp, n = namespace(x), 2 * len(pairs)
    to = x
    model: _Model | None = None
    for first in (True, False):
        # Side by side: V_F V_Fᵀ, V_F g, then V Vᵀ, or V times how far the held entries went.
        sums = xp.zeros((n, 2 * n + 1 if first else n + 2), dtype=xp.float64)
        for b in _blocks(x):
            V, gradient = pairs.block(b), g.block(b)
            held = _held(to[b], gradient, first=first)
            free = xp.where(held, 0.0, V)
            sums[:, :n] += free @ free.T
            sums[:, n] += free @ gradient
            if first:
                sums[:, n + 1 :] += V @ V.T
            else:
                sums[:, n + 1] += V @ xp.where(held, to[b] - x[b], 0.0)
        products = on_host(sums)
        if model is None:
            model, went = _Model.of(products[:, n + 1 :]), np.zeros(n)
        else:
            went = products[:, n + 1]
        c = model.coefficients(products[:, :n], products[:, n], went)
        weights = xp.asarray(c.tolist(), dtype=xp.float64)
        before, to = to, xp.empty_like(x)
        for b in _blocks(x):
            gradient = g.block(b)
            held = _held(before[b], gradient, first=first)
            moved = x[b] - gradient / model.theta + weights @ pairs.block(b)
            to[b] = xp.clip(xp.where(held, before[b], moved), DARKEST, BRIGHTEST)
    assert model is not None  # noqa: S101 - made in the first round
    return to, model.theta


class _Model(NamedTuple):
    """B = θ I − V diag(w) K⁻¹ diag(w) Vᵀ, V's columns being y, then s."""

    theta: float
    w: Array
    K: Array

    @classmethod
    def of(cls, G: Array) -> "_Model":
        """Return the model of pairs from their inner products G = V Vᵀ, V's rows y, then s."""
        k = len(G) // 2
        s_y, s_s = G[k:, :k], G[k:, k:]
        if not s_y[-1, -1] > 0:
            raise np.linalg.LinAlgError("the last pair has no curvature")
        theta = float(G[k - 1, k - 1] / s_y[-1, -1])
        below = np.tril(s_y, -1)
        middle = np.block([[-np.diag(np.diag(s_y)), below.T], [below, theta * s_s]])
        return cls(theta, np.repeat([1.0, theta], k), middle)

    def coefficients(self, G: Array, falls: Array, went: Array) -> Array:
        """Return c for which d = −g/θ + c V takes the free entries to the minimum.

        Parameters
        ----------
        G, falls
            The products F Fᵀ and F g of V's rows F without the held entries.
        went
            The product of V's rows with how far the held entries have moved.
        """
        G, u = G * np.outer(self.w, self.w), np.linalg.solve(self.K, self.w * went)
        v = np.linalg.solve(self.K - G / self.theta, self.w * falls - G @ u)
        c: Array = self.w * (u / self.theta - v / self.theta**2)
        if not np.isfinite(c).all():
            raise np.linalg.LinAlgError("the pairs contradict each other")
        return c


def _held(x: Array, g: Array, *, first: bool) -> Array:
    """Tell which entries are at a bound; in the first round only where the loss falls beyond."""
    dark, bright = x <= DARKEST, x >= BRIGHTEST
    return (dark & (g > 0)) | (bright & (g < 0)) if first else dark | bright


def _measured(x: Array, g: _Gradient, to: Array) -> _Line:
    """Return the line from x to `to`, whose memory it takes."""
    xp = namespace(x)
    slope, shortest = xp.zeros((), dtype=xp.float64), None
    for b in _blocks(x):
        d = to[b] - x[b]
        slope += xp.sum(g.block(b) * d)
        room = xp.where(d > 0, BRIGHTEST - x[b], x[b] - DARKEST)
        fits = xp.min(xp.where(d == 0, math.inf, room / xp.where(d == 0, 1.0, xp.abs(d))))
        shortest = fits if shortest is None else xp.minimum(shortest, fits)
        to[b] = d
    both = on_host(xp.stack([slope, shortest]))
    # x + d is in the box by construction; rounding must not say otherwise.
    return _Line(to, float(both[0]), max(1.0, float(both[1])))


def _slope(g: _Gradient, d: Array) -> float:
    xp = namespace(d)
    total = xp.zeros((), dtype=xp.float64)
    # What is not finite is found by the sum, and said by whoever asked for it.
    with np.errstate(invalid="ignore"):
        for b in _blocks(d):
            total += xp.sum(g.block(b) * d[b])
    return float(total)


# The search


@dataclass(frozen=True)
class _Trial(Generic[E]):
    """A point x + t d of the line: the scaled loss and its slope by t there."""

    t: float
    loss: float
    slope: float
    x: Array
    evaluation: E


def _search(at: Callable[[float], _Trial[E]], start: _Trial[E], longest: float) -> _Trial[E] | None:
    """Return a point for which the strong Wolfe conditions hold; None if none is found.

    While the loss only falls, further and further out; once a minimum is known to lie between
    the best point and another one, between these (Nocedal, Wright, "Numerical Optimization",
    algorithms 3.5 and 3.6). The furthest point in the box needs no flat slope.
    """
    best, other, t = start, None, 1.0
    for _ in range(TRIALS):
        here = at(t)
        too_high = here.loss > start.loss + SUFFICIENT * t * start.slope
        if too_high or (other is not None and here.loss >= best.loss):
            other = here
        else:
            if abs(here.slope) <= -FLAT * start.slope or (t >= longest and here.slope < 0):
                return here
            if other is None and here.slope < 0:
                best, t = here, min(_beyond(best, here), longest)
                continue
            # The loss rises from here towards `other`: the minimum is on the other side.
            if other is None or here.slope * (other.t - best.t) >= 0:
                other = best
            best = here
        t = _between(best, other)
    return best if best is not start and best.loss < start.loss else None


def _beyond(a: _Trial[E], b: _Trial[E]) -> float:
    """Return where the slope would be 0 were it linear, beyond b, but not too far."""
    share = a.slope / (a.slope - b.slope) if b.slope > a.slope else STRETCH
    return a.t + (b.t - a.t) * min(max(share, 2.0), STRETCH)


def _between(a: _Trial[E], b: _Trial[E]) -> float:
    """Return the minimum of the cubic through two points, not too near to either of them."""
    width = b.t - a.t
    middle = a.t + width / 2
    p = a.slope + b.slope - 3 * (b.loss - a.loss) / width
    q = p * p - a.slope * b.slope
    if q <= 0:
        return middle
    root = math.copysign(math.sqrt(q), width)
    divisor = b.slope - a.slope + 2 * root
    if divisor == 0:
        return middle
    share = 1 - (b.slope + root - p) / divisor
    return a.t + width * share if 0.1 <= share <= 0.9 else middle


def _flat(array: Array) -> Array:
    flat: Array = namespace(array).reshape(array, (-1,))
    return flat


def _blocks(array: Array) -> Iterator[slice]:
    """Split (n,) into blocks."""
    n = array.shape[0]
    for begin_ in range(0, n, BLOCK):
        yield slice(begin_, min(begin_ + BLOCK, n))
