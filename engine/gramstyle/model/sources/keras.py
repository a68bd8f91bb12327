"""Keras HDF5 files; h5py reads their table of contents in a separate process.

HDF5 is a large C library. A damaged or hostile file can crash it, put it in an endless loop or
make it allocate gigabytes. This file is therefore also a program, the only one that imports h5py:
it prints the offsets of a file's tensors. The values are then read here, at those offsets. The
separate process protects this one from crashes; it is not a sandbox.
"""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from importlib.util import find_spec
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

# The program does not import the package, which takes several times as long as h5py.
if __name__ != "__main__":
    from gramstyle.core.arrays import Array
    from gramstyle.errors import ModelError
    from gramstyle.model.messages import quoted
    from gramstyle.model.sources.bounded import read_into
    from gramstyle.model.sources.tensors import StoredTensor, Tensors
    from gramstyle.system.installing import remedy

LAYER = re.compile(r"block\d+_conv\d+")
# The last part of a name: "kernel:0" and "bias:0", or, before Keras 2, "block1_conv1_W_1:0".
KEYS = {
    "weight": re.compile(r"(.*_)?(kernel|W)(_\d+)?(:0)?"),
    "bias": re.compile(r"(.*_)?(bias|b)(_\d+)?(:0)?"),
}
FLOATS = ("<f2", "<f4", "<f8", ">f2", ">f4", ">f8")

MAX_OBJECTS, MAX_DEPTH, MAX_NAME = 10_000, 16, 200
MAX_SECONDS, MAX_MEMORY = 30, 2 * 1024**3


@contextmanager
def open_keras(path: Path) -> Iterator[Tensors]:
    """Open a Keras .h5; yield VGG-19's convolutions as blockB_convK.weight (N, C, 3, 3), .bias.

    Raises
    ------
    ModelError
        If h5py is not installed, cannot read the file or crashes; if the kernels are flipped, as
        Theano's are; if values are not floats, or not stored contiguously in the file.
    """
    if find_spec("h5py") is None:
        raise ModelError(f"reading Keras' .h5 needs h5py; {remedy('weights')}")
    with path.open("rb") as stream:
        yield _tensors(stream, _table(path))


def _tensors(stream: io.BufferedReader, entries: list[Any]) -> dict[str, StoredTensor]:
    """Return the convolutions in the program's output, which is not trusted either."""
    tensors: dict[str, StoredTensor] = {}
    for name, shape, kind, start in entries:
        layer, last = LAYER.findall(name)[-1], name.rpartition("/")[2]
        key = next((key for key, pattern in KEYS.items() if pattern.fullmatch(last)), None)
        if key is None:
            continue
        if f"{layer}.{key}" in tensors:
            raise ModelError(f"expected one {key} of {layer}, found two")
        stored = _stored(stream, name, shape, kind, start)
        tensors[f"{layer}.{key}"] = _kernel(stored, name) if key == "weight" else stored
    return tensors


def _stored(
    stream: io.BufferedReader, name: str, shape: list[int], kind: str, start: int | None
) -> StoredTensor:
    if kind not in FLOATS:
        raise ModelError(f"expected floats in {quoted(name)}, found {quoted(kind)}")
    if start is None:
        raise ModelError(
            f"expected the values of {quoted(name)} contiguous in the file, as Keras writes them; "
            "found them chunked, compressed, in another file or missing"
        )
    dtype = np.dtype(kind)
    end = start + prod(shape) * dtype.itemsize
    if min((start, *shape)) < 0 or end > stream.seek(0, io.SEEK_END):
        raise ModelError(f"expected {tuple(shape)} values of {quoted(name)}, found fewer")
    return StoredTensor(tuple(shape), dtype, partial(_load, stream, start, tuple(shape), dtype))


def _load(
    stream: io.BufferedReader, start: int, shape: tuple[int, ...], dtype: np.dtype[Any]
) -> Array:
    values = np.empty(shape, dtype)
    read_into(values.reshape(-1).view(np.uint8), stream, start)
    return values


def _kernel(stored: StoredTensor, name: str) -> StoredTensor:
    """Return a kernel (3, 3, C, N) as weights (N, C, 3, 3)."""
    shape = stored.shape
    if len(shape) != 4 or (shape[:2] != (3, 3) and shape[2:] == (3, 3)):
        raise ModelError(
            f"expected a kernel of shape (3, 3, C, N) in {quoted(name)}, found {shape}; "
            "use the Keras file with tf_dim_ordering_tf_kernels in its name"
        )
    H, V, C, N = shape
    return StoredTensor(
        (N, C, H, V),
        stored.dtype,
        lambda: np.ascontiguousarray(stored.load().transpose(3, 2, 0, 1)),
    )


