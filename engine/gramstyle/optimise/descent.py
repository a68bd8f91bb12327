"""What both optimisers share: what they are given, what they tell, and when they have done."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from gramstyle.core.arrays import Array

# A pixel's range. Differs from Gatys et al. (2015), whose pixels are free: the optimiser never
# leaves it, so every iterate is an image and none needs clipping.
DARKEST, BRIGHTEST = 0.0, 255.0

# How many iterations back the loss is compared with when asking whether it still falls.
WINDOW = 10


class HasLossAndGradient(Protocol):
    """What the optimiser reads of an evaluation."""

    @property
    def loss(self) -> float:
        """The value to make small."""

    @property
    def gradient(self) -> Array:
        """Its derivative by x, in x's shape."""


E = TypeVar("E", bound=HasLossAndGradient)


@dataclass(frozen=True)
class Iterate(Generic[E]):
    """Where the optimiser stands: x is a copy in the shape of the start, float64, in 0..255."""

    iteration: int
    evaluations: int
    x: Array
    evaluation: E


@dataclass(frozen=True)
class Minimum(Generic[E]):
    """The best iterate of a run, how far the run went, and why it ended there."""

    best: Iterate[E]
    iterations: int
    evaluations: int
    reason: str


# Called after every iteration; the run ends when it returns True.
Callback = Callable[[Iterate[E]], bool | None]


def has_converged(losses: Sequence[float], tolerance: float) -> bool:
    """Tell whether the last of the losses is less than this share below the tenth before it."""
    if len(losses) <= WINDOW:
        return False
    return losses[-1 - WINDOW] - losses[-1] < tolerance * abs(losses[-1])


def converged(tolerance: float) -> str:
    """Return the reason for which a run ends then."""
    return f"the loss fell by less than {tolerance:g} of itself in {WINDOW} iterations"
