"""Arrays in NumPy's .npz layout, written so that the same arrays are the same bytes everywhere.

Stored and not compressed, since what a compressor gives depends on its version. Whoever reads
knows every name and shape beforehand, so the layout is known to the byte: nothing in the file is
ever parsed.
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

# What a zip archive holds around each member, and at its end.
LOCAL_HEADER, ENTRY, END = 30, 46, 22
BEGINNING = (1980, 1, 1, 0, 0, 0)
FLOAT = np.dtype("<f8")


def pack(arrays: Mapping[str, Array]) -> bytes:
    """Return a .npz file of float64 arrays, in this order."""
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
        for name, array in arrays.items():
            info = zipfile.ZipInfo(_member(name), BEGINNING)
            info.create_system, info.external_attr = 3, 0o644 << 16
            archive.writestr(info, header(FLOAT, array.shape) + np.asarray(array, FLOAT).tobytes())
    return target.getvalue()


def packed_size(shapes: Shapes) -> int:
    """Return how many bytes `pack` makes of arrays of these shapes."""
    inside = sum(start + 8 * prod(shapes[name]) for name, start in _starts(shapes))
    return inside + sum(ENTRY + len(_member(name)) for name in shapes) + END


def unpack(data: bytes, shapes: Shapes) -> dict[str, Array]:
    """Return the arrays of a file that `pack` made.

    Raises
    ------
    ModelError
        If it is not byte for byte what `pack` makes of arrays with these names and shapes, or
        holds NaN or an infinite value.
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
            "expected the arrays that the manifest tells of, stored as gramstyle stores them; "
            "found others"
        )
    for name, array in arrays.items():
        if not np.isfinite(array).all():
            raise ModelError(f"expected numbers in {name}, found NaN or an infinite value")
    return arrays


def _starts(shapes: Shapes) -> Iterator[tuple[str, int]]:
    """Give how far behind the beginning of its member each array's numbers start."""
    for name, shape in shapes.items():
        yield name, LOCAL_HEADER + len(_member(name)) + len(header(FLOAT, shape))


def _member(name: str) -> str:
    return f"{name}.npy"
