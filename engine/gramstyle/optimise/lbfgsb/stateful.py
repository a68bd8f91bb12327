"""Iterates that carry the whole optimiser state, so that a callback can save checkpoints."""

from dataclasses import dataclass, fields
from typing import Self

from gramstyle.optimise.interface import E, Iterate
from gramstyle.optimise.lbfgsb.run import State


@dataclass(frozen=True)
class StatefulIterate(State[E], Iterate[E]):
    """A state that is also an iterate: a callback that receives it can save it."""

    @classmethod
    def of(cls, state: State[E]) -> Self:
        """Return the state as an iterate."""
        return cls(**{each.name: getattr(state, each.name) for each in fields(state)})

    @property
    def iterate(self) -> Iterate[E]:
        """The iterate itself."""
        return self
