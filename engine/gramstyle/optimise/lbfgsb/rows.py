"""The history of L-BFGS-B in one array, as compiled loops read it."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from gramstyle.core.arrays import Array
from gramstyle.optimise.lbfgsb.pairs import Pairs


class PairsInRows(Pairs):
    """Pairs of NumPy arrays in float32, in the rows of one array.

    `gramstyle.optimise.lbfgsb.loops` computes with them in compiled loops.

    Parameters
    ----------
    history
        The maximum number of pairs, at least 1.
    threads
        The number of threads of the loops. The result does not depend on it.
    """

    def __init__(self, history: int, *, threads: int = 1) -> None:
        self.changes = 0
        self._threads = threads
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="gramstyle-lbfgsb")
        self._history = history
        self._slots: list[int] = []  # the pairs' places, oldest first
        self._n = 0
        self._V = np.empty((0, 0), np.float32)

    def __len__(self) -> int:
        return len(self._slots)

    @property
    def V(self) -> Array:
        """All rows (2m, n); a pair in place i has its y in row i, and its s in row m + i."""
        return self._V

    @property
    def order(self) -> Array:
        """The rows of all y, oldest first, then of all s."""
        return np.array([*self._slots, *(self._history + slot for slot in self._slots)], np.int64)

    def for_each(self, function: Callable[[int], None], count: int) -> None:
        """Call a function with every number below `count`, on the threads, and wait."""
        if self._threads == 1:
            for number in range(count):
                function(number)
            return
        numbers = iter(range(count))  # the threads take the numbers one by one

        def work(_thread: int) -> None:
            for number in numbers:
                function(number)

        for _ in self._pool.map(work, range(self._threads)):
            pass

    def append(self, n: int, parts: Iterable[tuple[slice, Array, Array]]) -> None:
        """Append a pair; replace the oldest if the history is full."""

        def write(s: Array, y: Array) -> None:
            for entries, part_s, part_y in parts:
                s[entries], y[entries] = part_s, part_y

        self.append_by(n, write)

    def append_by(self, n: int, write: Callable[[Array, Array], None]) -> None:
        """Append the pair that `write` writes into s and y, each (n,)."""
        self.changes += 1
        if not self._n:
            # The system provides the memory of a row when it is written for the first time.
            self._n, self._V = n, np.empty((2 * self._history, n), np.float32)
        assert n == self._n, "all pairs must have the same length"  # noqa: S101
        full = len(self._slots) == self._history
        slot = self._slots.pop(0) if full else len(self._slots)
        write(self._V[self._history + slot], self._V[slot])
        self._slots.append(slot)

    def clear(self) -> None:
        """Remove all pairs; the array stays."""
        self.changes += 1
        self._slots.clear()

    def block(self, entries: slice) -> Array:
        """Return these entries of all y, then of all s."""
        return self._V[self.order, entries].astype(np.float64)

    def saved(self) -> Iterator[tuple[Array, Array]]:
        """Yield (s, y), oldest first, without copies."""
        for slot in tuple(self._slots):
            yield self._V[self._history + slot], self._V[slot]
