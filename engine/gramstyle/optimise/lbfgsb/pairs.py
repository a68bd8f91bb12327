"""The history of L-BFGS-B: the interface of its storage, and the storage in memory."""

from abc import abstractmethod
from collections.abc import Iterable, Iterator
from typing import Protocol

from gramstyle.core.arrays import Array, cast, namespace
from gramstyle.optimise.lbfgsb.blocks import blocks


class Pairs(Protocol):
    """The last k pairs of steps s and gradient differences y, stored in any place.

    Attributes
    ----------
    changes
        How often pairs have been appended or removed. An iteration that is interrupted may have
        changed the pairs already; they then no longer belong to the last iterate.
    """

    changes: int

    @abstractmethod
    def __len__(self) -> int:
        """Return the number of pairs k."""

    @abstractmethod
    def append(self, n: int, parts: Iterable[tuple[slice, Array, Array]]) -> None:
        """Append a pair; replace the oldest if the history is full.

        Parameters
        ----------
        n
            The length of s and y, the same for all pairs.
        parts
            The blocks in order: the slice of entries, and s and y there, in any float type.
        """

    @abstractmethod
    def clear(self) -> None:
        """Remove all pairs."""

    @abstractmethod
    def block(self, entries: slice) -> Array:
        """Return these entries of all y, oldest first, then of all s: (2k, entries), float64."""

    @abstractmethod
    def saved(self) -> Iterator[tuple[Array, Array]]:
        """Yield (s, y), oldest first, each (n,) in the stored type; the caller must not write.

        A checkpoint consists of these pairs, `State.products` and the other fields of `State`.
        """

    def restore(self, rows: Iterable[tuple[Array, Array]]) -> None:
        """Replace all pairs by those that `saved` yielded."""
        self.clear()
        for s, y in rows:
            self.append(s.shape[0], ((b, s[b], y[b]) for b in blocks(s)))
            del s, y  # freed before the next pair is read


class PairsInMemory(Pairs):
    """Pairs in the memory of the device that computes them.

    Parameters
    ----------
    history
        The maximum number of pairs, at least 1.
    dtype
        The type in which they are stored; "float64" takes twice the memory and does not improve
        results on images.
    """

    def __init__(self, history: int, *, dtype: str = "float32") -> None:
        self.changes = 0
        self._rows: list[tuple[Array, Array]] = []
        self._history = history
        self._dtype = dtype

    def __len__(self) -> int:
        return len(self._rows)

    def append(self, n: int, parts: Iterable[tuple[slice, Array, Array]]) -> None:
        """Append a pair; remove the oldest if the history is full."""
        self.changes += 1
        if len(self._rows) == self._history:
            self._rows.pop(0)  # freed before the new pair is allocated
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

    def clear(self) -> None:
        """Remove all pairs."""
        self.changes += 1
        self._rows.clear()

    def block(self, entries: slice) -> Array:
        """Return these entries of all y, then of all s."""
        rows = [y for _, y in self._rows] + [s for s, _ in self._rows]
        xp = namespace(rows[0])
        V: Array = xp.empty((len(rows), entries.stop - entries.start), dtype=xp.float64)
        for i, row in enumerate(rows):  # casts in place: a quarter of the time of a stack
            V[i, :] = row[entries]
        return V

    def saved(self) -> Iterator[tuple[Array, Array]]:
        """Yield (s, y), oldest first, without copies."""
        yield from self._rows


def pairs_within(n: int, budget_bytes: int, *, wanted: int = 10, itemsize: int = 4) -> int:
    """Return how many pairs fit into a memory budget, from 0 to `wanted`.

    Parameters
    ----------
    n
        The length of s and of y.
    budget_bytes
        The bytes available for all pairs; a negative budget counts as 0.
    wanted
        The number of pairs without a limit on memory.
    itemsize
        The bytes of an entry: 4 for float32.
    """
    return max(0, min(wanted, budget_bytes // (2 * n * itemsize)))
