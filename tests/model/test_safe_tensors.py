"""safetensors files, with valid and with hostile headers."""

import json
import struct
import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
import safetensors
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save

from gramstyle.core.arrays import Array
from gramstyle.errors import ModelError
from gramstyle.model.sources.safe_tensors import open_safe_tensors
from hostile_files import LITTLE_MEMORY, POSITIONS, damaged, outcome, peak_memory

OLD = tuple(map(int, version("safetensors").split(".")[:2])) < (0, 8)


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


def test_bfloat16_becomes_float32(tmp_path: Path) -> None:
    values = np.array([1.5, -2.0, 3e38], np.float32)
    upper = (values.view(np.uint32) >> 16).astype("<u2")
    header = {"a": {"dtype": "BF16", "shape": [3], "data_offsets": [0, 6]}}
    (tmp_path / "m.safetensors").write_bytes(by_hand(header, upper.tobytes()))
    found = read(tmp_path / "m.safetensors")["a"]
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, (upper.astype(np.uint32) << 16).view(np.float32))


@pytest.mark.parametrize(
    "dtype",
    [
        *("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "bool"),
        pytest.param("complex64", marks=pytest.mark.skipif(OLD, reason="unknown before 0.8")),
    ],
)
def test_other_numpy_types_are_read(dtype: str, tmp_path: Path) -> None:
    values = np.array([[0, 1, 0], [1, 1, 0]], dtype)
    (tmp_path / "m.safetensors").write_bytes(save({"a": values}))
    with open_safe_tensors(tmp_path / "m.safetensors") as tensors:
        assert (tensors["a"].shape, tensors["a"].dtype) == ((2, 3), np.dtype(dtype))
        assert tensors["a"].load().dtype == np.dtype(dtype)
        np.testing.assert_array_equal(tensors["a"].load(), values)


@pytest.mark.parametrize("dtype", ["F8_E4M3", "F8_E5M2"])
def test_types_that_numpy_lacks_are_left_out(dtype: str, tmp_path: Path) -> None:
    header = {
        "a": {"dtype": dtype, "shape": [4], "data_offsets": [0, 4]},
        "b": {"dtype": "U8", "shape": [1], "data_offsets": [4, 5]},
    }
    (tmp_path / "m.safetensors").write_bytes(by_hand(header, bytes(5)))
    assert list(read(tmp_path / "m.safetensors")) == ["b"]


def test_scalar_and_empty_tensors_are_read(tmp_path: Path) -> None:
    arrays = {"one": np.array(3, np.float32), "none": np.zeros((3, 0), np.float32)}
    (tmp_path / "m.safetensors").write_bytes(save(arrays))
    found = read(tmp_path / "m.safetensors")
    assert {name: (a.shape, a.tolist()) for name, a in found.items()} == {
        "one": ((), 3),
        "none": ((3, 0), [[], [], []]),
    }


def test_opening_reads_no_tensor(tmp_path: Path) -> None:
    (tmp_path / "m.safetensors").write_bytes(save({"a": np.zeros(2**21, np.float32)}))

    def attempt() -> None:
        with open_safe_tensors(tmp_path / "m.safetensors") as tensors:
            assert tensors["a"].shape == (2**21,)

    assert peak_memory(attempt) < LITTLE_MEMORY  # the tensor takes 8 MiB


def test_the_file_is_closed_afterwards(tmp_path: Path) -> None:
    (tmp_path / "m.safetensors").write_bytes(save({"a": np.ones(3, np.float32)}))
    with open_safe_tensors(tmp_path / "m.safetensors") as tensors:
        first, second = tensors["a"].load(), tensors["a"].load()
        first[:] = 0
        assert second.tolist() == [1, 1, 1]
    with pytest.raises(safetensors.SafetensorError, match="closed"):
        tensors["a"].load()


@pytest.mark.skipif(OLD, reason="would end this process before 0.8")
def test_a_file_that_shrinks_while_it_is_open_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    path.write_bytes(save({"a": np.zeros(2**16, np.float32)}))
    with open_safe_tensors(path) as tensors:
        with path.open("r+b") as file:
            file.truncate(4096)
        with pytest.raises(safetensors.SafetensorError):
            tensors["a"].load()


def test_older_versions_of_the_library_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "m.safetensors").write_bytes(save({"a": np.ones(3, np.float32)}))
    new = safetensors.safe_open

    def old(filename: Path, framework: str) -> object:
        return new(filename, framework=framework)

    monkeypatch.setattr(safetensors, "safe_open", old)
    assert read(tmp_path / "m.safetensors")["a"].tolist() == [1, 1, 1]


