"""The line search for a point that satisfies the strong Wolfe conditions."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, NamedTuple

from gramstyle.optimise.interface import E

# The constants of the strong Wolfe conditions: sufficient decrease of the loss, and reduction of
# the slope.
DECREASE, CURVATURE = 1e-3, 0.9

# The maximum number of trial points on one line, and the limit of an extrapolation, in steps.
MAX_TRIALS, MAX_EXTRAPOLATION = 20, 10.0


class Point(NamedTuple):
    """A point x + t d of the line: t, the scaled loss there and its derivative by t."""

    t: float
    loss: float
    slope: float


@dataclass(frozen=True)
class Trial(Generic[E]):
    """A point and the objective's evaluation there; x is recomputed from t when needed."""

    point: Point
    evaluation: E


def search(evaluate: Callable[[float], Trial[E]], start: Point, longest: float) -> Trial[E] | None:
    """Return a trial that satisfies the strong Wolfe conditions, or None if none is found.

    As long as the loss falls, t increases; once a minimum lies between the best point and another
    one, the search continues between them (Nocedal, Wright, "Numerical Optimization", algorithms
    3.5 and 3.6). The last point in the box may have any slope. While one evaluation is computed,
    only the best earlier one is in memory.

    Parameters
    ----------
    evaluate
        Evaluates the point at t.
    start
        The point at t = 0, where the slope is negative.
    longest
        The largest t for which the point is in the box.
    """
    best_trial: Trial[E] | None = None
    best, other, t = start, None, 1.0
    for _ in range(MAX_TRIALS):
        trial = evaluate(t)
        here = trial.point
        too_high = here.loss > start.loss + DECREASE * t * start.slope
        if too_high or (other is not None and here.loss >= best.loss):
            other = here
        else:
            if abs(here.slope) <= -CURVATURE * start.slope or (t >= longest and here.slope < 0):
                return trial
            best_trial = trial
            if other is None and here.slope < 0:
                best, t = here, min(_extrapolated(best, here), longest)
                continue
            # The loss rises from here towards `other`: the minimum is on the other side.
            if other is None or here.slope * (other.t - best.t) >= 0:
                other = best
            best = here
        del trial  # free its gradient before the next evaluation
        t = _interpolated(best, other)
    return best_trial if best.loss < start.loss else None


def _extrapolated(a: Point, b: Point) -> float:
    """Return a t beyond b: the zero of a linear slope, within limits."""
    ratio = a.slope / (a.slope - b.slope) if b.slope > a.slope else MAX_EXTRAPOLATION
    return a.t + (b.t - a.t) * min(max(ratio, 2.0), MAX_EXTRAPOLATION)


def _interpolated(a: Point, b: Point) -> float:
    """Return the t of the minimum of the cubic through two points, or the middle if it is no use.

    The middle is used if the cubic has no minimum, or if the minimum is too close to an end.
    """
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
    ratio = 1 - (b.slope + root - p) / divisor
    return a.t + width * ratio if 0.1 <= ratio <= 0.9 else middle
