"""Which array namespace an array belongs to, and the few things that not all of them spell alike.

What computes on arrays here keeps to the array API standard (2024.12) in the spelling that NumPy,
CuPy and the standard share, and to the functions below where they share none.
"""

import sys
from types import ModuleType
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

# NumPy's array type stands for CuPy's too: the two agree on everything that is used here.
Array: TypeAlias = NDArray[Any]


def namespace(array: Array) -> ModuleType:
    """Return the module whose functions work on `array`: NumPy, CuPy, or what the array names.

    CuPy is never imported here: an array of its can only exist where somebody has.
    """
    cupy = sys.modules.get("cupy")
    module: ModuleType = np
    if cupy is not None and isinstance(array, cupy.ndarray):
        module = cupy
    elif not isinstance(array, np.ndarray) and hasattr(array, "__array_namespace__"):
        module = array.__array_namespace__()
    return module


def cast(array: Array, dtype: Any) -> Array:
    """Return the array in another type: one of its namespace's, or the name of one.

    Returns the array itself where it has that type already.
    """
    xp = namespace(array)
    dtype = getattr(xp, dtype) if isinstance(dtype, str) else dtype
    if hasattr(array, "astype"):
        return array.astype(dtype, copy=False)
    result: Array = xp.astype(array, dtype, copy=False)  # NumPy 2.0 has no such function
    return result


def on_host(array: Array) -> Array:
    """Return the array as one of NumPy's: a copy, and a wait, where it lies on a device."""
    result: Array = getattr(namespace(array), "asnumpy", np.asarray)(array)
    return result
