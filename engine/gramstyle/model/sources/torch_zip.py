"""torch's serialisation since version 1.6: a zip archive, nothing of which is unpacked to disk.

NAME/data.pkl describes the tensors, NAME/data/KEY holds the raw elements of a storage.
"""

import io
import os
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

import numpy as np

from gramstyle.arrays import Array
from gramstyle.errors import ModelError
from gramstyle.model.sources.pickles import MAX_BYTES, Storage, View, find_tensors, unpickle
from gramstyle.model.sources.tensors import StoredTensor, Tensors

PICKLE, BYTE_ORDER = "data.pkl", "byteorder"
CHUNK = 1024 * 1024


class _Sips(io.FileIO):
    """A file that is read in sips: an archive's table of contents is read in one."""

    LIMIT = 4 * 1024 * 1024

    def read(self, size: int | None = -1, /) -> bytes:
        """Read as a file does, but refuse to read much at once."""
        if size is None or size < 0:
            size = os.fstat(self.fileno()).st_size - self.tell()
        if size > self.LIMIT:
            raise ModelError("its table of contents is larger than any checkpoint's")
        return super().read(size)


@contextmanager
def open_torch_zip(path: Path) -> Iterator[Tensors]:
    """Open a checkpoint and give its tensors by dotted names.

    Raises
    ------
    ModelError
        If it holds anything but a dictionary of tensors, names a global outside the allow-list,
        is compressed, or its parts do not fit together.
    """
    with open_archive(path) as archive:
        members = {info.filename: info for info in archive.infolist()}
        root = _root(members)
        order = members.get(f"{root}/{BYTE_ORDER}")
        if order is not None and _read(archive, order, limit=16) != b"little":
            raise ModelError("expected little-endian elements, found another byte order")
        storages: dict[str, Storage] = {}
        described = _read(archive, members[f"{root}/{PICKLE}"], limit=MAX_BYTES)
        tensors = find_tensors(unpickle(io.BytesIO(described), storages))
        yield {
            name: StoredTensor(view.shape, view.dtype, _loader(archive, view, members, root))
            for name, view in tensors.items()
        }


@contextmanager
def open_archive(path: Path) -> Iterator[zipfile.ZipFile]:
    """Open a zip archive whose table of contents and names are harmless.

    Raises
    ------
    ModelError
        If the table is absurdly large, a name leads out of the archive, or comes twice.
    """
    with _Sips(path) as stream, zipfile.ZipFile(stream) as archive:
        names = [info.filename for info in archive.infolist()]
        for name in names:
            if name.startswith("/") or "\\" in name or ".." in PurePosixPath(name).parts:
                raise ModelError(f"it holds a member whose name leads elsewhere: {name!r}")
        if len(set(names)) != len(names):
            raise ModelError("it holds two members of the same name")
        yield archive


def _root(members: dict[str, zipfile.ZipInfo]) -> str:
    roots = [name.removesuffix(f"/{PICKLE}") for name in members if name.endswith(f"/{PICKLE}")]
    if len(roots) != 1:
        raise ModelError(f"expected one {PICKLE} of a torch checkpoint, found {len(roots)}")
    return roots[0]


def _read(archive: zipfile.ZipFile, info: zipfile.ZipInfo, *, limit: int) -> bytes:
    """Read a member whole, which checks its checksum, once its size is known to be harmless."""
    if info.compress_type != zipfile.ZIP_STORED or info.flag_bits & 1:
        raise ModelError(f"expected plain members, found {info.filename!r} compressed or encrypted")
    if info.file_size > limit or info.compress_size != info.file_size:
        raise ModelError(f"expected at most {limit} bytes in {info.filename!r}, found more")
    parts = bytearray()
    with archive.open(info) as member:
        while part := member.read(CHUNK):
            parts += part
    return bytes(parts)


def _loader(
    archive: zipfile.ZipFile, view: View, members: dict[str, zipfile.ZipInfo], root: str
) -> Callable[[], Array]:
    """Return what reads a tensor, once its storage is known to be as large as described."""
    storage = view.storage
    name = f"{root}/data/{storage.key}"
    found = members[name].file_size if name in members else 0
    if found != storage.nbytes:
        raise ModelError(f"expected {storage.nbytes} bytes in {name!r}, found {found}")

    def load() -> Array:
        raw = _read(archive, members[name], limit=storage.nbytes)
        return view.array(np.frombuffer(raw, storage.dtype)[view.offset :])

    return load
