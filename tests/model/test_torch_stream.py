"""torch's old stream format, written instruction by instruction.

Neither torch nor the reader is used to write a stream. test_pickles.py tests the pickle in it.
"""

import io
import pickle
import struct
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gramstyle.core.arrays import Array
from gramstyle.errors import ModelError
from gramstyle.model.sources.tensors import StoredTensor
from gramstyle.model.sources.torch_stream import is_torch_stream, open_torch_stream, stream_tensors
from hostile_files import (
    LITTLE_MEMORY,
    POSITIONS,
    RecordingStream,
    error_line,
    flipped,
    outcome,
    peak_memory,
)
from pickle_writer import (
    MAGIC,
    PROTOCOL,
    dictionary,
    list_of,
    name_of,
    number,
    pickled,
    raw,
    storage,
    stream,
    tensor,
    text,
    tuple_of,
)

FOUR = np.arange(4, dtype=np.float32)


def one_tensor(
    *, size: int = 4, offset: int = 0, shape: Iterable[int] = (4,), stride: Iterable[int] = (1,)
) -> bytes:
    """A stream with one storage of four elements, and a tensor with any description of them."""
    description = tensor(storage("0", "float32", size), offset, shape, stride)
    return stream(dictionary({"a": description}), {"0": FOUR})


def several_tensors() -> bytes:
    """A small stream with everything that the reader supports."""
    floats, bytes_ = np.arange(24, dtype=np.float32), np.arange(9, dtype=np.uint8)
    body = dictionary(
        {
            "W": tensor(storage("10", "float32", 24), 0, (2, 3, 4), (12, 4, 1)),
            "W.T": tensor(storage("10", "float32", 24), 0, (4, 3), (1, 4)),
            "index": tensor(storage("11", "uint8", 9), 2, (3, 2), (2, 1)),
        }
    )
    return stream(body, {"10": floats, "11": bytes_})


def refusal(data: bytes) -> str:
    """The error for a stream, which is raised before any tensor is read."""
    return error_line(lambda: stream_tensors(io.BytesIO(data)))


def read(data: bytes) -> dict[str, Array]:
    """Every tensor of a stream."""
    tensors = stream_tensors(io.BytesIO(data))
    return {name: tensor.load() for name, tensor in tensors.items()}


# Reading


def test_storages_are_read_in_the_order_of_their_list() -> None:
    body = dictionary(
        {
            "a": tensor(storage("first", "uint8", 2), 0, (2,), (1,)),
            "b": tensor(storage("second", "uint8", 2), 0, (2,), (1,)),
        }
    )
    data = stream(body, {"second": np.uint8([3, 4]), "first": np.uint8([1, 2])})
    tensors = read(data)
    assert {name: array.tolist() for name, array in tensors.items()} == {"a": [1, 2], "b": [3, 4]}


