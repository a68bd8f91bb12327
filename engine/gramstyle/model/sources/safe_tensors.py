"""safetensors files, through their own library. The only `import safetensors`, on first use."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from gramstyle.core.arrays import Array
from gramstyle.errors import ModelError
from gramstyle.model.sources.tensors import StoredTensor, Tensors

DTYPES: Mapping[str, np.dtype[Any]] = {
    "F64": np.dtype("<f8"),
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype("<f4"),  # which NumPy lacks, and holds what it can
    "C64": np.dtype("<c8"),
    **{f"I{8 * size}": np.dtype(f"<i{size}") for size in (1, 2, 4, 8)},
    **{f"U{8 * size}": np.dtype(f"<u{size}") for size in (1, 2, 4, 8)},
    "BOOL": np.dtype("?"),
}

# The header of VGG-19 takes 3 kB. The library takes up to 100 MB of it, and 2 GB for them.
MAX_HEADER = 2 * 1024 * 1024


@contextmanager
def open_safe_tensors(path: Path) -> Iterator[Tensors]:
    """Open a safetensors file and give its tensors, bfloat16 widened to float32.

    Those of a type that NumPy lacks are left out.

    Raises
    ------
    ModelError
        If the library is not installed, or the header is absurdly large.
    Exception
        The library's own, if the file is damaged.
    """
    try:
        import ml_dtypes  # noqa: F401 - gives NumPy the type that the library makes of BF16
        import safetensors
    except ImportError:
        raise ModelError(
            'reading safetensors needs a library; install it with: pip install "gramstyle[weights]"'
        ) from None
    _check_header(path)
    with _opened(safetensors, path) as file:
        tensors: dict[str, StoredTensor] = {}
        for name in file.keys():  # noqa: SIM118 - not a dictionary
            part = file.get_slice(name)
            if dtype := DTYPES.get(part.get_dtype()):
                shape = tuple(part.get_shape())
                tensors[name] = StoredTensor(shape, dtype, _loader(file, name, dtype))
        yield tensors


def _check_header(path: Path) -> None:
    with path.open("rb") as stream:
        size = int.from_bytes(stream.read(8), "little")
    if size > MAX_HEADER:
        raise ModelError(f"expected a header of at most {MAX_HEADER} bytes, found {size}")


def _opened(safetensors: Any, path: Path) -> Any:
    try:
        return safetensors.safe_open(path, framework="numpy", backend="pread")
    except TypeError:
        # Before version 0.8 files are mapped into memory, always; one that another program cuts
        # short while it is read ends the process.
        return safetensors.safe_open(path, framework="numpy")


def _loader(file: Any, name: str, dtype: np.dtype[Any]) -> Callable[[], Array]:
    def load() -> Array:
        tensor: Array = file.get_tensor(name).astype(dtype, copy=False)
        return tensor

    return load
