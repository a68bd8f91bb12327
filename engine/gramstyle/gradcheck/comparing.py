"""Compare J v by extrapolated differences with the derivative under check, along a direction v."""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np

from gramstyle.core.arrays import Array
from gramstyle.gradcheck.calls import Calls
from gramstyle.gradcheck.report import (
    Flips,
    GradientCheckError,
    GradientMismatchError,
    Verdict,
)
from gramstyle.gradcheck.settings import HIDDEN, ROUNDING, SMALLEST_STEP, Settings

# The verdicts on a wrong derivative, by its name.
WRONG: Mapping[str, Verdict] = {"vjp": "wrong gradient", "jvp": "wrong jvp", "hvp": "wrong hvp"}


@dataclass(frozen=True)
class Probe:
    """One direction v and the numbers to compare along it, in units of v.

    Attributes
    ----------
    v
        The direction, a vector of the inputs' entries.
    reduce
        Maps J v, one number for each entry of f's result, to the numbers that are compared.
    got
        These numbers by the derivative under check.
    typical
        The typical size of each number, by that derivative.
    size
        The size of f's result, whose rounding affects each number.
    unit
        The divisor of the numbers in messages.
    input, index, direction
        The meaning of v: an entry of an input, or a direction of one input or (None) of all.
    entries
        Whether the numbers are the entries of f's result.
    """

    v: Array
    reduce: Callable[[Array], Array]
    got: Array
    typical: Array
    size: Array
    unit: float = 1.0
    input: str | None = None
    index: tuple[int, ...] | None = None
    direction: int | None = None
    entries: bool = False


@dataclass
class Comparison:
    """The comparisons at one point, and their statistics so far."""

    calls: Calls
    settings: Settings
    compared: int = 0
    error: float = 0.0
    relative_error: float = 0.0
    step: float = math.inf
    flips: dict[str, Flips] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Evaluate the choices at the point itself."""
        self._choices = self.calls.choices(self.calls.point)

    def mismatch(self, probe: Probe) -> GradientMismatchError | None:
        """Compare along one direction; shrink the step as long as it crosses a kink."""
        error: GradientMismatchError | None = None
        for h in self._steps():
            wide, narrow, flips = self._quotients(probe.v, h)
            expected = probe.reduce((4 * narrow - wide) / 3)
            found = self._worst(probe, expected, h)
            if found is None:
                return None
            at, allowed = found
            crossed = any(each.count for each in flips.values())
            error = GradientMismatchError(
                verdict="crossed a kink" if crossed else WRONG[self.calls.called[1]],
                mode=self.settings.mode,
                input=probe.input,
                index=probe.index,
                output=self.calls.output_at(at) if probe.entries else "",
                expected=float(expected[at]) / probe.unit,
                got=float(probe.got[at]) / probe.unit,
                allowed=allowed / probe.unit,
                disagreement=float(abs(probe.reduce(narrow - wide)[at])) / probe.unit,
                step=h,
                seed=self.settings.seed,
                direction=probe.direction,
                flips=None if self.calls.kinks is None else flips,
            )
            if not crossed:
                break
        return error

    def _steps(self) -> Iterator[float]:
        yield self.settings.eps
        if self.calls.kinks is None:
            return
        # The factor 0.9 allows for rounding: eps / 10⁴ may be just below 1e-7.
        tenths = 1
        while (h := self.settings.eps / 10**tenths) > 0.9 * SMALLEST_STEP:
            yield h
            tenths += 1

    def _quotients(self, v: Array, h: float) -> tuple[Array, Array, dict[str, Flips]]:
        """Return D(h), D(h/2) and the choices that differ among the five points."""
        values = []
        flipped = {name: np.zeros(choice.shape, bool) for name, choice in self._choices.items()}
        for t in (h, -h, h / 2, -h / 2):
            at = self.calls.point + t * v
            values.append(self.calls.forward(at))
            choices = self.calls.choices(at)
            if _shapes(choices) != _shapes(self._choices):
                raise GradientCheckError(
                    "kinks returns other names or shapes at another point; they must not depend "
                    "on the values of the inputs"
                )
            for name, choice in choices.items():
                flipped[name] |= choice != self._choices[name]
        flips = {name: Flips(int(each.sum()), each.size) for name, each in flipped.items()}
        for name, flip in flips.items():
            self.flips[name] = max(flip, self.flips.get(name, flip), key=lambda each: each.count)
        self.step = min(self.step, h)
        return (values[0] - values[1]) / (2 * h), (values[2] - values[3]) / h, flips

    def _worst(self, probe: Probe, expected: Array, h: float) -> tuple[int, float] | None:
        """Return the place of the largest mismatch and its tolerance, or None if all agree."""
        if not expected.size:
            return None
        if self.settings.atol is None:
            absolute = ROUNDING * probe.size / max(h, SMALLEST_STEP)
        else:
            absolute = np.full(expected.shape, self.settings.atol * probe.unit)
        scale = np.maximum(abs(expected), probe.typical)
        allowed = absolute + self.settings.rtol * scale
        error = abs(probe.got - expected)
        at = int(np.argmax(error - allowed))
        # Not "error > allowed", which is false for a NaN from an overflow in a difference.
        if not error[at] <= allowed[at]:
            return at, float(allowed[at])
        if self.settings.atol is None:
            _assert_not_hidden(probe, absolute)
        self.compared += expected.size
        self.error = max(self.error, _largest_ratio(error, allowed))
        self.relative_error = max(self.relative_error, _largest_ratio(error, scale))
        return None


def _assert_not_hidden(probe: Probe, absolute: Array) -> None:
    """Check that the tolerance for rounding is small relative to the derivative.

    Otherwise a wrong derivative would pass. A derivative that is 0 except for rounding is exempt.

    Raises
    ------
    GradientCheckError
        If the tolerance is too large.
    """
    hidden = (absolute > HIDDEN * probe.typical) & (probe.typical > ROUNDING * probe.size)
    if hidden.any():
        at = int(np.argmax(hidden))
        typical, rounding = probe.typical[at] / probe.unit, absolute[at] / probe.unit
        raise GradientCheckError(
            f"rounding hides the derivative by {probe.input or 'all inputs'}: it is about "
            f"{typical:.1e}, and rounding of f, {probe.size[at]:.1e}, leaves {rounding:.1e} in its "
            "difference; use a larger eps, subtract a constant from f, or set atol"
        )


def _shapes(choices: dict[str, Array]) -> dict[str, tuple[int, ...]]:
    return {name: choice.shape for name, choice in choices.items()}


def _largest_ratio(error: Array, scale: Array) -> float:
    """Return max(error / scale), where 0 / 0 counts as 0."""
    return float(np.max(np.divide(error, scale, out=np.zeros_like(error), where=error > 0)))