def _table(path: Path) -> list[Any]:
    """Return the table of contents of a file, as the program prints it."""
    output = json.loads(run_program(path))
    if isinstance(output, str):
        raise ModelError(output)
    return list(output)


def run_program(path: Path) -> bytes:
    """Run this file as a program on a weights file, with a time limit, and return its output."""
    # With -P and these paths the program imports nothing from its own or the current folder.
    command = [sys.executable, "-P", __file__, str(path)]
    paths = os.pathsep.join(filter(None, sys.path))
    # One thread, because the memory limit counts the stack of each.
    environment = {**os.environ, "PYTHONPATH": paths, "OPENBLAS_NUM_THREADS": "1"}
    try:
        done = subprocess.run(  # noqa: S603 - this very file
            command,
            check=False,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=MAX_SECONDS,
        )
    except subprocess.TimeoutExpired:
        raise _crashed(f"no answer in {MAX_SECONDS} s") from None
    if done.returncode != 0:
        raise _crashed(f"exit status {done.returncode}")
    return done.stdout


def _crashed(reason: str) -> ModelError:
    return ModelError(f"the HDF5 library fails on it ({reason}); get a fresh copy")


# The program


def main(path: str) -> None:
    """Print the table of contents of a file as JSON, or the reason why there is none."""
    import h5py

    _limit_resources()
    sys.stdout.write(json.dumps(read_table(h5py, path)))


def read_table(h5py: Any, path: str) -> list[Any] | str:
    """Return name, shape, type and offset of each convolution's datasets, or an error message."""
    try:
        with h5py.File(path, "r") as file:
            return [
                _entry(h5py, name, dataset)
                for name, dataset in _datasets(h5py, file)
                if LAYER.search(name)
            ]
    except _TooManyObjectsError:
        return "expected a Keras model, found too many or too deeply nested groups"
    except Exception as error:
        return f"the HDF5 library cannot read it ({type(error).__name__}); get a fresh copy"


class _TooManyObjectsError(Exception):
    """A file has too many objects, too long names, or groups that contain themselves."""


def _limit_resources() -> None:
    """Limit this process's memory and time, if the operating system supports it."""
    with suppress(ImportError):
        import resource

        for resource_type, limit in (
            (resource.RLIMIT_AS, MAX_MEMORY),
            (resource.RLIMIT_CPU, MAX_SECONDS),
            (resource.RLIMIT_CORE, 0),
        ):
            with suppress(OSError, ValueError):
                resource.setrlimit(resource_type, (limit, limit))


def _datasets(h5py: Any, file: Any) -> Iterator[tuple[str, Any]]:
    """Yield all datasets; follow hard links only, because others may lead to other files."""
    pending = [("", 0, file)]
    seen = 0
    while pending:
        path, depth, group = pending.pop()
        for name in group:
            seen += 1
            if seen > MAX_OBJECTS or depth > MAX_DEPTH or len(name) > MAX_NAME:
                raise _TooManyObjectsError
            link = group.get(name, getlink=True)
            if not isinstance(link, h5py.HardLink) or (not path and name == "optimizer_weights"):
                continue
            child = group[name]
            if isinstance(child, h5py.Group):
                pending.append((f"{path}/{name}", depth + 1, child))
            elif isinstance(child, h5py.Dataset):
                yield f"{path}/{name}", child


def _entry(h5py: Any, name: str, dataset: Any) -> tuple[str, list[int], str, int | None]:
    """Return a dataset's name, shape, type and offset; None unless its values are contiguous."""
    if dataset.shape is None:
        return name, [], "nothing", None
    kinds = [kind for kind in FLOATS if h5py.h5t.py_create(np.dtype(kind)) == dataset.id.get_type()]
    kind = kinds[0] if kinds else str(dataset.dtype)
    # None if the values are chunked, in the header or in other files.
    start = dataset.id.get_offset()
    # A dataset that was never written has no storage, but an offset if the file has a user block.
    is_stored = dataset.id.get_storage_size() == dataset.size * dataset.dtype.itemsize
    return name, list(dataset.shape), kind, start if is_stored else None


if __name__ == "__main__":
    main(sys.argv[1])
