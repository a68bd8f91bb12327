"""The pickle in a torch checkpoint, assembled here instruction by instruction.

Nothing of torch and nothing of the reader is used to build one.
"""

import copyreg
import io
import pickle
import struct
import sys
import tracemalloc
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gramstyle.errors import ModelError
from gramstyle.model.sources import pickles
from gramstyle.model.sources.pickles import Storage, View, find_tensors, unpickle
from pickle_writer import dictionary, list_of, name_of, number, pickled, text, tuple_of

# A refusal builds a few lists of a few items; an array of an absurd size would be gigabytes.
LITTLE_MEMORY = 2**20


ORDERED = name_of("collections", "OrderedDict")
EMPTY_ORDERED = ORDERED + b")R"
REBUILD = name_of("torch._utils", "_rebuild_tensor_v2")
FLOATS = name_of("torch", "FloatStorage")


def storage(key: str = "0", kind: str = "Float", size: int = 4) -> bytes:
    parts = (text("storage"), name_of("torch", f"{kind}Storage"), text(key), text("cpu"))
    return tuple_of(*parts, number(size), b"N") + b"Q"


def tensor(
    stored: bytes | None = None,
    offset: int = 0,
    shape: Iterable[int] = (4,),
    stride: Iterable[int] = (1,),
) -> bytes:
    return (
        REBUILD
        + tuple_of(
            storage() if stored is None else stored,
            number(offset),
            tuple_of(*map(number, shape)),
            tuple_of(*map(number, stride)),
            b"\x89",
            EMPTY_ORDERED,
        )
        + b"R"
    )


# The reader, and what it says


def read(body: bytes) -> dict[str, View]:
    return find_tensors(unpickle(io.BytesIO(pickled(body)), {}))


def refusal(body: bytes) -> str:
    """The one line with which a pickle is refused."""
    with pytest.raises(ModelError) as caught:
        read(body)
    message = str(caught.value)
    assert message.isprintable()
    assert len(message) < 300
    return message


def peak_memory(action: Callable[[], object]) -> int:
    tracemalloc.start()
    try:
        action()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


FOUR = View(Storage("0", np.dtype("f4"), np.dtype("f4"), 4), 0, (4,), (1,))


# Instructions


def test_a_tensor_is_described_by_its_storage_offset_shape_and_strides() -> None:
    storages: dict[str, Storage] = {}
    body = dictionary({"a": tensor(storage("7", "Double", 40), 3, (2, 5), (11, 2))})
    tensors = find_tensors(unpickle(io.BytesIO(pickled(body)), storages))
    stored = Storage("7", np.dtype("f8"), np.dtype("f8"), 40)
    assert storages == {"7": stored}
    assert tensors == {"a": View(stored, 3, (2, 5), (11, 2))}


def test_the_stream_is_left_right_behind_the_pickle() -> None:
    stream = io.BytesIO(pickled(number(1)) + pickled(number(2)) + b"elements")
    assert [unpickle(stream), unpickle(stream)] == [1, 2]
    assert stream.read() == b"elements"


def test_every_plain_value_is_itself() -> None:
    values = [None, True, False, 0, 255, 65535, -1, 2**31 - 1, 2**40, 1.5, "é", (), (1,), (1, 2)]
    values += [(1, 2, 3), (1, 2, 3, 4), [], [1], ["a", ["b"]], {}, {"a": 1}, "x" * 300]
    for protocol in (2, 3, 4, 5):
        assert unpickle(io.BytesIO(pickle.dumps(values, protocol))) == values


def test_what_the_memo_holds_is_found_again() -> None:
    # BINPUT q, BINGET h, LONG_BINPUT r, LONG_BINGET j, and the single s and a.
    body = (
        (b"}" + text("a") + b"q\x01" + tensor() + b"r\x00\x01\x00\x00" + b"s")
        + (text("b") + b"j\x00\x01\x00\x00" + b"s")
        + (text("c") + b"]" + b"h\x01" + b"as")
    )
    assert read(body) == {"a": FOUR, "b": FOUR}


