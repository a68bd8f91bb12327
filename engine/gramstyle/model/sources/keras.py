"""Keras' HDF5 files, whose table of contents h5py reads in a process of its own.

HDF5 is a large library in C, and a damaged or hostile file can crash it, send it round in circles
or make it ask for gigabytes. So this file is also a program, the only one that imports h5py: it
says where a file's tensors lie, and nothing more. The values are read here, from those places.
That keeps this process alive; it is no sandbox.
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

# The program does without the package, which takes several times as long to import as h5py.
if __name__ != "__main__":
    from gramstyle.core.arrays import Array
    from gramstyle.errors import ModelError
    from gramstyle.model.sources.pickles import shown
    from gramstyle.model.sources.tensors import StoredTensor, Tensors

LAYER = re.compile(r"block\d+_conv\d+")
# The last part of a name: "kernel:0" and "bias:0", or, before Keras 2, "block1_conv1_W_1:0".
WEIGHT, BIAS = (
    re.compile(r"(.*_)?(kernel|W)(_\d+)?(:0)?"),
    re.compile(r"(.*_)?(bias|b)(_\d+)?(:0)?"),
)
FLOATS = ("<f2", "<f4", "<f8", ">f2", ">f4", ">f8")

MAX_OBJECTS, MAX_DEPTH, MAX_NAME = 10_000, 16, 200
MAX_SECONDS, MAX_MEMORY = 30, 2 * 1024**3


@contextmanager
def open_keras(path: Path) -> Iterator[Tensors]:
    """Open a Keras .h5 and give VGG-19's convolutions as blockB_convK.weight (N, C, 3, 3), .bias.

    Raises
    ------
    ModelError
        If h5py is not installed, cannot read the file or breaks down over it; if the kernels are
        Theano's, which are turned round; if values are no floats or not in the file as they are.
    """
    if find_spec("h5py") is None:
        raise ModelError(
            'reading Keras\' .h5 needs h5py; install it with: pip install "gramstyle[weights]"'
        )
    with path.open("rb") as stream:
        yield _tensors(stream, _answer(path))


def _tensors(stream: io.BufferedReader, entries: list[Any]) -> dict[str, StoredTensor]:
    """Return the convolutions among what the program found, which is as little to be trusted."""
    tensors: dict[str, StoredTensor] = {}
    for name, shape, kind, start in entries:
        layer, key = LAYER.findall(name)[-1], _key(name.rpartition("/")[2])
        if key is None:
            continue
        if f"{layer}.{key}" in tensors:
            raise ModelError(f"expected one {key} of {layer}, found two")
        stored = _stored(stream, name, shape, kind, start)
        tensors[f"{layer}.{key}"] = _kernel(stored, name) if key == "weight" else stored
    return tensors


def _key(last: str) -> str | None:
    if WEIGHT.fullmatch(last):
        return "weight"
    return "bias" if BIAS.fullmatch(last) else None


def _stored(
    stream: io.BufferedReader, name: str, shape: list[int], kind: str, start: int | None
) -> StoredTensor:
    if kind not in FLOATS:
        raise ModelError(f"expected floats in {shown(name)}, found {shown(kind)}")
    if start is None:
        raise ModelError(
            f"expected the values of {shown(name)} in the file, one behind the other, as Keras "
            "writes them; found them in pieces, compressed, in another file or not at all"
        )
    dtype = np.dtype(kind)
    end = start + prod(shape) * dtype.itemsize
    if min((start, *shape)) < 0 or end > stream.seek(0, io.SEEK_END):
        raise ModelError(f"expected the {tuple(shape)} values of {shown(name)}, found fewer")
    return StoredTensor(tuple(shape), dtype, partial(_load, stream, start, tuple(shape), dtype))


def _load(
    stream: io.BufferedReader, start: int, shape: tuple[int, ...], dtype: np.dtype[Any]
) -> Array:
    values = np.empty(shape, dtype)
    stream.seek(start)
    if stream.readinto(values.reshape(-1).view(np.uint8).data) != values.nbytes:
        raise ModelError("expected whole tensors, found one cut short")
    return values


def _kernel(stored: StoredTensor, name: str) -> StoredTensor:
    """Return a kernel (3, 3, C, N) as weights (N, C, 3, 3)."""
    shape = stored.shape
    if len(shape) != 4 or (shape[:2] != (3, 3) and shape[2:] == (3, 3)):
        raise ModelError(
            f"expected a kernel of shape (3, 3, C, N) in {shown(name)}, found {shape}; of Keras' "
            "files, take the one with tf_dim_ordering_tf_kernels in its name"
        )
    H, V, C, N = shape

    def load() -> Array:
        return np.ascontiguousarray(stored.load().transpose(3, 2, 0, 1))

    return StoredTensor((N, C, H, V), stored.dtype, load)


def _answer(path: Path) -> list[Any]:
    """Return what the program finds in a file."""
    answer = json.loads(_run(path))
    if isinstance(answer, str):
        raise ModelError(answer)
    return list(answer)


def _run(path: Path) -> bytes:
    """Run the program over a file, for so long, and return what it writes."""
    # -P: it imports nothing from this file's folder, nor, by the paths, from the one worked in.
    command = [sys.executable, "-P", __file__, str(path)]
    paths = os.pathsep.join(filter(None, sys.path))
    # One thread, because each takes room that the limit of memory counts.
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
        raise _broken(f"no answer in {MAX_SECONDS} s") from None
    if done.returncode != 0:
        raise _broken(f"exit status {done.returncode}")
    return done.stdout


def _broken(reason: str) -> ModelError:
    return ModelError(f"HDF5's library broke down over it ({reason}); get a fresh copy")


# The program


def main(path: str) -> None:
    """Write the table of contents of a file, or a sentence that says why not, as JSON."""
    import h5py

    _take_little()
    sys.stdout.write(json.dumps(_table(h5py, path)))


def _table(h5py: Any, path: str) -> list[Any] | str:
    try:
        with h5py.File(path, "r") as file:
            return [
                _entry(h5py, name, dataset)
                for name, dataset in _datasets(h5py, file)
                if LAYER.search(name)
            ]
    except _LabyrinthError:
        return "expected a Keras model, found a labyrinth of groups"
    except Exception as error:
        return f"HDF5's library cannot read it ({type(error).__name__}); get a fresh copy"


class _LabyrinthError(Exception):
    """Very many groups, or groups in themselves."""


def _take_little() -> None:
    """Limit this process's memory and time, where the system can."""
    with suppress(ImportError):
        import resource

        for kind, most in (
            (resource.RLIMIT_AS, MAX_MEMORY),
            (resource.RLIMIT_CPU, MAX_SECONDS),
            (resource.RLIMIT_CORE, 0),
        ):
            with suppress(OSError, ValueError):
                resource.setrlimit(kind, (most, most))


