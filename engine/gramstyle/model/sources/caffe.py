"""Caffe's models: a protobuf message, of which the layers' names and blobs are read.

The fields' numbers are those of Caffe's caffe.proto; what is not needed is stepped over, so that
opening a file reads none of its weights. The file is not mapped into memory: a mapped file that
another program cuts short ends the process.
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
from gramstyle.model.sources.pickles import shown
from gramstyle.model.sources.tensors import StoredTensor, Tensors

# NetParameter: layers of the first format (V1LayerParameter) and of the second (LayerParameter),
# and in each the layer's name and blobs.
LAYERS = {2: (4, 6), 100: (1, 7)}
# BlobProto: the old way to give a shape, the values, the new way.
EDGES = (1, 2, 3, 4)  # num, channels, height, width
DATA, SHAPE, DOUBLE_DATA = 5, 7, 8
DIM = 1  # of BlobShape

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
MAX_NUMBER = 2**29 - 1  # of a field
# A field's tag and what follows it take two numbers of at most ten bytes.
HEAD = 20
# Fields of one value each are looked through so many at a time.
MAX_STEP = 2**14

# VGG-19 has a few hundred fields.
MAX_LAYERS, MAX_FIELDS, MAX_DIMENSIONS, MAX_NAME = 10_000, 100_000, 8, 200
MAX_EDGE = 2**31 - 1


@dataclass(frozen=True)
class _Field:
    """A field of a message: its number, how it is encoded, its value or where that lies.

    Neighbours of a fixed size and with the same tag, `tag` bytes each, are one field.
    """

    number: int
    encoding: int
    value: int
    start: int
    end: int
    tag: int


@dataclass(frozen=True)
class _Blob:
    """A blob's shape and type, and the fields in which its values lie."""

    shape: tuple[int, ...]
    dtype: np.dtype[np.float32] | np.dtype[np.float64]
    pieces: tuple[_Field, ...]


@contextmanager
def open_caffe(path: Path) -> Iterator[Tensors]:
    """Open a .caffemodel and give its layers' blobs as NAME.weight, NAME.bias, NAME.2 and so on.

    Raises
    ------
    ModelError
        If it is no protobuf message, has very many layers or fields, names a layer twice, or a
        blob has not as many values as its shape says.
    """
    with path.open("rb") as stream:
        yield _tensors(_Message(stream))


def _tensors(message: "_Message") -> dict[str, StoredTensor]:
    tensors: dict[str, StoredTensor] = {}
    layers = 0
    for layer in message.fields(0, message.size):
        if layer.number not in LAYERS or layer.encoding != BYTES:
            continue
        layers += 1
        if layers > MAX_LAYERS:
            raise ModelError(f"expected at most {MAX_LAYERS} layers, found more")
        name, blobs = _layer(message, layer)
        # Layers that keep nothing may share a name: one for training, one for testing.
        for part, blob in zip(chain(("weight", "bias"), count(2)), blobs, strict=False):
            if f"{name}.{part}" in tensors:
                raise ModelError(f"expected one layer called {shown(name)}, found two")
            tensors[f"{name}.{part}"] = StoredTensor(
                blob.shape, blob.dtype, partial(_load, message, blob)
            )
    return tensors


def _layer(message: "_Message", layer: _Field) -> tuple[str, list[_Blob]]:
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


def _blob(message: "_Message", blob: _Field, name: str) -> _Blob:
    old: dict[int, int] = {}
    new: tuple[int, ...] | None = None
    # Values lie side by side in one field, or, by an older rule, in a field each.
    encodings = {DATA: (BYTES, FIXED32), DOUBLE_DATA: (BYTES, FIXED64)}
    pieces: dict[int, list[_Field]] = {DATA: [], DOUBLE_DATA: []}
    for field in message.fields(blob.start, blob.end):
        if field.number in EDGES and field.encoding == VARINT:
            old[field.number] = field.value
        elif field.number == SHAPE and field.encoding == BYTES:
            new = (new or ()) + _shape(message, field)
        elif field.encoding in encodings.get(field.number, ()):
            pieces[field.number].append(field)
    if pieces[DATA] and pieces[DOUBLE_DATA]:
        raise ModelError(f"expected single or double values of layer {shown(name)}, found both")
    dtype = np.dtype("<f8") if pieces[DOUBLE_DATA] else np.dtype("<f4")
    found = tuple(pieces[DOUBLE_DATA] or pieces[DATA])
    four = tuple(old.get(edge, 0) for edge in EDGES)
    shape = _without_ones(four) if new is None else new
    if old and new is not None and (1,) * (4 - len(new)) + new != four:
        raise ModelError(f"expected one shape of layer {shown(name)}, found {four} and {new}")
    sizes = [_size(field, dtype.itemsize) for field in found]
    if (
        not all(0 <= edge <= MAX_EDGE for edge in shape)
        or any(size % dtype.itemsize for size in sizes)
        or prod(shape) * dtype.itemsize != sum(sizes)
    ):
        raise ModelError(
            f"expected the {shape} values that layer {shown(name)} announces, found "
            f"{sum(sizes)} bytes"
        )
    return _Blob(shape, dtype, found)


