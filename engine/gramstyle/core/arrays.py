"""Array namespaces: NumPy, CuPy, and others of the array API standard.

The code that computes on arrays uses the part of the array API standard (2024.12) that NumPy and
CuPy spell in the same way, and the functions below where there is no common spelling.
"""

import math
import sys
from collections.abc import Iterable
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


def number(total: Any) -> float:
    """Return a sum, an array without axes, as a float; on a device as it is.

    A float of a device's sum would make the host wait for the device. An array without axes counts
    like a float, and `numbers` copies several at once.
    """
    result: float = total if _is_on_device(total) else float(total)
    return result


def numbers(values: Iterable[float]) -> list[float]:
    """Return numbers as floats; those of a device in one copy, once all of them are computed."""
    found = list(values)
    there = [index for index, value in enumerate(found) if _is_on_device(value)]
    if there:
        together = namespace(found[there[0]]).stack([found[index] for index in there])  # type: ignore[arg-type]
        for index, value in zip(there, on_host(together).tolist(), strict=True):
            found[index] = value
    return found


def all_finite(values: Iterable[Any]) -> bool:
    """Return whether no number, and no entry of an array, is NaN or infinite."""
    there = []
    for value in values:
        if isinstance(value, int | float):
            if not math.isfinite(value):
                return False
            continue
        xp = namespace(value)
        finite = xp.all(xp.isfinite(value))
        if _is_on_device(finite):
            there.append(finite)
        elif not bool(finite):
            return False
    return not there or bool(namespace(there[0]).stack(there).all())


def _is_on_device(value: Any) -> bool:
    return hasattr(namespace(value), "asnumpy")
