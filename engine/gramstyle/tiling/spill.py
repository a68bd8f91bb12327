"""Arrays put aside between two passes: in memory as long as there is room, else in a file."""

import errno
import os
import shutil
import tempfile
import weakref
from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np

from gramstyle.core.arrays import Array
from gramstyle.errors import OptionError


class Shelf:
    """Keeps arrays under a key; what is put there again replaces what was.

    The file has no name in any folder once it is open, where the system allows that, so that
    nothing is left of it however the process ends.

    Parameters
    ----------
    memory
        How many bytes may be kept in memory.
    folder
        Where the file goes; see `scratch_folder`.
    """

    def __init__(self, *, memory: int, folder: Path | None = None) -> None:
        self._room = memory
        self._folder = folder
        self._in_memory: dict[Hashable, list[Array]] = {}
        self._in_file: dict[Hashable, int] = {}
        self._file: BinaryIO | None = None
        self._end = 0

    def put(self, key: Hashable, arrays: Sequence[Array]) -> None:
        """Keep the contents of contiguous arrays, of the same shapes each time.

        Raises
        ------
        OptionError
            If the disk is full.
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
        """Write what is kept under a key into contiguous arrays."""
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
                    raise OptionError(f"what was put aside in {self._folder} is not there any more")
                bytes_ = bytes_[read:]

    def close(self) -> None:
        """Give memory and disk back."""
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
                # Unbuffered: the arrays are large, and their own buffers.
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
                f"cannot put {size / 1e9:.1f} GB aside in {folder} ({why}); make room there, or "
                "name another folder by TMPDIR"
            ) from None


def scratch_folder() -> Path:
    """Return where large passing files go: TMPDIR, else a folder that is on disk.

    `/tmp` is in memory on many systems, `/var/tmp` never is.
    """
    if "TMPDIR" not in os.environ and os.access("/var/tmp", os.W_OK):  # noqa: S108 - so meant
        return Path("/var/tmp")  # noqa: S108
    return Path(tempfile.gettempdir())


def free_space(folder: Path) -> int:
    """Return how many bytes fit into a folder."""
    return shutil.disk_usage(folder).free


def _bytes(array: Array) -> memoryview:
    return memoryview(array.reshape(-1).view(np.uint8).data)
