"""torch's old stream format, of 2017 to 2020.

It consists of five pickles (a magic number, the protocol, facts about the machine, the object, the
keys of the storages), followed by the storages: for each an int64 length and its raw elements,
both little-endian on every machine.
"""

import io
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from gramstyle.errors import ModelError
from gramstyle.model.sources.pickles import unpickle
from gramstyle.model.sources.tensors import StoredTensor, Tensors
from gramstyle.model.sources.torch_tensors import Storage, find_tensors

MAGIC = 0x1950A86A20F9469CFC6C
PROTOCOL = 1001
LENGTH = struct.Struct("<q")

# The magic number in its pickle. Before it come the pickle protocol and, from protocol 4 on, the
# length of a frame.
_MAGIC_PICKLE = b"\x8a\x0a" + MAGIC.to_bytes(10, "little") + b"."
_PROTOCOL_BYTES, _FRAME_BYTES = 2, 9


def is_torch_stream(head: bytes) -> bool:
    """Return whether a file with this head (24 bytes or more) is a torch stream."""
    start = _PROTOCOL_BYTES + (_FRAME_BYTES if head[2:3] == b"\x95" else 0)
    return head[:1] == b"\x80" and head[start:].startswith(_MAGIC_PICKLE)


@contextmanager
def open_torch_stream(path: Path) -> Iterator[Tensors]:
    """Open a checkpoint in the stream format; yield its tensors by dotted names.

    Raises
    ------
    ModelError
        If it is not a dictionary of tensors, imports a global that is not on the allow-list, or
        is cut short.
    """
    with path.open("rb") as stream:
        yield stream_tensors(stream)


def stream_tensors(stream: io.BufferedIOBase) -> Tensors:
    """Return the tensors of an open stream without reading their values."""
    magic, protocol, _machine = (unpickle(stream) for _ in range(3))
    if magic != MAGIC or protocol != PROTOCOL:
        raise ModelError("expected torch's stream format, found another magic number or protocol")
    storages: dict[str, Storage] = {}
    views = find_tensors(unpickle(stream, storages))
    keys = unpickle(stream)
    if not (isinstance(keys, list) and all(isinstance(key, str) for key in keys)):
        raise ModelError("expected a list of storages, found something else")
    if sorted(keys) != sorted(storages):
        raise ModelError("expected a list of the tensors' storages, found other storages in it")
    starts = _starts(stream, [storages[key] for key in keys])
    return {
        name: StoredTensor(
            view.shape, view.storage.dtype, partial(view.load, stream, starts[view.storage.key])
        )
        for name, view in views.items()
    }


def _starts(stream: io.BufferedIOBase, storages: list[Storage]) -> dict[str, int]:
    """Return the offset of each storage's elements, once all storages are known to be complete."""
    at, end = stream.tell(), stream.seek(0, io.SEEK_END)
    starts: dict[str, int] = {}
    for storage in storages:
        stream.seek(at)
        (size,) = LENGTH.unpack(stream.read(LENGTH.size))
        starts[storage.key] = at + LENGTH.size
        at += LENGTH.size + storage.nbytes
        if size != storage.size or at > end:
            raise ModelError("expected complete storages, found one cut short or of another size")
    return starts