@pytest.mark.parametrize("size", [2 * 1024 * 1024 + 1, 90_000_000, 2**64 - 1])
def test_a_long_header_is_refused_by_its_length(
    size: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(safetensors, "safe_open", lambda *_, **__: pytest.fail("it was read"))
    (tmp_path / "m.safetensors").write_bytes(struct.pack("<Q", size) + b"{}")
    with pytest.raises(ModelError, match=f"header of at most 2097152 bytes, found {size}"):
        read(tmp_path / "m.safetensors")


def test_a_repeated_name_is_one_tensor_or_an_error(tmp_path: Path) -> None:
    same, other = (json.dumps(entry([1], *at)) for at in ((0, 4), (4, 8)))
    path = tmp_path / "m.safetensors"
    path.write_bytes(by_hand(f'{{"a":{same},"a":{other}}}'.encode(), bytes(8)))
    with pytest.raises(safetensors.SafetensorError):
        read(path)
    path.write_bytes(by_hand(f'{{"a":{same},"a":{same}}}'.encode(), bytes(4)))
    assert {name: array.tolist() for name, array in read(path).items()} == {"a": [0]}


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
        by_hand({"a": entry([2**32, 2**32], 0, 0)}),
        by_hand({"a": entry([2**32, 0, 2**32], 0, 0)}),
        by_hand({"a": entry([1] * 100_000, 0, 4)}, bytes(4)),
        by_hand({"a": entry([4], 0, 16)}, bytes(17)),
        by_hand({"a": entry([-4], 0, 16)}, bytes(16)),
        by_hand({"a": entry([4], -16, 0)}, bytes(16)),
        by_hand({"a": entry([4], 0, 16), "b": entry([4], 8, 24)}, bytes(24)),
        by_hand({"a": entry([4], 16, 32)}, bytes(32)),
        by_hand([1, 2]),
    ],
)
def test_a_header_that_contradicts_the_file_is_refused_with_little_memory(
    data: bytes, tmp_path: Path
) -> None:
    path = tmp_path / "m.safetensors"
    path.write_bytes(data)

    def attempt() -> None:
        assert isinstance(outcome(lambda: read(path)), Exception)

    assert peak_memory(attempt) < 2 * LITTLE_MEMORY


@pytest.mark.parametrize("library", ["safetensors", "ml_dtypes"])
def test_without_the_libraries_the_error_names_the_remedy(
    library: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "m.safetensors").write_bytes(save({"a": np.zeros(2, np.float32)}))
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(ModelError, match=r'pip install "h5py>=.*safetensors>='):
        read(tmp_path / "m.safetensors")


@given(POSITIONS, st.booleans())
@settings(max_examples=300)
def test_a_damaged_file_gives_arrays_or_an_exception(
    tmp_path_factory: pytest.TempPathFactory, positions: list[float], cut: bool
) -> None:
    whole = save({"a": np.ones((2, 3), np.float32), "b": np.ones(2, np.float16)})
    data = damaged(whole, positions, cut)
    path = tmp_path_factory.getbasetemp() / "flipped.safetensors"
    path.write_bytes(data)
    found = outcome(lambda: read(path))
    if isinstance(found, Exception):
        return
    # The result agrees with Python's own JSON reader.
    size = int.from_bytes(data[:8], "little")
    header, values = json.loads(data[8 : 8 + size]), data[8 + size :]
    for name, array in found.items():
        start, end = header[name]["data_offsets"]
        assert array.shape == tuple(header[name]["shape"])
        if header[name]["dtype"] != "BF16":
            assert array.tobytes() == values[start:end]
