"""Caffe's models as protobuf itself writes them, and what is refused of them.

The messages are written by Google's protobuf with a schema that is built here; the reader knows
nothing of either.
"""

import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from hypothesis import given, settings
from hypothesis import strategies as st

from gramstyle.arrays import Array
from gramstyle.errors import ModelError
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

    extra = {name: (W, b, np.ones(3, np.float32)) for name, (W, b) in layers.items()}
    data = network(extra, fill=fill).SerializeToString()
    # Fields of every encoding that the schema does not have: 200 as a number, 8, 4 and 3 bytes.
    unknown = (
        b"\xc0\x0c\x96\x01" + b"\xc1\x0c" + bytes(8) + b"\xc5\x0c" + bytes(4) + b"\xc2\x0c\x03abc"
    )
    (tmp_path / "m.caffemodel").write_bytes(unknown + data + unknown)
    check(tmp_path / "m.caffemodel", layers)


def test_opening_reads_no_weights(tmp_path: Path) -> None:
    large = {"fc6": (np.zeros((2000, 2000), np.float32), np.zeros(2000, np.float32))}
    (tmp_path / "m.caffemodel").write_bytes(network(large).SerializeToString())
    tracemalloc.start()
    try:
        with open_caffe(tmp_path / "m.caffemodel") as tensors:
            assert tensors["fc6.weight"].shape == (2000, 2000)
        assert tracemalloc.get_traced_memory()[1] < LITTLE_MEMORY
    finally:
        tracemalloc.stop()


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


@pytest.mark.parametrize(
    ("fill", "words"),
    [
        (shaped(4, 3, 3, 4), "expected the (4, 3, 3, 4) values that layer 'a' announces"),
        (shaped(-4, -3, 3, 3), "announces"),
        (shaped(2**31, 2**31), "announces"),
        (shaped(2**40, 0), "announces"),
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
        (b"\xa1\x06\x00", "ends before what it holds"),  # eight bytes announced, one there
    ],
)
def test_what_is_no_message_is_refused(data: bytes, words: str, tmp_path: Path) -> None:
    (tmp_path / "m.caffemodel").write_bytes(data)
    assert words in refusal(tmp_path / "m.caffemodel")


@given(st.lists(st.floats(0, 1, exclude_max=True), min_size=1, max_size=4), st.booleans())
@settings(max_examples=300, deadline=None)
def test_flipped_bits_and_cuts_give_arrays_or_an_ordinary_error(
    tmp_path_factory: pytest.TempPathFactory, places: list[float], cut: bool
) -> None:
    net = network({"a": (np.ones((2, 1, 3, 3), np.float32), np.ones(2, np.float32))})
    data = bytearray(net.SerializeToString())
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
