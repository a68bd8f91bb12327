"""The state of a run: together with its plan, everything that is needed to continue it."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeAlias

from gramstyle.core.arrays import Array
from gramstyle.core.evaluation import Evaluation
from gramstyle.optimise import lbfgsb
from gramstyle.run.progress import Losses, ScaleStart

OptimiserState: TypeAlias = lbfgsb.State[Evaluation]


@dataclass(frozen=True)
class RunState:
    """The state of a run.

    Attributes
    ----------
    starts
        Where each scale so far has started; the last entry is the present scale's.
    losses, seconds, evaluations
        The losses, the time in seconds and the number of evaluations of the whole run so far.
    x
        The iterate (3, H, W).
    optimiser
        The optimiser's state at x; None if it is unknown, or if the scale has ended.
    ended
        Why the scale has ended; empty while it runs.
    read_history
        Yields the pairs of L-BFGS-B's history if the state comes from a file: they may not fit
        into memory. None otherwise.
    """

    starts: tuple[ScaleStart, ...]
    losses: tuple[Losses, ...]
    seconds: float
    evaluations: int
    x: Array
    optimiser: OptimiserState | None
    ended: str = ""
    read_history: Callable[[], Iterator[tuple[Array, Array]]] | None = None

    @property
    def scale(self) -> int:
        """The number of the present scale, from 0."""
        return len(self.starts) - 1

    @property
    def iteration(self) -> int:
        """The number of the last iteration; 0 before the first one."""
        return self.losses[-1].iteration if self.losses else 0

    def finished(self, scales: int) -> bool:
        """Return whether a run of this many scales has ended."""
        return bool(self.ended) and len(self.starts) == scales
