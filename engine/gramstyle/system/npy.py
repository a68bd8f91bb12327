"""The header of NumPy's .npy format, to be written and to be compared with, never parsed."""

from typing import Any

import numpy as np

MAGIC = b"\x93NUMPY\x01\x00"
# The header ends where the numbers can begin at a multiple of this.
ALIGNMENT = 64


def header(dtype: np.dtype[Any], shape: tuple[int, ...], *, fortran: bool = False) -> bytes:
    """Return what stands before an array's numbers in a .npy file, version 1.0.

    NumPy's own differs in its blanks from version to version; this one does not.

    Parameters
    ----------
    dtype, shape
        Of the array.
    fortran
        Whether its first axis runs fastest.
    """
    text = f"{{'descr': {dtype.str!r}, 'fortran_order': {fortran}, 'shape': {shape}, }}"
    length = -(-(len(MAGIC) + 2 + len(text) + 1) // ALIGNMENT) * ALIGNMENT - len(MAGIC) - 2
    return MAGIC + length.to_bytes(2, "little") + text.ljust(length - 1).encode() + b"\n"
