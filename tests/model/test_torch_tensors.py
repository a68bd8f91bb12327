"""Views of storages, and the tensors in nested dictionaries."""

import io
import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gramstyle.model.sources.pickles import unpickle
from gramstyle.model.sources.torch_tensors import Storage, View, find_tensors
from hostile_files import LITTLE_MEMORY, error_line, peak_memory
from pickle_writer import dictionary, list_of, number, pickled, storage, tensor, text, tuple_of

FOUR = View(Storage("0", np.dtype("f4"), np.dtype("f4"), 4), 0, (4,), (1,))


def read(body: bytes) -> dict[str, View]:
    return find_tensors(unpickle(io.BytesIO(pickled(body)), {}))


def refusal(body: bytes) -> str:
    return error_line(lambda: read(body))


# Nested dictionaries


def test_tensors_of_nested_dictionaries_get_dotted_names_in_file_order() -> None:
    body = (
        (b"}(" + text("epoch") + number(5) + text("rate") + b"G" + struct.pack(">d", 0.1))
        + (text("none") + b"N" + text("note") + text("hello") + text("done") + b"\x88")
        + (text("first") + tensor())
        + (text("model") + dictionary({"features.0.weight": tensor(), "bias": tensor()}))
        + (text("optimizer") + dictionary({"state": b"}(" + number(0) + inner() + b"u"}))
        + (text("history") + list_of(tensor(), number(1)) + text("pair") + tuple_of(tensor()))
        + (text("last") + tensor() + b"u")
    )
    assert list(read(body)) == [
        "first",
        "model.features.0.weight",
        "model.bias",
        "optimizer.state.0.step",
        "last",
    ]


def inner() -> bytes:
    return dictionary({"step": tensor(), "momentum": b"N"})


def test_the_tensors_of_a_repeated_dictionary_are_found_twice() -> None:
    body = b"}(" + text("a") + inner() + b"q\x07" + text("b") + b"h\x07" + b"u"
    assert list(read(body)) == ["a.step", "b.step"]


def test_two_tensors_with_one_dotted_name_are_refused() -> None:
    body = dictionary({"a": dictionary({"b": tensor()}), "a.b": tensor()})
    assert "one tensor named 'a.b'" in refusal(body)


def test_a_dictionary_that_contains_itself_is_refused() -> None:
    assert "names" in refusal(b"}q\x00" + text("a") + b"h\x00s")
    assert "names" in refusal(b"}q\x00" + text("") + b"h\x00s")


def test_long_keys_of_a_dictionary_that_contains_itself_take_little_memory() -> None:
    body = b"}q\x00" + text("a" * 2**16) + b"h\x00s"
    assert peak_memory(lambda: refusal(body)) < LITTLE_MEMORY


def test_a_list_that_contains_itself_is_ignored() -> None:
    assert read(dictionary({"a": b"]q\x00h\x00a"})) == {}


@pytest.mark.parametrize("leaf", [b"}", inner()], ids=["empty", "with a tensor"])
def test_exponentially_many_paths_through_dictionaries_are_refused(
    leaf: bytes,
) -> None:
    body = leaf
    for level in range(60):
        memo = struct.pack("<I", level)
        body = b"}(" + text("a") + body + b"r" + memo + text("b") + b"j" + memo + b"u"
    assert "entries" in refusal(body)  # without the limit this would not end


def test_exponentially_many_names_take_bounded_memory() -> None:
    body = inner()
    for level in range(20):
        memo = struct.pack("<I", level)
        body = b"}(" + text("a" * 20) + body + b"r" + memo + text("b" * 20) + b"j" + memo + b"u"
    assert peak_memory(lambda: refusal(body)) < 50_000 * 1_000


def test_deeply_nested_dictionaries_are_refused_without_recursion() -> None:
    deep = (b"}" + text("")) * 20_000 + tensor() + b"s" * 20_000
    assert "names" in refusal(deep)


@pytest.mark.parametrize(
    "body", [number(1), list_of(), list_of(dictionary({"a": tensor()})), tensor(), text("a"), b"N"]
)
def test_an_object_other_than_a_dictionary_is_refused(body: bytes) -> None:
    assert "dictionary of tensors" in refusal(body)


def test_a_dictionary_without_tensors_has_none() -> None:
    assert read(dictionary({"a": number(1), "b": b"}"})) == {}


# Views

INVALID_VIEWS: list[tuple[dict[str, Any], str]] = [
    ({"offset": 1}, "exceeds its own"),
    ({"shape": (5,)}, "exceeds its own"),
    ({"shape": (2, 2), "stride": (3, 1)}, "exceeds its own"),
    ({"shape": (5,), "stride": (0,)}, "exceeds its own"),
    ({"shape": (2**60,)}, "exceeds its own"),
    ({"shape": (2**60,), "stride": (0,)}, "exceeds its own"),
    ({"shape": (2,), "stride": (2**60,)}, "exceeds its own"),
    ({"shape": (2**31, 2**31, 2**31), "stride": (0, 0, 0)}, "exceeds its own"),
    ({"shape": (), "stride": (), "offset": 4}, "exceeds its own"),
    ({"offset": 2**200}, "exceeds its own"),
    ({"offset": -1}, "unknown"),
    ({"shape": (-4,)}, "unknown"),
    ({"stride": (-1,)}, "unknown"),
    ({"stride": (1, 1)}, "unknown"),
    ({"shape": (1,) * 9, "stride": (1,) * 9}, "unknown"),
    ({"stored": storage(size=-1)}, "type and size"),
    ({"stored": number(4)}, "unknown"),
]


