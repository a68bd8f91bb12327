"""Caffe's models as protobuf itself writes them, and what is refused of them.

The messages are written by Google's protobuf with a schema that is built here; the reader knows
nothing of either.
"""

import io
import tracemalloc
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
from gramstyle.model.sources import caffe
from gramstyle.model.sources.caffe import open_caffe

# A refusal looks at a few bytes; what a file announces would be gigabytes.
LITTLE_MEMORY = 2**20

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
    """protobuf's classes for the schema, repeated numbers packed or one field each."""
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
def test_layers_of_both_formats_are_read_whatever_the_way_of_writing(
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


def test_what_a_trained_model_holds_besides_is_left_alone(
    layers: dict[str, tuple[Array, Array]], tmp_path: Path
) -> None:
    def fill(blob: Any, values: Array) -> None:
        with_shape(blob, values)
        blob.diff.extend([1.0] * values.size)

    data = network(layers, fill=fill).SerializeToString()
    # Fields of every encoding that the schema does not have: 200 as a number, 8, 4 and 3 bytes.
    unknown = (
        b"\xc0\x0c\x96\x01" + b"\xc1\x0c" + bytes(8) + b"\xc5\x0c" + bytes(4) + b"\xc2\x0c\x03abc"
    )
    (tmp_path / "m.caffemodel").write_bytes(unknown + data + unknown)
    check(tmp_path / "m.caffemodel", layers)


def test_further_blobs_are_given_by_their_number(tmp_path: Path) -> None:
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
    # One that feeds images for training and one for testing, say.
    net = network({"a": (np.ones(1, np.float32),)})
    for _ in range(2):
        net.layer.add(name="data")
    net.layer.add(name="a")
    (tmp_path / "m.caffemodel").write_bytes(net.SerializeToString())
    assert list(read(tmp_path / "m.caffemodel")) == ["a.weight"]


@pytest.mark.parametrize("shape", [(2, 3, 1, 1), (2, 3), (6,)])
def test_a_shape_may_be_given_both_ways(shape: tuple[int, ...], tmp_path: Path) -> None:
    def fill(blob: Any, values: Array) -> None:
        with_four_numbers(blob, values)
        blob.shape.dim.extend(values.shape)

    values = np.arange(6, dtype=np.float32).reshape(shape)
    net = network({"a": (values,)}, fill=fill)
    (tmp_path / "m.caffemodel").write_bytes(net.SerializeToString())
    np.testing.assert_array_equal(read(tmp_path / "m.caffemodel")["a.weight"], values)


def test_a_number_and_no_number_at_all_are_blobs(tmp_path: Path) -> None:
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
    """0, 1, 2 … in pieces: packed, in a field each, or with an odd one between."""
    alone, between = (5, b"\xa0\x01\x01") if dtype == "<f4" else (1, b"\x9a\x06\x01x")
    blob, at = b"", 0
    for form, size in pieces:
        raw = np.arange(at, at + size, dtype=dtype)
        at += size
        if form == "packed":
            blob += field(number, raw.tobytes())
        else:
            # A tag may be written longer than it need be.
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
@settings(max_examples=60, deadline=None)
def test_values_are_gathered_from_however_many_fields(
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


def test_values_end_where_their_blob_ends(tmp_path: Path) -> None:
    # What follows in the layer looks like one more.
    value = b"\x2d" + bytes(4)
    blob = field(7, field(1, b"\x02")) + 2 * value
    layer = field(1, b"a") + field(7, blob) + value
    (tmp_path / "m.caffemodel").write_bytes(field(100, layer))
    assert read(tmp_path / "m.caffemodel")["a.weight"].tolist() == [0, 0]


def test_a_shape_in_two_parts_is_one(tmp_path: Path) -> None:
    data = one_blob(field(7, field(1, b"\x02")) + field(5, bytes(24)) + field(7, b"\x08\x03"))
    (tmp_path / "m.caffemodel").write_bytes(data)
    blob = PACKED["NetParameter"].FromString(data).layer[0].blobs[0]
    found = read(tmp_path / "m.caffemodel")["a.weight"]
    assert found.shape == tuple(blob.shape.dim) == (2, 3)


def test_a_million_values_in_a_field_each_take_little_memory_to_open(tmp_path: Path) -> None:
    size = 2**20
    records = np.zeros((size, 5), np.uint8)
    records[:, 0] = 5 << 3 | 5
    records[:, 1:] = np.arange(size, dtype="<f4").view(np.uint8).reshape(-1, 4)
    path = tmp_path / "m.caffemodel"
    path.write_bytes(one_blob(field(7, field(1, varint(size))) + records.tobytes()))
    tracemalloc.start()
    try:
        with open_caffe(path) as tensors:
            assert tracemalloc.get_traced_memory()[1] < LITTLE_MEMORY
            np.testing.assert_array_equal(tensors["a.weight"].load(), np.arange(size))
    finally:
        tracemalloc.stop()


class Watched(io.BytesIO):
    """A stream that notes which bytes are read."""

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self.places: list[tuple[int, int]] = []

    def read(self, size: int | None = -1, /) -> bytes:
        start, data = self.tell(), super().read(size)
        self.places.append((start, len(data)))
        return data

    def readinto(self, buffer: memoryview, /) -> int:  # type: ignore[override]
        self.places.append((self.tell(), len(buffer)))
        return super().readinto(buffer)


@pytest.mark.parametrize("old", [True, False])
def test_opening_reads_no_weights_and_loading_reads_one_blob(old: bool) -> None:
    layers = {"fc6": (np.ones((200, 300), np.float32), np.full(300, 2, np.float32))}
    data = network(layers, old=old, fill=with_four_numbers if old else with_shape)
    watched = Watched(data.SerializeToString())

    tensors = caffe._tensors(caffe._Message(watched))

    assert tensors["fc6.weight"].shape == (200, 300)
    assert sum(size for _, size in watched.places) < 1000
    watched.places.clear()
    tensors["fc6.bias"].load()
    start = watched.getvalue().index(layers["fc6"][1].tobytes())
    assert watched.places == [(start, 4 * 300)]


def test_opening_a_file_of_gigabytes_takes_no_memory(tmp_path: Path) -> None:
    # Never written either: a file of zeros costs nothing on most disks.
    size = 2**29
    head = field(7, field(1, varint(size))) + varint(5 << 3 | 2) + varint(4 * size)
    blob = varint(7 << 3 | 2) + varint(len(head) + 4 * size) + head
    layer = field(1, b"a") + blob
    path = tmp_path / "m.caffemodel"
    with path.open("wb") as file:
        file.write(varint(100 << 3 | 2) + varint(len(layer) + 4 * size) + layer)
        file.truncate(file.tell() + 4 * size)
    tracemalloc.start()
    try:
        with open_caffe(path) as tensors:
            assert tensors["a.weight"].shape == (size,)
        assert tracemalloc.get_traced_memory()[1] < LITTLE_MEMORY
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("packed", [True, False])
def test_a_file_that_shrinks_while_it_is_open_is_refused(packed: bool, tmp_path: Path) -> None:
    # Mapped into memory it would end the process.
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


# What is refused


def refusal(path: Path) -> str:
    tracemalloc.start()
    try:
        with pytest.raises(ModelError) as caught:
            read(path)
        assert tracemalloc.get_traced_memory()[1] < LITTLE_MEMORY
    finally:
        tracemalloc.stop()
    assert str(caught.value).isprintable()
    return str(caught.value)


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
        (shaped(4, 3, 3, 4), "expected the (4, 3, 3, 4) values that layer 'a' announces"),
        (shaped(-4, -3, 3, 3), "announces"),
        (shaped(2**31, 2**31), "announces"),
        (shaped(2**40, 0), "announces"),
        (both((4, 3, 3, 3), (27, 4)), "found (4, 3, 3, 3) and (27, 4)"),
        (both((1, 108, 1, 1), (108,)), "found (1, 108, 1, 1) and (108,)"),
        (both((0, 0, 0, 108), (108,)), "expected one shape of layer 'a'"),
        (shaped(0), "announces"),
        (shaped(*(1,) * 9), "expected at most 8 dimensions"),
        (four_numbers(4, 3, 3, -3), "announces"),
        (four_numbers(2**31 - 1, 2**31 - 1, 2**31 - 1, 2**31 - 1), "announces"),
        (lambda blob, values: with_shape(blob, values[:1]), "announces"),
    ],
)
def test_a_blob_without_the_values_of_its_shape_is_refused(
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
        # No values, but edges that nobody has.
        (field(7, field(1, varint(2**40) + b"\0")), "announces"),
        (field(7, field(1, varint(2**64 - 4) + b"\0")), "announces"),
        (b"\x08" + varint(2**64 - 4), "announces"),
        # Halves of values; singles that are doubles by their encoding, and the other way round.
        (field(7, b"\x08\x03") + field(5, bytes(6)) + field(5, bytes(6)), "announces"),
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
def test_a_blob_that_contradicts_itself_is_refused(blob: bytes, words: str, tmp_path: Path) -> None:
    (tmp_path / "m.caffemodel").write_bytes(one_blob(blob))
    assert words in refusal(tmp_path / "m.caffemodel")


def test_a_name_that_is_no_text_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "m.caffemodel").write_bytes(field(100, field(1, b"conv\xff")))
    with pytest.raises(UnicodeDecodeError):
        read(tmp_path / "m.caffemodel")


