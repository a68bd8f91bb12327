"""torch's serialisation since version 1.6: a zip archive, nothing of which is unpacked to disk.

NAME/data.pkl describes the tensors, NAME/data/KEY holds a storage's raw elements, uncompressed.
"""

import io
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np

from gramstyle.core.arrays import Array
from gramstyle.errors import ModelError
from gramstyle.model.sources.pickles import MAX_BYTES, Storage, View, find_tensors, shown, unpickle
from gramstyle.model.sources.sips import Sips
from gramstyle.model.sources.tensors import StoredTensor, Tensors

PICKLE, BYTE_ORDER, VERSION = "data.pkl", "byteorder", "version"
# torch itself reads versions up to this.
MAX_VERSION = 10
MAX_NOTE = 16
CHUNK = 1024 * 1024
LOCAL_HEADER = 30


@contextmanager
def open_torch_zip(path: Path) -> Iterator[Tensors]:
    """Open a checkpoint of the zip format and give its tensors by dotted names.

    Raises
    ------
    ModelError
        If it holds anything but a dictionary of tensors, names a global outside the allow-list,
        is compressed or encrypted, or its parts do not fit together.
    """
    with open_archive(path) as archive:
        members = {info.filename: info for info in archive.infolist()}
        root = _root(members)
        if _note(archive, members, f"{root}/{BYTE_ORDER}", "little") != "little":
            raise ModelError("expected little-endian elements, found another byte order")
        version = _note(archive, members, f"{root}/{VERSION}", "1")
        if not version.isdecimal() or int(version) > MAX_VERSION:
            raise ModelError(
                f"expected a format of version {MAX_VERSION} or less, found {shown(version)}"
            )
        described = _plain(members, f"{root}/{PICKLE}")
        if described.file_size > MAX_BYTES:
            raise ModelError(
                f"expected a {PICKLE} of at most {MAX_BYTES} bytes, found a larger one"
            )
        pickled = _read(archive, described, 0, described.file_size)
        views = find_tensors(unpickle(io.BytesIO(pickled.tobytes()), {}))
        yield {
            name: StoredTensor(
                view.shape,
                view.storage.dtype,
                partial(_load, archive, _place(members, root, view.storage), view),
            )
            for name, view in views.items()
        }


@contextmanager
def open_archive(path: Path) -> Iterator[zipfile.ZipFile]:
    """Open a zip archive whose table of contents and names are harmless.

    Raises
    ------
    ModelError
        If the table is absurdly large, a name leads out of the archive or is there twice, or
        members lie over each other: so all of them together are no larger than the file.
    """
    with Sips(path.open("rb", buffering=0)) as stream, zipfile.ZipFile(stream) as archive:
        _check_names(archive)
        _check_places(archive)
        yield archive


def _check_names(archive: zipfile.ZipFile) -> None:
    names = set[str]()
    for info in archive.infolist():
        # As it stands in the file: zipfile turns separators and cuts at a NUL.
        name = info.orig_filename
        if name.startswith("/") or "\\" in name or "\0" in name or ".." in name.split("/"):
            raise ModelError(f"expected names inside the archive, found {shown(name)}")
        if name in names:
            raise ModelError(f"expected every name once, found {shown(name)} twice")
        names.add(name)


def _check_places(archive: zipfile.ZipFile) -> None:
    end = 0
    for info in sorted(archive.infolist(), key=lambda info: info.header_offset):
        if info.header_offset < end:
            raise ModelError("expected members one after the other, found some that overlap")
        end = info.header_offset + LOCAL_HEADER + info.compress_size
    if end > archive.start_dir:
        raise ModelError("expected members one after the other, found one cut short")


def _root(members: Mapping[str, zipfile.ZipInfo]) -> str:
    roots = [root for root, _, name in (n.partition("/") for n in members) if name == PICKLE]
    if len(roots) != 1:
        raise ModelError(f"expected one NAME/{PICKLE}, as torch writes, found {len(roots)}")
    return roots[0]


def _plain(members: Mapping[str, zipfile.ZipInfo], name: str) -> zipfile.ZipInfo:
    """Return a member that is there and can be read as it is."""
    info = members.get(name)
    if info is None:
        raise ModelError(f"expected a member {shown(name)}, found none")
    if info.flag_bits & 1:
        raise ModelError(f"expected plain members, found {shown(name)} encrypted")
    if info.compress_type != zipfile.ZIP_STORED or info.compress_size != info.file_size:
        raise ModelError(f"expected plain members, found {shown(name)} compressed")
    return info


def _note(
    archive: zipfile.ZipFile, members: Mapping[str, zipfile.ZipInfo], name: str, default: str
) -> str:
    """Return what a small member says; not every version of torch writes every one."""
    if name not in members:
        return default
    info = _plain(members, name)
    if info.file_size > MAX_NOTE:
        raise ModelError(f"expected a word in {shown(name)}, found {info.file_size} bytes")
    return _read(archive, info, 0, info.file_size).tobytes().decode("ascii").strip()


def _place(members: Mapping[str, zipfile.ZipInfo], root: str, storage: Storage) -> zipfile.ZipInfo:
    info = _plain(members, f"{root}/data/{storage.key}")
    if info.file_size != storage.nbytes:
        raise ModelError(
            "expected storages as large as their tensors say, found one that is not: "
            f"{shown(info.filename)} of {info.file_size} bytes"
        )
    return info


def _load(archive: zipfile.ZipFile, info: zipfile.ZipInfo, view: View) -> Array:
    return view.array(_read(archive, info, view.first_byte, view.nbytes))


def _read(archive: zipfile.ZipFile, info: zipfile.ZipInfo, start: int, count: int) -> Array:
    """Return a part of a member, uint8; all of it is read, because that checks its checksum."""
    result = np.empty(count, np.uint8)
    at = 0
    with archive.open(info) as member:
        while chunk := member.read(CHUNK):
            part = np.frombuffer(chunk, np.uint8)[max(start - at, 0) :]
            place = max(at - start, 0)
            target = result[place : place + part.size]
            target[:] = part[: target.size]
            at += len(chunk)
    return result