def _shape(message: "_Message", field: _Field) -> tuple[int, ...]:
    dims: list[int] = []
    for dim in message.fields(field.start, field.end):
        if dim.number == DIM and dim.encoding == VARINT:
            dims.append(dim.value)
        elif dim.number == DIM and dim.encoding == BYTES:
            packed = message.read(dim.start, min(dim.end, dim.start + HEAD * MAX_DIMENSIONS))
            at = 0
            while at < len(packed):
                value, at = _varint(packed, at)
                dims.append(value)
        if len(dims) > MAX_DIMENSIONS:
            raise ModelError(f"expected at most {MAX_DIMENSIONS} dimensions, found more")
    return tuple(dims)


def _without_ones(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return an old shape, always of four numbers, as biases and matrices have it."""
    N, C, H, V = shape
    if (N, C, H) == (1, 1, 1):
        return (V,)
    return (H, V) if (N, C) == (1, 1) else shape


def _size(field: _Field, itemsize: int) -> int:
    """Return how many bytes of values a field, or a run of them, holds."""
    size = field.end - field.start
    return size if field.encoding == BYTES else size // (field.tag + itemsize) * itemsize


def _load(message: "_Message", blob: _Blob) -> Array:
    values = np.empty(prod(blob.shape), blob.dtype)
    raw, at, itemsize = values.view(np.uint8), 0, values.itemsize
    for field in blob.pieces:
        part = raw[at : at + _size(field, itemsize)]
        at += part.size
        if field.encoding == BYTES:
            message.read_into(part, field.start)
        else:
            records = np.empty(field.end - field.start, np.uint8)
            message.read_into(records, field.start)
            part[:] = records.reshape(-1, field.tag + itemsize)[:, field.tag :].reshape(-1)
    return values.reshape(blob.shape)


class _Message:
    """A protobuf message in a file, of which only what is asked for is read."""

    def __init__(self, stream: io.BufferedReader) -> None:
        self._stream = stream
        self._left = MAX_FIELDS
        self.size = stream.seek(0, io.SEEK_END)

    def fields(self, at: int, end: int) -> Iterator[_Field]:
        """Give the fields of the message that lies between two places."""
        while at < end:
            self._left -= 1
            if self._left < 0:
                raise ModelError(f"expected at most {MAX_FIELDS} fields, found more")
            head = self.read(at, at + HEAD)
            label, tag = _varint(head, 0)
            number, encoding = label >> 3, label & 7
            value, start, stop = 0, at + tag, at + tag
            if encoding == VARINT:
                value, size = _varint(head, tag)
                stop = at + size
            elif encoding == BYTES:
                size, behind = _varint(head, tag)
                start = at + behind
                stop = start + size
            elif encoding in (FIXED32, FIXED64):
                record = tag + (4 if encoding == FIXED32 else 8)
                start, stop = at, at + self._run(at, end, head[:tag], record)
            else:
                raise ModelError(f"expected a field of a message, found encoding {encoding}")
            if not 0 < number <= MAX_NUMBER or stop > end:
                raise ModelError("a message ends before what it holds, or is none")
            yield _Field(number, encoding, value, start, stop, tag)
            at = stop

    def _run(self, at: int, end: int, tag: bytes, record: int) -> int:
        """Return the size of the records that begin with one tag, from a place on; of one at least.

        A network's weights in a field each would be a hundred million fields.
        """
        start, step, at = at, 1, at + record
        while (known := min(step, (end - at) // record)) > 0:
            ahead = np.frombuffer(self.read(at, at + known * record), np.uint8)
            tags = ahead.reshape(known, record)[:, : len(tag)]
            other = (tags != np.frombuffer(tag, np.uint8)).any(axis=1)
            if other.any():
                return at + int(other.argmax()) * record - start
            at, step = at + known * record, min(2 * step, MAX_STEP)
        return at - start

    def read(self, start: int, end: int) -> bytes:
        self._stream.seek(start)
        return self._stream.read(end - start)

    def read_into(self, raw: Array, start: int) -> None:
        """Fill a uint8 vector from a place on."""
        self._stream.seek(start)
        if self._stream.readinto(raw.data) != raw.size:
            raise ModelError("expected whole blobs, found one cut short")


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """Return the number at a place, seven bits a byte, and the place behind it."""
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(data):
            raise ModelError("a message ends within a number")
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise ModelError("expected a number of at most ten bytes, found a longer one")
