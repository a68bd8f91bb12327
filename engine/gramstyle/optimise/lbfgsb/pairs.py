"""The pairs that L-BFGS-B remembers: the interface, and the one that keeps them in memory."""

from abc import abstractmethod
from collections.abc import Iterable, Iterator
from typing import Protocol

from gramstyle.core.arrays import Array, cast, namespace
from gramstyle.optimise.lbfgsb.blocks import blocks


class Pairs(Protocol):
    """The last steps s and differences y of the gradient: where they are is nobody else's."""

    @abstractmethod
    def __len__(self) -> int:
        """How many pairs there are."""

    @abstractmethod
    def append(self, n: int, parts: Iterable[tuple[slice, Array, Array]]) -> None:
        """Add a pair; the oldest goes first where there are too many.

        Parameters
        ----------
        n
            The length of s and y, the same for all pairs.
        parts
            Block after block: which entries, and s and y there, in any float type.
        """

    @abstractmethod
    def forget(self) -> None:
        """Drop them all."""

    @abstractmethod
    def block(self, entries: slice) -> Array:
        """Return these entries of all y, oldest first, then of all s: (2k, entries), float64."""

    @abstractmethod
    def saved(self) -> Iterator[tuple[Array, Array]]:
        """Yield (s, y), oldest first, each (n,) in the type that is kept; not to be written to.

        With `State.products` and the other fields of a state, that is all there is to save.
        """

    def restore(self, rows: Iterable[tuple[Array, Array]]) -> None:
        """Take the place of the pairs for which `saved` yielded these rows."""
        self.forget()
        for s, y in rows:
            self.append(s.shape[0], ((b, s[b], y[b]) for b in blocks(s)))
            del s, y  # before the next ones are made


class PairsInMemory(Pairs):
    """Pairs on the device of the arrays that are appended.

    Parameters
    ----------
    memory
        How many pairs to keep, at least one.
    dtype
        In which type; "float64" takes twice the memory and gains nothing on images.
    """

    def __init__(self, memory: int, *, dtype: str = "float32") -> None:
        self._rows: list[tuple[Array, Array]] = []
        self._memory = memory
        self._dtype = dtype

    def __len__(self) -> int:
        return len(self._rows)

    def append(self, n: int, parts: Iterable[tuple[slice, Array, Array]]) -> None:
        """Add a pair; the oldest goes where there are too many."""
        if len(self._rows) == self._memory:
            self._rows.pop(0)  # its memory before the new pair's
        pair: tuple[Array, Array] | None = None
        for entries, s, y in parts:
            if pair is None:
                xp = namespace(s)
                dtype = getattr(xp, self._dtype)
                pair = xp.empty(n, dtype=dtype), xp.empty(n, dtype=dtype)
            for whole, part in zip(pair, (s, y), strict=True):
                whole[entries] = cast(part, self._dtype)
        if pair is not None:
            self._rows.append(pair)

    def forget(self) -> None:
        """Drop them all."""
        self._rows.clear()

    def block(self, entries: slice) -> Array:
        """Return these entries of all y, then of all s."""
        rows = [y for _, y in self._rows] + [s for s, _ in self._rows]
        xp = namespace(rows[0])
        V: Array = xp.empty((len(rows), entries.stop - entries.start), dtype=xp.float64)
        for i, row in enumerate(rows):  # cast on the way: a quarter of the time of a stack
            V[i, :] = row[entries]
        return V

    def saved(self) -> Iterator[tuple[Array, Array]]:
        """Yield (s, y), oldest first: the arrays themselves."""
        yield from self._rows


def pairs_within(n: int, budget_bytes: int, *, wanted: int = 10, itemsize: int = 4) -> int:
    """Return how many pairs of 2 n entries fit into so many bytes: `wanted` at most, 0 at least.

    Parameters
    ----------
    n
        The length of s and of y.
    budget_bytes
        What there is for all pairs; less than nothing counts as nothing.
    wanted
        How many would be kept if memory did not matter.
    itemsize
        The bytes of an entry: 4 in float32.
    """
    return max(0, min(wanted, budget_bytes // (2 * n * itemsize)))
