"""A tensor that is still in its file: what is known of it before any of it is read."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from gramstyle.core.arrays import Array


@dataclass(frozen=True)
class StoredTensor:
    """A tensor in a file of weights.

    Shape and type are known from the file's table of contents; they are judged before `load`
    takes any memory.

    Attributes
    ----------
    shape, dtype
        What `load` returns.
    load
        Reads the tensor; only while the file is open.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    load: Callable[[], Array]


Tensors: TypeAlias = Mapping[str, StoredTensor]
