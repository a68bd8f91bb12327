"""The state file: arrays in NumPy's .npz layout, stored and not compressed, without pickles.

An array goes in and comes out megabyte by megabyte, so that none is in memory twice.
"""

import hashlib
import io
import os
import re
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from typing import Any, BinaryIO

import numpy as np

from gramstyle.core.arrays import Array, on_host
from gramstyle.run.checkpoint.problems import AGAIN, RefusedError, refuse, shown
from gramstyle.system.npy import header

# What an array may be called: a plain name of a file in an archive.
NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}")
# What a file may hold for each array besides its numbers, and as much once more.
MAX_OVERHEAD = 4096
CHUNK = 1 << 20
BEGINNING = (1980, 1, 1, 0, 0, 0)


@dataclass(frozen=True)
class Expected:
    """What an array must be to be read.

    Attributes
    ----------
    shape
        Exactly this.
    dtypes
        NumPy's names of the types it may have.
    finite
        Whether NaN and infinite values are refused.
    """

    shape: tuple[int, ...]
    dtypes: tuple[str, ...] = ("float64",)
    finite: bool = True

    @property
    def most(self) -> int:
        """How many bytes it may take."""
        return max(np.dtype(dtype).itemsize for dtype in self.dtypes) * prod(self.shape)


class Hashed(io.RawIOBase):
    """What has been written to a file: its size and its hash.

    zipfile finds no way back in it, so it writes from the beginning to the end.
    """

    def __init__(self, file: BinaryIO) -> None:
        super().__init__()
        self._file = file
        self.sha256 = hashlib.sha256()
        self.bytes = 0

    def write(self, data: Any, /) -> int:
        """Write bytes, or a contiguous array, in full."""
        self._file.write(data)
        self.sha256.update(data)
        self.bytes += memoryview(data).nbytes
        return memoryview(data).nbytes


class Sips(io.BufferedReader):
    """A file of which only a little is read at once.

    zipfile reads an archive's table of contents in one piece, as large as the file says.
    """

    def read(self, size: int | None = -1, /) -> bytes:
        """Read as a file does, but refuse to read much."""
        if size is None or size < 0:
            size = os.fstat(self.fileno()).st_size - self.tell()
        if size > 2 * CHUNK:
            refuse(f"its table of contents is larger than any of ours; {AGAIN}")
        return super().read(size)


def write_arrays(file: Hashed, arrays: Iterable[tuple[str, Array]]) -> None:
    """Write arrays by name, each before the next is asked for.

    Raises
    ------
    ValueError
        If a name is no plain one or is there twice, or an array holds neither numbers nor truth
        values.
    """
    names = set[str]()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for name, array in arrays:
            if not NAME.fullmatch(name) or name in names:
                raise ValueError(f"{shown(name)} is no plain name, or is there twice")
            names.add(name)
            info = zipfile.ZipInfo(_member(name), BEGINNING)
            with archive.open(info, "w", force_zip64=True) as member:
                _write_array(member, name, on_host(array))
            del array  # before the next one is made


def _write_array(member: Any, name: str, array: Array) -> None:
    if array.dtype.kind not in "biuf" or not array.dtype.isnative:
        raise ValueError(f"{name} is of the type {array.dtype}, which is not for a checkpoint")
    fortran = array.flags.f_contiguous and not array.flags.c_contiguous
    member.write(header(array.dtype, array.shape, fortran=fortran))
    for part in _parts((array.T if fortran else array).reshape(-1)):
        member.write(part.view(np.uint8))


def room_for(expected: Mapping[str, Expected]) -> int:
    """Return how large a file with these arrays may be."""
    return sum(each.most for each in expected.values()) + MAX_OVERHEAD * (len(expected) + 1)


class Arrays:
    """The arrays of a file that is known to be as it was written, whoever wrote it.

    Parameters
    ----------
    file
        Must stay open.
    expected
        All that are in it.

    Raises
    ------
    RefusedError
        If it holds other arrays than these, or is no archive.
    """

    def __init__(self, file: Sips, expected: Mapping[str, Expected]) -> None:
        self._expected = expected
        with _refusing():
            self._archive = zipfile.ZipFile(file)
            infos = self._archive.infolist()
            # As they stand in the file: zipfile turns separators and cuts at a NUL.
            if sorted(i.orig_filename for i in infos) != sorted(map(_member, expected)):
                refuse(f"its state does not hold the arrays of this run; {AGAIN}")
            # Members that lie over each other could be more than the file.
            if sum(info.compress_size for info in infos) > os.fstat(file.fileno()).st_size:
                refuse(f"its state does not hold all that it says; {AGAIN}")

    def read(self, name: str) -> Array:
        """Read an array; refuse one that is not as expected."""
        with _refusing():
            return _read_array(self._archive, name, self._expected[name])


@contextmanager
def _refusing() -> Iterator[None]:
    try:
        yield
    except RefusedError:
        raise
    except MemoryError:
        refuse("its state holds more than there is memory for; use a larger machine")
    # Only a file made on purpose gets here, and it can make zipfile raise nearly anything.
    except Exception as error:
        refuse(f"its state is no archive of ours ({type(error).__name__}); {AGAIN}")


def _read_array(archive: zipfile.ZipFile, name: str, expected: Expected) -> Array:
    """Read an array; nothing is allocated before its header and its size are as expected."""
    info = archive.getinfo(_member(name))
    if info.compress_type != zipfile.ZIP_STORED or info.flag_bits & 1:
        refuse(f"{name} is compressed or encrypted; {AGAIN}")
    # What the header can be, rather than what it says: it is never parsed.
    headers = {
        header(np.dtype(dtype), expected.shape, fortran=fortran): (np.dtype(dtype), fortran)
        for dtype in expected.dtypes
        for fortran in (False, True)
    }
    with archive.open(info) as member:
        start = member.read(10)
        begins = start + member.read(int.from_bytes(start[8:], "little"))
        dtype, fortran = headers.get(begins, (None, False))
        if dtype is None:
            kinds = " or ".join(expected.dtypes)
            refuse(f"{name} is not {kinds} of the shape {expected.shape}; {AGAIN}")
        size = len(begins) + dtype.itemsize * prod(expected.shape)
        if not info.file_size == info.compress_size == size:
            refuse(f"{name} is not as long as its shape says; {AGAIN}")
        flat = np.empty(prod(expected.shape), dtype)
        for part in _parts(flat):
            part.view(np.uint8)[:] = np.frombuffer(member.read(part.nbytes), np.uint8)
            if expected.finite and not np.isfinite(part).all():
                refuse(f"{name} holds NaN or an infinite value; {AGAIN}")
    return flat.reshape(expected.shape, order="F" if fortran else "C")


def _member(name: str) -> str:
    return f"{name}.npy"


def _parts(flat: Array) -> Iterator[Array]:
    """Give views of a flat array, one after the other, of a megabyte each."""
    step = CHUNK // flat.itemsize
    for start in range(0, flat.size, step):
        yield flat[start : start + step]
