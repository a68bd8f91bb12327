"""The pickle in a torch checkpoint, written instruction by instruction.

Neither torch nor the reader is used to write one.
"""

import copyreg
import io
import pickle
import struct
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gramstyle.errors import ModelError
from gramstyle.model.sources import pickles
from gramstyle.model.sources.pickles import unpickle
from gramstyle.model.sources.torch_tensors import Storage, View, find_tensors
from hostile_files import LITTLE_MEMORY, POSITIONS, error_line, flipped, outcome, peak_memory
from pickle_writer import (
    dictionary,
    list_of,
    name_of,
    number,
    pickled,
    storage,
    tensor,
    text,
    tuple_of,
)

ORDERED = name_of("collections", "OrderedDict")
EMPTY_ORDERED = ORDERED + b")R"
REBUILD = name_of("torch._utils", "_rebuild_tensor_v2")
FLOATS = name_of("torch", "FloatStorage")
FOUR = View(Storage("0", np.dtype("f4"), np.dtype("f4"), 4), 0, (4,), (1,))


def read(body: bytes) -> dict[str, View]:
    return find_tensors(unpickle(io.BytesIO(pickled(body)), {}))


def refusal(body: bytes) -> str:
    message = error_line(lambda: read(body))
    assert len(message) < 300
    return message


# Instructions


def test_a_tensor_is_described_by_its_storage_offset_shape_and_strides() -> None:
    storages: dict[str, Storage] = {}
    body = dictionary({"a": tensor(storage("7", "Double", 40), 3, (2, 5), (11, 2))})
    tensors = find_tensors(unpickle(io.BytesIO(pickled(body)), storages))
    stored = Storage("7", np.dtype("f8"), np.dtype("f8"), 40)
    assert storages == {"7": stored}
    assert tensors == {"a": View(stored, 3, (2, 5), (11, 2))}


def test_the_stream_ends_up_right_behind_the_pickle() -> None:
    stream = io.BytesIO(pickled(number(1)) + pickled(number(2)) + b"elements")
    assert [unpickle(stream), unpickle(stream)] == [1, 2]
    assert stream.read() == b"elements"


def test_plain_values_are_read() -> None:
    values = [None, True, False, 0, 255, 65535, -1, 2**31 - 1, 2**40, 1.5, "é", (), (1,), (1, 2)]
    values += [(1, 2, 3), (1, 2, 3, 4), [], [1], ["a", ["b"]], {}, {"a": 1}, "x" * 300]
    for protocol in (2, 3, 4, 5):
        assert unpickle(io.BytesIO(pickle.dumps(values, protocol))) == values


def test_values_in_the_memo_are_found() -> None:
    # BINPUT q, BINGET h, LONG_BINPUT r, LONG_BINGET j, and the single s and a.
    body = (
        (b"}" + text("a") + b"q\x01" + tensor() + b"r\x00\x01\x00\x00" + b"s")
        + (text("b") + b"j\x00\x01\x00\x00" + b"s")
        + (text("c") + b"]" + b"h\x01" + b"as")
    )
    assert read(body) == {"a": FOUR, "b": FOUR}


def test_the_instructions_of_protocol_4_are_read() -> None:
    def short(string: str) -> bytes:
        return b"\x8c" + struct.pack("<B", len(string)) + string.encode()

    rebuild = short("torch._utils") + short("_rebuild_tensor_v2") + b"\x93\x94"
    kind = short("torch") + b"\x94" + short("FloatStorage") + b"\x93"
    stored = tuple_of(short("storage"), kind, short("0"), short("cpu"), b"K\x04", b"N") + b"Q"
    arguments = (stored, b"K\x00", b"K\x04\x85", b"K\x01\x85", b"\x89", EMPTY_ORDERED)
    body = b"}" + short("a") + rebuild + tuple_of(*arguments) + b"R\x94s" + short("b") + b"h\x02s"
    framed = b"\x80\x04\x95" + struct.pack("<Q", len(body) + 1) + body + b"."
    assert find_tensors(unpickle(io.BytesIO(framed), {})) == {"a": FOUR, "b": FOUR}


def test_the_strings_and_ordered_dictionaries_of_python_2_are_read() -> None:
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


def test_a_parameter_is_read_as_its_tensor() -> None:
    parameter = name_of("torch._utils", "_rebuild_parameter") + tensor() + b"\x88"
    assert read(dictionary({"a": parameter + EMPTY_ORDERED + b"\x87R"})) == {"a": FOUR}


