"""Arrays in files that a program reads and writes: .npy, or the numbers alone, little-endian."""

import stat
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from gramstyle.conformance.comparing import NoAnswerError
from gramstyle.core.arrays import Array

# The endings of files that contain nothing but numbers.
RAW = {"float16": "f16", "float32": "f32", "float64": "f64"}
# The longest header of a .npy file that is read, in bytes.
HEADER = 4096


def write_array(folder: Path, name: str, array: Array, files: str) -> dict[str, Any]:
    """Write an array into a folder; return its description in a message.

    Parameters
    ----------
    folder, name
        The folder, and the name of the file without its ending.
    array
        The array, in the float type in which to write it.
    files
        "npy" or "raw".
    """
    dtype = array.dtype.name
    array = np.asarray(array, array.dtype.newbyteorder("<"), order="C")
    file = f"{name}.{'npy' if files == 'npy' else RAW[dtype]}"
    if files == "npy":
        np.save(folder / file, array, allow_pickle=False)
    else:
        (folder / file).write_bytes(array.tobytes())
    return {"file": file, "dtype": dtype, "shape": list(array.shape)}


def read_array(folder: Path, file: str, shape: tuple[int, ...], what: str) -> Array:
    """Return the array of an answer, which a program wrote.

    Parameters
    ----------
    folder, file
        The folder, and a name that the schema allows.
    shape
        The shape that the array must have.
    what
        What the array is, for errors: "gradient" or "dF of conv1_1".

    Raises
    ------
    NoAnswerError
        If there is no such file, or it contains anything else than floats in this shape.
    """
    path = folder / file
    try:
        # A link or a pipe is not opened: it may lead anywhere, or wait for ever.
        if not stat.S_ISREG(path.lstat().st_mode):
            raise NoAnswerError(f"the {what} is in {file}, which is not a regular file")
        with path.open("rb") as stream:
            if path.suffix == ".npy":
                return _read_npy(stream, path.stat().st_size, shape, what)
            return _read_raw(stream, path, shape, what)
    except FileNotFoundError:
        raise NoAnswerError(f"the {what} is missing: there is no file {file}") from None
    except OSError as error:
        raise NoAnswerError(f"the {what} cannot be read from {file}: {error.strerror}") from None


def _read_raw(stream: BinaryIO, path: Path, shape: tuple[int, ...], what: str) -> Array:
    name = next(name for name, ending in RAW.items() if path.suffix == f".{ending}")
    dtype = np.dtype(name).newbyteorder("<")
    expected, found = dtype.itemsize * int(np.prod(shape)), path.stat().st_size
    if found != expected:
        raise NoAnswerError(
            f"the {what} has {found} bytes in {path.name}; expected {expected} "
            f"({name}, shape {shape})"
        )
    return np.frombuffer(stream.read(expected), dtype).astype(name).reshape(shape)


def _read_npy(stream: BinaryIO, size: int, shape: tuple[int, ...], what: str) -> Array:
    try:
        version = np.lib.format.read_magic(stream)
        read = np.lib.format.read_array_header_1_0
        if version != (1, 0):
            read = np.lib.format.read_array_header_2_0
        found, fortran, dtype = read(stream, max_header_size=HEADER)
    # The header is an expression of Python that a program wrote.
    except Exception:
        raise NoAnswerError(f"the {what} is in a file that is not in NumPy's format") from None
    if dtype.kind != "f" or dtype.name not in RAW:
        raise NoAnswerError(f"the {what} has the dtype {dtype}; expected floats")
    if found != shape:
        raise NoAnswerError(f"the {what} has the shape {found}; expected {shape}")
    expected = dtype.itemsize * int(np.prod(shape))
    if size - stream.tell() != expected:
        raise NoAnswerError(f"the {what} is in a .npy file that is too short or too long")
    values = np.frombuffer(stream.read(expected), dtype).astype(dtype.name)
    return values.reshape(shape, order="F" if fortran else "C")