def test_a_name_with_terminal_codes_is_shown_without(tmp_path: Path) -> None:
    layer = field(1, b"red\x1b[31m") + field(7, field(5, bytes(4)))
    (tmp_path / "m.caffemodel").write_bytes(field(100, layer))
    assert r"'red\x1b[31m'" in refusal(tmp_path / "m.caffemodel")


def test_two_layers_of_one_name_are_refused(tmp_path: Path) -> None:
    net = network({"a": (np.ones((1, 1), np.float32),)})
    net.layer.add().CopyFrom(net.layer[0])
    (tmp_path / "m.caffemodel").write_bytes(net.SerializeToString())
    assert "expected one layer called 'a', found two" in refusal(tmp_path / "m.caffemodel")


def test_a_name_of_kilobytes_is_refused(tmp_path: Path) -> None:
    net = network({"a" * 5000: (np.ones((1, 1), np.float32),)})
    (tmp_path / "m.caffemodel").write_bytes(net.SerializeToString())
    assert "expected a layer's name, found 5000 bytes" in refusal(tmp_path / "m.caffemodel")


def test_very_many_layers_are_refused(tmp_path: Path) -> None:
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
def test_very_many_fields_are_refused(
    data: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Each takes two bytes in the file, and a hundred times as much to remember.
    monkeypatch.setattr(caffe, "MAX_FIELDS", 1000)
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
        (b"\xa2\x06\x05\x0a\x01a", "ends before what it holds"),
        (b"\xa2\x06\x03\x0a\x05a", "ends before what it holds"),  # beyond its layer
        (b"\xa2\x06\xff\xff\xff\xff\xff\xff\xff\xff\x7f", "ends before what it holds"),
        (b"\x80" * 11 + b"\x01", "at most ten bytes"),
        (b"\x03", "found encoding 3"),
        (b"\x04", "found encoding 4"),
        (b"\x06", "found encoding 6"),
        (b"\x02\x00", "is none"),  # field 0
        (varint(2**32 | 2) + b"\0", "is none"),  # field 2**29
        (one_blob(b"\x2d" + bytes(3)), "ends before what it holds"),
        (one_blob(b"\x2d" + bytes(4) + b"\x2d" + bytes(3)), "ends before what it holds"),
        (b"\xa1\x06\x00", "ends before what it holds"),  # eight bytes announced, one there
    ],
)
def test_what_is_no_message_is_refused(data: bytes, words: str, tmp_path: Path) -> None:
    (tmp_path / "m.caffemodel").write_bytes(data)
    assert words in refusal(tmp_path / "m.caffemodel")


