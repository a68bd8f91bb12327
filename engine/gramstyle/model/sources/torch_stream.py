"""torch's old serialisation stream.

It is five pickles (a magic number, the protocol, facts about the machine, the object, the
storages' keys) followed by every storage: an int64 length, then that many raw elements.
"""

import io
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np

from gramstyle.arrays import Array
from gramstyle.errors import ModelError
from gramstyle.model.sources.pickles import MAX_BYTES, Storage, View, find_tensors, unpickle
from gramstyle.model.sources.tensors import StoredTensor, Tensors

MAGIC = 0x1950A86A20F9469CFC6C
PROTOCOL = 1001
# The magic number behind the instruction that holds it, whatever the pickle's protocol.
MAGIC_BYTES = b"\x8a\x0a" + MAGIC.to_bytes(10, "little")


def is_torch_stream(head: bytes) -> bool:
    """Say whether a file that begins so (16 bytes or more) is a torch stream."""
    return head[:1] == b"\x80" and MAGIC_BYTES in head


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


def stream_tensors(stream: BinaryIO) -> Tensors:
    """Return the tensors of an open stream; takes and raises what `open_torch_stream` does."""
    pickles = io.BytesIO(stream.read(MAX_BYTES))
    magic, protocol, _machine = (unpickle(pickles) for _ in range(3))
    if magic != MAGIC or protocol != PROTOCOL:
        raise ModelError("it is not torch's old stream format")
    storages: dict[str, Storage] = {}
    tensors = find_tensors(unpickle(pickles, storages))
    keys = unpickle(pickles)
    if not (isinstance(keys, list) and all(isinstance(key, str) for key in keys)):
        raise ModelError("it does not list its storages")
    if sorted(keys) != sorted(storages):
        raise ModelError("it lists other storages than its tensors use")
    starts = _starts(stream, pickles.tell(), [storages[key] for key in keys])
    return {
        name: StoredTensor(view.shape, view.dtype, _loader(stream, view, starts[view.storage.key]))
        for name, view in tensors.items()
    }


def _starts(stream: BinaryIO, at: int, storages: list[Storage]) -> dict[str, int]:
    """Return where each storage's elements begin, once all are known to be there."""
    end = stream.seek(0, io.SEEK_END)
    starts: dict[str, int] = {}
    for storage in storages:
        stream.seek(at)
        (size,) = struct.unpack("<q", stream.read(8))
        starts[storage.key] = at + 8
        at += 8 + storage.nbytes
        if size != storage.size or at > end:
            raise ModelError("a storage is cut short")
    return starts


def _loader(stream: BinaryIO, view: View, start: int) -> Callable[[], Array]:
    def load() -> Array:
        itemsize = view.storage.dtype.itemsize
        stream.seek(start + view.offset * itemsize)
        raw = stream.read(view.span * itemsize)
        return view.array(np.frombuffer(raw, view.storage.dtype))

    return load
