"""torch's old stream, assembled here instruction by instruction: what is read, what is refused.

Nothing of torch and nothing of the reader is used to build a stream. What the pickle in it may
say is `test_model_pickles`' matter.
"""

import io
import pickle
import struct
import tracemalloc
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gramstyle.core.arrays import Array
from gramstyle.errors import ModelError
from gramstyle.model.sources.tensors import StoredTensor
from gramstyle.model.sources.torch_stream import is_torch_stream, open_torch_stream, stream_tensors
from pickle_writer import (
    MAGIC,
    PROTOCOL,
    TYPES,
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

# A refusal builds a few lists of a few items; an array of an absurd size would be gigabytes.
LITTLE_MEMORY = 2**20


FOUR = np.arange(4, dtype=np.float32)


def one_tensor(
    *, size: int = 4, offset: int = 0, shape: Iterable[int] = (4,), stride: Iterable[int] = (1,)
) -> bytes:
    """A stream with one tensor of a storage of four elements, whatever is said about them."""
    described = tensor(storage("0", "float32", size), offset, shape, stride)
    return stream(dictionary({"a": described}), {"0": FOUR})


def several_tensors() -> bytes:
    """What a weight file looks like, with all that the reader knows, in half a kilobyte."""
    floats, bytes_ = np.arange(24, dtype=np.float32), np.arange(9, dtype=np.uint8)
    body = dictionary(
        {
            "W": tensor(storage("10", "float32", 24), 0, (2, 3, 4), (12, 4, 1)),
            "W.T": tensor(storage("10", "float32", 24), 0, (4, 3), (1, 4)),
            "index": tensor(storage("11", "uint8", 9), 2, (3, 2), (2, 1)),
        }
    )
    return stream(body, {"10": floats, "11": bytes_})


def read(data: bytes) -> dict[str, Array]:
    """Every tensor of a stream."""
    tensors = stream_tensors(io.BytesIO(data))
    return {name: tensor.load() for name, tensor in tensors.items()}


def outcome(data: bytes) -> dict[str, Array] | Exception:
    """The tensors, or whatever ordinary error; MemoryError and RecursionError are none."""
    try:
        return read(data)
    except (MemoryError, RecursionError):
        raise
    except Exception as error:
        return error


def refusal(data: bytes) -> str:
    """The one line with which a stream is refused before any tensor is read."""
    with pytest.raises(ModelError) as caught:
        stream_tensors(io.BytesIO(data))
    message = str(caught.value)
    assert message.isprintable()
    return message


def peak_memory(action: Callable[[], object]) -> int:
    tracemalloc.start()
    try:
        action()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


# Reading


@st.composite
def views(draw: st.DrawFn) -> tuple[str, int, tuple[int, ...], tuple[int, ...]]:
    """A type, an offset, a shape and strides, overlapping or with gaps or neither."""
    shape = draw(st.lists(st.integers(1, 4), max_size=4).map(tuple))
    stride = draw(st.tuples(*(st.integers(0, 30) for _ in shape)))
    return draw(st.sampled_from(sorted(TYPES))), draw(st.integers(0, 5)), shape, stride


@given(st.lists(views(), min_size=1, max_size=3), st.integers(0, 2**32 - 1))
@settings(max_examples=40, deadline=None)
def test_views_of_one_storage_hold_the_elements_that_offset_and_strides_say(
    described: list[tuple[str, int, tuple[int, ...], tuple[int, ...]]], seed: int
) -> None:
    storages = {
        dtype: np.random.default_rng(seed).integers(0, 256, 512).astype(dtype) for dtype in TYPES
    }
    body = dictionary(
        {
            f"tensor{k}": tensor(storage(dtype, dtype, 512), offset, shape, stride)
            for k, (dtype, offset, shape, stride) in enumerate(described)
        }
    )
    used = {dtype: storages[dtype] for dtype in dict.fromkeys(dtype for dtype, *_ in described)}

    tensors = read(stream(body, used))

    assert list(tensors) == [f"tensor{k}" for k in range(len(described))]
    for array, (dtype, offset, shape, stride) in zip(tensors.values(), described, strict=True):
        assert (array.dtype, array.shape) == (np.dtype(dtype), shape)
        assert array.flags.c_contiguous
        for at in np.ndindex(*shape):
            place = offset + sum(i * step for i, step in zip(at, stride, strict=True))
            assert array[at] == storages[dtype][place]


def test_the_stream_that_torch_writes_with_a_memo_is_read() -> None:
    # torch refers back to names it has used (BINPUT q, BINGET h, LONG_BINPUT r, LONG_BINGET j),
    # and sets a single item and appends a single key with s and a instead of u and e.
    rebuild, hooks = name_of("torch._utils", "_rebuild_tensor_v2"), b"ccollections\nOrderedDict\n"
    stored = tuple_of(
        text("storage"),
        name_of("torch", "FloatStorage") + b"q\x01",
        text("7") + b"r\x00\x01\x00\x00",
        text("cpu"),
        b"K\x04",
        b"N",
    )
    arguments = (stored + b"Q", b"K\x01", b"K\x03\x85", b"K\x01\x85", b"\x89", hooks + b"q\x02)R")
    again = (
        tuple_of(text("storage"), b"h\x01", b"j\x00\x01\x00\x00", text("cpu"), b"M\x04\x00", b"N")
        + b"Q"
    )
    second = (again, b"K\x00", b"K\x02K\x02\x86", b"K\x02K\x01\x86", b"\x89", b"h\x02)R")
    body = (
        b"}"
        + (text("a") + rebuild + b"q\x00" + tuple_of(*arguments) + b"Rs")
        + (text("b") + b"h\x00" + tuple_of(*second) + b"Rs")
    )
    data = stream(body, {"7": FOUR}, replaced={4: pickled(b"]" + text("7") + b"a")})

    tensors = read(data)

    assert {name: array.tolist() for name, array in tensors.items()} == {
        "a": [1, 2, 3],
        "b": [[0, 1], [2, 3]],
    }


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


def test_shape_and_type_are_those_of_the_tensor_that_is_read(tmp_path: Path) -> None:
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


def test_what_two_loads_give_is_not_shared() -> None:
    tensors = stream_tensors(io.BytesIO(several_tensors()))
    first, second = tensors["W"].load(), tensors["W"].load()
    first[:] = 0
    assert second.reshape(-1).tolist() == list(range(24))


# Laziness


class Watched(io.BytesIO):
    """A stream that notes which bytes are read."""

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self.places: list[tuple[int, int]] = []

    def readinto(self, buffer: memoryview, /) -> int:  # type: ignore[override]
        self.places.append((self.tell(), len(buffer)))
        return super().readinto(buffer)


def test_only_what_a_tensor_spans_is_read() -> None:
    elements = np.arange(100, dtype=np.float32)
    described = tensor(storage("0", "float32", 100), 10, (3, 2), (20, 5))
    data = stream(dictionary({"a": described}), {"0": elements})
    start = len(data) - elements.nbytes
    watched = Watched(data)

    array = stream_tensors(watched)["a"].load()

    assert array.tolist() == [[10, 15], [30, 35], [50, 55]]
    assert watched.places == [(start + 4 * 10, 4 * (2 * 20 + 5 + 1))]


def test_opening_reads_no_element_and_takes_no_memory(tmp_path: Path) -> None:
    # 256 MiB that are never written either: a file of zeros costs nothing on most disks.
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
        kept: StoredTensor = tensors["a"]
    with pytest.raises(ValueError, match="closed"):
        kept.load()


# What kind of file it is


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_a_stream_is_known_by_its_first_24_bytes(protocol: int) -> None:
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
def test_another_file_is_not_taken_for_a_stream(head: bytes) -> None:
    assert not is_torch_stream(head.ljust(32, b"\0"))


# What a pickle can be made to do


def executing(command: str) -> dict[str, bytes]:
    """Pickle bodies that run a shell command under Python's own unpickler."""
    system = name_of("os", "system")
    return {
        "REDUCE": system + text(command) + b"\x85R",
        "STACK_GLOBAL": text("os") + text("system") + b"\x93" + text(command) + b"\x85R",
        "INST": b"(" + text(command) + b"ios\nsystem\n",
        "OBJ": b"(" + system + text(command) + b"o",
    }


@pytest.mark.parametrize("position", range(5))
@pytest.mark.parametrize("payload", executing(""))
def test_a_command_does_not_run_wherever_it_stands(
    payload: str, position: int, tmp_path: Path
) -> None:
    sentinel = tmp_path / "ran"
    body = executing(f'echo > "{sentinel}"')[payload]
    message = refusal(stream(dictionary({}), replaced={position: pickled(body)}))
    assert not sentinel.exists()
    assert "save model.state_dict() instead" in message


@pytest.mark.parametrize("position", [0, 1, 2, 4])
@pytest.mark.parametrize(("module", "name"), [("os", "system"), ("collections", "OrderedDict")])
def test_the_pickles_around_the_object_may_name_no_global(
    position: int, module: str, name: str
) -> None:
    data = stream(dictionary({}), replaced={position: pickled(name_of(module, name))})
    assert f"asks for '{module}.{name}'" in refusal(data)


@pytest.mark.parametrize("position", [0, 1, 2, 4])
def test_the_pickles_around_the_object_may_refer_to_no_storage(position: int) -> None:
    reference = tuple_of(text("storage"), text("0")) + b"Q"
    data = stream(dictionary({}), replaced={position: pickled(reference)})
    assert "BINPERSID" in refusal(data)


@pytest.mark.parametrize(
    "nested",
    [
        b")" + b"\x85" * 20_000,
        b")" + b"q\x00h\x00\x86" * 64,  # its hash and its text would take for ever
        b"](" * 5_000 + b"e" * 5_000,
    ],
    ids=["deep", "doubling", "lists"],
)
@pytest.mark.parametrize("position", [0, 1, 3, 4])
def test_nesting_without_end_is_refused_in_every_pickle(nested: bytes, position: int) -> None:
    refusal(stream(dictionary({}), replaced={position: pickled(nested)}))
    if position == 4:
        refusal(stream(dictionary({}), replaced={position: pickled(list_of(nested))}))


# What a tensor may say of itself


@pytest.mark.parametrize(
    ("described", "words"),
    [
        ({"offset": 1}, "does not fit"),
        ({"shape": (5,)}, "does not fit"),
        ({"shape": (2, 2), "stride": (3, 1)}, "does not fit"),
        ({"shape": (5,), "stride": (0,)}, "does not fit"),
        ({"shape": (2**60,)}, "does not fit"),
        ({"shape": (2**60,), "stride": (0,)}, "does not fit"),
        ({"shape": (2,), "stride": (2**60,)}, "does not fit"),
        ({"shape": (2**31, 2**31, 2**31), "stride": (0, 0, 0)}, "does not fit"),
        ({"offset": 2**200}, "does not fit"),
        ({"size": 2**60}, "cut short"),
        ({"size": 2**60, "shape": (2**60,)}, "cut short"),
        ({"size": 3, "shape": (3,)}, "cut short"),
    ],
)
def test_a_tensor_that_its_storage_cannot_hold_is_refused_before_memory_is_taken(
    described: dict[str, int | tuple[int, ...]], words: str
) -> None:
    data = one_tensor(**described)
    assert words in refusal(data)
    assert peak_memory(lambda: refusal(data)) < LITTLE_MEMORY


def test_a_storage_larger_than_the_file_is_refused() -> None:
    body = dictionary({"a": tensor(storage("0", "float32", 1000), 0, (4,), (1,))})
    length_only = stream(body, {"0": FOUR}).removesuffix(raw(FOUR)) + struct.pack("<q", 1000)
    assert "cut short" in refusal(length_only + FOUR.tobytes())


@pytest.mark.parametrize(
    ("position", "body", "words"),
    [
        (0, number(MAGIC + 1), "old stream format"),
        (1, number(PROTOCOL + 1), "old stream format"),
        (3, list_of(), "dictionary of tensors"),
        (4, list_of(), "others listed"),
        (4, list_of(text("0"), text("0")), "others listed"),
        (4, list_of(text("1")), "others listed"),
        (4, list_of(number(0)), "list of storages"),
        (4, dictionary({"0": number(0)}), "list of storages"),
    ],
)
def test_the_pickles_around_the_object_must_be_those_of_the_format(
    position: int, body: bytes, words: str
) -> None:
    whole = dictionary({"a": tensor(storage("0", "float32", 4), 0, (4,), (1,))})
    data = stream(whole, {"0": FOUR}, replaced={position: pickled(body)})
    assert words in refusal(data)


def test_a_storage_of_another_length_than_described_is_refused() -> None:
    body = dictionary({"a": tensor(storage("0", "uint8", 4), 0, (4,), (1,))})
    for length in (3, 5, -1, 2**62):
        head = stream(body, {"0": np.zeros(0, np.uint8)})[:-8]
        assert "another size" in refusal(head + struct.pack("<q", length) + bytes(100))


def test_a_storage_of_no_tensor_is_stepped_over() -> None:
    unused, used = np.arange(9, dtype=np.float64), np.uint8([1, 2])
    body = dictionary(
        {
            "skipped": list_of(tensor(storage("0", "float64", 9), 0, (9,), (1,))),
            "a": tensor(storage("1", "uint8", 2), 0, (2,), (1,)),
        }
    )
    tensors = read(stream(body, {"0": unused, "1": used}))
    assert {name: array.tolist() for name, array in tensors.items()} == {"a": [1, 2]}


def test_tensors_of_no_element_and_of_one_are_read() -> None:
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


def test_a_stream_cut_short_anywhere_is_refused() -> None:
    data = several_tensors()
    assert sorted(read(data)) == ["W", "W.T", "index"]
    for length in range(len(data)):
        assert isinstance(outcome(data[:length]), Exception)


@given(st.lists(st.integers(0, 8 * len(several_tensors()) - 1), min_size=1, max_size=4))
@settings(max_examples=300, deadline=None)
def test_flipped_bits_give_arrays_or_an_error(bits: list[int]) -> None:
    data = bytearray(several_tensors())
    for bit in bits:
        data[bit // 8] ^= 1 << bit % 8
    result = outcome(bytes(data))
    if isinstance(result, dict):
        # No array is larger than the file, whatever it says.
        assert all(array.nbytes <= 8 * len(data) for array in result.values())
    else:
        assert not isinstance(result, ModelError) or str(result).isprintable()


@given(st.binary(max_size=300), st.sampled_from([b"", several_tensors()[:21]]))
@settings(max_examples=100, deadline=None)
def test_random_bytes_give_an_error(data: bytes, head: bytes) -> None:
    assert isinstance(outcome(head + data), Exception)


@pytest.mark.parametrize("data", [b"", b"\0" * 64, b"PK\x03\x04" + b"\0" * 64, b"\x80\x04N."])
def test_another_file_gives_an_error(data: bytes) -> None:
    assert isinstance(outcome(data), Exception)
