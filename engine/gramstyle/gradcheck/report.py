"""The result of a check: its numbers if it passes, one line of text if it fails."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Literal

from gramstyle.errors import GramstyleError

Mode = Literal["directional", "full"]
Verdict = Literal["wrong gradient", "wrong jvp", "wrong hvp", "crossed a kink"]

# The number of names that a message lists.
LISTED = 3


@dataclass(frozen=True)
class Flips:
    """The number of a layer's choices that differ among the points of a difference."""

    count: int
    total: int

    @property
    def share(self) -> float:
        """The fraction of the choices that flip, 0 to 1."""
        return self.count / self.total if self.total else 0.0


@dataclass(frozen=True, kw_only=True)
class Checked:
    """The numbers of a check that passed.

    Attributes
    ----------
    mode : {"directional", "full"}
        The mode of the check.
    compared : int
        The number of pairs of numbers compared; 0 if there was nothing to compare.
    error : float
        The largest |got − expected| relative to its tolerance; at most 1.
    relative_error : float
        The largest |got − expected| / max(|expected|, typical size), as in `check_vjp`.
    step : float
        The smallest step taken, relative to the inputs' sizes.
    flips : mapping of str to Flips
        By name, the largest number of choices that flipped in one difference; empty without
        `kinks`.
    forwards, backwards : int
        The numbers of calls of f and of the derivative under check.
    seed : int
        The seed of the random directions.

    Examples
    --------
    >>> import numpy as np
    >>> from gramstyle import check_vjp
    >>> checked = check_vjp(np.sin, lambda u, x: u * np.cos(x), [np.array([0.3, 0.4])])
    >>> checked.mode, checked.forwards, checked.backwards
    ('directional', 10, 3)
    """

    mode: Mode
    compared: int
    error: float
    relative_error: float
    step: float
    flips: Mapping[str, Flips]
    forwards: int
    backwards: int
    seed: int


class GradientCheckError(GramstyleError, AssertionError):
    """A function that breaks the checker's rules, or a wrong derivative.

    It is also an AssertionError, which test runners report as a failure rather than an error. It
    is raised explicitly, so ``python -O`` does not remove it.
    """


# No __eq__: exceptions compare by identity, and a traceback needs their hash.
@dataclass(eq=False)
class GradientMismatchError(GradientCheckError):
    """A derivative that disagrees with the differences.

    Attributes
    ----------
    verdict
        "wrong gradient", "wrong jvp" or "wrong hvp"; or "crossed a kink" if choices flipped at
        every step.
    mode
        "directional" or "full".
    input
        The input's name; None if only all inputs together exceed the tolerance.
    index
        The entry of the input; None in directional mode.
    output
        The entry of f's result, as text: "f[2, 0]"; "" for a vjp in directional mode.
    expected
        By differences: ∂f/∂x at that entry; in directional mode ⟨u, J v⟩ for a vjp, or an entry of
        J v.
    got
        By the derivative under check: the same number, for a vjp in directional mode ⟨Jᵀ u, v⟩.
    allowed
        The tolerance for |got − expected|.
    disagreement
        The difference between the quotients of the steps h and h/2. If it is not small relative
        to |got − expected|, the step is unsuitable or f is not smooth in float64.
    step
        h, relative to the input's size.
    seed, direction
        The seed, and the number of the direction; None in full mode.
    flips
        By name, the choices that differ among the points of the difference; None without `kinks`.
    """

    verdict: Verdict
    mode: Mode
    input: str | None
    index: tuple[int, ...] | None
    output: str
    expected: float
    got: float
    allowed: float
    disagreement: float
    step: float
    seed: int
    direction: int | None
    flips: Mapping[str, Flips] | None

    def __post_init__(self) -> None:
        """Store the fields as the exception's arguments, so that it can be pickled and copied."""
        self.args = tuple(getattr(self, field.name) for field in fields(self))

    @property
    def relative_error(self) -> float:
        """|got − expected| divided by the larger absolute value of the two."""
        largest = max(abs(self.got), abs(self.expected))
        return abs(self.got - self.expected) / largest if largest else 0.0

    def __str__(self) -> str:
        what = f"{self.verdict}: "
        if self.verdict == "crossed a kink":
            what += f"{flips_text(self.flips or {})}; no smaller step without a flip was found; "
        if self.mode == "full":
            name = entry_name(self.input or "", self.index or ())
            what += f"at {name}, derivative of {self.output}"
            names = ("", "")
        else:
            what += f"along direction {self.direction} of {self.input or 'all inputs together'}"
            what += f", derivative of {self.output}" if self.output else ""
            names = ("", "") if self.output else ("⟨u, Jv⟩ = ", "⟨Jᵀu, v⟩ = ")
        return (
            f"{what}: expected {names[0]}{self.expected:.9g} by differences, "
            f"got {names[1]}{self.got:.9g}; relative error {self.relative_error:.1e}, "
            f"off by {abs(self.got - self.expected):.1e} where {self.allowed:.1e} is allowed; "
            f"step {self.step:.0e} of the input's size, where the quotients of h and h/2 differ "
            f"by {self.disagreement:.1e}; mode {self.mode}, seed {self.seed}"
            + ("; kinks were not checked" if self.flips is None else "")
        )


def entry_name(name: str, index: tuple[int, ...]) -> str:
    """Return "name[1, 2]", or the name alone for an empty index."""
    return f"{name}[{', '.join(map(str, index))}]" if index else name


def flips_text(flips: Mapping[str, Flips]) -> str:
    """Return "3 of 4096 of conv2_1 flip", the largest fractions first."""
    some = sorted(
        ((name, each) for name, each in flips.items() if each.count),
        key=lambda pair: -pair[1].share,
    )
    text = ", ".join(f"{each.count} of {each.total} of {name}" for name, each in some[:LISTED])
    more = f" and some of {len(some) - LISTED} more" if len(some) > LISTED else ""
    return f"{text}{more} flip"
