"""Fit the parameter of a family of mistakes to an answer.

The loss alone, or one product with the gradient, finds the value up to rounding; the gradient and
dF then confirm it and refine it. A family that only the loss confirms is never named.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from gramstyle.conformance.cases import Answer, Case
from gramstyle.conformance.mistakes.families.family import Family, Member
from gramstyle.core.arrays import Array

# The steps of the search for a root, and of the refinement on all quantities.
ROOT_STEPS, REFINEMENTS = 60, 4

# How often a search looks closer where a quantity comes near 0 without crossing it.
CLOSER = 3

# A value of the parameter, and the quantity there.
Point = tuple[float, float]

# The largest part of a deviation that may be left before the refinement.
NEAR = 0.3

# The step of the refinement's difference, relative to the value.
STEP = 1e-6


@dataclass(frozen=True)
class Evidence:
    """What a fitted answer is compared with.

    Attributes
    ----------
    case, found
        The case, and the answer to it.
    parts
        The parts of an answer that are compared: loss, gradient, then dF.
    wrong
        Which parts deviate from the truth.
    """

    case: Case
    found: Answer
    parts: Callable[[Answer], Sequence[Array]]
    wrong: Sequence[bool]

    def comparable(self, answer: Answer) -> bool:
        """Return whether an answer has the shapes of the found one."""
        return all(answer.dF[name].shape == dF.shape for name, dF in self.found.dF.items())

    def residual(self, answer: Answer) -> Array:
        """Return the differences from the found answer, relative to its deviations."""
        pairs = zip(self.parts(answer), self._found_and_scales(), strict=True)
        return np.concatenate([np.ravel(part - found) / scale for part, (found, scale) in pairs])

    def _found_and_scales(self) -> Iterator[tuple[Array, float]]:
        """Yield each part of the found answer and the size of its deviation, or of itself."""
        truth = self.parts(self.case.truth)
        for part, true, wrong in zip(self.parts(self.found), truth, self.wrong, strict=True):
            yield part, float(np.linalg.norm(part - true if wrong else part)) or 1.0


def members(families: Sequence[Family], evidence: Evidence) -> Iterator[Member]:
    """Yield the mistakes of the families that come near the found answer, with fitted values."""
    loss, *gradients = evidence.wrong
    if not any(gradients):
        # One number confirms no fitted parameter.
        return
    with np.errstate(all="ignore"):
        for family in families:
            if family.in_loss == loss:
                for place in family.places(evidence.case):
                    yield from _fitted(family, place, evidence)


def _fitted(family: Family, place: str, evidence: Evidence) -> Iterator[Member]:
    """Yield the members of a family at one place that come near the found answer."""
    for value in _values(family, place, evidence):
        answer = family.answer(evidence.case, value, place)
        if answer is None or not evidence.comparable(answer):
            continue
        if family.values is None:
            yield Member(family, value, place)
        elif np.linalg.norm(evidence.residual(answer)) <= NEAR * math.sqrt(len(evidence.wrong)):
            yield Member(family, _refined(family, value, place, evidence), place)


def _values(family: Family, place: str, evidence: Evidence) -> Iterator[float]:
    """Yield the values with which the family gives the quantity of the found answer."""
    case, found = evidence.case, evidence.found
    if family.values is None:
        if not family.in_loss or _near(family.loss(case, 0.0, place), found.loss):
            yield 0.0
        return
    yield from family.pieces.guesses(found)

    def quantity(value: float) -> float:
        """Return the relative deviation of the loss, or of the gradient along itself."""
        if family.in_loss:
            return (family.loss(case, value, place) - found.loss) / (abs(found.loss) or 1.0)
        answer = family.answer(case, value, place)
        if answer is None:
            return math.nan
        square = float(np.vdot(found.gradient, found.gradient)) or 1.0
        return float(np.vdot(answer.gradient - found.gradient, found.gradient)) / square

    if family.affine:
        zero, one = quantity(0.0), quantity(1.0)
        if zero != one and math.isfinite(zero + one):
            yield zero / (zero - one)
        return
    grid = [float(value) for value in family.values.grid()]
    first, last = quantity(grid[0]), quantity(grid[-1])
    if first == last:
        # The parameter changes nothing in this case.
        return
    gaps = [first, *(quantity(value) for value in grid[1:-1]), last]
    yield from _crossings(quantity, list(zip(grid, gaps, strict=True)), CLOSER)


def _crossings(
    quantity: Callable[[float], float], points: Sequence[Point], closer: int
) -> Iterator[float]:
    """Yield where a quantity crosses 0, also twice between two points, where it only comes near."""
    for low, high in pairwise(points):
        if low[1] * high[1] <= 0:
            yield _root(quantity, low, high)
    for low, middle, high in zip(points, points[1:], points[2:], strict=False):
        nearest = abs(middle[1]) < min(abs(low[1]), abs(high[1]))
        if closer and nearest and min(low[1] * middle[1], middle[1] * high[1]) > 0:
            halves = (
                np.linspace(low[0], middle[0], 5)[1:-1],
                np.linspace(middle[0], high[0], 5)[1:-1],
            )
            left, right = ([(float(v), quantity(float(v))) for v in half] for half in halves)
            yield from _crossings(quantity, [low, *left, middle, *right, high], closer - 1)


def _near(one: float, other: float) -> bool:
    """Return whether two losses are equal up to float16's rounding."""
    return abs(one - other) <= 0.2 * abs(other)


def _root(quantity: Callable[[float], float], low: Point, high: Point) -> float:
    """Return where a quantity crosses 0 between two values, by regula falsi (Illinois)."""
    (a, at_a), (b, at_b) = low, high
    side = 0
    for _ in range(ROOT_STEPS):
        if at_a == at_b:
            break
        middle = (a * at_b - b * at_a) / (at_b - at_a)
        at_middle = quantity(middle)
        if at_middle * at_b > 0:
            b, at_b = middle, at_middle
            at_a = at_a / 2 if side == 1 else at_a
            side = 1
        else:
            a, at_a = middle, at_middle
            at_b = at_b / 2 if side == -1 else at_b
            side = -1
        if abs(at_middle) < 1e-14 or abs(b - a) <= 1e-15 * abs(b):
            return middle
    return a if abs(at_a) < abs(at_b) else b


def _refined(family: Family, value: float, place: str, evidence: Evidence) -> float:
    """Return the value that brings all quantities closest, by steps of Gauss and Newton."""

    def residual(value: float) -> Array | None:
        answer = family.answer(evidence.case, value, place)
        return None if answer is None else evidence.residual(answer)

    best, here = value, residual(value)
    for _ in range(REFINEMENTS):
        step = STEP * (abs(best) or 1.0)
        beside = residual(best + step)
        if here is None or beside is None:
            break
        slope = (beside - here) / step
        square = float(np.vdot(slope, slope))
        if not square > 0:
            break
        tried = best - float(np.vdot(slope, here)) / square
        there = residual(tried)
        if there is None or not np.linalg.norm(there) < np.linalg.norm(here):
            break
        best, here = tried, there
    return best
