"""The search along a direction for a point where the strong Wolfe conditions hold."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, NamedTuple

from gramstyle.optimise.descent import E

# The strong Wolfe conditions: the loss falls by this share of what its slope promises, and the
# slope to this share of itself.
SUFFICIENT, FLAT = 1e-3, 0.9

# How many points of one line are tried, and how far beyond the last one the next may lie.
TRIALS, STRETCH = 20, 10.0


class Point(NamedTuple):
    """A point x + t d of the line: the scaled loss and its slope by t there."""

    t: float
    loss: float
    slope: float


@dataclass(frozen=True)
class Trial(Generic[E]):
    """A point and the objective there. Its x is made again from t where it is wanted."""

    point: Point
    evaluation: E


def search(at: Callable[[float], Trial[E]], start: Point, longest: float) -> Trial[E] | None:
    """Return a point for which the strong Wolfe conditions hold; None if none is found.

    While the loss only falls, further and further out; once a minimum is known to lie between
    the best point and another one, between these (Nocedal, Wright, "Numerical Optimization",
    algorithms 3.5 and 3.6). The furthest point in the box needs no flat slope. One evaluation is
    kept while another one is made: the best one's.

    Parameters
    ----------
    at
        Evaluates the point at t.
    start
        The point at 0, where the slope is negative.
    longest
        The t up to which the line is in the box.
    """
    kept: Trial[E] | None = None
    best, other, t = start, None, 1.0
    for _ in range(TRIALS):
        trial = at(t)
        here = trial.point
        too_high = here.loss > start.loss + SUFFICIENT * t * start.slope
        if too_high or (other is not None and here.loss >= best.loss):
            other = here
        else:
            if abs(here.slope) <= -FLAT * start.slope or (t >= longest and here.slope < 0):
                return trial
            kept = trial
            if other is None and here.slope < 0:
                best, t = here, min(_beyond(best, here), longest)
                continue
            # The loss rises from here towards `other`: the minimum is on the other side.
            if other is None or here.slope * (other.t - best.t) >= 0:
                other = best
            best = here
        del trial  # its gradient goes before the next one comes
        t = _between(best, other)
    return kept if best.loss < start.loss else None


def _beyond(a: Point, b: Point) -> float:
    """Return where the slope would be 0 were it linear, beyond b, but not too far."""
    share = a.slope / (a.slope - b.slope) if b.slope > a.slope else STRETCH
    return a.t + (b.t - a.t) * min(max(share, 2.0), STRETCH)


def _between(a: Point, b: Point) -> float:
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