def test_protocol_4_writes_the_same_with_other_instructions() -> None:
    def short(string: str) -> bytes:
        return b"\x8c" + struct.pack("<B", len(string)) + string.encode()

    rebuild = short("torch._utils") + short("_rebuild_tensor_v2") + b"\x93\x94"
    kind = short("torch") + b"\x94" + short("FloatStorage") + b"\x93"
    stored = tuple_of(short("storage"), kind, short("0"), short("cpu"), b"K\x04", b"N") + b"Q"
    arguments = (stored, b"K\x00", b"K\x04\x85", b"K\x01\x85", b"\x89", EMPTY_ORDERED)
    body = b"}" + short("a") + rebuild + tuple_of(*arguments) + b"R\x94s" + short("b") + b"h\x02s"
    framed = b"\x80\x04\x95" + struct.pack("<Q", len(body) + 1) + body + b"."
    assert find_tensors(unpickle(io.BytesIO(framed), {})) == {"a": FOUR, "b": FOUR}


def test_python_2_writes_strings_of_bytes_and_an_ordered_dictionary_of_pairs() -> None:
    def string(value: str) -> bytes:
        return b"U" + struct.pack("<B", len(value)) + value.encode()

    stored = tuple_of(string("storage"), FLOATS, string("0"), string("cpu"), b"K\x04", b"N") + b"Q"
    four, one = b"\x8a\x01\x04\x85", b"\x8a\x01\x01\x85"  # Python 2's long
    old = name_of("torch._utils", "_rebuild_tensor") + tuple_of(stored, b"K\x00", four, one) + b"R"
    hooks = ORDERED + b"]\x85R"
    new = REBUILD + tuple_of(stored, b"K\x00", four, one, b"\x89", hooks) + b"R"
    long = b"T" + struct.pack("<i", 300) + b"x" * 300
    pairs = list_of(
        list_of(string("a"), old), list_of(string("b"), new), list_of(string("c"), long)
    )
    assert read(ORDERED + pairs + b"\x85R") == {"a": FOUR, "b": FOUR}


def test_a_parameter_is_its_tensor() -> None:
    parameter = name_of("torch._utils", "_rebuild_parameter") + tensor() + b"\x88"
    assert read(dictionary({"a": parameter + EMPTY_ORDERED + b"\x87R"})) == {"a": FOUR}


def test_a_storage_has_five_facts_in_an_archive_and_six_in_a_stream() -> None:
    stored = tuple_of(text("storage"), FLOATS, text("0"), text("cpu"), number(4)) + b"Q"
    assert read(dictionary({"a": tensor(stored), "b": tensor()})) == {"a": FOUR, "b": FOUR}


def test_what_build_says_of_an_ordered_dictionary_changes_nothing() -> None:
    state = dictionary(
        {
            "_metadata": EMPTY_ORDERED + b"(" + text("") + dictionary({"version": b"K\x01"}) + b"u",
            "a": tensor(offset=0, shape=(2,)),
            "items": number(1),
        }
    )
    body = ORDERED + b")R" + b"(" + text("a") + tensor() + b"u" + state + b"b"
    assert read(body) == {"a": FOUR}
    assert read(dictionary({"inner": body})) == {"inner.a": FOUR}


# Dictionaries in dictionaries


def test_tensors_of_inner_dictionaries_get_dotted_names_in_the_files_order() -> None:
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


def test_a_dictionary_that_is_there_twice_gives_its_tensors_twice() -> None:
    body = b"}(" + text("a") + inner() + b"q\x07" + text("b") + b"h\x07" + b"u"
    assert list(read(body)) == ["a.step", "b.step"]


def test_two_tensors_of_one_dotted_name_are_refused() -> None:
    body = dictionary({"a": dictionary({"b": tensor()}), "a.b": tensor()})
    assert "one tensor called 'a.b'" in refusal(body)


@pytest.mark.parametrize("keys", [(text("a"), text("a")), (number(1), text("1"))])
def test_a_key_that_is_set_twice_is_refused(keys: tuple[bytes, bytes]) -> None:
    assert "every key once" in refusal(b"}(" + keys[0] + tensor() + keys[1] + tensor() + b"u")


def test_a_dictionary_in_itself_is_refused() -> None:
    assert "names" in refusal(b"}q\x00" + text("a") + b"h\x00s")
    assert "names" in refusal(b"}q\x00" + text("") + b"h\x00s")


