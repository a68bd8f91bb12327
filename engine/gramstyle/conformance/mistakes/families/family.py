"""A family of mistakes: wrong pieces with a parameter, a place, or both."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from gramstyle.conformance.cases import Answer, Case
from gramstyle.conformance.mistakes.pieces import Pieces
from gramstyle.core.arrays import Array

# How many values a search starts from, for each factor of 10 or for each unit.
PER_DECADE, PER_UNIT = 4, 10

# The digits of a parameter in the name of a mistake, by the float type of the computation.
DIGITS = {"float64": 10, "float32": 3, "float16": 2}


@dataclass(frozen=True)
class Values:
    """The values that a parameter usually has; the search goes further.

    Attributes
    ----------
    low, high
        The bounds of the usual values.
    signed
        Whether the parameter may be negative too.
    linear
        Whether values are spread evenly, not their logarithms.
    """

    low: float
    high: float
    signed: bool = False
    linear: bool = False

    def grid(self) -> Array:
        """Return increasing values from which a search starts."""
        if self.linear:
            return np.linspace(self.low, self.high, int((self.high - self.low) * PER_UNIT) + 4)
        low, high = np.log10(self.low) - 1, np.log10(self.high) + 1
        grid = np.logspace(low, high, int((high - low) * PER_DECADE) + 1)
        return np.concatenate([-grid[::-1], grid]) if self.signed else grid

    def at(self, share: float) -> float:
        """Return the value at a share of the range, from 0 to 1."""
        if self.signed:
            half = Values(self.low, self.high, linear=self.linear)
            return half.at(2 * share - 1) if share >= 0.5 else -half.at(1 - 2 * share)
        if self.linear:
            return self.low + share * (self.high - self.low)
        return float(self.low * (self.high / self.low) ** share)


class FamilyPieces(Pieces):
    """Wrong pieces with a value and a place.

    Parameters
    ----------
    case, own_targets
        As for `Pieces`.
    value
        The parameter of the mistake.
    place
        One of `places`: a layer, a loss term, or a choice.
    """

    def __init__(
        self, case: Case, value: float = 0.0, place: str = "", *, own_targets: bool = False
    ) -> None:
        self.value, self.place = value, place
        super().__init__(case, own_targets=own_targets)

    @classmethod
    def places(cls, case: Case) -> Sequence[str]:  # noqa: ARG003
        """Return where the mistake may be made in a case."""
        return ("",)

    @classmethod
    def guesses(cls, found: Answer) -> Sequence[float]:  # noqa: ARG003
        """Return values that an answer suggests, in addition to the grid."""
        return ()


@dataclass(frozen=True)
class Family:
    """A mistake with a parameter that is fitted to an answer.

    Attributes
    ----------
    pattern
        The name of a member, with {value} and {place} in it.
    sentence
        What the code does, and what is correct.
    pieces
        An evaluation of the objective with the mistake.
    values
        The values of the parameter; None for a mistake that has places only.
    in_loss
        Whether the mistake changes the loss as well as the gradient, or the gradient only.
    affine
        Whether loss and gradients are affine functions of the parameter, and 1 is correct.
    own_targets
        Whether P and A are computed with the mistake too.
    """

    pattern: str
    sentence: str
    pieces: type[FamilyPieces]
    values: Values | None
    in_loss: bool
    affine: bool
    own_targets: bool = False

    @property
    def name(self) -> str:
        """The pattern in words, as docs/mistakes.md lists it."""
        return self.pattern.format(value="…", place="…")

    def places(self, case: Case) -> Sequence[str]:
        """Return where the mistake may be made in a case."""
        return self.pieces.places(case)

    def loss(self, case: Case, value: float, place: str) -> float:
        """Return the loss of a case with the mistake; NaN if it cannot be made there."""
        wrong = self._made(case, value, place)
        return wrong.loss() if wrong else math.nan

    def answer(self, case: Case, value: float, place: str) -> Answer | None:
        """Return the answer to a case with the mistake; None if it cannot be made there."""
        wrong = self._made(case, value, place)
        return wrong.answer() if wrong else None

    def _made(self, case: Case, value: float, place: str) -> FamilyPieces | None:
        if place not in self.places(case):
            return None
        wrong = self.pieces(case, value, place, own_targets=self.own_targets)
        return wrong if wrong.possible() else None


@dataclass(frozen=True)
class Member:
    """One mistake of a family: its value and its place."""

    family: Family
    value: float
    place: str

    def name(self, dtype: str) -> str:
        """Return the name, with as many digits as the float type of an answer justifies."""
        value = f"{self.value:.{DIGITS[dtype]}g}".replace("-", "−")
        return self.family.pattern.format(value=value, place=self.place)

    def plant(self, case: Case) -> Answer | None:
        """Return the answer to a case with exactly this mistake; None if it cannot be made."""
        return self.family.answer(case, self.value, self.place)


REGISTERED: list[Family] = []


def family(
    pattern: str,
    sentence: str,
    values: Values | None = None,
    *,
    in_targets: bool = False,
    gradient_only: bool = False,
    affine: bool = False,
) -> Callable[[type[FamilyPieces]], type[FamilyPieces]]:
    """Register wrong pieces as a family.

    Parameters
    ----------
    pattern, sentence, values, affine
        As for `Family`.
    in_targets
        Whether the mistake changes responses; then P and A may be computed with it too, which is
        a second family.
    gradient_only
        Whether the loss stays correct.
    """

    def register(pieces: type[FamilyPieces]) -> type[FamilyPieces]:
        REGISTERED.append(Family(pattern, sentence, pieces, values, not gradient_only, affine))
        if in_targets:
            also = f"{sentence} P and A are computed in the same way."
            pattern_too = f"{pattern}, P and A too"
            REGISTERED.append(
                Family(pattern_too, also, pieces, values, not gradient_only, affine, True)
            )
        return pieces

    return register
