"""Which array namespace an array belongs to. The only module that knows CuPy."""

import sys
from types import ModuleType
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

# NumPy's array type stands for CuPy's too: the two agree on everything that is used here.
Array: TypeAlias = NDArray[Any]


def namespace(array: Array) -> ModuleType:
    """Return the module whose functions work on `array`: NumPy, or CuPy where it made the array.

    CuPy is never imported here: an array of its can only exist where somebody has.
    """
    cupy = sys.modules.get("cupy")
    if cupy is not None and isinstance(array, cupy.ndarray):
        module: ModuleType = cupy
        return module
    return np