def test_a_long_key_in_a_dictionary_in_itself_does_not_add_up() -> None:
    body = b"}q\x00" + text("a" * 2**16) + b"h\x00s"
    assert peak_memory(lambda: refusal(body)) < LITTLE_MEMORY


def test_a_list_in_itself_holds_no_tensor() -> None:
    assert read(dictionary({"a": b"]q\x00h\x00a"})) == {}


@pytest.mark.parametrize("leaf", [b"}", inner()], ids=["empty", "with a tensor"])
def test_dictionaries_that_refer_to_each_other_twice_a_level_are_not_all_visited(
    leaf: bytes,
) -> None:
    body = leaf
    for level in range(60):
        memo = struct.pack("<I", level)
        body = b"}(" + text("a") + body + b"r" + memo + text("b") + b"j" + memo + b"u"
    assert "entries" in refusal(body)  # otherwise this would not end


def test_tensors_that_come_to_very_many_names_take_bounded_memory() -> None:
    body = inner()
    for level in range(20):
        memo = struct.pack("<I", level)
        body = b"}(" + text("a" * 20) + body + b"r" + memo + text("b" * 20) + b"j" + memo + b"u"
    assert peak_memory(lambda: refusal(body)) < 50_000 * 1_000


def test_dictionaries_nested_too_deep_are_refused_without_recursion() -> None:
    deep = (b"}" + text("")) * 20_000 + tensor() + b"s" * 20_000
    assert "names" in refusal(deep)


@pytest.mark.parametrize(
    "body", [number(1), list_of(), list_of(dictionary({"a": tensor()})), tensor(), text("a"), b"N"]
)
def test_an_object_other_than_a_dictionary_is_refused(body: bytes) -> None:
    assert "dictionary of tensors" in refusal(body)


def test_a_dictionary_without_tensors_has_none() -> None:
    assert read(dictionary({"a": number(1), "b": b"}"})) == {}


# What a pickle can be made to do


class Runs:
    """Something in reach of a pickle that leaves a file when it is made, or restored."""

    def __new__(cls, path: str | None = None) -> "Runs":
        if path is not None:
            Path(path).touch()
        return super().__new__(cls)

    def __setstate__(self, path: str) -> None:
        Path(path).touch()


EXTENSION = 240


@pytest.fixture
def extension() -> Iterator[None]:
    copyreg.add_extension("os", "system", EXTENSION)
    yield
    copyreg.remove_extension("os", "system", EXTENSION)


def executing(sentinel: Path) -> dict[str, bytes]:
    """Pickle bodies that make a file under Python's own unpickler."""
    command = text(f'echo > "{sentinel}"')
    python = text(f"open({str(sentinel)!r}, 'w').close()")
    path = text(str(sentinel))
    system = name_of("os", "system")
    runs = name_of(__name__, "Runs")
    process = list_of(text(sys.executable), text("-S"), text("-c"), python)
    return {
        "GLOBAL and REDUCE": system + command + b"\x85R",
        "REDUCE of eval": name_of("builtins", "eval") + python + b"\x85R",
        "REDUCE of exec under Python 2's name": name_of("__builtin__", "exec") + python + b"\x85R",
        "REDUCE of a process": name_of("subprocess", "call") + process + b"\x85R",
        "inside a dictionary": dictionary({"a": system + command + b"\x85R"}),
        "as a key": b"}" + system + command + b"\x85R" + b"Ns",
        "STACK_GLOBAL": text("os") + text("system") + b"\x93" + command + b"\x85R",
        "INST": b"(" + command + b"ios\nsystem\n",
        "OBJ": b"(" + system + command + b"o",
        "NEWOBJ": runs + path + b"\x85\x81",
        "NEWOBJ_EX": runs + path + b"\x85" + b"}\x92",
        "BUILD by its __setstate__": runs + b")\x81" + path + b"b",
        "BUILD of an attribute __setstate__": (
            EMPTY_ORDERED + dictionary({"__setstate__": system}) + b"b" + command + b"b"
        ),
        "EXT1": b"\x82" + struct.pack("<B", EXTENSION) + command + b"\x85R",
        "EXT2": b"\x83" + struct.pack("<H", EXTENSION) + command + b"\x85R",
        "EXT4": b"\x84" + struct.pack("<i", EXTENSION) + command + b"\x85R",
    }


