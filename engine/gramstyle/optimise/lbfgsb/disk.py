"""Pairs out of core: L-BFGS-B's history in one file, read and written a block at a time."""

import errno
import io
import os
import tempfile
import weakref
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import numpy as np

from gramstyle.core.arrays import Array
from gramstyle.errors import GramstyleError
from gramstyle.optimise.lbfgsb.pairs import Pairs

# Entries of a row that are read at once: a megabyte of float32.
READ = 1 << 18


class PairsOnDisk(Pairs):
    """Pairs of NumPy's arrays in a file without a name, which is gone when the process is.

    Resident are 2 · memory · READ entries, whatever n: the file is read and written, not mapped.
    The operating system may keep what it likes of it in its cache. Where `folder` itself is in
    memory (a tmpfs), nothing is gained.

    Parameters
    ----------
    memory
        How many pairs to keep, at least one.
    folder
        Where the file is made, with the first pair; it takes 2 · memory · n entries.
    dtype
        In which type, "float32" or "float64".

    Raises
    ------
    GramstyleError
        From every method that touches the file: if there is no such folder, no permission, or
        no space.
    """

    def __init__(
        self, memory: int, *, folder: str | os.PathLike[str], dtype: str = "float32"
    ) -> None:
        self._memory, self._folder, self._dtype = memory, folder, np.dtype(dtype)
        self._slots: list[int] = []  # which pair of rows of the file, oldest first
        self._n = 0
        self._file: io.FileIO | None = None
        self._window = slice(0, 0)  # the entries that the buffer has of all rows
        self._buffer = np.empty((0, 0), self._dtype)

    def __len__(self) -> int:
        return len(self._slots)

    def append(self, n: int, parts: Iterable[tuple[slice, Array, Array]]) -> None:
        """Write a pair over the oldest one, or into the next room."""
        if self._file is None:
            self._reserve(n)
        assert n == self._n, "all pairs are of one length"  # noqa: S101
        full = len(self._slots) == self._memory
        slot = self._slots.pop(0) if full else len(self._slots)
        self._window = slice(0, 0)
        for entries, s, y in parts:
            for row, part in ((2 * slot, s), (2 * slot + 1, y)):
                self._write(row, entries.start, np.ascontiguousarray(part, self._dtype))
        self._slots.append(slot)

    def forget(self) -> None:
        """Drop them all; the file keeps its room."""
        self._slots.clear()

    def block(self, entries: slice) -> Array:
        """Return these entries of all y, then of all s; read a megabyte of each row ahead."""
        k = len(self._slots)
        if not self._window.start <= entries.start < entries.stop <= self._window.stop:
            stop = max(entries.stop, min(entries.start + READ, self._n))
            length = stop - entries.start
            if self._buffer.shape[1] < length:
                self._buffer = np.empty((2 * self._memory, length), self._dtype)
            for i, slot in enumerate(self._slots):
                self._read(2 * slot + 1, entries.start, self._buffer[i, :length])
                self._read(2 * slot, entries.start, self._buffer[k + i, :length])
            self._window = slice(entries.start, stop)
        first = self._window.start
        there = self._buffer[: 2 * k, entries.start - first : entries.stop - first]
        return there.astype(np.float64)

    def saved(self) -> Iterator[tuple[Array, Array]]:
        """Yield (s, y), oldest first: two arrays of n at a time, read for this."""
        for slot in tuple(self._slots):
            s, y = np.empty(self._n, self._dtype), np.empty(self._n, self._dtype)
            self._read(2 * slot, 0, s)
            self._read(2 * slot + 1, 0, y)
            yield s, y

    def _reserve(self, n: int) -> None:
        """Make the file, with room for all pairs: better to find out now than after hours."""
        self._n = n
        with self._said_in_one_line():
            # Its name is taken away at once where the system can, else with the last handle.
            file = tempfile.TemporaryFile(  # noqa: SIM115 - open as long as the pairs live
                buffering=0, prefix="gramstyle-", dir=self._folder
            )
            weakref.finalize(self, file.close)
            _allocate(file, self._size)
        self._file = file

    @property
    def _size(self) -> int:
        return 2 * self._memory * self._n * self._dtype.itemsize

    def _write(self, row: int, start: int, part: Array) -> None:
        file, rest = self._at(row, start), part.data.cast("B")
        with self._said_in_one_line():
            while rest:
                rest = rest[file.write(rest) :]

    def _read(self, row: int, start: int, into: Array) -> None:
        file, rest = self._at(row, start), into.data.cast("B")
        with self._said_in_one_line():
            while rest:
                got = file.readinto(rest)
                if not got:
                    raise OSError(0, "the file is shorter than it was")
                rest = rest[got:]

    def _at(self, row: int, start: int) -> io.FileIO:
        assert self._file is not None  # noqa: S101 - the first pair has made it
        self._file.seek((row * self._n + start) * self._dtype.itemsize)
        return self._file

    @contextmanager
    def _said_in_one_line(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise GramstyleError(
                f"cannot keep the optimiser's history of {self._size / 1e6:.0f} MB in "
                f"{self._folder}: {error.strerror}; free space there, or set TMPDIR to another "
                "folder"
            ) from None


def _allocate(file: io.FileIO, size: int) -> None:
    """Reserve the space; where the system cannot, make the file as long and hope."""
    if hasattr(os, "posix_fallocate"):
        try:
            return os.posix_fallocate(file.fileno(), 0, size)
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):
                raise
    file.truncate(size)
    return None