def blobs_of(net: Any) -> dict[str, Any]:
    """What protobuf has read, by the names that the reader gives."""
    return {
        f"{layer.name}.{part}": blob
        for layer in (*net.layers, *net.layer)
        for part, blob in zip(("weight", "bias", 2, 3, 4), layer.blobs, strict=False)
    }


@given(
    st.lists(st.floats(0, 1, exclude_max=True), min_size=1, max_size=4),
    st.booleans(),
    st.booleans(),
    st.sampled_from([with_shape, with_four_numbers]),
)
@settings(max_examples=400, deadline=None)
def test_flipped_bits_and_cuts_give_what_protobuf_reads_or_an_ordinary_error(
    tmp_path_factory: pytest.TempPathFactory,
    places: list[float],
    cut: bool,
    old: bool,
    fill: Fill,
) -> None:
    layers = {"a": (np.ones((2, 1, 3, 3), np.float32), np.ones(2, np.float32))}
    data = bytearray(network(layers, old=old, fill=fill).SerializeToString())
    for place in places:
        bit = int(place * 8 * len(data))
        data[bit // 8] ^= 1 << bit % 8
    if cut:
        del data[int(places[0] * len(data)) :]
    path = tmp_path_factory.getbasetemp() / "flipped.caffemodel"
    path.write_bytes(data)
    try:
        found = read(path)
    except (MemoryError, RecursionError):
        raise
    except Exception:
        return  # the caller makes one line of it
    assert sum(array.nbytes for array in found.values()) <= len(data)
    try:
        blobs = blobs_of(PACKED["NetParameter"].FromString(bytes(data)))
    except DecodeError:
        return  # what is stepped over is damaged
    for name, array in found.items():
        blob = blobs[name]
        expected = np.array([*blob.data, *blob.double_data], array.dtype)
        np.testing.assert_array_equal(array.ravel(), expected)
        if blob.HasField("shape"):
            assert array.shape == tuple(blob.shape.dim)
        else:
            four = (1,) * (4 - array.ndim) + array.shape
            assert four == (blob.num, blob.channels, blob.height, blob.width)
