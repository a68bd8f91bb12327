"""Keras' files: HDF5 (.h5, .weights.h5), and the archive .keras that contains an HDF5 file.

A separate process reads the table of contents of the HDF5 file (`h5_table` gives the reason). The
values are then read here, at the offsets in that table. Nothing else in an archive is read: its
config.json describes the layers, and the code of some of them.
"""

import io
import json
import os
import re
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from importlib.util import find_spec
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from gramstyle.core.arrays import Array
from gramstyle.errors import ModelError
from gramstyle.model.messages import quoted
from gramstyle.model.sources import h5_table
from gramstyle.model.sources.archives import member_span, open_archive
from gramstyle.model.sources.bounded import read_into
from gramstyle.model.sources.h5_table import (
    FLOATS,
    LAYER,
    MAX_SECONDS,
    MEAN,
    NUMBERED,
    OTHER,
    VARIABLES,
)
from gramstyle.model.sources.tensors import StoredTensor, Tensors
from gramstyle.system.installing import remedy

# The HDF5 file in an archive.
MEMBER = "model.weights.h5"

# The last part of a name: "kernel:0" and "bias:0"; before Keras 2, "block1_conv1_W_1:0"; in Keras
# 3, "vars/0" and "vars/1".
KEYS = {
    "weight": re.compile(rf"(.*_)?(kernel|W)(_\d+)?(:0)?|{VARIABLES}/0"),
    "bias": re.compile(rf"(.*_)?(bias|b)(_\d+)?(:0)?|{VARIABLES}/1"),
}


# The names of tensors that only the order of their layers tells.
ORDER = re.compile(r"(?:^|/)order\d+\.")


class _Entry(NamedTuple):
    """A dataset in the table of contents: where it is, and Keras 3's name of its layer."""

    path: str
    layer: str
    shape: list[int]
    kind: str
    start: int | None

    @property
    def key(self) -> str | None:
        """Return "weight" or "bias", or None for another variable of the layer."""
        parts = self.path.split("/")
        last = "/".join(parts[-2:] if parts[-2] == VARIABLES else parts[-1:])
        return next((key for key, pattern in KEYS.items() if pattern.fullmatch(last)), None)


@contextmanager
def open_keras(path: Path) -> Iterator[Tensors]:
    """Open a Keras .h5; yield its convolutions as blockB_convK.weight (N, C, 3, 3), .bias.

    Those without such names are orderK.weight and orderK.bias, in their order.

    Raises
    ------
    ModelError
        If h5py is not installed, cannot read the file or crashes; if there are batch
        normalisations, whose ε and place the file does not state; if the kernels are flipped, as
        Theano's are; if values are not floats, or not stored contiguously in the file.
    """
    with path.open("rb") as stream:
        yield _tensors(path, stream, 0, stream.seek(0, io.SEEK_END))


@contextmanager
def open_keras_archive(path: Path) -> Iterator[Tensors]:
    """Open a .keras file; yield tensors and raise errors as `open_keras` does.

    Raises
    ------
    zipfile.BadZipFile
        If the archive is damaged.
    """
    with open_archive(path) as archive:
        start, size = member_span(path, archive, MEMBER)
        with path.open("rb") as stream:
            yield _tensors(path, stream, start, size)


def is_keras_archive(members: Iterable[str]) -> bool:
    """Return whether a zip archive with these members is a .keras file."""
    return MEMBER in members


def _tensors(path: Path, stream: io.BufferedReader, start: int, size: int) -> Tensors:
    """Return the convolutions in the program's output, which is not trusted either."""
    if find_spec("h5py") is None:
        raise ModelError(f"reading Keras' files needs h5py; {remedy('weights')}")
    tensors: dict[str, StoredTensor] = {}
    entries = _table(path, start, size)
    norms = [entry for entry in entries if MEAN.search(entry.path)]
    others = [entry for entry in entries if OTHER.search(entry.path)]
    apart = {*(entry.path for entry in norms), *(entry.path for entry in others)}
    for name, entry in _named([entry for entry in entries if entry.path not in apart]):
        if name in tensors:
            layer, _, key = name.rpartition(".")
            raise ModelError(f"expected one {key} of {layer}, found two")
        stored = _stored(stream, entry, start, size)
        tensors[name] = _kernel(stored, entry.path) if entry.key == "weight" else stored
    if norms and 2 * len(norms) >= len(tensors):  # a classifier has fewer
        raise ModelError(
            f"expected no batch normalisation in Keras' files, found {quoted(norms[0].path)}; "
            "export the network as ONNX"
        )
    # Where only the order says what a layer is, these may be between the convolutions.
    if others and any(ORDER.search(name) for name in tensors):
        raise ModelError(
            f"expected nothing but Conv2D before the classifier, found {quoted(others[0].path)}; "
            "export the network as ONNX"
        )
    return tensors


