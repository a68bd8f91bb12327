"""safetensors files, read with their own library. The only `import safetensors`, on first use."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from gramstyle.core.arrays import Array
from gramstyle.errors import ModelError
from gramstyle.model.sources.tensors import StoredTensor, Tensors
from gramstyle.system.installing import remedy

DTYPES: Mapping[str, np.dtype[Any]] = {
    "F64": np.dtype("<f8"),
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype("<f4"),  # NumPy lacks bfloat16; float32 holds all its values
    "C64": np.dtype("<c8"),
    **{f"I{8 * size}": np.dtype(f"<i{size}") for size in (1, 2, 4, 8)},
    **{f"U{8 * size}": np.dtype(f"<u{size}") for size in (1, 2, 4, 8)},
    "BOOL": np.dtype("?"),
}

# The header of VGG-19 takes 3 kB. The library would accept 100 MB and use 2 GB of memory for them.
MAX_HEADER = 2 * 1024 * 1024


@contextmanager
def open_safe_tensors(path: Path) -> Iterator[Tensors]:
    """Open a safetensors file; yield its tensors, bfloat16 as float32.

    Tensors of a type that NumPy lacks are left out.

    Raises
    ------
    ModelError
        If the library is not installed, or the header is too large.
    Exception
        The library's own exceptions, if the file is damaged.
    """
    try:
        import ml_dtypes  # noqa: F401 - gives NumPy the bfloat16 that the library returns
        import safetensors
    except ImportError as error:
        raise ModelError(
            f"reading safetensors needs a library ({error}); {remedy('weights', error)}"
        ) from None
    if (size := header_size(path)) > MAX_HEADER:
        raise ModelError(f"expected a header of at most {MAX_HEADER} bytes, found {size}")
    with _opened(safetensors, path) as file:
        tensors: dict[str, StoredTensor] = {}
        for name in file.keys():  # noqa: SIM118 - not a dictionary
            description = file.get_slice(name)
            if dtype := DTYPES.get(description.get_dtype()):
                shape = tuple(description.get_shape())
                tensors[name] = StoredTensor(shape, dtype, _loader(file, name, dtype))
        yield tensors


def header_size(path: Path) -> int:
    """Return the number of bytes of the header, as the file states it."""
    with path.open("rb") as stream:
        return int.from_bytes(stream.read(8), "little")


def _opened(safetensors: Any, path: Path) -> Any:
    try:
        return safetensors.safe_open(path, framework="numpy", backend="pread")
    except TypeError:
        # Before version 0.8 the library always maps files into memory; if another program
        # truncates such a file during a read, this process ends.
        return safetensors.safe_open(path, framework="numpy")


def _loader(file: Any, name: str, dtype: np.dtype[Any]) -> Callable[[], Array]:
    return lambda: file.get_tensor(name).astype(dtype, copy=False)