@pytest.mark.usefixtures("extension")
@pytest.mark.parametrize("payload", executing(Path()))
def test_a_command_in_the_pickle_does_not_run(payload: str, tmp_path: Path) -> None:
    sentinel = tmp_path / "ran"
    body = executing(sentinel)[payload]
    pickle.loads(pickled(body))  # noqa: S301 - the payload works: under pickle it does run
    assert sentinel.exists()
    sentinel.unlink()

    message = refusal(body)

    assert not sentinel.exists()
    assert "save model.state_dict() instead" in message


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("os", "system"),
        ("torch.nn.modules.container", "Sequential"),
        ("torch", "ComplexFloatStorage"),
        ("torch", "load"),
        ("collections", "Counter"),
        ("torch", "FloatStorage.__init__"),
        ("torch._utils", "_rebuild_parameter_with_state"),
    ],
)
def test_the_refusal_names_the_global_that_was_asked_for_and_the_remedy(
    module: str, name: str
) -> None:
    for asked in (name_of(module, name), text(module) + text(name) + b"\x93"):
        message = refusal(asked)
        assert f"asks for '{module}.{name}'" in message
        assert message.endswith("save model.state_dict() instead")


def test_a_global_of_another_name_is_not_taken_for_one_that_is_known() -> None:
    # Joined by a blank these would be "collections OrderedDict".
    assert "asks for" in refusal(text("collections OrderedDict") + text("") + b"\x93")
    assert "asks for" in refusal(text("") + text("collections OrderedDict") + b"\x93")
    assert "name of a global" in refusal(number(1) + text("OrderedDict") + b"\x93")


def test_a_long_name_of_unprintable_characters_leaves_room_for_the_remedy() -> None:
    assert refusal(b"cos\n" + b"\x01" * 1000 + b"\n").endswith("save model.state_dict() instead")


@pytest.mark.parametrize(("module", "name"), [("os", "system"), ("collections", "OrderedDict")])
def test_a_pickle_of_no_object_may_name_no_global(module: str, name: str) -> None:
    for asked in (name_of(module, name), text(module) + text(name) + b"\x93"):
        with pytest.raises(ModelError, match=f"asks for '{module}.{name}'"):
            unpickle(io.BytesIO(pickled(asked)))


def test_a_pickle_of_no_object_may_refer_to_no_storage() -> None:
    with pytest.raises(ModelError, match="BINPERSID"):
        unpickle(io.BytesIO(pickled(tuple_of(text("storage"), text("0")) + b"Q")))


