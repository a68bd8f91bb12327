"""What a check says: its numbers where all is well, one line of text where it is not."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Literal

from gramstyle.errors import GramstyleError

Mode = Literal["directional", "full"]
Verdict = Literal["wrong gradient", "crossed a kink"]

# How many names a line of text lists.
LISTED = 3


@dataclass(frozen=True)
class Flips:
    """How many of a layer's choices are not the same at all points of a difference."""

    count: int
    total: int

    @property
    def share(self) -> float:
        """The share of the choices that flip, 0 to 1."""
        return self.count / self.total if self.total else 0.0


@dataclass(frozen=True, kw_only=True)
class Checked:
    """What a check that passed has seen.

    Attributes
    ----------
    mode
        "directional" or "full".
    compared
        How many pairs of numbers were compared; 0 where there was nothing to compare.
    error
        The largest |got − expected| over what was allowed for it; at most 1.
    relative_error
        The largest |got − expected| / max(|expected|, typical size), as in `check_vjp`.
    step
        The smallest step taken, relative to the inputs' sizes.
    flips
        By name, the most choices that flipped in one difference; empty without `kinks`.
    forwards, backwards
        How often f and its vjp were called.
    seed
        The seed of the directions.
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
    """A function that breaks the checker's rules, or a derivative that is wrong.

    It is an AssertionError too: a test runner then reports a failure, not a breakdown. It is
    raised, never asserted, so ``python -O`` leaves it in.
    """


# No __eq__: two exceptions are the same only if they are one, and a traceback needs the hash.
@dataclass(eq=False)
class GradientMismatchError(GradientCheckError):
    """A derivative that is not what the differences say.

    Attributes
    ----------
    verdict
        "wrong gradient", or "crossed a kink" where choices flipped at every step that was tried.
    mode
        "directional" or "full".
    input
        The input's name; None where several together are at fault.
    index
        The entry of the input; None in directional mode.
    output
        The entry of f's result, as text: "f[2, 0]"; "" in directional mode.
    expected
        By differences: ∂f/∂x at that entry, or ⟨u, J v⟩.
    got
        By the vjp: the same entry, or ⟨Jᵀ u, v⟩.
    allowed
        How far apart the two may be.
    disagreement
        How far apart the quotients of the two steps h and h/2 are. If it is not small beside
        |got − expected|, the step is unfit or f is not smooth in float64.
    step
        h, relative to the input's size.
    seed, direction
        What to repeat; direction is None in full mode.
    flips
        By name, the choices that are not the same at all points of the difference; None where
        no `kinks` were given.
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
        """Keep the fields as the exception's arguments: it is then pickled and copied whole."""
        self.args = tuple(getattr(self, field.name) for field in fields(self))

    @property
    def relative_error(self) -> float:
        """|got − expected| over the larger of the two."""
        largest = max(abs(self.got), abs(self.expected))
        return abs(self.got - self.expected) / largest if largest else 0.0

    def __str__(self) -> str:
        what = f"{self.verdict}: "
        if self.verdict == "crossed a kink":
            what += f"{flips_text(self.flips or {})}; no smaller step without a flip was found; "
        if self.mode == "full":
            what += f"at {entry(self.input or '', self.index or ())}, derivative of {self.output}"
            names = ("", "")
        else:
            what += f"along direction {self.direction} of {self.input or 'all inputs together'}"
            names = ("⟨u, Jv⟩ = ", "⟨Jᵀu, v⟩ = ")
        return (
            f"{what}: expected {names[0]}{self.expected:.9g} by differences, "
            f"got {names[1]}{self.got:.9g}; relative error {self.relative_error:.1e}, "
            f"off by {abs(self.got - self.expected):.1e} where {self.allowed:.1e} is allowed; "
            f"step {self.step:.0e} of the input's size, where the quotients of h and h/2 differ "
            f"by {self.disagreement:.1e}; mode {self.mode}, seed {self.seed}"
            + ("; kinks were not watched" if self.flips is None else "")
        )


def entry(name: str, index: tuple[int, ...]) -> str:
    """Return "name[1, 2]", or the name alone for a single number."""
    return f"{name}[{', '.join(map(str, index))}]" if index else name


def flips_text(flips: Mapping[str, Flips]) -> str:
    """Return "3 of 4096 choices of conv2_1 flip", the largest shares first."""
    some = sorted(
        ((name, each) for name, each in flips.items() if each.count),
        key=lambda pair: -pair[1].share,
    )
    text = ", ".join(f"{each.count} of {each.total} of {name}" for name, each in some[:LISTED])
    more = f" and some of {len(some) - LISTED} more" if len(some) > LISTED else ""
    return f"{text}{more} flip"