def _datasets(h5py: Any, file: Any) -> Iterator[tuple[str, Any]]:
    """Walk through groups by hard links alone; others could lead to other files."""
    waiting = [("", 0, file)]
    seen = 0
    while waiting:
        path, depth, group = waiting.pop()
        for name in group:
            seen += 1
            if seen > MAX_OBJECTS or depth > MAX_DEPTH or len(name) > MAX_NAME:
                raise _LabyrinthError
            link = group.get(name, getlink=True)
            if not isinstance(link, h5py.HardLink) or (not path and name == "optimizer_weights"):
                continue
            child = group[name]
            if isinstance(child, h5py.Group):
                waiting.append((f"{path}/{name}", depth + 1, child))
            elif isinstance(child, h5py.Dataset):
                yield f"{path}/{name}", child


def _entry(h5py: Any, name: str, dataset: Any) -> tuple[str, list[int], str, int | None]:
    """Return a dataset's name, shape, type and place; no place if its values are not just there."""
    if dataset.shape is None:
        return name, [], "nothing", None
    kinds = [kind for kind in FLOATS if h5py.h5t.py_create(np.dtype(kind)) == dataset.id.get_type()]
    kind = kinds[0] if kinds else str(dataset.dtype)
    # None for values in pieces, compressed or not, in the header, in other files.
    start = dataset.id.get_offset()
    # What was never written takes no room, but has a place where a user's block comes first.
    is_there = dataset.id.get_storage_size() == dataset.size * dataset.dtype.itemsize
    return name, list(dataset.shape), kind, start if is_there else None


if __name__ == "__main__":
    main(sys.argv[1])
