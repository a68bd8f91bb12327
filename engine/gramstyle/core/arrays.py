"""Array namespaces: NumPy, CuPy, and others of the array API standard.

The code that computes on arrays uses the part of the array API standard (2024.12) that NumPy and
CuPy spell in the same way, and the functions below where there is no common spelling.
"""

import math
import sys
from types import ModuleType
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

# NumPy's array type, for type checkers, stands for CuPy's too.
Array: TypeAlias = NDArray[Any]


def namespace(array: Array) -> ModuleType:
    """Return the module whose functions work on `array`: NumPy, CuPy, or the array's own.

    This never imports CuPy: where a CuPy array exists, CuPy is imported already.
    """
    cupy = sys.modules.get("cupy")
    module: ModuleType = np
    if cupy is not None and isinstance(array, cupy.ndarray):
        module = cupy
    elif not isinstance(array, np.ndarray) and hasattr(array, "__array_namespace__"):
        module = array.__array_namespace__()
    return module


def cast(array: Array, dtype: Any) -> Array:
    """Return the array in another type of its namespace, given as the type or by its name.

    If the array has that type already, it is returned itself.
    """
    xp = namespace(array)
    dtype = getattr(xp, dtype) if isinstance(dtype, str) else dtype
    if hasattr(array, "astype"):
        return array.astype(dtype, copy=False)
    result: Array = xp.astype(array, dtype, copy=False)  # NumPy 2.0 has no such function
    return result


def on_host(array: Array) -> Array:
    """Return the array as a NumPy array: from a device it is copied, once it is computed."""
    result: Array = getattr(namespace(array), "asnumpy", np.asarray)(array)
    return result


def is_finite(value: Any) -> bool:
    """Return whether a number, or every entry of an array, is neither NaN nor infinite."""
    if isinstance(value, int | float):
        return math.isfinite(value)
    xp = namespace(value)
    return bool(xp.all(xp.isfinite(value)))
