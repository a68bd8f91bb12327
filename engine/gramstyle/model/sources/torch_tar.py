"""torch's first format, of 2016 and early 2017: a tar archive, read without unpacking it to disk.

Its member "storages" holds a number, then for each storage a pickle (key, device, type), an int64
length and the raw elements, and last a pickled list of storages that are parts of others. Its
member "tensors" holds a number, then for each tensor a pickle (key, storage's key, type), its
number of dimensions, shape, strides and offset, as C structures. Its member "pickle" is the
object, which refers to tensors by their keys.
"""

import io
import struct
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from itertools import islice
from pathlib import Path
from typing import IO, cast

from gramstyle.errors import ModelError
from gramstyle.model.sources.bounded import BoundedReader
from gramstyle.model.sources.pickles import key_number, make_storage, unpickle
from gramstyle.model.sources.tensors import StoredTensor, Tensors
from gramstyle.model.sources.torch_tensors import (
    MAX_DIMENSIONS,
    Storage,
    View,
    find_tensors,
    make_view,
)

STORAGES, TENSORS, PICKLE = "storages", "tensors", "pickle"
MAGIC_AT, MAGIC = 257, b"ustar"
MAX_HEADER = 2 * 1024 * 1024
MAX_MEMBERS = 100
MAX_TENSORS = 50_000

# Four bytes of padding follow a tensor's number of dimensions.
DIMENSIONS, NUMBER = struct.Struct("<i4x"), struct.Struct("<q")

Span = tuple[int, int]


def is_tar(head: bytes) -> bool:
    """Return whether a file with this head (512 bytes or more) is a tar archive."""
    return head[MAGIC_AT:].startswith(MAGIC)


@contextmanager
def open_torch_tar(path: Path) -> Iterator[Tensors]:
    """Open a checkpoint in the tar format; yield its tensors by dotted names.

    Raises
    ------
    ModelError
        If it is not a dictionary of tensors, imports a global that is not on the allow-list, or
        its parts contradict each other.
    """
    with path.open("rb") as stream:
        members = _members(stream)
        starts: dict[str, int] = {}
        storages = _storages(stream, members[STORAGES], starts)
        views = _views(stream, members[TENSORS], storages)
        stream.seek(members[PICKLE][0])
        tensors = find_tensors(unpickle(stream, tensors=views))
        yield {
            name: StoredTensor(
                view.shape, view.storage.dtype, partial(view.load, stream, starts[view.storage.key])
            )
            for name, view in tensors.items()
        }


def _members(stream: io.BufferedReader) -> dict[str, Span]:
    """Return the start and end of each member."""
    bounded = BoundedReader(stream, "tar headers", per_read=MAX_HEADER, in_total=MAX_HEADER)
    with tarfile.open(fileobj=cast(IO[bytes], bounded), mode="r:") as archive:
        found = {
            member.name: (member.offset_data, member.offset_data + member.size)
            for member in islice(archive, MAX_MEMBERS)
            if member.isreg() and not member.issparse()
        }
    for name in (STORAGES, TENSORS, PICKLE):
        if name not in found:
            raise ModelError(f"expected a member {name!r}, as in torch's archives, found none")
    return found


def _count(stream: io.BufferedReader) -> int:
    count = unpickle(stream)
    if not isinstance(count, int) or not 0 <= count <= MAX_TENSORS:
        raise ModelError(f"expected at most {MAX_TENSORS} tensors, found another number")
    return count


def _storages(
    stream: io.BufferedReader, member: Span, starts: dict[str, int]
) -> dict[object, Storage]:
    """Return the storages by the archive's keys, and record the offsets of their elements."""
    at, end = member
    stream.seek(at)
    storages: dict[object, Storage] = {}
    for number in range(_count(stream)):
        key, _device, kind = unpickle(stream, {})
        (size,) = NUMBER.unpack(stream.read(NUMBER.size))
        storage = make_storage(kind, str(number), size)
        starts[storage.key] = stream.tell()
        storages[key_number(key)] = storage
        if stream.tell() + storage.nbytes > end:
            raise ModelError("expected complete storages, found one cut short")
        stream.seek(storage.nbytes, io.SEEK_CUR)
    for number, (key, root, offset, size) in enumerate(unpickle(stream)):
        whole = storages[key_number(root)]
        if not 0 <= offset <= offset + size <= whole.size:
            raise ModelError("expected parts within their storages, found one that exceeds its own")
        part = Storage(f"part {number}", whole.stored, whole.dtype, size)
        starts[part.key] = starts[whole.key] + offset * whole.stored.itemsize
        storages[key_number(key)] = part
    return storages


def _views(
    stream: io.BufferedReader, member: Span, storages: dict[object, Storage]
) -> dict[int, View]:
    at, _ = member
    stream.seek(at)
    views: dict[int, View] = {}
    for _ in range(_count(stream)):
        key, storage, _kind = unpickle(stream, {})
        (dimensions,) = DIMENSIONS.unpack(stream.read(DIMENSIONS.size))
        if not 0 <= dimensions <= MAX_DIMENSIONS:
            raise ModelError(f"expected at most {MAX_DIMENSIONS} dimensions, found {dimensions}")
        shape, stride = (
            struct.unpack(f"<{dimensions}q", stream.read(8 * dimensions)) for _ in range(2)
        )
        (offset,) = NUMBER.unpack(stream.read(NUMBER.size))
        views[key_number(key)] = make_view(storages[key_number(storage)], offset, shape, stride)
    return views
