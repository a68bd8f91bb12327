"""One direction: J v by extrapolated differences, beside the same numbers by the vjp."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np

from gramstyle.core.arrays import Array
from gramstyle.gradcheck.calls import Calls
from gramstyle.gradcheck.report import Flips, GradientCheckError, GradientMismatchError
from gramstyle.gradcheck.settings import HIDDEN, ROUNDING, SMALLEST_STEP, Settings


@dataclass(frozen=True)
class Pairs:
    """What is compared along one direction v, in units of v.

    Attributes
    ----------
    v
        The direction, a vector of the inputs' entries.
    reduced
        From J v, one number for each entry of f's result, to the numbers that are compared.
    got
        Those numbers by the vjp.
    typical
        How large each of the numbers might well be, by the vjp.
    size
        How large what f returns is, where its rounding gets into each of the numbers.
    unit
        What the numbers are divided by in messages.
    input, index, direction
        What v is: an entry of an input, or a direction of one input or (None) of all.
    """

    v: Array
    reduced: Callable[[Array], Array]
    got: Array
    typical: Array
    size: Array
    unit: float = 1.0
    input: str | None = None
    index: tuple[int, ...] | None = None
    direction: int | None = None


@dataclass
class Comparison:
    """All comparisons at one point: how to make one, and what has been seen so far."""

    calls: Calls
    settings: Settings
    compared: int = 0
    error: float = 0.0
    relative_error: float = 0.0
    step: float = math.inf
    flips: dict[str, Flips] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Look at the choices at the point itself."""
        self._choices = self.calls.choices(self.calls.point)

    def mismatch(self, pairs: Pairs) -> GradientMismatchError | None:
        """Compare along one direction; where a kink is crossed, with smaller and smaller steps."""
        error: GradientMismatchError | None = None
        for h in self._steps():
            wide, narrow, flips = self._quotients(pairs.v, h)
            expected = pairs.reduced((4 * narrow - wide) / 3)
            found = self._beyond(pairs, expected, h)
            if found is None:
                return None
            at, allowed = found
            crossed = any(each.count for each in flips.values())
            error = GradientMismatchError(
                verdict="crossed a kink" if crossed else "wrong gradient",
                mode=self.settings.mode,
                input=pairs.input,
                index=pairs.index,
                output="" if pairs.index is None else self.calls.output_at(at),
                expected=float(expected[at]) / pairs.unit,
                got=float(pairs.got[at]) / pairs.unit,
                allowed=allowed / pairs.unit,
                disagreement=float(abs(pairs.reduced(narrow - wide)[at])) / pairs.unit,
                step=h,
                seed=self.settings.seed,
                direction=pairs.direction,
                flips=None if self.calls.kinks is None else flips,
            )
            if not crossed:
                break
        return error

    def _steps(self) -> Iterator[float]:
        yield self.settings.eps
        if self.calls.kinks is None:
            return
        # With a little room: eps / 10⁴ may come out just below 1e-7.
        tenths = 1
        while (h := self.settings.eps / 10**tenths) > 0.9 * SMALLEST_STEP:
            yield h
            tenths += 1

    def _quotients(self, v: Array, h: float) -> tuple[Array, Array, dict[str, Flips]]:
        """Return D(h), D(h/2) and the choices that are not the same at all five points."""
        values = []
        flipped = {name: np.zeros(choice.shape, bool) for name, choice in self._choices.items()}
        for t in (h, -h, h / 2, -h / 2):
            at = self.calls.point + t * v
            values.append(self.calls.value(at))
            there = self.calls.choices(at)
            if _shapes(there) != _shapes(self._choices):
                raise GradientCheckError("kinks returns other names or shapes at another point")
            for name, choice in there.items():
                flipped[name] |= choice != self._choices[name]
        flips = {name: Flips(int(each.sum()), each.size) for name, each in flipped.items()}
        for name, flip in flips.items():
            self.flips[name] = max(flip, self.flips.get(name, flip), key=lambda each: each.count)
        self.step = min(self.step, h)
        return (values[0] - values[1]) / (2 * h), (values[2] - values[3]) / h, flips

    def _beyond(self, pairs: Pairs, expected: Array, h: float) -> tuple[int, float] | None:
        """Return where the two sides differ most beyond what is allowed, and that allowance."""
        if not expected.size:
            return None
        if self.settings.atol is None:
            absolute = ROUNDING * pairs.size / max(h, SMALLEST_STEP)
        else:
            absolute = np.full(expected.shape, self.settings.atol * pairs.unit)
        scale = np.maximum(abs(expected), pairs.typical)
        allowed = absolute + self.settings.rtol * scale
        error = abs(pairs.got - expected)
        at = int(np.argmax(error - allowed))
        # Not "error > allowed": a NaN, from an overflow in a difference, is no agreement.
        if not error[at] <= allowed[at]:
            return at, float(allowed[at])
        if self.settings.atol is None:
            _assert_not_hidden(pairs, absolute)
        self.compared += expected.size
        self.error = max(self.error, _largest_ratio(error, allowed))
        self.relative_error = max(self.relative_error, _largest_ratio(error, scale))
        return None


def _assert_not_hidden(pairs: Pairs, absolute: Array) -> None:
    """See that what is allowed for rounding is little beside the derivative, which could be wrong.

    A derivative that is 0 but for rounding is itself too small to matter.

    Raises
    ------
    GradientCheckError
        If it is not.
    """
    hidden = (absolute > HIDDEN * pairs.typical) & (pairs.typical > ROUNDING * pairs.size)
    if hidden.any():
        at = int(np.argmax(hidden))
        typical, rounding = pairs.typical[at] / pairs.unit, absolute[at] / pairs.unit
        raise GradientCheckError(
            f"rounding hides the derivative by {pairs.input or 'all inputs'}: it is about "
            f"{typical:.1e}, and rounding of f, {pairs.size[at]:.1e}, leaves {rounding:.1e} in its "
            "difference; take a larger eps, or a constant from f, or say what is allowed with atol"
        )


def _shapes(choices: dict[str, Array]) -> dict[str, tuple[int, ...]]:
    return {name: choice.shape for name, choice in choices.items()}


def _largest_ratio(error: Array, scale: Array) -> float:
    """Return max(error / scale), where 0 of 0 is 0."""
    return float(np.max(np.divide(error, scale, out=np.zeros_like(error), where=error > 0)))
