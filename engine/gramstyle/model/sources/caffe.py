"""Caffe models: a protobuf message that contains the layers' names and blobs.

The field numbers are those of Caffe's caffe.proto. The reader skips all other fields, and opening
a file reads no weights. The file is not mapped into memory, because truncating a mapped file ends
the process that reads it.
"""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import chain, count
from math import prod
from pathlib import Path

import numpy as np

from gramstyle.core.arrays import Array
from gramstyle.errors import ModelError
from gramstyle.model.messages import quoted
from gramstyle.model.sources.bounded import read_into
from gramstyle.model.sources.protobuf import (
    BYTES,
    FIXED32,
    FIXED64,
    HEAD,
    VARINT,
    Field,
    Message,
    varint,
)
from gramstyle.model.sources.tensors import StoredTensor, Tensors

# Fields of NetParameter: the layers in the first format (V1LayerParameter) and in the second
# (LayerParameter), each with the fields of a layer's name and blobs.
LAYERS = {2: (4, 6), 100: (1, 7)}
# Fields of BlobProto: the shape in the old form, the values, the shape in the new form.
EDGES = (1, 2, 3, 4)  # num, channels, height, width
DATA, SHAPE, DOUBLE_DATA = 5, 7, 8
DIM = 1  # field of BlobShape

MAX_LAYERS, MAX_DIMENSIONS, MAX_NAME = 10_000, 8, 200
MAX_EDGE = 2**31 - 1


@dataclass(frozen=True)
class _Blob:
    """A blob's shape and type, and the fields that hold its values."""

    shape: tuple[int, ...]
    dtype: np.dtype[np.float32] | np.dtype[np.float64]
    pieces: tuple[Field, ...]


@contextmanager
def open_caffe(path: Path) -> Iterator[Tensors]:
    """Open a .caffemodel; yield its layers' blobs as NAME.weight, NAME.bias, NAME.2 and so on.

    Raises
    ------
    ModelError
        If it is not a protobuf message, has too many layers or fields, contains a layer twice, or
        the size of a blob differs from its shape, or a layer is a batch normalisation, whose place
        in the network is not in its blobs.
    """
    with path.open("rb") as stream:
        yield message_tensors(stream)


def message_tensors(stream: io.BufferedIOBase) -> dict[str, StoredTensor]:
    """Return the tensors of an open file without reading their values."""
    message = Message(stream)
    tensors: dict[str, StoredTensor] = {}
    layers = 0
    for layer in message.fields(0, message.size):
        if layer.number not in LAYERS or layer.encoding != BYTES:
            continue
        layers += 1
        if layers > MAX_LAYERS:
            raise ModelError(f"expected at most {MAX_LAYERS} layers, found more")
        name, blobs = _layer(message, layer)
        # Layers without blobs may share a name: one for training, one for testing.
        for part, blob in zip(chain(("weight", "bias"), count(2)), blobs, strict=False):
            if f"{name}.{part}" in tensors:
                raise ModelError(f"expected one layer named {quoted(name)}, found two")
            tensors[f"{name}.{part}"] = StoredTensor(
                blob.shape, blob.dtype, partial(_load, message, blob)
            )
        if len(blobs) == 3 and blobs[2].shape == (1,) and blobs[0].shape == blobs[1].shape:
            raise ModelError(
                f"expected no batch normalisation in Caffe models, found the layer {quoted(name)}; "
                "convert the network to ONNX"
            )
    return tensors


def _layer(message: Message, layer: Field) -> tuple[str, list[_Blob]]:
    name_number, blobs_number = LAYERS[layer.number]
    name, blobs = "", []
    for field in message.fields(layer.start, layer.end):
        if field.number == name_number and field.encoding == BYTES:
            if field.end - field.start > MAX_NAME:
                raise ModelError(f"expected a layer's name, found {field.end - field.start} bytes")
            name = message.read(field.start, field.end).decode()
        elif field.number == blobs_number and field.encoding == BYTES:
            blobs.append(field)
    return name, [_blob(message, blob, name) for blob in blobs]


def _blob(message: Message, blob: Field, name: str) -> _Blob:
    old: dict[int, int] = {}
    new: tuple[int, ...] | None = None
    # The values are in one field, or, by an older rule, in a field each.
    encodings = {DATA: (BYTES, FIXED32), DOUBLE_DATA: (BYTES, FIXED64)}
    pieces: dict[int, list[Field]] = {DATA: [], DOUBLE_DATA: []}
    for field in message.fields(blob.start, blob.end):
        if field.number in EDGES and field.encoding == VARINT:
            old[field.number] = field.value
        elif field.number == SHAPE and field.encoding == BYTES:
            new = (new or ()) + _shape(message, field)
        elif field.encoding in encodings.get(field.number, ()):
            pieces[field.number].append(field)
    if pieces[DATA] and pieces[DOUBLE_DATA]:
        raise ModelError(f"expected single or double values of layer {quoted(name)}, found both")
    dtype = np.dtype("<f8") if pieces[DOUBLE_DATA] else np.dtype("<f4")
    found = tuple(pieces[DOUBLE_DATA] or pieces[DATA])
    four = tuple(old.get(edge, 0) for edge in EDGES)
    shape = _without_ones(four) if new is None else new
    if old and new is not None and (1,) * (4 - len(new)) + new != four:
        raise ModelError(f"expected one shape of layer {quoted(name)}, found {four} and {new}")
    sizes = [_size(field, dtype.itemsize) for field in found]
    if (
        not all(0 <= edge <= MAX_EDGE for edge in shape)
        or any(size % dtype.itemsize for size in sizes)
        or prod(shape) * dtype.itemsize != sum(sizes)
    ):
        raise ModelError(
            f"expected {shape} values in layer {quoted(name)}, found {sum(sizes)} bytes"
        )
    return _Blob(shape, dtype, found)


def _shape(message: Message, field: Field) -> tuple[int, ...]:
    dims: list[int] = []
    for dim in message.fields(field.start, field.end):
        if dim.number == DIM and dim.encoding == VARINT:
            dims.append(dim.value)
        elif dim.number == DIM and dim.encoding == BYTES:
            packed = message.read(dim.start, min(dim.end, dim.start + HEAD * MAX_DIMENSIONS))
            at = 0
            while at < len(packed):
                value, at = varint(packed, at)
                dims.append(value)
        if len(dims) > MAX_DIMENSIONS:
            raise ModelError(f"expected at most {MAX_DIMENSIONS} dimensions, found more")
    return tuple(dims)


def _without_ones(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return an old shape, which always has four numbers, as a vector's or matrix's shape."""
    N, C, H, V = shape
    if (N, C, H) == (1, 1, 1):
        return (V,)
    return (H, V) if (N, C) == (1, 1) else shape


def _size(field: Field, itemsize: int) -> int:
    """Return the number of bytes of the values in a field, or in joined fields."""
    size = field.end - field.start
    return size if field.encoding == BYTES else size // (field.tag + itemsize) * itemsize


def _load(message: Message, blob: _Blob) -> Array:
    values = np.empty(prod(blob.shape), blob.dtype)
    raw, at, itemsize = values.view(np.uint8), 0, values.itemsize
    for field in blob.pieces:
        target = raw[at : at + _size(field, itemsize)]
        at += target.size
        if field.encoding == BYTES:
            read_into(target, message.stream, field.start)
        else:
            records = np.empty(field.end - field.start, np.uint8)
            read_into(records, message.stream, field.start)
            target[:] = records.reshape(-1, field.tag + itemsize)[:, field.tag :].reshape(-1)
    return values.reshape(blob.shape)
