"""Iterates that carry the whole optimiser state, so that a callback can save checkpoints."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields
from typing import Self

from gramstyle.core.arrays import Array
from gramstyle.optimise.interface import E, Iterate
from gramstyle.optimise.lbfgsb import Pairs, State


class TrackedPairs(Pairs):
    """Pairs that record whether they have changed.

    An iteration that is interrupted may have changed the pairs already; they then no longer
    belong to the last iterate and must not be saved with it.

    Attributes
    ----------
    modified
        True after any change; the caller resets it at each iterate.
    """

    def __init__(self, pairs: Pairs) -> None:
        self._pairs = pairs
        self.modified = False

    def __len__(self) -> int:
        return len(self._pairs)

    def append(self, n: int, parts: Iterable[tuple[slice, Array, Array]]) -> None:
        """Append a pair."""
        self.modified = True
        self._pairs.append(n, parts)

    def clear(self) -> None:
        """Remove all pairs."""
        self.modified = True
        self._pairs.clear()

    def block(self, entries: slice) -> Array:
        """Return these entries of all pairs."""
        return self._pairs.block(entries)

    def saved(self) -> Iterator[tuple[Array, Array]]:
        """Yield the pairs."""
        return self._pairs.saved()


@dataclass(frozen=True)
class StatefulIterate(State[E], Iterate[E]):
    """A state that is also an iterate: a callback that receives it can save it."""

    @classmethod
    def of(cls, state: State[E], pairs: Pairs) -> Self:
        """Return the state with other pairs: its own, tracked."""
        values = {each.name: getattr(state, each.name) for each in fields(state)}
        return cls(**{**values, "pairs": pairs})

    @property
    def iterate(self) -> Iterate[E]:
        """The iterate itself."""
        return self
