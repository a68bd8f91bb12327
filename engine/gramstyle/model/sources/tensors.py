"""A tensor in a file: its shape and type are known before its values are read."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from gramstyle.core.arrays import Array


@dataclass(frozen=True)
class StoredTensor:
    """A tensor in a weights file.

    Shape and type come from the file's table of contents and are checked before `load`
    allocates memory.

    Attributes
    ----------
    shape, dtype
        The shape and type of the array that `load` returns.
    load
        Reads the values; works only while the file is open.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    load: Callable[[], Array]


Tensors: TypeAlias = Mapping[str, StoredTensor]
