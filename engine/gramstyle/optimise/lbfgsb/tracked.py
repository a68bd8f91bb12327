"""The optimiser's state while it is being saved: told whole, and known to be whole."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields
from typing import Self

from gramstyle.core.arrays import Array
from gramstyle.optimise.descent import E, Iterate
from gramstyle.optimise.lbfgsb import Pairs, State


class WatchedPairs(Pairs):
    """Pairs that say whether they have changed: those of an iteration that was not finished have.

    Attributes
    ----------
    touched
        Set with the first change; whoever has saved, or need not, takes it back.
    """

    def __init__(self, pairs: Pairs) -> None:
        self._pairs = pairs
        self.touched = False

    def __len__(self) -> int:
        return len(self._pairs)

    def append(self, n: int, parts: Iterable[tuple[slice, Array, Array]]) -> None:
        """Add a pair."""
        self.touched = True
        self._pairs.append(n, parts)

    def forget(self) -> None:
        """Drop them all."""
        self.touched = True
        self._pairs.forget()

    def block(self, entries: slice) -> Array:
        """Return these entries of all pairs."""
        return self._pairs.block(entries)

    def saved(self) -> Iterator[tuple[Array, Array]]:
        """Yield the pairs."""
        return self._pairs.saved()


@dataclass(frozen=True)
class Told(State[E], Iterate[E]):
    """A state that is an iterate too: whoever is told the iterates is told all there is to save."""

    @classmethod
    def of(cls, state: State[E], pairs: Pairs) -> Self:
        """Return a state with the same pairs, watched."""
        values = {each.name: getattr(state, each.name) for each in fields(state)}
        return cls(**{**values, "pairs": pairs})

    @property
    def iterate(self) -> Iterate[E]:
        """What a callback is told."""
        return self
