"""The state file: arrays in NumPy's .npz layout, uncompressed and without pickles.

Arrays are written and read in chunks of a megabyte, so that none is in memory twice.
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
from gramstyle.run.checkpoint.problems import START_AGAIN, RefusedError, refuse, shown
from gramstyle.system.npy import header

# The allowed names of arrays, which are also file names in the archive.
NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}")
# The maximum overhead in bytes for each array, and once more for the file.
MAX_OVERHEAD = 4096
CHUNK = 1 << 20
FIXED_DATE = (1980, 1, 1, 0, 0, 0)


@dataclass(frozen=True)
class Expected:
    """The properties that an array must have.

    Attributes
    ----------
    shape
        The exact shape.
    dtypes
        NumPy's names of the allowed types.
    finite
        Whether NaN and infinite values are refused.
    """

    shape: tuple[int, ...]
    dtypes: tuple[str, ...] = ("float64",)
    finite: bool = True

    @property
    def max_bytes(self) -> int:
        """The largest size of the array in bytes."""
        return max(np.dtype(dtype).itemsize for dtype in self.dtypes) * prod(self.shape)


class HashingWriter(io.RawIOBase):
    """A file that counts and hashes the bytes written to it.

    It cannot seek, so zipfile writes it from beginning to end.
    """

    def __init__(self, file: BinaryIO) -> None:
        super().__init__()
        self._file = file
        self.sha256 = hashlib.sha256()
        self.bytes = 0

    def write(self, data: Any, /) -> int:
        """Write all of the bytes, or of a contiguous array."""
        self._file.write(data)
        self.sha256.update(data)
        self.bytes += memoryview(data).nbytes
        return memoryview(data).nbytes


class BoundedReader(io.BufferedReader):
    """A file that refuses large reads.

    zipfile reads an archive's directory in one piece of the size that the file declares.
    """

    def read(self, size: int | None = -1, /) -> bytes:
        """Read from the file, but at most 2 MB at once."""
        if size is None or size < 0:
            size = os.fstat(self.fileno()).st_size - self.tell()
        if size > 2 * CHUNK:
            refuse(f"its table of contents is larger than any that gramstyle writes; {START_AGAIN}")
        return super().read(size)


def write_arrays(file: HashingWriter, arrays: Iterable[tuple[str, Array]]) -> None:
    """Write arrays by name; each is written before the iterator is advanced to the next.

    Raises
    ------
    ValueError
        If a name is invalid or occurs twice, or an array is neither numeric nor boolean.
    """
    names = set[str]()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for name, array in arrays:
            if not NAME.fullmatch(name) or name in names:
                raise ValueError(f"{shown(name)} is not a plain name, or occurs twice")
            names.add(name)
            info = zipfile.ZipInfo(_member(name), FIXED_DATE)
            with archive.open(info, "w", force_zip64=True) as member:
                _write_array(member, name, on_host(array))
            del array  # freed before the next array is created


def _write_array(member: Any, name: str, array: Array) -> None:
    if array.dtype.kind not in "biuf" or not array.dtype.isnative:
        raise ValueError(f"{name} has the type {array.dtype}, which a checkpoint cannot store")
    fortran = array.flags.f_contiguous and not array.flags.c_contiguous
    member.write(header(array.dtype, array.shape, fortran=fortran))
    for part in _parts((array.T if fortran else array).reshape(-1)):
        member.write(part.view(np.uint8))


def room_for(expected: Mapping[str, Expected]) -> int:
    """Return the maximum size in bytes of a file with these arrays."""
    return sum(each.max_bytes for each in expected.values()) + MAX_OVERHEAD * (len(expected) + 1)


class Arrays:
    """The arrays of a state file whose hash has been checked, but which may still be hostile.

    Parameters
    ----------
    file
        The open file; it must stay open.
    expected
        All arrays of the file.

    Raises
    ------
    RefusedError
        If the file contains other arrays, or is not an archive.
    """

    def __init__(self, file: BoundedReader, expected: Mapping[str, Expected]) -> None:
        self._expected = expected
        with _refusing():
            self._archive = zipfile.ZipFile(file)
            infos = self._archive.infolist()
            # The original names: zipfile converts separators and cuts names at a NUL.
            if sorted(i.orig_filename for i in infos) != sorted(map(_member, expected)):
                refuse(f"its state does not contain the arrays of this run; {START_AGAIN}")
            # Overlapping members could expand to more than the file.
            if sum(info.compress_size for info in infos) > os.fstat(file.fileno()).st_size:
                refuse(f"its state declares more data than it contains; {START_AGAIN}")

    def read(self, name: str) -> Array:
        """Read an array; refuse it if it is not as expected."""
        with _refusing():
            return _read_array(self._archive, name, self._expected[name])


@contextmanager
def _refusing() -> Iterator[None]:
    try:
        yield
    except RefusedError:
        raise
    except MemoryError:
        refuse("its state needs more memory than there is; use a larger machine")
    # A file that was made on purpose can make zipfile raise nearly any exception.
    except Exception as error:
        refuse(f"its state is not an archive of gramstyle ({type(error).__name__}); {START_AGAIN}")


def _read_array(archive: zipfile.ZipFile, name: str, expected: Expected) -> Array:
    """Read an array; check its header and size before allocating memory."""
    info = archive.getinfo(_member(name))
    if info.compress_type != zipfile.ZIP_STORED or info.flag_bits & 1:
        refuse(f"{name} is compressed or encrypted; {START_AGAIN}")
    # The header is compared with all allowed headers and never parsed.
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
            refuse(f"{name} is not {kinds} of the shape {expected.shape}; {START_AGAIN}")
        size = len(begins) + dtype.itemsize * prod(expected.shape)
        if not info.file_size == info.compress_size == size:
            refuse(f"{name} does not have the length of its shape; {START_AGAIN}")
        flat = np.empty(prod(expected.shape), dtype)
        for part in _parts(flat):
            part.view(np.uint8)[:] = np.frombuffer(member.read(part.nbytes), np.uint8)
            if expected.finite and not np.isfinite(part).all():
                refuse(f"{name} contains NaN or an infinite value; {START_AGAIN}")
    return flat.reshape(expected.shape, order="F" if fortran else "C")


def _member(name: str) -> str:
    return f"{name}.npy"


def _parts(flat: Array) -> Iterator[Array]:
    """Yield views of a flat array in order, a megabyte each."""
    step = CHUNK // flat.itemsize
    for start in range(0, flat.size, step):
        yield flat[start : start + step]
