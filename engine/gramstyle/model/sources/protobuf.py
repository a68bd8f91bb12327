"""The fields of a protobuf message in an untrusted file, without its schema.

The file is not mapped into memory, because truncating a mapped file ends the process that reads it.
"""

import io
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from gramstyle.errors import ModelError

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
MAX_NUMBER = 2**29 - 1  # the largest field number
# A field begins with one or two numbers of at most ten bytes each.
HEAD = 20
# The number of one-value fields that are compared at a time.
MAX_STEP = 2**14

# VGG-19 has a few hundred fields in a Caffe model, and a few thousand in an ONNX file.
MAX_FIELDS = 100_000


class LimitError(ModelError):
    """An untrusted file exceeds a limit that no file of VGG-19's weights reaches."""


class Field(NamedTuple):
    """A field of a message: its number, its encoding, and its value or the value's place.

    Consecutive fields of a fixed size with the same tag, of `tag` bytes, are joined into one.
    """

    number: int
    encoding: int
    value: int
    start: int
    end: int
    tag: int


class Message:
    """A protobuf message in a file; its fields are read on demand."""

    def __init__(self, stream: io.BufferedIOBase) -> None:
        self.stream = stream
        self._left = MAX_FIELDS
        self.size = stream.seek(0, io.SEEK_END)

    def fields(self, at: int, end: int) -> Iterator[Field]:
        """Yield the fields of the message between two offsets."""
        while at < end:
            self._left -= 1
            if self._left < 0:
                raise LimitError(
                    f"expected at most {MAX_FIELDS} fields, found more; is it another network?"
                )
            head = self.read(at, at + HEAD)
            label, tag = varint(head, 0)
            number, encoding = label >> 3, label & 7
            value, start, stop = 0, at + tag, at + tag
            if encoding == VARINT:
                value, size = varint(head, tag)
                stop = at + size
            elif encoding == BYTES:
                size, behind = varint(head, tag)
                start = at + behind
                stop = start + size
            elif encoding in (FIXED32, FIXED64):
                record = tag + (4 if encoding == FIXED32 else 8)
                start, stop = at, at + self._run(at, end, head[:tag], record)
            else:
                raise ModelError(
                    f"it is damaged or in another format: expected a field of a message, found "
                    f"encoding {encoding}; get a fresh copy"
                )
            if not 0 < number <= MAX_NUMBER or stop > end:
                raise ModelError(
                    "a message ends before its last field, or is not a message; get a fresh copy"
                )
            yield Field(number, encoding, value, start, stop, tag)
            at = stop

    def _run(self, at: int, end: int, tag: bytes, record: int) -> int:
        """Return the total size of the consecutive records with one tag; there is at least one.

        Joining them matters: weights in a field each would be a hundred million fields.
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
        """Return the bytes between two offsets."""
        self.stream.seek(start)
        return self.stream.read(end - start)


def varint(data: bytes, at: int) -> tuple[int, int]:
    """Return the number at an offset, seven bits in each byte, and the offset after it."""
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(data):
            raise ModelError("a message ends within a number; get a fresh copy")
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise ModelError("expected a number of at most ten bytes, found a longer one")
