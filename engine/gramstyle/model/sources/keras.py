"""Keras' HDF5 files, through h5py. The only `import h5py`, on first use."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from gramstyle.arrays import Array
from gramstyle.errors import ModelError
from gramstyle.model.sources.tensors import StoredTensor, Tensors

LAYER = re.compile(r"block\d+_conv\d+")
# The last part of a name: "kernel:0" and "bias:0", or, before Keras 2, "block1_conv1_W_1:0".
WEIGHT, BIAS = (
    re.compile(r"(.*_)?(kernel|W)(_\d+)?(:0)?"),
    re.compile(r"(.*_)?(bias|b)(_\d+)?(:0)?"),
)

MAX_OBJECTS, MAX_DEPTH = 10_000, 16
# Keras does not compress; a filter that unfolds a few bytes to gigabytes is not needed.
MAX_BYTES = 64 * 1024 * 1024


@contextmanager
def open_keras(path: Path) -> Iterator[Tensors]:
    """Open a Keras .h5 and give VGG-19's convolutions as blockB_convK.weight (N, C, 3, 3), .bias.

    Raises
    ------
    ModelError
        If h5py is not installed, or the kernels are Theano's, which are turned round.
    Exception
        h5py's own, if the file is damaged.
    """
    try:
        import h5py
    except ImportError:
        raise ModelError(
            'reading Keras\' .h5 needs h5py; install it with: pip install "gramstyle[weights]"'
        ) from None
    with h5py.File(path, "r") as file:
        tensors: dict[str, StoredTensor] = {}
        for name, dataset in _datasets(h5py, file):
            layers = LAYER.findall(name)
            key = _key(name.rpartition("/")[2])
            if not layers or key is None:
                continue
            _check_plain(dataset, name)
            full = f"{layers[-1]}.{key}"
            if full in tensors:
                raise ModelError(f"expected one {key} of {layers[-1]}, found two")
            tensors[full] = _kernel(dataset, name) if key == "weight" else _stored(dataset)
        yield tensors


def _datasets(h5py: Any, file: Any) -> Iterator[tuple[str, Any]]:
    """Walk through groups by hard links alone; others could lead to other files."""
    waiting = [("", 0, file)]
    seen = 0
    while waiting:
        path, depth, group = waiting.pop()
        for name in group:
            seen += 1
            if seen > MAX_OBJECTS or depth > MAX_DEPTH:
                raise ModelError("expected a Keras model, found a labyrinth of groups")
            link = group.get(name, getlink=True)
            if not isinstance(link, h5py.HardLink) or (not path and name == "optimizer_weights"):
                continue
            child = group[name]
            if isinstance(child, h5py.Group):
                waiting.append((f"{path}/{name}", depth + 1, child))
            elif isinstance(child, h5py.Dataset):
                yield f"{path}/{name}", child


def _key(last: str) -> str | None:
    if WEIGHT.fullmatch(last):
        return "weight"
    return "bias" if BIAS.fullmatch(last) else None


def _check_plain(dataset: Any, name: str) -> None:
    """Refuse values that lie elsewhere, or unfold from fewer bytes than they are."""
    if dataset.is_virtual or dataset.external:
        raise ModelError(f"the values of {name!r} lie in another file")
    if dataset.shape is None or dataset.dtype.kind != "f":
        raise ModelError(f"expected floats in {name!r}, found {dataset.dtype}")
    if dataset.size * dataset.dtype.itemsize > MAX_BYTES:
        raise ModelError(f"expected at most {MAX_BYTES} bytes in {name!r}, found {dataset.shape}")
    if dataset.id.get_create_plist().get_nfilters() > 0:
        raise ModelError(f"expected plain values in {name!r}, found compressed ones")


def _kernel(dataset: Any, name: str) -> StoredTensor:
    """Return a kernel (3, 3, C, N) as weights (N, C, 3, 3)."""
    shape = tuple(dataset.shape)
    if len(shape) != 4 or (shape[:2] != (3, 3) and shape[2:] == (3, 3)):
        raise ModelError(
            f"expected a kernel of shape (3, 3, C, N) in {name!r}, found {shape}; of Keras' files, "
            "take the one with tf_dim_ordering_tf_kernels in its name"
        )
    H, V, C, N = shape

    def load() -> Array:
        return np.ascontiguousarray(dataset[()].transpose(3, 2, 0, 1))

    return StoredTensor((N, C, H, V), dataset.dtype, load)


def _stored(dataset: Any) -> StoredTensor:
    def load() -> Array:
        values: Array = dataset[()]
        return values

    return StoredTensor(tuple(dataset.shape), dataset.dtype, load)
