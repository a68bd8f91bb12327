"""The interface that both optimisers share: bounds, iterates, results and the convergence test."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from gramstyle.core.arrays import Array

# The range of a pixel. Differs from Gatys et al. (2015), whose pixels are unbounded: here every
# iterate is a valid image, and none needs clipping.
LOWER, UPPER = 0.0, 255.0

# The convergence test compares the loss with the loss this many iterations earlier.
WINDOW = 10


class HasLossAndGradient(Protocol):
    """The part of an evaluation that an optimiser reads."""

    @property
    def loss(self) -> float:
        """The value to minimise."""

    @property
    def gradient(self) -> Array:
        """The derivative of the loss by x, in the shape of x."""


E = TypeVar("E", bound=HasLossAndGradient)


@dataclass(frozen=True)
class Iterate(Generic[E]):
    """One iterate of an optimiser.

    Attributes
    ----------
    iteration, evaluations
        The number of iterations and of evaluations so far.
    x
        The iterate, in the shape of the start, within 0..255. The optimiser does not change it
        later.
    evaluation
        The result of the objective at x.
    """

    iteration: int
    evaluations: int
    x: Array
    evaluation: E


@dataclass(frozen=True)
class Minimum(Generic[E]):
    """The result of a minimisation.

    Attributes
    ----------
    best
        The iterate with the smallest loss.
    iterations, evaluations
        The number of iterations and of evaluations of the whole run.
    reason
        Why the run ended, as text.
    """

    best: Iterate[E]
    iterations: int
    evaluations: int
    reason: str


# Called after every iteration; the run ends when it returns True.
Callback = Callable[[Iterate[E]], bool | None]


def has_converged(losses: Sequence[float], tolerance: float) -> bool:
    """Return whether the loss fell by less than the relative tolerance in 10 iterations."""
    if len(losses) <= WINDOW:
        return False
    return losses[-1 - WINDOW] - losses[-1] < tolerance * abs(losses[-1])


def convergence_reason(tolerance: float) -> str:
    """Return the reason of a run that ends by `has_converged`."""
    return f"the loss fell by less than {tolerance:g} of itself in {WINDOW} iterations"