def test_shape_and_type_are_known_before_the_tensor_is_read(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    path.write_bytes(several_tensors())
    with open_torch_stream(path) as tensors:
        assert {name: (t.shape, t.dtype) for name, t in tensors.items()} == {
            "W": ((2, 3, 4), np.float32),
            "W.T": ((4, 3), np.float32),
            "index": ((3, 2), np.uint8),
        }
        for stored in tensors.values():
            array = stored.load()
            assert (array.shape, array.dtype) == (stored.shape, stored.dtype)
            assert array.flags.writeable


def test_two_loads_return_separate_arrays() -> None:
    tensors = stream_tensors(io.BytesIO(several_tensors()))
    first, second = tensors["W"].load(), tensors["W"].load()
    first[:] = 0
    assert second.reshape(-1).tolist() == list(range(24))


# Lazy reading


def test_only_the_span_of_a_tensor_is_read() -> None:
    elements = np.arange(100, dtype=np.float32)
    description = tensor(storage("0", "float32", 100), 10, (3, 2), (20, 5))
    data = stream(dictionary({"a": description}), {"0": elements})
    start = len(data) - elements.nbytes
    recording = RecordingStream(data)
    stored = stream_tensors(recording)["a"]
    recording.reads.clear()

    array = stored.load()

    assert array.tolist() == [[10, 15], [30, 35], [50, 55]]
    assert recording.reads == [(start + 4 * 10, 4 * (2 * 20 + 5 + 1))]


def test_opening_reads_no_elements_and_takes_no_memory(tmp_path: Path) -> None:
    # 256 MiB of zeros, which most file systems do not store.
    size = 2**26
    body = dictionary(
        {
            "large": tensor(storage("0", "float32", size), 0, (size,), (1,)),
            "small": tensor(storage("0", "float32", size), size - 3, (3,), (1,)),
        }
    )
    head = stream(body, {"0": FOUR}).removesuffix(raw(FOUR))
    path = tmp_path / "weights.pth"
    with path.open("wb") as file:
        file.write(head + struct.pack("<q", size))
        file.truncate(len(head) + 8 + 4 * size)

    def attempt() -> None:
        with open_torch_stream(path) as tensors:
            assert tensors["large"].shape == (size,)
            assert tensors["small"].load().tolist() == [0, 0, 0]

    assert peak_memory(attempt) < LITTLE_MEMORY


def test_a_file_that_shrinks_while_it_is_open_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    size = 2**18  # more than Python reads ahead
    body = dictionary({"a": tensor(storage("0", "float32", size), 0, (size,), (1,))})
    path.write_bytes(stream(body, {"0": np.zeros(size, np.float32)}))
    with open_torch_stream(path) as tensors:
        with path.open("r+b") as file:
            file.truncate(4 * size)
        with pytest.raises(ModelError, match="cut short"):
            tensors["a"].load()


def test_the_file_is_closed_afterwards(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    path.write_bytes(one_tensor())
    with open_torch_stream(path) as tensors:
        stored: StoredTensor = tensors["a"]
    with pytest.raises(ValueError, match="closed"):
        stored.load()


# Recognition


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_a_stream_is_recognised_by_its_first_24_bytes(protocol: int) -> None:
    data = stream(dictionary({}), replaced={0: pickle.dumps(MAGIC, protocol)})
    assert is_torch_stream(data[:24])
    assert is_torch_stream(data)
    assert read(data) == {}
    assert not is_torch_stream(data[:12])


@pytest.mark.parametrize(
    "head",
    [
        *(b"", b"\x80", b"\x80\x02", b"PK\x03\x04" + bytes(20), bytes(24)),
        *(pickle.dumps(MAGIC + 1, 2), pickle.dumps([MAGIC], 2), pickle.dumps({"a": 1}, 4)),
        b"\0" + pickle.dumps(MAGIC, 2),
        b"\0" + pickle.dumps(MAGIC, 2)[1:],
        b"\0\0" + pickle.dumps(MAGIC, 2),
    ],
)
def test_other_files_are_not_recognised_as_streams(head: bytes) -> None:
    assert not is_torch_stream(head.ljust(32, b"\0"))


# Hostile pickles


@pytest.mark.parametrize("position", range(5))
def test_a_command_in_any_of_the_pickles_does_not_run(position: int, tmp_path: Path) -> None:
    sentinel = tmp_path / "ran"
    body = name_of("os", "system") + text(f'echo > "{sentinel}"') + b"\x85R"
    message = refusal(stream(dictionary({}), replaced={position: pickled(body)}))
    assert not sentinel.exists()
    assert "save model.state_dict() instead" in message


@pytest.mark.parametrize("position", [0, 1, 2, 4])
@pytest.mark.parametrize(("module", "name"), [("os", "system"), ("collections", "OrderedDict")])
def test_the_other_pickles_may_not_import_globals(position: int, module: str, name: str) -> None:
    data = stream(dictionary({}), replaced={position: pickled(name_of(module, name))})
    assert f"imports '{module}.{name}'" in refusal(data)


@pytest.mark.parametrize("position", [0, 1, 2, 4])
def test_the_other_pickles_may_not_refer_to_storages(position: int) -> None:
    reference = tuple_of(text("storage"), text("0")) + b"Q"
    data = stream(dictionary({}), replaced={position: pickled(reference)})
    assert "BINPERSID" in refusal(data)


@pytest.mark.parametrize(
    "nested",
    [
        b")" + b"\x85" * 20_000,
        b")" + b"q\x00h\x00\x86" * 64,  # hashing or printing it would take forever
        b"](" * 5_000 + b"e" * 5_000,
    ],
    ids=["deep", "doubling", "lists"],
)
@pytest.mark.parametrize("position", [0, 1, 3, 4])
def test_deep_nesting_is_refused_in_every_pickle(nested: bytes, position: int) -> None:
    refusal(stream(dictionary({}), replaced={position: pickled(nested)}))
    if position == 4:
        refusal(stream(dictionary({}), replaced={position: pickled(list_of(nested))}))


# Contradictions


@pytest.mark.parametrize(
    ("description", "words"),
    [
        ({"offset": 1}, "exceeds its own"),
        ({"size": 2**60}, "cut short"),
        ({"size": 2**60, "shape": (2**60,)}, "cut short"),
        ({"size": 3, "shape": (3,)}, "cut short"),
    ],
)
def test_a_tensor_beyond_the_file_is_refused_before_memory_is_allocated(
    description: dict[str, int | tuple[int, ...]], words: str
) -> None:
    data = one_tensor(**description)
    assert words in refusal(data)
    assert peak_memory(lambda: refusal(data)) < LITTLE_MEMORY


@pytest.mark.parametrize(
    ("position", "body", "words"),
    [
        (0, number(MAGIC + 1), "stream format"),
        (1, number(PROTOCOL + 1), "stream format"),
        (3, list_of(), "dictionary of tensors"),
        (4, list_of(), "other storages"),
        (4, list_of(text("0"), text("0")), "other storages"),
        (4, list_of(text("1")), "other storages"),
        (4, list_of(number(0)), "list of storages"),
        (4, dictionary({"0": number(0)}), "list of storages"),
    ],
)
def test_the_other_pickles_must_be_those_of_the_format(
    position: int, body: bytes, words: str
) -> None:
    whole = dictionary({"a": tensor(storage("0", "float32", 4), 0, (4,), (1,))})
    data = stream(whole, {"0": FOUR}, replaced={position: pickled(body)})
    assert words in refusal(data)


def test_a_storage_with_another_length_than_described_is_refused() -> None:
    body = dictionary({"a": tensor(storage("0", "uint8", 4), 0, (4,), (1,))})
    for length in (3, 5, -1, 2**62):
        head = stream(body, {"0": np.zeros(0, np.uint8)})[:-8]
        assert "another size" in refusal(head + struct.pack("<q", length) + bytes(100))


def test_an_unused_storage_is_skipped() -> None:
    unused, used = np.arange(9, dtype=np.float64), np.uint8([1, 2])
    body = dictionary(
        {
            "skipped": list_of(tensor(storage("0", "float64", 9), 0, (9,), (1,))),
            "a": tensor(storage("1", "uint8", 2), 0, (2,), (1,)),
        }
    )
    tensors = read(stream(body, {"0": unused, "1": used}))
    assert {name: array.tolist() for name, array in tensors.items()} == {"a": [1, 2]}


def test_empty_and_scalar_tensors_are_read() -> None:
    body = dictionary(
        {
            "none": tensor(storage("0", "float32", 0), 0, (3, 0), (1, 1)),
            "one": tensor(storage("1", "float32", 1), 0, (), ()),
        }
    )
    tensors = read(stream(body, {"0": FOUR[:0], "1": FOUR[3:]}))
    assert {name: (array.shape, array.tolist()) for name, array in tensors.items()} == {
        "none": ((3, 0), [[], [], []]),
        "one": ((), 3),
    }


# Damage


def test_a_truncated_stream_is_refused() -> None:
    data = several_tensors()
    assert sorted(read(data)) == ["W", "W.T", "index"]
    for length in range(len(data)):
        assert isinstance(outcome(lambda n=length: read(data[:n])), Exception)


@given(POSITIONS)
@settings(max_examples=300)
def test_flipped_bits_give_arrays_or_an_error(positions: list[float]) -> None:
    data = several_tensors()
    result = outcome(lambda: read(flipped(data, positions)))
    if isinstance(result, dict):
        # No array is larger than the file, even if its shape is.
        assert all(array.nbytes <= 8 * len(data) for array in result.values())


@given(st.binary(max_size=300), st.sampled_from([b"", several_tensors()[:21]]))
@settings(max_examples=100)
def test_random_bytes_give_an_error(data: bytes, head: bytes) -> None:
    assert isinstance(outcome(lambda: read(head + data)), Exception)
