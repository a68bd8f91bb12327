"""safetensors files, through their own library. The only `import safetensors`, on first use."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from gramstyle.arrays import Array
from gramstyle.errors import ModelError
from gramstyle.model.sources.tensors import StoredTensor, Tensors

DTYPES: Mapping[str, np.dtype[Any]] = {
    "F64": np.dtype("<f8"),
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype("<f4"),  # which NumPy lacks, and holds what it can
}


@contextmanager
def open_safe_tensors(path: Path) -> Iterator[Tensors]:
    """Open a safetensors file and give its tensors of floats, bfloat16 widened to float32.

    Raises
    ------
    ModelError
        If the library is not installed.
    Exception
        The library's own, if the file is damaged.
    """
    try:
        import ml_dtypes  # noqa: F401 - gives NumPy the type that the library makes of BF16
        from safetensors import safe_open
    except ImportError:
        raise ModelError(
            'reading safetensors needs a library; install it with: pip install "gramstyle[weights]"'
        ) from None
    with safe_open(path, framework="numpy") as file:
        tensors: dict[str, StoredTensor] = {}
        for name in file.keys():  # noqa: SIM118 - not a dictionary
            part = file.get_slice(name)
            if dtype := DTYPES.get(part.get_dtype()):
                shape = tuple(part.get_shape())
                tensors[name] = StoredTensor(shape, dtype, _loader(file, name, dtype))
        yield tensors


def _loader(file: Any, name: str, dtype: np.dtype[Any]) -> Callable[[], Array]:
    def load() -> Array:
        tensor: Array = file.get_tensor(name).astype(dtype, copy=False)
        return tensor

    return load
