"""Arrays that are stored between two passes: in memory while there is room, then in a file."""

import errno
import shutil
import tempfile
import weakref
from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Self

import numpy as np

from gramstyle.core.arrays import Array
from gramstyle.errors import GramstyleError, OptionError
from gramstyle.system.temporary import scratch_folder
from gramstyle.tiling.ordered import OrderedArray


class SpillStore:
    """Stores arrays under keys; arrays that are put under a key again replace the first ones.

    A context manager, which closes the store. If the system allows it, the spill file has no name
    in any folder, so that it disappears however the process ends.

    Parameters
    ----------
    memory
        How many bytes may stay in memory.
    folder
        The folder of the spill file; by default `scratch_folder`, once the file is needed.
    """

    def __init__(self, *, memory: int, folder: Path | None = None) -> None:
        self._room = memory
        self._folder = folder
        self._in_memory: dict[Hashable, list[Array]] = {}
        self._in_file: dict[Hashable, int] = {}
        self._file: BinaryIO | None = None
        self._end = 0
        self._ordered: dict[Hashable, tuple[tuple[int, ...], tuple[int, ...], np.dtype[Any]]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()

    def put(self, key: Hashable, arrays: Sequence[Array]) -> None:
        """Store copies of contiguous arrays; those of one key must always have the same shapes.

        Raises
        ------
        OptionError
            If the disk is full.
        GramstyleError
            If there is no folder for the spill file.
        """
        size = sum(array.nbytes for array in arrays)
        if key in self._in_memory:
            for there, array in zip(self._in_memory[key], arrays, strict=True):
                there[...] = array
        elif key not in self._in_file and size <= self._room:
            self._room -= size
            self._in_memory[key] = [array.copy() for array in arrays]
        else:
            self._write(key, size, arrays)

    def take(self, key: Hashable, arrays: Sequence[Array]) -> None:
        """Read what is stored under a key into contiguous arrays; raises OptionError."""
        if key in self._in_memory:
            for there, array in zip(self._in_memory[key], arrays, strict=True):
                array[...] = there
            return
        assert self._file is not None  # noqa: S101 - it was put there
        self._file.seek(self._in_file[key])
        for array in arrays:
            bytes_ = _bytes(array)
            while bytes_:
                read = self._file.readinto(bytes_)  # type: ignore[attr-defined]
                if not read:
                    raise OptionError(
                        f"the spill file in {self._folder} has been truncated; start the run again"
                    )
                bytes_ = bytes_[read:]

    def put_ordered(self, key: Hashable, array: OrderedArray) -> None:
        """Store an array together with the order of its axes; raises as `put` does."""
        self._ordered[key] = (array.axes, array.data.shape, array.data.dtype)
        self.put(key, [array.data])

    def take_ordered(self, key: Hashable) -> OrderedArray:
        """Return an array that `put_ordered` has stored."""
        axes, shape, dtype = self._ordered[key]
        data = np.empty(shape, dtype)
        self.take(key, [data])
        return OrderedArray(axes, data)

    def close(self) -> None:
        """Release memory and disk."""
        self._in_memory.clear()
        self._in_file.clear()
        if self._file is not None:
            self._file.close()
            self._file = None

    def _write(self, key: Hashable, size: int, arrays: Sequence[Array]) -> None:
        folder = scratch_folder() if self._folder is None else self._folder
        self._folder = folder
        try:
            if self._file is None:
                # Unbuffered, since the arrays are large.
                self._file = tempfile.TemporaryFile(  # noqa: SIM115 - `close` does
                    dir=folder, prefix="gramstyle-", buffering=0
                )
                weakref.finalize(self, self._file.close)
            if key not in self._in_file:
                self._in_file[key] = self._end
                self._end += size
            self._file.seek(self._in_file[key])
            for array in arrays:
                bytes_ = _bytes(array)
                while bytes_:
                    bytes_ = bytes_[self._file.write(bytes_) :]
        except OSError as error:
            why = "the disk is full" if error.errno == errno.ENOSPC else error.strerror
            raise OptionError(
                f"cannot write {size / 1e9:.1f} GB to a spill file in {folder} ({why}); make room "
                "there, or set TMPDIR to another folder"
            ) from None


def scratch_space() -> int:
    """Return how many bytes are free for spill files; 0 if there is no folder for them."""
    try:
        return shutil.disk_usage(scratch_folder()).free
    except (GramstyleError, OSError):
        return 0


def _bytes(array: Array) -> memoryview:
    return memoryview(array.reshape(-1).view(np.uint8).data)
