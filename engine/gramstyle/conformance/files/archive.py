"""Arrays in NumPy's .npz format, with the same bytes for the same arrays on every machine.

The arrays are stored uncompressed, since the output of a compressor depends on its version. The
reader takes all names and shapes from the manifest, so it knows the layout to the byte and parses
nothing in the file.
"""

import io
import zipfile
from collections.abc import Iterator, Mapping
from math import prod

import numpy as np

from gramstyle.core.arrays import Array
from gramstyle.errors import ModelError
from gramstyle.system.npy import header

Shapes = Mapping[str, tuple[int, ...]]

# The sizes of a zip archive's headers, in bytes, without the names of its members.
LOCAL_HEADER, ENTRY, END = 30, 46, 22
BEGINNING = (1980, 1, 1, 0, 0, 0)
FLOAT = np.dtype("<f8")


def pack(arrays: Mapping[str, Array]) -> bytes:
    """Return the bytes of a .npz file of float64 arrays, in the order of the mapping."""
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
        for name, array in arrays.items():
            info = zipfile.ZipInfo(_member(name), BEGINNING)
            info.create_system, info.external_attr = 3, 0o644 << 16
            archive.writestr(info, header(FLOAT, array.shape) + np.asarray(array, FLOAT).tobytes())
    return target.getvalue()


def packed_size(shapes: Shapes) -> int:
    """Return the size in bytes of what `pack` returns for arrays of these shapes."""
    inside = sum(start + 8 * prod(shapes[name]) for name, start in _starts(shapes))
    return inside + sum(ENTRY + len(_member(name)) for name in shapes) + END


def unpack(data: bytes, shapes: Shapes) -> dict[str, Array]:
    """Return the arrays of a file that was written by `pack`.

    Raises
    ------
    ModelError
        If the file is not byte for byte what `pack` returns for arrays of these names and shapes,
        or contains NaN or an infinite value.
    """
    if len(data) != packed_size(shapes):
        raise ModelError(f"expected {packed_size(shapes)} bytes of arrays, found {len(data)}")
    arrays, at = {}, 0
    for name, start in _starts(shapes):
        shape = shapes[name]
        values = np.frombuffer(data, FLOAT, prod(shape), at + start)
        arrays[name] = values.astype(np.float64).reshape(shape)
        at += start + values.nbytes
    if pack(arrays) != data:
        raise ModelError(
            "expected the arrays of the manifest, stored as gramstyle stores them; found others"
        )
    for name, array in arrays.items():
        if not np.isfinite(array).all():
            raise ModelError(f"expected numbers in {name}, found NaN or an infinite value")
    return arrays


def _starts(shapes: Shapes) -> Iterator[tuple[str, int]]:
    """Yield each name, and the offset of its numbers from the beginning of its member."""
    for name, shape in shapes.items():
        yield name, LOCAL_HEADER + len(_member(name)) + len(header(FLOAT, shape))


def _member(name: str) -> str:
    return f"{name}.npy"
