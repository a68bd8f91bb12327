"""Weights as 8-bit codebooks, the form of the default weights: indices, a table, biases."""

from gramstyle.arrays import Array
from gramstyle.model.sources.tensors import StoredTensor, Tensors

INDEX, TABLE, BIASES = "_W_q", "_W_table", "_b"
CODES = 256


def holds_codebooks(tensors: Tensors) -> bool:
    """Say whether tensors are codebooks."""
    return any(name.endswith(INDEX) for name in tensors)


def unfolded(tensors: Tensors) -> dict[str, StoredTensor]:
    """Return codebooks as the weights that they stand for, and their biases, by layer."""
    result: dict[str, StoredTensor] = {}
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
        return table.load()[index.load()]

    return StoredTensor(index.shape, table.dtype, load)
