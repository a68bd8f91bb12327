"""safetensors files: what their library gives, and what a hostile header does."""

import json
import struct
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save

from gramstyle.arrays import Array
from gramstyle.errors import ModelError
from gramstyle.model.sources.safe_tensors import open_safe_tensors


def read(path: Path) -> dict[str, Array]:
    with open_safe_tensors(path) as tensors:
        return {name: tensor.load() for name, tensor in tensors.items()}


def by_hand(header: object, data: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_tensors_are_read_with_shape_and_type(
    dtype: str, tmp_path: Path, rng: np.random.Generator
) -> None:
    arrays = {
        "features.0.weight": rng.standard_normal((4, 3, 3, 3)).astype(dtype),
        "features.0.bias": rng.standard_normal(4).astype(dtype),
    }
    (tmp_path / "m.safetensors").write_bytes(save(arrays, metadata={"format": "pt"}))
    with open_safe_tensors(tmp_path / "m.safetensors") as tensors:
        assert set(tensors) == set(arrays)
        for name, tensor in tensors.items():
            assert (tensor.shape, tensor.dtype) == (arrays[name].shape, arrays[name].dtype)
            np.testing.assert_array_equal(tensor.load(), arrays[name])


def test_bfloat16_is_widened(tmp_path: Path) -> None:
    values = np.array([1.5, -2.0, 3e38], np.float32)
    upper = (values.view(np.uint32) >> 16).astype("<u2")
    header = {"a": {"dtype": "BF16", "shape": [3], "data_offsets": [0, 6]}}
    (tmp_path / "m.safetensors").write_bytes(by_hand(header, upper.tobytes()))
    found = read(tmp_path / "m.safetensors")["a"]
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, (upper.astype(np.uint32) << 16).view(np.float32))


def test_tensors_that_are_no_floats_are_left_out(tmp_path: Path) -> None:
    arrays = {"steps": np.arange(3), "mask": np.ones(3, bool), "a": np.ones(3, np.float32)}
    (tmp_path / "m.safetensors").write_bytes(save(arrays))
    assert list(read(tmp_path / "m.safetensors")) == ["a"]


def test_opening_reads_no_tensor(tmp_path: Path) -> None:
    (tmp_path / "m.safetensors").write_bytes(save({"a": np.zeros(2**21, np.float32)}))
    tracemalloc.start()
    try:
        with open_safe_tensors(tmp_path / "m.safetensors") as tensors:
            assert tensors["a"].shape == (2**21,)
        assert tracemalloc.get_traced_memory()[1] < 2**20  # the tensor takes 8 MiB
    finally:
        tracemalloc.stop()


def entry(shape: list[int], start: int, end: int) -> dict[str, object]:
    return {"dtype": "F32", "shape": shape, "data_offsets": [start, end]}


@pytest.mark.parametrize(
    "data",
    [
        b"",
        struct.pack("<Q", 2**62) + b"{}",
        struct.pack("<Q", 200_000_000) + b"{" + bytes(100),
        by_hand(b"{" + b'"a":{' * 100_000),
        by_hand({"a": entry([4], 0, 16)}, bytes(12)),
        by_hand({"a": entry([5], 0, 16)}, bytes(16)),
        by_hand({"a": entry([2**62, 4], 0, 16)}, bytes(16)),
        by_hand({"a": entry([2**63], 0, 16)}, bytes(16)),
        by_hand({"a": entry([-4], 0, 16)}, bytes(16)),
        by_hand({"a": entry([4], -16, 0)}, bytes(16)),
        by_hand({"a": entry([4], 0, 16), "b": entry([4], 8, 24)}, bytes(24)),
        by_hand({"a": entry([4], 16, 32)}, bytes(32)),
        by_hand([1, 2]),
    ],
)
def test_a_header_that_does_not_fit_the_file_is_refused_with_little_memory(
    data: bytes, tmp_path: Path
) -> None:
    path = tmp_path / "m.safetensors"
    path.write_bytes(data)
    tracemalloc.start()
    try:
        with pytest.raises(Exception) as caught:  # noqa: PT011 - the caller makes one line of it
            read(path)
        assert tracemalloc.get_traced_memory()[1] < 2**21
    finally:
        tracemalloc.stop()
    assert not isinstance(caught.value, MemoryError | RecursionError)


def test_without_the_library_the_remedy_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "m.safetensors").write_bytes(save({"a": np.zeros(2, np.float32)}))
    monkeypatch.setitem(sys.modules, "safetensors", None)
    with pytest.raises(ModelError, match=r'pip install "gramstyle\[weights\]"'):
        read(tmp_path / "m.safetensors")


@given(st.lists(st.floats(0, 1, exclude_max=True), min_size=1, max_size=4), st.booleans())
@settings(max_examples=300, deadline=None)
def test_flipped_bits_and_cuts_give_arrays_or_an_ordinary_error(
    tmp_path_factory: pytest.TempPathFactory, places: list[float], cut: bool
) -> None:
    data = bytearray(save({"a": np.ones((2, 3), np.float32), "b": np.ones(2, np.float16)}))
    for place in places:
        bit = int(place * 8 * len(data))
        data[bit // 8] ^= 1 << bit % 8
    if cut:
        del data[int(places[0] * len(data)) :]
    path = tmp_path_factory.getbasetemp() / "flipped.safetensors"
    path.write_bytes(data)
    try:
        found = read(path)
    except (MemoryError, RecursionError):
        raise
    except Exception:
        return  # the caller makes one line of it
    assert sum(array.nbytes for array in found.values()) <= len(data)
