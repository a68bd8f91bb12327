"""Caffe's models: a protobuf message, of which the layers' names and blobs are read.

The fields' numbers are those of Caffe's caffe.proto; what is not needed is stepped over. The
file is mapped into memory, so that only what is looked at is read.
"""

import mmap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from pathlib import Path

import numpy as np

from gramstyle.arrays import Array
from gramstyle.errors import ModelError
from gramstyle.model.sources.tensors import StoredTensor, Tensors

# NetParameter: layers of the first format (V1LayerParameter) and of the second (LayerParameter),
# and in each the layer's name and blobs.
LAYERS = {2: (4, 6), 100: (1, 7)}
# BlobProto: the old way to give a shape, the values, the new way.
NUM, CHANNELS, HEIGHT, WIDTH, DATA, SHAPE, DOUBLE_DATA = 1, 2, 3, 4, 5, 7, 8
DIM = 1  # of BlobShape

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5

MAX_LAYERS, MAX_DIMENSIONS, MAX_NAME = 10_000, 8, 200


@dataclass(frozen=True)
class _Field:
    """A field of a message: its number, how it is encoded, its value or where that lies."""

    number: int
    encoding: int
    value: int
    start: int
    end: int


@dataclass(frozen=True)
class _Blob:
    """Where a blob's values lie, in how many pieces, and their shape."""

    shape: tuple[int, ...]
    dtype: np.dtype[np.float32] | np.dtype[np.float64]
    pieces: tuple[tuple[int, int], ...]


@contextmanager
def open_caffe(path: Path) -> Iterator[Tensors]:
    """Open a .caffemodel and give its layers' blobs as NAME.weight and NAME.bias.

    Raises
    ------
    ModelError
        If it is no protobuf message, or a blob has not as many values as its shape says.
    """
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        yield _tensors(data)


def _tensors(data: mmap.mmap) -> dict[str, StoredTensor]:
    tensors: dict[str, StoredTensor] = {}
    layers = 0
    for layer in _fields(data, 0, len(data)):
        if layer.number not in LAYERS or layer.encoding != BYTES:
            continue
        layers += 1
        if layers > MAX_LAYERS:
            raise ModelError(f"expected at most {MAX_LAYERS} layers, found more")
        name, blobs = _layer(data, layer)
        # What some layers keep beside weights and biases is left alone.
        for key, blob in zip((f"{name}.weight", f"{name}.bias"), blobs, strict=False):
            if key in tensors:
                raise ModelError(f"expected one layer called {name!r}, found two")
            tensors[key] = StoredTensor(blob.shape, blob.dtype, _loader(data, blob))
    return tensors


def _layer(data: mmap.mmap, layer: _Field) -> tuple[str, list[_Blob]]:
    name_number, blobs_number = LAYERS[layer.number]
    name, blobs = "", []
    for field in _fields(data, layer.start, layer.end):
        if field.number == name_number and field.encoding == BYTES:
            if field.end - field.start > MAX_NAME:
                raise ModelError(f"expected a layer's name, found {field.end - field.start} bytes")
            name = data[field.start : field.end].decode()
        elif field.number == blobs_number and field.encoding == BYTES:
            blobs.append(field)
    return name, [_blob(data, blob, name) for blob in blobs]


def _blob(data: mmap.mmap, blob: _Field, name: str) -> _Blob:
    old = dict.fromkeys((NUM, CHANNELS, HEIGHT, WIDTH), 0)
    new: tuple[int, ...] | None = None
    pieces: dict[int, list[tuple[int, int]]] = {DATA: [], DOUBLE_DATA: []}
    for field in _fields(data, blob.start, blob.end):
        if field.number in old and field.encoding == VARINT:
            old[field.number] = field.value
        elif field.number == SHAPE and field.encoding == BYTES:
            new = _shape(data, field)
        elif field.number in pieces and field.encoding in (BYTES, FIXED32, FIXED64):
            # Values lie side by side in one field, or, by an older rule, in a field each.
            pieces[field.number].append((field.start, field.end))
    single = bool(pieces[DATA])
    dtype = np.dtype("<f4") if single else np.dtype("<f8")
    found = pieces[DATA if single else DOUBLE_DATA]
    shape = new if new is not None else _without_ones(tuple(old.values()))
    size = sum(end - start for start, end in found)
    if prod(shape) * dtype.itemsize != size:
        raise ModelError(
            f"expected the {shape} values that layer {name!r} announces, found {size} bytes"
        )
    return _Blob(shape, dtype, tuple(found))


def _shape(data: mmap.mmap, field: _Field) -> tuple[int, ...]:
    dims: list[int] = []
    for dim in _fields(data, field.start, field.end):
        if dim.number == DIM and dim.encoding == VARINT:
            dims.append(dim.value)
        elif dim.number == DIM and dim.encoding == BYTES:
            at = dim.start
            while at < dim.end and len(dims) <= MAX_DIMENSIONS:
                value, at = _varint(data, at, dim.end)
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


def _loader(data: mmap.mmap, blob: _Blob) -> Callable[[], Array]:
    def load() -> Array:
        raw = b"".join(data[start:end] for start, end in blob.pieces)
        return np.frombuffer(raw, blob.dtype).reshape(blob.shape)

    return load


# protobuf's encoding


def _fields(data: mmap.mmap, at: int, end: int) -> Iterator[_Field]:
    """Give the fields of the message that lies between two places."""
    while at < end:
        tag, at = _varint(data, at, end)
        number, encoding = tag >> 3, tag & 7
        value, start = 0, at
        if encoding == VARINT:
            value, at = _varint(data, at, end)
        elif encoding == BYTES:
            size, start = _varint(data, at, end)
            at = start + size
        elif encoding in (FIXED32, FIXED64):
            at += 4 if encoding == FIXED32 else 8
        else:
            raise ModelError(f"expected a field of a message, found encoding {encoding}")
        if number == 0 or at > end:
            raise ModelError("a message ends before what it holds, or is none")
        yield _Field(number, encoding, value, start, at)


def _varint(data: mmap.mmap, at: int, end: int) -> tuple[int, int]:
    """Return the number at a place, seven bits a byte, and the place behind it."""
    value = 0
    for shift in range(0, 70, 7):
        if at >= end:
            raise ModelError("a message ends within a number")
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise ModelError("expected a number of at most ten bytes, found a longer one")