def test_a_tensor_with_attributes_is_read_without_them() -> None:
    state = dictionary({"note": number(1)})
    facts = (storage(), number(0), tuple_of(number(4)), tuple_of(number(1)), b"\x89", EMPTY_ORDERED)
    with_state = name_of("torch._utils", "_rebuild_parameter_with_state")
    from_type = name_of("torch._tensor", "_rebuild_from_type_v2")
    typed = (REBUILD, name_of("torch", "Tensor"), tuple_of(*facts), state)
    items = {
        "parameter": with_state + tuple_of(tensor(), b"\x88", EMPTY_ORDERED, state) + b"R",
        "buffer": from_type + tuple_of(*typed) + b"R",
    }
    assert read(dictionary(items)) == {"parameter": FOUR, "buffer": FOUR}


@pytest.mark.parametrize("rebuild", [FLOATS, name_of("torch._tensor", "_rebuild_from_type_v2")])
def test_a_tensor_with_attributes_is_rebuilt_by_a_known_function(rebuild: bytes) -> None:
    from_type = name_of("torch._tensor", "_rebuild_from_type_v2")
    typed = tuple_of(rebuild, name_of("torch", "Tensor"), b")", b"N")
    assert "unknown function call" in refusal(from_type + typed + b"R")


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("torch._utils", "_rebuild_sparse_tensor"),
        ("torch._utils", "_rebuild_qtensor"),
        ("torch._utils", "_rebuild_tensor_v3"),
        ("torch", "ComplexFloatStorage"),
    ],
)
def test_tensors_of_other_kinds_are_refused_with_what_to_save(module: str, name: str) -> None:
    message = refusal(name_of(module, name) + b")R")
    assert f"imports '{module}.{name}'; save dense tensors in float32" in message
    assert "save model.state_dict() instead" in refusal(name_of("model", "VGG") + b")R")


def test_safe_values_besides_tensors_are_dropped() -> None:
    items = {
        "size": name_of("torch", "Size") + tuple_of(tuple_of(number(3))) + b"R",
        "device": name_of("torch", "device") + tuple_of(text("cpu")) + b"R",
        "counter": name_of("collections", "Counter") + tuple_of(b"}") + b"R",
        "dtype": name_of("torch", "bfloat16"),
        "a": tensor(),
    }
    assert read(dictionary(items)) == {"a": FOUR}


def test_a_storage_reference_has_five_items_in_an_archive_and_six_in_a_stream() -> None:
    stored = tuple_of(text("storage"), FLOATS, text("0"), text("cpu"), number(4)) + b"Q"
    assert read(dictionary({"a": tensor(stored), "b": tensor()})) == {"a": FOUR, "b": FOUR}


def test_attributes_of_an_ordered_dictionary_are_dropped() -> None:
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


@pytest.mark.parametrize("keys", [(text("a"), text("a")), (number(1), text("1"))])
def test_a_repeated_key_is_refused(keys: tuple[bytes, bytes]) -> None:
    assert "every key once" in refusal(b"}(" + keys[0] + tensor() + keys[1] + tensor() + b"u")


# Code execution


class Runs:
    """A class that makes a file when an instance is made or restored."""

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
    """Pickles that make a file when Python's own unpickler reads them."""
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
    pickle.loads(pickled(body))  # noqa: S301 - proves that the payload works
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
        ("torch", "load"),
        ("collections", "deque"),
        ("torch", "FloatStorage.__init__"),
    ],
)
def test_the_error_names_the_imported_global_and_the_remedy(module: str, name: str) -> None:
    for asked in (name_of(module, name), text(module) + text(name) + b"\x93"):
        message = refusal(asked)
        assert f"imports '{module}.{name}'" in message
        assert message.endswith("save model.state_dict() instead")


def test_spaces_in_names_do_not_imitate_an_allowed_global() -> None:
    # Joined by a space these would be "collections OrderedDict".
    assert "imports" in refusal(text("collections OrderedDict") + text("") + b"\x93")
    assert "imports" in refusal(text("") + text("collections OrderedDict") + b"\x93")
    assert "name of a global" in refusal(number(1) + text("OrderedDict") + b"\x93")


def test_a_long_unprintable_name_leaves_room_for_the_remedy() -> None:
    assert refusal(b"cos\n" + b"\x01" * 1000 + b"\n").endswith("save model.state_dict() instead")


@pytest.mark.parametrize(("module", "name"), [("os", "system"), ("collections", "OrderedDict")])
def test_without_storages_a_pickle_may_not_import_globals(module: str, name: str) -> None:
    for asked in (name_of(module, name), text(module) + text(name) + b"\x93"):
        with pytest.raises(ModelError, match=f"imports '{module}.{name}'"):
            unpickle(io.BytesIO(pickled(asked)))