CHANGES = {
    "shape": dictionary({"shape": number(10**6) + b"\x85"}),
    "offset": dictionary({"offset": number(-(10**6))}),
    "by setattr": tuple_of(b"N", dictionary({"shape": number(10**6) + b"\x85"})),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_tensor_cannot_be_rewritten_after_it_was_checked(change: bytes) -> None:
    # Behind an ordinary unpickler BUILD would set the attributes and the view would read
    # memory that is not its storage's.
    assert "BUILD" in refusal(dictionary({"a": tensor() + change + b"b"}))
    assert "BUILD" in refusal(storage() + change + b"b")


def test_a_class_of_the_reader_cannot_be_rewritten_for_the_pickles_after() -> None:
    change = tuple_of(b"N", dictionary({"dtype": text("u1")})) + b"b"
    assert "BUILD" in refusal(FLOATS + change)
    assert "BUILD" in refusal(ORDERED + change)
    assert read(dictionary({"a": tensor()})) == {"a": FOUR}


@pytest.mark.parametrize("target", [b"}", b"]", b")", b"N", number(1), text("a")])
def test_build_is_for_ordered_dictionaries_only(target: bytes) -> None:
    assert "BUILD" in refusal(target + b"}b")


# Cheap to write, dear to interpret


def test_an_absurd_memo_index_takes_no_memory() -> None:
    # Python's own unpickler would make room for every index below.
    body = dictionary({}) + b"r" + struct.pack("<I", 2**24)
    assert peak_memory(lambda: read(body)) < LITTLE_MEMORY


@pytest.mark.parametrize(
    "head",
    [
        b"X" + struct.pack("<I", 2**31),
        b"\x8d" + struct.pack("<Q", 2**40),
        b"T" + struct.pack("<i", 2**30),
        b"\x8b" + struct.pack("<i", 2**30),
        b"B" + struct.pack("<I", 2**31),
        b"\x8e" + struct.pack("<Q", 2**40),
        b"\x96" + struct.pack("<Q", 2**40),
    ],
)
def test_a_text_that_claims_to_be_gigabytes_takes_no_memory(head: bytes, tmp_path: Path) -> None:
    # A file, because reading from one makes room for all that is asked for.
    path = tmp_path / "pickle"
    path.write_bytes(pickled(head + b"abc"))

    def attempt() -> None:
        with path.open("rb") as stream, pytest.raises(ModelError, match="texts of at most"):
            unpickle(stream, {})

    assert peak_memory(attempt) < LITTLE_MEMORY


def test_a_line_without_an_end_takes_little_memory() -> None:
    stream = io.BytesIO(b"\x80\x02c" + b"a" * (8 * 2**20))

    def attempt() -> None:
        with pytest.raises(ValueError, match="newline"):
            unpickle(stream, {})

    assert peak_memory(attempt) < 4 * LITTLE_MEMORY


def test_a_pickle_of_more_than_16_mebibytes_is_refused() -> None:
    texts = list_of(*[text("a" * 2**20)] * 17)
    assert f"at most {16 * 2**20} bytes" in refusal(texts)


@pytest.mark.parametrize("part", [b"N", b"]", b"(", b"}\x94", b"]\x94", EMPTY_ORDERED, b"))\x86"])
def test_very_many_instructions_are_refused_and_none_takes_much_memory(
    part: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit = 10_000  # of half a million: the refusal itself, and what one instruction may take
    monkeypatch.setattr(pickles, "MAX_INSTRUCTIONS", limit)
    assert read(dictionary({"a": list_of(*[b"N"] * (limit - 10))})) == {}
    assert "absurdly long" in refusal(part * limit)
    assert peak_memory(lambda: refusal(part * limit)) < limit * 200


def test_half_a_million_instructions_are_the_limit() -> None:
    assert "absurdly long" in refusal(b"N" * 500_000)


def test_a_list_is_not_copied_again_and_again_for_three_instructions() -> None:
    pairs = list_of(*(tuple_of(number(k), b"N") for k in range(1_000)))
    again = ORDERED + b"q\x01" + pairs + b"\x85q\x02R" + b"h\x01h\x02R" * 10_000
    assert "absurdly long" in refusal(again)


def test_numbers_become_text_because_their_hashes_can_be_made_the_same() -> None:
    # Python's hash of a whole number is its remainder by this prime.
    keys = [k * (2**61 - 1) for k in range(1, 20_001)]
    body = b"}(" + b"".join(number(key) + b"N" for key in keys) + b"u"
    held = unpickle(io.BytesIO(pickled(body)), {})
    assert list(held) == list(map(str, keys))


NESTED = {
    "deep": b")" + b"\x85" * 20_000,
    "doubling": b")" + b"q\x00h\x00\x86" * 64,  # its hash and its text would take for ever
    "lists": b"](" * 5_000 + b"e" * 5_000,
    "dictionaries": (b"}" + text("a")) * 5_000 + b"}" + b"s" * 5_000,
}


@pytest.mark.parametrize("nested", NESTED.values(), ids=NESTED)
@pytest.mark.parametrize(
    "place", ["object", "key", "storage", "storage key", "shape", "hooks", "pairs", "parameter"]
)
def test_nesting_without_end_is_refused_wherever_it_counts(nested: bytes, place: str) -> None:
    key = tuple_of(text("storage"), FLOATS, nested, b"N", number(4), b"N")
    one = number(1) + b"\x85"
    body = {
        "object": list_of(nested),
        "key": b"}(" + nested + number(1) + b"u",
        "storage": tensor(nested),
        "storage key": key + b"Q",
        "shape": REBUILD + tuple_of(storage(), number(0), nested, one, b"\x89", b"N") + b"R",
        "hooks": REBUILD + tuple_of(storage(), number(0), one, one, b"\x89", b"N", nested) + b"R",
        "pairs": ORDERED + list_of(nested) + b"\x85R",
        "parameter": name_of("torch._utils", "_rebuild_parameter") + nested + b"NN\x87R",
    }
    refusal(body[place])


def test_a_key_whose_hash_would_overflow_the_stack_is_refused() -> None:
    nested = b")" + b"\x85" * 200_000
    assert "keys" in refusal(b"}" + nested + b"Ns")
    facts = (text("storage"), FLOATS, nested, b"N", number(4), b"N")
    assert "plain storage" in refusal(tuple_of(*facts) + b"Q")


@pytest.mark.parametrize("nested", NESTED.values(), ids=NESTED)
def test_nesting_without_end_is_skipped_where_it_does_not_count(nested: bytes) -> None:
    assert read(dictionary({"skipped": list_of(nested), "a": tensor()})) == {"a": FOUR}


# What a tensor may say of itself

BAD_TENSORS: list[tuple[dict[str, Any], str]] = [
    ({"offset": 1}, "does not fit"),
    ({"shape": (5,)}, "does not fit"),
    ({"shape": (2, 2), "stride": (3, 1)}, "does not fit"),
    ({"shape": (5,), "stride": (0,)}, "does not fit"),
    ({"shape": (2**60,)}, "does not fit"),
    ({"shape": (2**60,), "stride": (0,)}, "does not fit"),
    ({"shape": (2,), "stride": (2**60,)}, "does not fit"),
    ({"shape": (2**31, 2**31, 2**31), "stride": (0, 0, 0)}, "does not fit"),
    ({"shape": (), "stride": (), "offset": 4}, "does not fit"),
    ({"offset": 2**200}, "does not fit"),
    ({"offset": -1}, "unknown way"),
    ({"shape": (-4,)}, "unknown way"),
    ({"stride": (-1,)}, "unknown way"),
    ({"stride": (1, 1)}, "unknown way"),
    ({"shape": (1,) * 9, "stride": (1,) * 9}, "unknown way"),
    ({"stored": storage(size=-1)}, "type and size"),
    ({"stored": number(4)}, "unknown way"),
]


@pytest.mark.parametrize(("described", "words"), BAD_TENSORS)
def test_a_tensor_that_its_storage_cannot_hold_is_refused(
    described: dict[str, Any], words: str
) -> None:
    body = dictionary({"a": tensor(**described)})
    assert words in refusal(body)
    assert peak_memory(lambda: refusal(body)) < LITTLE_MEMORY


@pytest.mark.parametrize(
    ("offset", "shape", "stride"),
    [(0, (10, 0), (1, 1)), (4, (0,), (1,)), (0, (0, 10), (1, 9)), (9, (0,), (1,))],
)
def test_a_tensor_of_no_elements_fits_anywhere(
    offset: int, shape: tuple[int, ...], stride: tuple[int, ...]
) -> None:
    view = read(dictionary({"a": tensor(storage(), offset, shape, stride)}))["a"]
    assert (view.span, view.nbytes) == (0, 0)
    assert view.array(np.empty(0, np.uint8)).shape == shape


def test_the_stride_of_a_single_element_does_not_count() -> None:
    view = read(dictionary({"a": tensor(storage(), 3, (1, 1), (2**100, 7))}))["a"]
    assert view.array(np.float32([5]).view(np.uint8)).tolist() == [[5]]


BAD_BODIES = [
    (text("a") + text("b") + number(1) + b"s", "dictionary"),
    (dictionary({}) + number(1) + b"a", "list"),
    (FLOATS + b")R", "unknown way"),
    (FLOATS + number(1) + b"R", "unknown way"),
    (number(1) + b")R", "unknown way"),
    (dictionary({}) + b")R", "unknown way"),
    (ORDERED + list_of() + b"R", "unknown way"),
    (ORDERED + tuple_of(list_of(list_of())) + b"R", "items"),
    (ORDERED + tuple_of(list_of(text("ab"))) + b"R", "items"),
    (ORDERED + tuple_of(number(1)) + b"R", "items"),
    (ORDERED + tuple_of(list_of(tuple_of(b"N", b"N"))) + b"R", "keys"),
    (REBUILD + b")R", "unknown way"),
    (name_of("torch._utils", "_rebuild_tensor") + b")R", "unknown way"),
    (name_of("torch._utils", "_rebuild_parameter") + tuple_of(b"N", b"N", b"N") + b"R", "unknown"),
    (b"}(" + b"N" + number(1) + b"u", "keys"),
    (b"}(" + b"G" + struct.pack(">d", 0.5) + number(1) + b"u", "keys"),
    (b"}(" + b")" + number(1) + b"u", "keys"),
    (b"0", "POP"),
    (b"P0\n", "PERSID"),
]


@pytest.mark.parametrize(("body", "words"), BAD_BODIES)
def test_what_no_checkpoint_says_is_refused(body: bytes, words: str) -> None:
    assert words in refusal(body)


def test_a_negated_or_conjugated_tensor_is_refused() -> None:
    one = number(1) + b"\x85"
    facts = (storage(), number(0), one, one, b"\x89", EMPTY_ORDERED)
    plain = REBUILD + tuple_of(*facts, b"}") + b"R"
    assert read(dictionary({"a": plain}))["a"].shape == (1,)
    negated = REBUILD + tuple_of(*facts, dictionary({"neg": b"\x88"})) + b"R"
    assert "negated" in refusal(dictionary({"a": negated}))


STORAGES: dict[str, tuple[bytes, ...]] = {
    "not a storage": (text("module"), FLOATS, text("0"), b"N", b"K\x04", b"N"),
    "text for a type": (text("storage"), text("FloatStorage"), text("0"), b"N", b"K\x04", b"N"),
    "no type": (text("storage"), ORDERED, text("0"), b"N", b"K\x04", b"N"),
    "a view": (text("storage"), FLOATS, text("0"), b"N", b"K\x04", b")"),
    "the part of a view": (
        *(text("storage"), FLOATS, text("0"), b"N", b"K\x04"),
        tuple_of(text("1"), number(0), number(2)),
    ),
    "a number for a key": (text("storage"), FLOATS, b"K\x00", b"N", b"K\x04", b"N"),
    "no size": (text("storage"), FLOATS, text("0"), b"N", b"N", b"N"),
    "too few facts": (text("storage"), FLOATS, text("0"), b"N"),
    "too many facts": (text("storage"), FLOATS, text("0"), b"N", b"K\x04", b"N", b"N"),
}


@pytest.mark.parametrize("facts", STORAGES.values(), ids=STORAGES)
def test_a_storage_of_another_kind_is_refused(facts: tuple[bytes, ...]) -> None:
    assert "storage" in refusal(tuple_of(*facts) + b"Q")
    assert "storage" in refusal(list_of(*facts) + b"Q")


def test_a_storage_described_in_two_ways_is_refused() -> None:
    for other in (storage("0", "Byte", 16), storage("0", "Float", 5), storage("0", "Int", 4)):
        body = dictionary({"a": tensor(), "b": tensor(other)})
        assert "two ways" in refusal(body)


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
def test_the_elements_of_every_type_are_those_that_their_bytes_stand_for(kind: str) -> None:
    size = struct.calcsize(TYPES[kind])
    view = read(dictionary({"a": tensor(storage("0", kind, 3), 0, (3,), (1,))}))["a"]
    array = view.array(np.frombuffer(RAW[: 3 * size], np.uint8).copy())
    assert array.tolist() == list(struct.unpack(f"<3{TYPES[kind]}", RAW[: 3 * size]))
    assert array.dtype == view.storage.dtype == np.dtype(TYPES[kind])


def test_bfloat16_is_widened_to_the_float32_of_the_same_value() -> None:
    view = read(dictionary({"a": tensor(storage("0", "BFloat16", 4))}))["a"]
    # One sign, eight exponent, seven fraction bits: 1, −2.5, the largest, the smallest.
    raw = np.array([0x3F80, 0xC020, 0x7F7F, 0x0001], "<u2").view(np.uint8)
    array = view.array(raw)
    assert array.dtype == view.storage.dtype == np.float32
    assert array.tolist() == [1.0, -2.5, (2 - 2**-7) * 2.0**127, 2.0**-133]
    assert view.nbytes == 8


def test_a_byte_other_than_0_is_true() -> None:
    view = read(dictionary({"a": tensor(storage("0", "Bool", 4))}))["a"]
    array = view.array(np.uint8([0, 1, 2, 255]))
    assert array.dtype == view.storage.dtype == np.bool_
    assert array.view(np.uint8).tolist() == [0, 1, 1, 1]


@st.composite
def views(draw: st.DrawFn) -> tuple[int, tuple[int, ...], tuple[int, ...]]:
    """An offset, a shape and strides, overlapping or with gaps or neither."""
    shape = draw(st.lists(st.integers(0, 4), max_size=4).map(tuple))
    return draw(st.integers(0, 5)), shape, draw(st.tuples(*(st.integers(0, 30) for _ in shape)))


@given(views(), st.sampled_from(["Half", "BFloat16", "Byte", "Bool", "Double"]))
@settings(max_examples=100, deadline=None)
def test_a_view_holds_the_elements_that_its_strides_say(
    described: tuple[int, tuple[int, ...], tuple[int, ...]], kind: str
) -> None:
    offset, shape, stride = described
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


# Damage


def everything() -> bytes:
    """What a checkpoint's pickle looks like, with most of what the reader knows."""
    state = dictionary({"_metadata": EMPTY_ORDERED})
    weights = EMPTY_ORDERED + b"(" + text("W") + b"q\x05" + tensor() + b"u" + state + b"b"
    optimizer = b"}(" + number(0) + dictionary({"W": tensor(), "rate": b"N"}) + b"u"
    short = b"\x8c\x01a\x94" + ORDERED + list_of(tuple_of(b"h\x05", number(1))) + b"\x85Rs"
    return pickled(dictionary({"model": weights, "optimizer": optimizer}) + short)


def outcome(data: bytes) -> dict[str, View] | Exception:
    """The tensors, or whatever ordinary error; MemoryError and RecursionError are none."""
    try:
        return find_tensors(unpickle(io.BytesIO(data), {}))
    except (MemoryError, RecursionError):
        raise
    except Exception as error:
        return error


def is_sound(result: dict[str, View] | Exception) -> bool:
    """Whether nothing leads out of a storage, or the refusal is one line."""
    if isinstance(result, ModelError):
        return str(result).isprintable() and len(str(result)) < 300
    if isinstance(result, Exception):
        return True
    return all(
        view.span == 0 or 0 <= view.offset <= view.storage.size - view.span
        for view in result.values()
    )


def test_a_pickle_cut_short_anywhere_is_refused() -> None:
    data = everything()
    assert sorted(read(data[2:-1])) == ["model.W", "optimizer.0.W"]
    for length in range(len(data)):
        assert isinstance(outcome(data[:length]), Exception)


@given(st.lists(st.integers(0, 8 * len(everything()) - 1), min_size=1, max_size=4))
@settings(max_examples=300, deadline=None)
def test_flipped_bits_give_sound_tensors_or_an_error(bits: list[int]) -> None:
    data = bytearray(everything())
    for bit in bits:
        data[bit // 8] ^= 1 << bit % 8
    assert is_sound(outcome(bytes(data)))


INSTRUCTIONS = [
    *(b"(", b")", b"]", b"}", b"N", b"Q", b"R", b"a", b"b", b"e", b"s", b"t", b"u", b"\x85"),
    *(b"\x86", b"\x87", b"\x88", b"\x93", b"\x94", b"h\x00", b"h\x01", b"q\x00", b"q\x01"),
    *(text("a"), text("0"), number(0), number(4), number(-1), ORDERED, REBUILD, FLOATS),
    *(name_of("torch._utils", "_rebuild_parameter"), storage(), tensor()),
]


@given(st.lists(st.sampled_from(INSTRUCTIONS), max_size=30))
@settings(max_examples=300, deadline=None)
def test_instructions_in_any_order_give_sound_tensors_or_an_error(parts: list[bytes]) -> None:
    assert is_sound(outcome(pickled(b"".join(parts))))


@given(st.binary(max_size=200))
@settings(max_examples=200, deadline=None)
def test_random_bytes_give_an_error(data: bytes) -> None:
    assert is_sound(outcome(data))
