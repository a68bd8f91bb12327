"""torch's first serialisation, of 2016 and early 2017: a tar archive, not unpacked to disk.

Its member "storages" holds a number, then for each storage a pickle (key, device, type), an int64
length and the raw elements, and last a pickled list of storages that are parts of others. Its
member "tensors" holds a number, then for each tensor a pickle (key, storage's key, type), its
dimensions, sizes, strides and offset, as in C. Its member "pickle" is the object, which refers to
tensors by their keys.
"""

import io
import struct
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np

from gramstyle.core.arrays import Array
from gramstyle.errors import ModelError
from gramstyle.model.sources.pickles import (
    MAX_DIMENSIONS,
    Storage,
    View,
    find_tensors,
    number_of,
    storage_of,
    unpickle,
    view_of,
)
from gramstyle.model.sources.sips import Sips
from gramstyle.model.sources.tensors import StoredTensor, Tensors

STORAGES, TENSORS, PICKLE = "storages", "tensors", "pickle"
MAGIC_AT, MAGIC = 257, b"ustar"
MAX_MEMBERS = 100
MAX_TENSORS = 50_000

# A tensor's dimensions are followed by four bytes that mean nothing.
DIMENSIONS, NUMBER = struct.Struct("<i4x"), struct.Struct("<q")

Span = tuple[int, int]


def is_tar(head: bytes) -> bool:
    """Say whether a file that begins so (with 512 bytes or more) is a tar archive."""
    return head[MAGIC_AT:].startswith(MAGIC)


@contextmanager
def open_torch_tar(path: Path) -> Iterator[Tensors]:
    """Open a checkpoint of the tar format and give its tensors by dotted names.

    Raises
    ------
    ModelError
        If it holds anything but a dictionary of tensors, names a global outside the allow-list,
        or its parts do not fit together.
    """
    with path.open("rb") as stream:
        members = _members(path)
        starts: dict[str, int] = {}
        storages = _storages(stream, members[STORAGES], starts)
        views = _views(stream, members[TENSORS], storages)
        stream.seek(members[PICKLE][0])
        tensors = find_tensors(unpickle(stream, tensors=views))
        yield {
            name: StoredTensor(view.shape, view.storage.dtype, partial(_load, stream, view, starts))
            for name, view in tensors.items()
        }


def _members(path: Path) -> dict[str, Span]:
    """Return where the members begin and end."""
    with Sips(path.open("rb", buffering=0)) as stream, tarfile.open(fileobj=stream) as archive:
        found = {
            member.name: (member.offset_data, member.offset_data + member.size)
            for member in islice(archive, MAX_MEMBERS)
            if member.isreg() and not member.issparse()
        }
    for name in (STORAGES, TENSORS, PICKLE):
        if name not in found:
            raise ModelError(f"expected a member {name!r}, as torch's archives have, found none")
    return found


def _count(stream: io.BufferedReader) -> int:
    count = unpickle(stream)
    if not isinstance(count, int) or not 0 <= count <= MAX_TENSORS:
        raise ModelError(f"expected at most {MAX_TENSORS} tensors, found another number")
    return count


def _storages(
    stream: io.BufferedReader, member: Span, starts: dict[str, int]
) -> dict[object, Storage]:
    """Return the storages by the archive's keys, and note where their elements begin."""
    at, end = member
    stream.seek(at)
    storages: dict[object, Storage] = {}
    for number in range(_count(stream)):
        key, _device, kind = unpickle(stream, {})
        (size,) = NUMBER.unpack(stream.read(NUMBER.size))
        storage = storage_of(kind, str(number), size)
        starts[storage.key] = stream.tell()
        storages[number_of(key)] = storage
        if stream.tell() + storage.nbytes > end:
            raise ModelError("expected whole storages, found one cut short")
        stream.seek(storage.nbytes, io.SEEK_CUR)
    for number, (key, root, offset, size) in enumerate(unpickle(stream)):
        whole = storages[number_of(root)]
        if not 0 <= offset <= offset + size <= whole.size:
            raise ModelError("expected parts of storages, found one that is beyond its storage")
        part = Storage(f"part {number}", whole.stored, whole.dtype, size)
        starts[part.key] = starts[whole.key] + offset * whole.stored.itemsize
        storages[number_of(key)] = part
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
        views[number_of(key)] = view_of(storages[number_of(storage)], offset, shape, stride)
    return views


def _load(stream: io.BufferedReader, view: View, starts: dict[str, int]) -> Array:
    raw = np.empty(view.nbytes, np.uint8)
    stream.seek(starts[view.storage.key] + view.first_byte)
    if stream.readinto(raw.data) != raw.size:
        raise ModelError("expected whole storages, found one cut short")
    return view.array(raw)