def _named(entries: list[_Entry]) -> Iterator[tuple[str, _Entry]]:
    """Yield the variables by layer; by the order of the layers if the file names none."""
    known = [e for e in entries if e.key and (LAYER.search(e.layer) or LAYER.search(e.path))]
    for entry in known:
        layer = (LAYER.findall(entry.layer) or LAYER.findall(entry.path))[-1]
        yield f"{layer}.{entry.key}", entry
    if not known:
        yield from _numbered([entry for entry in entries if entry.key])


def _numbered(entries: list[_Entry]) -> Iterator[tuple[str, _Entry]]:
    """Yield variables of conv2d, conv2d_1 and so on by their place in the order of the numbers.

    The numbers of a model need not begin with 0. The path to the layers of a model stays before
    the name, so that those of several models in one file do not mix.
    """
    models: dict[str, dict[int, list[_Entry]]] = defaultdict(lambda: defaultdict(list))
    for entry in entries:
        # Whole models name a layer twice: conv2d/conv2d/kernel.
        first, *_, match = [*NUMBERED.finditer(entry.path)] * 2
        models[entry.path[: first.start()]][int(match[1] or 0)].append(entry)
    for model, layers in models.items():
        for order, layer in enumerate(sorted(layers)):
            for entry in layers[layer]:
                yield f"{model}/order{order}.{entry.key}", entry


def _stored(stream: io.BufferedReader, entry: _Entry, start: int, size: int) -> StoredTensor:
    name, shape = quoted(entry.path), tuple(entry.shape)
    if entry.kind not in FLOATS:
        raise ModelError(f"expected floats in {name}, found {quoted(entry.kind)}")
    if entry.start is None:
        raise ModelError(
            f"expected the values of {name} contiguous in the file, as Keras writes them; "
            "found them chunked, compressed, in another file or missing"
        )
    dtype = np.dtype(entry.kind)
    if min((entry.start, *shape)) < 0 or entry.start + prod(shape) * dtype.itemsize > size:
        raise ModelError(f"expected {shape} values of {name}, found fewer")
    return StoredTensor(shape, dtype, partial(_load, stream, start + entry.start, shape, dtype))


def _load(
    stream: io.BufferedReader, start: int, shape: tuple[int, ...], dtype: np.dtype[Any]
) -> Array:
    values = np.empty(shape, dtype)
    read_into(values.reshape(-1).view(np.uint8), stream, start)
    return values


def _kernel(stored: StoredTensor, path: str) -> StoredTensor:
    """Return a kernel (3, 3, C, N) as weights (N, C, 3, 3)."""
    shape = stored.shape
    if len(shape) != 4 or (shape[:2] != (3, 3) and shape[2:] == (3, 3)):
        raise ModelError(
            f"expected a kernel of shape (3, 3, C, N) in {quoted(path)}, found {shape}; "
            "use the Keras file with tf_dim_ordering_tf_kernels in its name"
        )
    H, V, C, N = shape
    return StoredTensor(
        (N, C, H, V),
        stored.dtype,
        lambda: np.ascontiguousarray(stored.load().transpose(3, 2, 0, 1)),
    )


def _table(path: Path, start: int, size: int) -> list[_Entry]:
    """Return the table of contents of a file, as the program prints it."""
    output = json.loads(run_program(path, start, size))
    if isinstance(output, str):
        raise ModelError(output)
    return [_Entry(*entry) for entry in output]


def run_program(path: Path, start: int, size: int) -> bytes:
    """Run `h5_table` as a program on a part of a file, with a time limit; return its output."""
    # With -P and these paths the program imports nothing from its own or the current folder.
    command = [sys.executable, "-P", h5_table.__file__, str(path), str(start), str(size)]
    paths = os.pathsep.join(filter(None, sys.path))
    # One thread, because the memory limit counts the stack of each.
    environment = {**os.environ, "PYTHONPATH": paths, "OPENBLAS_NUM_THREADS": "1"}
    try:
        done = subprocess.run(  # noqa: S603 - a file of this package
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
