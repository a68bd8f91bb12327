"""The history of L-BFGS-B on disk: one file, read and written block by block."""

import errno
import io
import os
import tempfile
import weakref
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Self

import numpy as np

from gramstyle.core.arrays import Array
from gramstyle.errors import GramstyleError
from gramstyle.optimise.lbfgsb.pairs import Pairs

# The number of entries of a row that one read covers: a megabyte of float32.
READ = 1 << 18


class PairsOnDisk(Pairs):
    """Pairs of NumPy arrays in an unnamed temporary file, which disappears with the process.

    A context manager, which closes the file.

    For any n, 2 · history · READ entries are in memory: the file is read and written, not mapped.
    The operating system may cache parts of it. If `folder` itself is in memory (a tmpfs), this
    class saves nothing.

    Parameters
    ----------
    history
        The maximum number of pairs, at least 1.
    folder
        The folder of the file, which is created with the first pair and takes 2 · history · n
        entries.
    dtype
        The type in which pairs are stored, "float32" or "float64".

    Raises
    ------
    GramstyleError
        From every method that uses the file: if the folder does not exist, or there is no
        permission or no space.
    """

    def __init__(
        self, history: int, *, folder: str | os.PathLike[str], dtype: str = "float32"
    ) -> None:
        self._history, self._folder, self._dtype = history, folder, np.dtype(dtype)
        self.changes = 0
        self._slots: list[int] = []  # the pairs' places in the file, oldest first
        self._n = 0
        self._file: io.FileIO | None = None
        self._window = slice(0, 0)  # the entries of all rows that the buffer contains
        self._buffer = np.empty((0, 0), self._dtype)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        if self._file is not None:
            self._file.close()

    def __len__(self) -> int:
        return len(self._slots)

    def append(self, n: int, parts: Iterable[tuple[slice, Array, Array]]) -> None:
        """Write a pair into the next free place, or over the oldest pair."""
        self.changes += 1
        if self._file is None:
            self._reserve(n)
        assert n == self._n, "all pairs must have the same length"  # noqa: S101
        full = len(self._slots) == self._history
        slot = self._slots.pop(0) if full else len(self._slots)
        self._window = slice(0, 0)
        for entries, s, y in parts:
            for row, part in ((2 * slot, s), (2 * slot + 1, y)):
                self._write(row, entries.start, np.ascontiguousarray(part, self._dtype))
        self._slots.append(slot)

    def clear(self) -> None:
        """Remove all pairs; the file keeps its size."""
        self.changes += 1
        self._slots.clear()

    def block(self, entries: slice) -> Array:
        """Return these entries of all y, then of all s; read ahead a megabyte of each row."""
        k = len(self._slots)
        if not self._window.start <= entries.start < entries.stop <= self._window.stop:
            stop = max(entries.stop, min(entries.start + READ, self._n))
            length = stop - entries.start
            if self._buffer.shape[1] < length:
                self._buffer = np.empty((2 * self._history, length), self._dtype)
            for i, slot in enumerate(self._slots):
                self._read(2 * slot + 1, entries.start, self._buffer[i, :length])
                self._read(2 * slot, entries.start, self._buffer[k + i, :length])
            self._window = slice(entries.start, stop)
        first = self._window.start
        block = self._buffer[: 2 * k, entries.start - first : entries.stop - first]
        return block.astype(np.float64)

    def saved(self) -> Iterator[tuple[Array, Array]]:
        """Yield (s, y), oldest first, one pair in memory at a time."""
        for slot in tuple(self._slots):
            s, y = np.empty(self._n, self._dtype), np.empty(self._n, self._dtype)
            self._read(2 * slot, 0, s)
            self._read(2 * slot + 1, 0, y)
            yield s, y

    def _reserve(self, n: int) -> None:
        """Create the file and reserve space for all pairs, so that a full disk shows at once."""
        self._n = n
        with self._one_line_errors():
            # The system removes the name at once, or (Windows) when the file is closed.
            file = tempfile.TemporaryFile(  # noqa: SIM115 - open as long as the pairs exist
                buffering=0, prefix="gramstyle-", dir=self._folder
            )
            weakref.finalize(self, file.close)
            _allocate(file, self._size)
        self._file = file

    @property
    def _size(self) -> int:
        return 2 * self._history * self._n * self._dtype.itemsize

    def _write(self, row: int, start: int, part: Array) -> None:
        file, rest = self._at(row, start), part.data.cast("B")
        with self._one_line_errors():
            while rest:
                rest = rest[file.write(rest) :]

    def _read(self, row: int, start: int, into: Array) -> None:
        file, rest = self._at(row, start), into.data.cast("B")
        with self._one_line_errors():
            while rest:
                got = file.readinto(rest)
                if not got:
                    raise OSError(0, "the file has become shorter")
                rest = rest[got:]

    def _at(self, row: int, start: int) -> io.FileIO:
        assert self._file is not None  # noqa: S101 - created with the first pair
        self._file.seek((row * self._n + start) * self._dtype.itemsize)
        return self._file

    @contextmanager
    def _one_line_errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise GramstyleError(
                f"cannot store the optimiser's history of {self._size / 1e6:.0f} MB in "
                f"{self._folder}: {error.strerror}; free space there, or set TMPDIR to another "
                "folder"
            ) from None


def _allocate(file: io.FileIO, size: int) -> None:
    """Reserve the space; where the system cannot, only set the file's length."""
    if hasattr(os, "posix_fallocate"):
        try:
            return os.posix_fallocate(file.fileno(), 0, size)
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):
                raise
    file.truncate(size)
    return None
