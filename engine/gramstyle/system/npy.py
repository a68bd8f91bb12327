"""The header of NumPy's .npy format, for writing and for comparison; none is ever parsed."""

from typing import Any

import numpy as np

MAGIC = b"\x93NUMPY\x01\x00"
# The length of the header is a multiple of this, so that the data is aligned.
ALIGNMENT = 64


def header(dtype: np.dtype[Any], shape: tuple[int, ...], *, fortran: bool = False) -> bytes:
    """Return the header of a .npy file, version 1.0.

    NumPy's own headers differ in padding between versions; this one is always the same.

    Parameters
    ----------
    dtype, shape
        The array's type and shape.
    fortran
        Whether the array is in Fortran order (the first axis is contiguous).
    """
    text = f"{{'descr': {dtype.str!r}, 'fortran_order': {fortran}, 'shape': {shape}, }}"
    length = -(-(len(MAGIC) + 2 + len(text) + 1) // ALIGNMENT) * ALIGNMENT - len(MAGIC) - 2
    return MAGIC + length.to_bytes(2, "little") + text.ljust(length - 1).encode() + b"\n"