@pytest.mark.parametrize(("description", "words"), INVALID_VIEWS)
def test_a_tensor_that_exceeds_its_storage_is_refused(
    description: dict[str, Any], words: str
) -> None:
    body = dictionary({"a": tensor(**description)})
    assert words in refusal(body)
    assert peak_memory(lambda: refusal(body)) < LITTLE_MEMORY


@pytest.mark.parametrize(
    ("offset", "shape", "stride"),
    [(0, (10, 0), (1, 1)), (4, (0,), (1,)), (0, (0, 10), (1, 9)), (9, (0,), (1,))],
)
def test_an_empty_tensor_fits_anywhere(
    offset: int, shape: tuple[int, ...], stride: tuple[int, ...]
) -> None:
    view = read(dictionary({"a": tensor(storage(), offset, shape, stride)}))["a"]
    assert (view.span, view.nbytes) == (0, 0)
    assert view.array(np.empty(0, np.uint8)).shape == shape


def test_the_stride_of_an_axis_of_length_1_is_ignored() -> None:
    view = read(dictionary({"a": tensor(storage(), 3, (1, 1), (2**100, 7))}))["a"]
    assert view.array(np.float32([5]).view(np.uint8)).tolist() == [[5]]


# Elements

RAW = np.arange(1, 65, dtype=np.uint8).tobytes()
TYPES = {
    "Double": "d",
    "Float": "f",
    "Half": "e",
    "Long": "q",
    "Int": "i",
    "Short": "h",
    "Char": "b",
    "Byte": "B",
}


@pytest.mark.parametrize("kind", TYPES)
def test_elements_of_every_type_are_decoded(kind: str) -> None:
    size = struct.calcsize(TYPES[kind])
    view = read(dictionary({"a": tensor(storage("0", kind, 3), 0, (3,), (1,))}))["a"]
    array = view.array(np.frombuffer(RAW[: 3 * size], np.uint8).copy())
    assert array.tolist() == list(struct.unpack(f"<3{TYPES[kind]}", RAW[: 3 * size]))
    assert array.dtype == view.storage.dtype == np.dtype(TYPES[kind])


def test_bfloat16_becomes_float32_exactly() -> None:
    view = read(dictionary({"a": tensor(storage("0", "BFloat16", 4))}))["a"]
    # One sign, eight exponent, seven fraction bits: 1, −2.5, the largest, the smallest.
    raw = np.array([0x3F80, 0xC020, 0x7F7F, 0x0001], "<u2").view(np.uint8)
    array = view.array(raw)
    assert array.dtype == view.storage.dtype == np.float32
    assert array.tolist() == [1.0, -2.5, (2 - 2**-7) * 2.0**127, 2.0**-133]
    assert view.nbytes == 8


def test_every_byte_except_0_is_true() -> None:
    view = read(dictionary({"a": tensor(storage("0", "Bool", 4))}))["a"]
    array = view.array(np.uint8([0, 1, 2, 255]))
    assert array.dtype == view.storage.dtype == np.bool_
    assert array.view(np.uint8).tolist() == [0, 1, 1, 1]


@st.composite
def views(draw: st.DrawFn) -> tuple[int, tuple[int, ...], tuple[int, ...]]:
    """An offset, a shape and strides, which may overlap or leave gaps."""
    shape = draw(st.lists(st.integers(0, 4), max_size=4).map(tuple))
    return draw(st.integers(0, 5)), shape, draw(st.tuples(*(st.integers(0, 30) for _ in shape)))


@given(views(), st.sampled_from(["Half", "BFloat16", "Byte", "Bool", "Double"]))
@settings(max_examples=100)
def test_a_view_has_the_elements_that_its_strides_select(
    description: tuple[int, tuple[int, ...], tuple[int, ...]], kind: str
) -> None:
    offset, shape, stride = description
    view = read(dictionary({"a": tensor(storage("0", kind, 512), offset, shape, stride)}))["a"]
    whole = View(view.storage, 0, (512,), (1,))
    raw = np.random.default_rng(offset).integers(0, 256, whole.nbytes).astype(np.uint8)
    elements = whole.array(raw.copy())

    array = view.array(raw[view.first_byte : view.first_byte + view.nbytes].copy())

    assert (array.dtype, array.shape) == (view.storage.dtype, shape)
    assert array.flags.c_contiguous
    for at in np.ndindex(*shape):
        place = offset + sum(i * step for i, step in zip(at, stride, strict=True))
        assert array[at].tobytes() == elements[place].tobytes()
