"""torch's old serialisation stream.

It is five pickles (a magic number, the protocol, facts about the machine, the object, the
storages' keys) followed by every storage: an int64 length, then that many raw elements, both
little-endian whatever the machine.
"""

import io
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np

from gramstyle.core.arrays import Array
from gramstyle.errors import ModelError
from gramstyle.model.sources.pickles import Storage, View, find_tensors, unpickle
from gramstyle.model.sources.tensors import StoredTensor, Tensors

MAGIC = 0x1950A86A20F9469CFC6C
PROTOCOL = 1001
LENGTH = struct.Struct("<q")

# The magic number with the instructions around it. Before it stands the pickle's protocol, and
# from 4 on the length of a frame.
_MAGIC_PICKLE = b"\x8a\x0a" + MAGIC.to_bytes(10, "little") + b"."
_PROTOCOL_BYTES, _FRAME_BYTES = 2, 9


def is_torch_stream(head: bytes) -> bool:
    """Say whether a file that begins so (with 24 bytes or more) is a torch stream."""
    start = _PROTOCOL_BYTES + (_FRAME_BYTES if head[2:3] == b"\x95" else 0)
    return head[:1] == b"\x80" and head[start:].startswith(_MAGIC_PICKLE)


@contextmanager
def open_torch_stream(path: Path) -> Iterator[Tensors]:
    """Open a checkpoint of the old format and give its tensors by dotted names.

    Raises
    ------
    ModelError
        If it holds anything but a dictionary of tensors, names a global outside the allow-list,
        or is cut short.
    """
    with path.open("rb") as stream:
        yield stream_tensors(stream)


def stream_tensors(stream: io.BufferedIOBase) -> Tensors:
    """Return the tensors of an open stream, none of them read yet.

    Raises
    ------
    ModelError
        As `open_torch_stream` does.
    """
    magic, protocol, _machine = (unpickle(stream) for _ in range(3))
    if magic != MAGIC or protocol != PROTOCOL:
        raise ModelError("expected torch's old stream format, found another number at its head")
    storages: dict[str, Storage] = {}
    views = find_tensors(unpickle(stream, storages))
    keys = unpickle(stream)
    if not (isinstance(keys, list) and all(isinstance(key, str) for key in keys)):
        raise ModelError("expected a list of storages, found something else")
    if sorted(keys) != sorted(storages):
        raise ModelError("expected the storages that the tensors use, found others listed")
    starts = _starts(stream, [storages[key] for key in keys])
    return {
        name: StoredTensor(
            view.shape, view.storage.dtype, partial(_load, stream, view, starts[view.storage.key])
        )
        for name, view in views.items()
    }


def _starts(stream: io.BufferedIOBase, storages: list[Storage]) -> dict[str, int]:
    """Return where each storage's elements begin, once all are known to be there."""
    at, end = stream.tell(), stream.seek(0, io.SEEK_END)
    starts: dict[str, int] = {}
    for storage in storages:
        stream.seek(at)
        (size,) = LENGTH.unpack(stream.read(LENGTH.size))
        starts[storage.key] = at + LENGTH.size
        at += LENGTH.size + storage.nbytes
        if size != storage.size or at > end:
            raise ModelError("expected whole storages, found one cut short or of another size")
    return starts


def _load(stream: io.BufferedIOBase, view: View, start: int) -> Array:
    raw = np.empty(view.nbytes, np.uint8)
    stream.seek(start + view.first_byte)
    if stream.readinto(raw.data) != raw.size:
        raise ModelError("expected whole storages, found one cut short")
    return view.array(raw)
