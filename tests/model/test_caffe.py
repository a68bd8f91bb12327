"""Caffe models, written by Google's protobuf with a schema that is built here."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError
from hypothesis import given, settings
from hypothesis import strategies as st

from gramstyle.core.arrays import Array
from gramstyle.errors import ModelError
from gramstyle.model.sources import protobuf
from gramstyle.model.sources.caffe import message_tensors, open_caffe
from hostile_files import (
    LITTLE_MEMORY,
    POSITIONS,
    RecordingStream,
    damaged,
    error_line,
    outcome,
    peak_memory,
)

FIELD = descriptor_pb2.FieldDescriptorProto
STRING, FLOAT, DOUBLE, INT32, INT64, MESSAGE = (
    FIELD.TYPE_STRING, FIELD.TYPE_FLOAT, FIELD.TYPE_DOUBLE, FIELD.TYPE_INT32, FIELD.TYPE_INT64,
    FIELD.TYPE_MESSAGE,
)  # fmt: skip

# Message: (field, number, type, repeated, message); numbers from Caffe's caffe.proto.
SCHEMA = {
    "BlobShape": [("dim", 1, INT64, True, "")],
    "BlobProto": [
        ("num", 1, INT32, False, ""),
        ("channels", 2, INT32, False, ""),
        ("height", 3, INT32, False, ""),
        ("width", 4, INT32, False, ""),
        ("data", 5, FLOAT, True, ""),
        ("diff", 6, FLOAT, True, ""),
        ("shape", 7, MESSAGE, False, "BlobShape"),
        ("double_data", 8, DOUBLE, True, ""),
    ],
    "V1LayerParameter": [
        ("bottom", 2, STRING, True, ""),
        ("name", 4, STRING, False, ""),
        ("type", 5, INT32, False, ""),
        ("blobs", 6, MESSAGE, True, "BlobProto"),
    ],
    "LayerParameter": [
        ("name", 1, STRING, False, ""),
        ("type", 2, STRING, False, ""),
        ("bottom", 3, STRING, True, ""),
        ("blobs", 7, MESSAGE, True, "BlobProto"),
    ],
    "NetParameter": [
        ("name", 1, STRING, False, ""),
        ("layers", 2, MESSAGE, True, "V1LayerParameter"),
        ("layer", 100, MESSAGE, True, "LayerParameter"),
    ],
}


def message_classes(*, packed: bool) -> dict[str, Any]:
    """Classes of protobuf for the schema, with repeated numbers packed or in a field each."""
    file = descriptor_pb2.FileDescriptorProto(name="caffe.proto", package="caffe", syntax="proto2")
    for message, fields in SCHEMA.items():
        described = file.message_type.add(name=message)
        for name, number, kind, repeated, of in fields:
            field = described.field.add(name=name, number=number, type=kind)
            field.label = FIELD.LABEL_REPEATED if repeated else FIELD.LABEL_OPTIONAL
            if of:
                field.type_name = f".caffe.{of}"
            elif repeated and kind != STRING:
                field.options.packed = packed
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"caffe.{name}"))
        for name in SCHEMA
    }


PACKED = message_classes(packed=True)

Fill = Callable[[Any, Array], None]


def with_shape(blob: Any, values: Array) -> None:
    blob.shape.dim.extend(values.shape)
    blob.data.extend(values.ravel().tolist())


def with_four_numbers(blob: Any, values: Array) -> None:
    dims = (1,) * (4 - values.ndim) + values.shape
    blob.num, blob.channels, blob.height, blob.width = dims
    blob.data.extend(values.ravel().tolist())


@pytest.fixture
def layers(rng: np.random.Generator) -> dict[str, tuple[Array, Array]]:
    return {
        "conv1_1": (
            rng.standard_normal((4, 3, 3, 3)).astype(np.float32),
            rng.standard_normal(4).astype(np.float32),
        ),
        "fc6": (
            rng.standard_normal((5, 7)).astype(np.float32),
            rng.standard_normal(5).astype(np.float32),
        ),
    }


def network(
    layers: dict[str, tuple[Array, ...]],
    *,
    old: bool = False,
    fill: Fill = with_shape,
    classes: dict[str, Any] = PACKED,
) -> Any:
    net = classes["NetParameter"](name="VGG")
    for name, blobs in layers.items():
        for layer, arrays in ((name, blobs), (f"relu_{name}", ())):
            added = (net.layers if old else net.layer).add(name=layer)
            added.bottom.append("data")
            for array in arrays:
                fill(added.blobs.add(), array)
    return net


def read(path: Path) -> dict[str, Array]:
    with open_caffe(path) as tensors:
        return {name: tensor.load() for name, tensor in tensors.items()}


def check(path: Path, layers: dict[str, tuple[Array, Array]]) -> None:
    with open_caffe(path) as tensors:
        assert set(tensors) == {f"{name}.{part}" for name in layers for part in ("weight", "bias")}
        for name, (W, b) in layers.items():
            for part, expected in (("weight", W), ("bias", b)):
                tensor = tensors[f"{name}.{part}"]
                assert (tensor.shape, tensor.dtype) == (expected.shape, expected.dtype)
                np.testing.assert_array_equal(tensor.load(), expected)


@pytest.mark.parametrize("old", [True, False])
@pytest.mark.parametrize("fill", [with_shape, with_four_numbers])
@pytest.mark.parametrize("packed", [True, False])
def test_both_formats_are_read_in_every_encoding(
    old: bool, fill: Fill, packed: bool, layers: dict[str, tuple[Array, Array]], tmp_path: Path
) -> None:
    net = network(layers, old=old, fill=fill, classes=message_classes(packed=packed))
    (tmp_path / "m.caffemodel").write_bytes(net.SerializeToString())
    check(tmp_path / "m.caffemodel", layers)


def test_doubles_are_read(layers: dict[str, tuple[Array, Array]], tmp_path: Path) -> None:
    def fill(blob: Any, values: Array) -> None:
        blob.shape.dim.extend(values.shape)
        blob.double_data.extend(values.ravel().tolist())

    doubles = {k: (W.astype(np.float64), b.astype(np.float64)) for k, (W, b) in layers.items()}
    path = tmp_path / "m.caffemodel"
    path.write_bytes(network(doubles, fill=fill).SerializeToString())
    check(path, doubles)


def test_other_fields_of_a_trained_model_are_ignored(
    layers: dict[str, tuple[Array, Array]], tmp_path: Path
) -> None:
    def fill(blob: Any, values: Array) -> None:
        with_shape(blob, values)
        blob.diff.extend([1.0] * values.size)

    data = network(layers, fill=fill).SerializeToString()
    # Fields of every encoding that are not in the schema.
    unknown = (
        b"\xc0\x0c\x96\x01" + b"\xc1\x0c" + bytes(8) + b"\xc5\x0c" + bytes(4) + b"\xc2\x0c\x03abc"
    )
    (tmp_path / "m.caffemodel").write_bytes(unknown + data + unknown)
    check(tmp_path / "m.caffemodel", layers)


def test_further_blobs_are_named_by_their_number(tmp_path: Path) -> None:
    net = network({"bn": tuple(np.float32([k, k]) for k in range(4)), "scale": (np.ones(1, "f4"),)})
    (tmp_path / "m.caffemodel").write_bytes(net.SerializeToString())
    found = {name: array.tolist() for name, array in read(tmp_path / "m.caffemodel").items()}
    assert found == {
        "bn.weight": [0, 0],
        "bn.bias": [1, 1],
        "bn.2": [2, 2],
        "bn.3": [3, 3],
        "scale.weight": [1],
    }


def test_layers_without_blobs_may_share_a_name(tmp_path: Path) -> None:
    # For example, input layers for training and for testing.
    net = network({"a": (np.ones(1, np.float32),)})
    for _ in range(2):
        net.layer.add(name="data")
    net.layer.add(name="a")
    (tmp_path / "m.caffemodel").write_bytes(net.SerializeToString())
    assert list(read(tmp_path / "m.caffemodel")) == ["a.weight"]


@pytest.mark.parametrize("shape", [(2, 3, 1, 1), (2, 3), (6,)])
def test_a_shape_may_be_in_both_forms(shape: tuple[int, ...], tmp_path: Path) -> None:
    def fill(blob: Any, values: Array) -> None:
        with_four_numbers(blob, values)
        blob.shape.dim.extend(values.shape)

    values = np.arange(6, dtype=np.float32).reshape(shape)
    net = network({"a": (values,)}, fill=fill)
    (tmp_path / "m.caffemodel").write_bytes(net.SerializeToString())
    np.testing.assert_array_equal(read(tmp_path / "m.caffemodel")["a.weight"], values)


def test_scalar_and_empty_blobs_are_read(tmp_path: Path) -> None:
    net = PACKED["NetParameter"]()
    layer = net.layer.add(name="a")
    layer.blobs.add().data.append(3)
    layer.blobs[0].shape.SetInParent()
    layer.blobs.add()
    (tmp_path / "m.caffemodel").write_bytes(net.SerializeToString())
    found = read(tmp_path / "m.caffemodel")
    assert (found["a.weight"].shape, found["a.weight"].tolist()) == ((), 3)
    assert found["a.bias"].size == 0


def varint(value: int) -> bytes:
    rest, low = value >> 7, value & 0x7F
    return bytes([low | 0x80]) + varint(rest) if rest else bytes([low])


def field(number: int, data: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(data)) + data


def one_blob(blob: bytes) -> bytes:
    return field(100, field(1, b"a") + field(7, blob))


def values_as(pieces: list[tuple[str, int]], number: int, dtype: str) -> bytes:
    """0, 1, 2 … in several fields: packed, in a field each, or with another field between."""
    alone, between = (5, b"\xa0\x01\x01") if dtype == "<f4" else (1, b"\x9a\x06\x01x")
    blob, at = b"", 0
    for form, size in pieces:
        raw = np.arange(at, at + size, dtype=dtype)
        at += size
        if form == "packed":
            blob += field(number, raw.tobytes())
        else:
            # A tag may be longer than necessary.
            tag = varint(number << 3 | alone)
            long = tag[:-1] + bytes([tag[-1] | 0x80]) + b"\x80\x00"
            head = long if form == "long tags" else tag
            blob += b"".join(head + value.tobytes() for value in raw)
        blob += between if form == "interrupted" else b""
    return blob


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["packed", "single", "interrupted", "long tags"]), st.integers(0, 70)
        ),
        max_size=5,
    ),
    st.sampled_from([(5, "<f4"), (8, "<f8")]),
)
@settings(max_examples=60)
def test_values_may_be_spread_over_many_fields(
    tmp_path_factory: pytest.TempPathFactory,
    pieces: list[tuple[str, int]],
    kind: tuple[int, str],
) -> None:
    size = sum(count for _, count in pieces)
    data = one_blob(values_as(pieces, *kind) + field(7, field(1, varint(size))))
    path = tmp_path_factory.getbasetemp() / "pieces.caffemodel"
    path.write_bytes(data)
    found = read(path)["a.weight"].tolist()
    blob = PACKED["NetParameter"].FromString(data).layer[0].blobs[0]
    assert found == list(range(size)) == [*blob.data, *blob.double_data]


def test_values_end_with_their_blob(tmp_path: Path) -> None:
    # The next field of the layer looks like another value.
    value = b"\x2d" + bytes(4)
    blob = field(7, field(1, b"\x02")) + 2 * value
    layer = field(1, b"a") + field(7, blob) + value
    (tmp_path / "m.caffemodel").write_bytes(field(100, layer))
    assert read(tmp_path / "m.caffemodel")["a.weight"].tolist() == [0, 0]


def test_a_shape_in_two_fields_is_joined(tmp_path: Path) -> None:
    data = one_blob(field(7, field(1, b"\x02")) + field(5, bytes(24)) + field(7, b"\x08\x03"))
    (tmp_path / "m.caffemodel").write_bytes(data)
    blob = PACKED["NetParameter"].FromString(data).layer[0].blobs[0]
    found = read(tmp_path / "m.caffemodel")["a.weight"]
    assert found.shape == tuple(blob.shape.dim) == (2, 3)


def test_a_million_one_value_fields_take_little_memory_to_open(tmp_path: Path) -> None:
    size = 2**20
    records = np.zeros((size, 5), np.uint8)
    records[:, 0] = 5 << 3 | 5
    records[:, 1:] = np.arange(size, dtype="<f4").view(np.uint8).reshape(-1, 4)
    path = tmp_path / "m.caffemodel"
    path.write_bytes(one_blob(field(7, field(1, varint(size))) + records.tobytes()))

    def attempt() -> None:
        with open_caffe(path) as tensors:
            assert tensors["a.weight"].shape == (size,)

    assert peak_memory(attempt) < LITTLE_MEMORY
    np.testing.assert_array_equal(read(path)["a.weight"], np.arange(size))


@pytest.mark.parametrize("old", [True, False])
def test_opening_reads_no_weights_and_loading_reads_one_blob(old: bool) -> None:
    layers = {"fc6": (np.ones((200, 300), np.float32), np.full(300, 2, np.float32))}
    data = network(layers, old=old, fill=with_four_numbers if old else with_shape)
    recording = RecordingStream(data.SerializeToString())

    tensors = message_tensors(recording)

    assert tensors["fc6.weight"].shape == (200, 300)
    assert sum(size for _, size in recording.reads) < 1000
    recording.reads.clear()
    tensors["fc6.bias"].load()
    start = recording.getvalue().index(layers["fc6"][1].tobytes())
    assert recording.reads == [(start, 4 * 300)]


def test_opening_a_file_of_gigabytes_takes_no_memory(tmp_path: Path) -> None:
    # Zeros, which most file systems do not store.
    size = 2**29
    head = field(7, field(1, varint(size))) + varint(5 << 3 | 2) + varint(4 * size)
    blob = varint(7 << 3 | 2) + varint(len(head) + 4 * size) + head
    layer = field(1, b"a") + blob
    path = tmp_path / "m.caffemodel"
    with path.open("wb") as file:
        file.write(varint(100 << 3 | 2) + varint(len(layer) + 4 * size) + layer)
        file.truncate(file.tell() + 4 * size)

    def attempt() -> None:
        with open_caffe(path) as tensors:
            assert tensors["a.weight"].shape == (size,)

    assert peak_memory(attempt) < LITTLE_MEMORY


@pytest.mark.parametrize("packed", [True, False])
def test_a_file_that_shrinks_while_it_is_open_is_refused(packed: bool, tmp_path: Path) -> None:
    # If the file were mapped into memory, this would end the process.
    path = tmp_path / "m.caffemodel"
    layers = {"a": (np.zeros(2**16, np.float32),)}
    path.write_bytes(network(layers, classes=message_classes(packed=packed)).SerializeToString())
    with open_caffe(path) as tensors:
        with path.open("r+b") as file:
            file.truncate(2**16)
        with pytest.raises(ModelError, match="cut short"):
            tensors["a.weight"].load()


def test_the_file_is_closed_afterwards(tmp_path: Path) -> None:
    path = tmp_path / "m.caffemodel"
    path.write_bytes(network({"a": (np.ones(3, np.float32),)}).SerializeToString())
    with open_caffe(path) as tensors:
        first, second = tensors["a.weight"].load(), tensors["a.weight"].load()
        first[:] = 0
        assert second.tolist() == [1, 1, 1]
    with pytest.raises(ValueError, match="closed"):
        tensors["a.weight"].load()


# Errors


def refusal(path: Path) -> str:
    messages: list[str] = []
    assert peak_memory(lambda: messages.append(error_line(lambda: read(path)))) < LITTLE_MEMORY
    return messages[0]


def shaped(*dims: int) -> Fill:
    def fill(blob: Any, values: Array) -> None:
        blob.shape.dim.extend(dims)
        blob.data.extend(values.ravel().tolist())

    return fill


def four_numbers(*dims: int) -> Fill:
    def fill(blob: Any, values: Array) -> None:
        blob.num, blob.channels, blob.height, blob.width = dims
        blob.data.extend(values.ravel().tolist())

    return fill


def both(old: tuple[int, int, int, int], new: tuple[int, ...]) -> Fill:
    def fill(blob: Any, values: Array) -> None:
        four_numbers(*old)(blob, values)
        blob.shape.dim.extend(new)

    return fill


@pytest.mark.parametrize(
    ("fill", "words"),
    [
        (shaped(4, 3, 3, 4), "expected (4, 3, 3, 4) values in layer 'a'"),
        (shaped(-4, -3, 3, 3), "values in layer"),
        (shaped(2**31, 2**31), "values in layer"),
        (shaped(2**40, 0), "values in layer"),
        (both((4, 3, 3, 3), (27, 4)), "found (4, 3, 3, 3) and (27, 4)"),
        (both((1, 108, 1, 1), (108,)), "found (1, 108, 1, 1) and (108,)"),
        (both((0, 0, 0, 108), (108,)), "expected one shape of layer 'a'"),
        (shaped(0), "values in layer"),
        (shaped(*(1,) * 9), "expected at most 8 dimensions"),
        (four_numbers(4, 3, 3, -3), "values in layer"),
        (four_numbers(2**31 - 1, 2**31 - 1, 2**31 - 1, 2**31 - 1), "values in layer"),
        (lambda blob, values: with_shape(blob, values[:1]), "values in layer"),
    ],
)
def test_a_blob_whose_size_differs_from_its_shape_is_refused(
    fill: Fill, words: str, tmp_path: Path
) -> None:
    def changed(blob: Any, values: Array) -> None:
        fill(blob, values)
        if len(blob.data) < values.size:
            blob.shape.dim[0] = len(values)

    net = network({"a": (np.ones((4, 3, 3, 3), np.float32),)}, fill=changed)
    (tmp_path / "m.caffemodel").write_bytes(net.SerializeToString())
    assert words in refusal(tmp_path / "m.caffemodel")


@pytest.mark.parametrize(
    ("blob", "words"),
    [
        # No values, but impossible edges.
        (field(7, field(1, varint(2**40) + b"\0")), "values in layer"),
        (field(7, field(1, varint(2**64 - 4) + b"\0")), "values in layer"),
        (b"\x08" + varint(2**64 - 4), "values in layer"),
        # Halves of values; single values in the encoding of doubles, and vice versa.
        (field(7, b"\x08\x03") + field(5, bytes(6)) + field(5, bytes(6)), "values in layer"),
        (field(7, b"\x08\x02") + b"\x29" + bytes(8), "found 0 bytes"),
        (field(7, b"\x08\x01") + b"\x45" + bytes(4) + b"\x45" + bytes(4), "found 0 bytes"),
        (field(7, b"\x08\x01") + field(5, bytes(4)) + field(8, bytes(8)), "found both"),
        (field(7, field(1, varint(2**70))), "longer one"),
        (field(7, field(1, b"\x80")), "ends within a number"),
        (field(7, field(1, b"\x01" * 9)), "at most 8 dimensions"),
        (field(7, field(1, b"\x01" * 10**6)), "at most 8 dimensions"),
        (field(7, b"\x08\x01" * 9), "at most 8 dimensions"),
        (field(7, b"\x08\x01\x0b"), "encoding 3"),
    ],
)
def test_a_contradictory_blob_is_refused(blob: bytes, words: str, tmp_path: Path) -> None:
    (tmp_path / "m.caffemodel").write_bytes(one_blob(blob))
    assert words in refusal(tmp_path / "m.caffemodel")


def test_a_name_that_is_not_text_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "m.caffemodel").write_bytes(field(100, field(1, b"conv\xff")))
    with pytest.raises(UnicodeDecodeError):
        read(tmp_path / "m.caffemodel")


def test_terminal_codes_in_a_name_are_not_printed(tmp_path: Path) -> None:
    layer = field(1, b"red\x1b[31m") + field(7, field(5, bytes(4)))
    (tmp_path / "m.caffemodel").write_bytes(field(100, layer))
    assert r"'red\x1b[31m'" in refusal(tmp_path / "m.caffemodel")


def test_two_layers_with_one_name_are_refused(tmp_path: Path) -> None:
    net = network({"a": (np.ones((1, 1), np.float32),)})
    net.layer.add().CopyFrom(net.layer[0])
    (tmp_path / "m.caffemodel").write_bytes(net.SerializeToString())
    assert "expected one layer named 'a', found two" in refusal(tmp_path / "m.caffemodel")


def test_a_long_name_is_refused(tmp_path: Path) -> None:
    net = network({"a" * 5000: (np.ones((1, 1), np.float32),)})
    (tmp_path / "m.caffemodel").write_bytes(net.SerializeToString())
    assert "expected a layer's name, found 5000 bytes" in refusal(tmp_path / "m.caffemodel")


def test_too_many_layers_are_refused(tmp_path: Path) -> None:
    (tmp_path / "m.caffemodel").write_bytes(b"\xa2\x06\x00" * 10_001)
    assert "expected at most 10000 layers" in refusal(tmp_path / "m.caffemodel")


@pytest.mark.parametrize(
    "data",
    [
        b"\x18\x00" * 1001,
        one_blob(b"\x18\x00" * 1001),
        field(100, b"\x3a\x00" * 1001),
        one_blob((b"\x2d" + bytes(4) + b"\x28\x00") * 501),
    ],
    ids=["in the network", "in a blob", "blobs", "values"],
)
def test_too_many_fields_are_refused(
    data: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Each takes two bytes in the file, and a hundred times as much to remember.
    monkeypatch.setattr(protobuf, "MAX_FIELDS", 1000)
    (tmp_path / "m.caffemodel").write_bytes(data)
    assert "expected at most 1000 fields" in refusal(tmp_path / "m.caffemodel")


def test_a_network_of_a_million_fields_is_refused(tmp_path: Path) -> None:
    (tmp_path / "m.caffemodel").write_bytes(b"\x18\x00" * 10**6)
    with pytest.raises(ModelError, match="expected at most 100000 fields"):
        read(tmp_path / "m.caffemodel")


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"\xa2\x06", "ends within a number"),
        (b"\xa2\x06\x05\x0a\x01a", "ends before its last field"),
        (b"\xa2\x06\x03\x0a\x05a", "ends before its last field"),  # beyond its layer
        (b"\xa2\x06\xff\xff\xff\xff\xff\xff\xff\xff\x7f", "ends before its last field"),
        (b"\x80" * 11 + b"\x01", "at most ten bytes"),
        (b"\x03", "found encoding 3"),
        (b"\x04", "found encoding 4"),
        (b"\x06", "found encoding 6"),
        (b"\x02\x00", "is not a message"),  # field 0
        (varint(2**32 | 2) + b"\0", "is not a message"),  # field 2**29
        (one_blob(b"\x2d" + bytes(3)), "ends before its last field"),
        (one_blob(b"\x2d" + bytes(4) + b"\x2d" + bytes(3)), "ends before its last field"),
        (b"\xa1\x06\x00", "ends before its last field"),  # eight bytes announced, one there
    ],
)
def test_a_file_that_is_not_a_message_is_refused(data: bytes, words: str, tmp_path: Path) -> None:
    (tmp_path / "m.caffemodel").write_bytes(data)
    assert words in refusal(tmp_path / "m.caffemodel")


def blobs_of(net: Any) -> dict[str, Any]:
    """The blobs that protobuf has read, with the names of the reader."""
    return {
        f"{layer.name}.{part}": blob
        for layer in (*net.layers, *net.layer)
        for part, blob in zip(("weight", "bias", 2, 3, 4), layer.blobs, strict=False)
    }


@given(
    POSITIONS,
    st.booleans(),
    st.booleans(),
    st.sampled_from([with_shape, with_four_numbers]),
)
@settings(max_examples=400)
def test_a_damaged_file_is_read_as_protobuf_reads_it_or_gives_an_exception(
    tmp_path_factory: pytest.TempPathFactory,
    positions: list[float],
    cut: bool,
    old: bool,
    fill: Fill,
) -> None:
    layers = {"a": (np.ones((2, 1, 3, 3), np.float32), np.ones(2, np.float32))}
    data = damaged(network(layers, old=old, fill=fill).SerializeToString(), positions, cut)
    path = tmp_path_factory.getbasetemp() / "flipped.caffemodel"
    path.write_bytes(data)
    found = outcome(lambda: read(path))
    if isinstance(found, Exception):
        return
    assert sum(array.nbytes for array in found.values()) <= len(data)
    try:
        blobs = blobs_of(PACKED["NetParameter"].FromString(bytes(data)))
    except DecodeError:
        return  # the damage is in fields that the reader skips
    for name, array in found.items():
        blob = blobs[name]
        expected = np.array([*blob.data, *blob.double_data], array.dtype)
        np.testing.assert_array_equal(array.ravel(), expected)
        if blob.HasField("shape"):
            assert array.shape == tuple(blob.shape.dim)
        else:
            four = (1,) * (4 - array.ndim) + array.shape
            assert four == (blob.num, blob.channels, blob.height, blob.width)