def test_without_storages_a_pickle_may_not_refer_to_them() -> None:
    with pytest.raises(ModelError, match="BINPERSID"):
        unpickle(io.BytesIO(pickled(tuple_of(text("storage"), text("0")) + b"Q")))


CHANGES = {
    "shape": dictionary({"shape": number(10**6) + b"\x85"}),
    "offset": dictionary({"offset": number(-(10**6))}),
    "by setattr": tuple_of(b"N", dictionary({"shape": number(10**6) + b"\x85"})),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_tensor_cannot_be_changed_after_its_check(change: bytes) -> None:
    # In Python's unpickler BUILD would set the attributes, and the view would read memory beyond
    # its storage.
    assert "BUILD" in refusal(dictionary({"a": tensor() + change + b"b"}))
    assert "BUILD" in refusal(storage() + change + b"b")


def test_the_allowed_globals_cannot_be_changed() -> None:
    change = tuple_of(b"N", dictionary({"dtype": text("u1")})) + b"b"
    assert "BUILD" in refusal(FLOATS + change)
    assert "BUILD" in refusal(ORDERED + change)
    assert read(dictionary({"a": tensor()})) == {"a": FOUR}


@pytest.mark.parametrize("target", [b"}", b"]", b")", b"N", number(1), text("a")])
def test_only_ordered_dictionaries_may_have_attributes(target: bytes) -> None:
    assert "BUILD" in refusal(target + b"}b")


# Resource exhaustion


def test_a_large_memo_index_takes_no_memory() -> None:
    # Python's own unpickler would allocate all lower indices too.
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
def test_a_string_with_a_false_length_of_gigabytes_takes_no_memory(
    head: bytes, tmp_path: Path
) -> None:
    # A file, because reading from one allocates the requested size first.
    path = tmp_path / "pickle"
    path.write_bytes(pickled(head + b"abc"))

    def attempt() -> None:
        with path.open("rb") as stream, pytest.raises(ModelError, match="a pickle of at most"):
            unpickle(stream, {})

    assert peak_memory(attempt) < LITTLE_MEMORY


def test_an_endless_line_takes_little_memory() -> None:
    stream = io.BytesIO(b"\x80\x02c" + b"a" * (8 * 2**20))

    def attempt() -> None:
        with pytest.raises(ValueError, match="newline"):
            unpickle(stream, {})

    assert peak_memory(attempt) < 4 * LITTLE_MEMORY


def test_a_pickle_of_more_than_16_mebibytes_is_refused() -> None:
    texts = list_of(*[text("a" * 2**20)] * 17)
    assert f"at most {16 * 2**20} bytes" in refusal(texts)


@pytest.mark.parametrize("part", [b"N", b"]", b"(", b"}\x94", b"]\x94", EMPTY_ORDERED, b"))\x86"])
def test_too_many_instructions_are_refused_and_take_little_memory(
    part: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit = 10_000  # instead of half a million
    monkeypatch.setattr(pickles, "MAX_INSTRUCTIONS", limit)
    assert read(dictionary({"a": list_of(*[b"N"] * (limit - 10))})) == {}
    assert "a longer one" in refusal(part * limit)
    assert peak_memory(lambda: refusal(part * limit)) < limit * 200


def test_the_limit_is_half_a_million_instructions() -> None:
    assert "a longer one" in refusal(b"N" * 500_000)


def test_repeated_copies_of_a_list_count_as_work() -> None:
    pairs = list_of(*(tuple_of(number(k), b"N") for k in range(1_000)))
    again = ORDERED + b"q\x01" + pairs + b"\x85q\x02R" + b"h\x01h\x02R" * 10_000
    assert "a longer one" in refusal(again)


def test_integer_keys_with_colliding_hashes_become_strings() -> None:
    # Python's hash of an integer is its remainder by this prime.
    keys = [k * (2**61 - 1) for k in range(1, 20_001)]
    body = b"}(" + b"".join(number(key) + b"N" for key in keys) + b"u"
    read_back = unpickle(io.BytesIO(pickled(body)), {})
    assert list(read_back) == list(map(str, keys))


NESTED = {
    "deep": b")" + b"\x85" * 20_000,
    "doubling": b")" + b"q\x00h\x00\x86" * 64,  # hashing or printing it would take forever
    "lists": b"](" * 5_000 + b"e" * 5_000,
    "dictionaries": (b"}" + text("a")) * 5_000 + b"}" + b"s" * 5_000,
}


@pytest.mark.parametrize("nested", NESTED.values(), ids=NESTED)
@pytest.mark.parametrize(
    "place", ["object", "key", "storage", "storage key", "shape", "hooks", "pairs", "parameter"]
)
def test_deep_nesting_is_refused_where_it_is_used(nested: bytes, place: str) -> None:
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
def test_deep_nesting_is_ignored_where_it_is_not_used(nested: bytes) -> None:
    assert read(dictionary({"skipped": list_of(nested), "a": tensor()})) == {"a": FOUR}


INVALID_PICKLES = [
    (text("a") + text("b") + number(1) + b"s", "dictionary"),
    (dictionary({}) + number(1) + b"a", "list"),
    (FLOATS + b")R", "unknown"),
    (FLOATS + number(1) + b"R", "unknown"),
    (number(1) + b")R", "unknown"),
    (dictionary({}) + b")R", "unknown"),
    (ORDERED + list_of() + b"R", "unknown"),
    (ORDERED + tuple_of(list_of(list_of())) + b"R", "items"),
    (ORDERED + tuple_of(list_of(text("ab"))) + b"R", "items"),
    (ORDERED + tuple_of(number(1)) + b"R", "items"),
    (ORDERED + tuple_of(list_of(tuple_of(b"N", b"N"))) + b"R", "keys"),
    (REBUILD + b")R", "unknown"),
    (name_of("torch._utils", "_rebuild_tensor") + b")R", "unknown"),
    (name_of("torch._utils", "_rebuild_parameter") + tuple_of(b"N", b"N", b"N") + b"R", "unknown"),
    (b"}(" + b"N" + number(1) + b"u", "keys"),
    (b"}(" + b"G" + struct.pack(">d", 0.5) + number(1) + b"u", "keys"),
    (b"}(" + b")" + number(1) + b"u", "keys"),
    (b"0", "POP"),
    (b"P0\n", "PERSID"),
]


@pytest.mark.parametrize(("body", "words"), INVALID_PICKLES)
def test_pickles_that_checkpoints_do_not_contain_are_refused(body: bytes, words: str) -> None:
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


def test_two_different_descriptions_of_a_storage_are_refused() -> None:
    for other in (storage("0", "Byte", 16), storage("0", "Float", 5), storage("0", "Int", 4)):
        body = dictionary({"a": tensor(), "b": tensor(other)})
        assert "two that differ" in refusal(body)


# Damage


def everything() -> bytes:
    """A checkpoint's pickle with most of the instructions that the reader supports."""
    state = dictionary({"_metadata": EMPTY_ORDERED})
    weights = EMPTY_ORDERED + b"(" + text("W") + b"q\x05" + tensor() + b"u" + state + b"b"
    optimizer = b"}(" + number(0) + dictionary({"W": tensor(), "rate": b"N"}) + b"u"
    short = b"\x8c\x01a\x94" + ORDERED + list_of(tuple_of(b"h\x05", number(1))) + b"\x85Rs"
    return pickled(dictionary({"model": weights, "optimizer": optimizer}) + short)


def is_valid(data: bytes) -> bool:
    """Return whether reading gives views within their storages, or an error of one line."""
    result = outcome(lambda: find_tensors(unpickle(io.BytesIO(data), {})))
    if isinstance(result, Exception):
        return not isinstance(result, ModelError) or len(str(result)) < 300
    return all(
        view.span == 0 or 0 <= view.offset <= view.storage.size - view.span
        for view in result.values()
    )


def test_a_truncated_pickle_is_refused() -> None:
    data = everything()
    assert sorted(read(data[2:-1])) == ["model.W", "optimizer.0.W"]
    for length in range(len(data)):
        cut = io.BytesIO(data[:length])
        assert isinstance(outcome(lambda cut=cut: unpickle(cut, {})), Exception)


@given(POSITIONS)
@settings(max_examples=300)
def test_flipped_bits_give_valid_tensors_or_an_error(positions: list[float]) -> None:
    assert is_valid(flipped(everything(), positions))


INSTRUCTIONS = [
    *(b"(", b")", b"]", b"}", b"N", b"Q", b"R", b"a", b"b", b"e", b"s", b"t", b"u", b"\x85"),
    *(b"\x86", b"\x87", b"\x88", b"\x93", b"\x94", b"h\x00", b"h\x01", b"q\x00", b"q\x01"),
    *(text("a"), text("0"), number(0), number(4), number(-1), ORDERED, REBUILD, FLOATS),
    *(name_of("torch._utils", "_rebuild_parameter"), storage(), tensor()),
]


@given(st.lists(st.sampled_from(INSTRUCTIONS), max_size=30))
@settings(max_examples=300)
def test_random_instructions_give_valid_tensors_or_an_error(parts: list[bytes]) -> None:
    assert is_valid(pickled(b"".join(parts)))


@given(st.binary(max_size=200))
@settings(max_examples=200)
def test_random_bytes_give_an_error(data: bytes) -> None:
    assert is_valid(data)
