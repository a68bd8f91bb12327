"""torch's format since version 1.6: a zip archive, read without unpacking it to disk.

NAME/data.pkl describes the tensors; NAME/data/KEY holds a storage's raw elements, uncompressed.
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
from gramstyle.model.messages import quoted
from gramstyle.model.sources.bounded import CHUNK, BoundedReader
from gramstyle.model.sources.pickles import MAX_BYTES, unpickle
from gramstyle.model.sources.tensors import StoredTensor, Tensors
from gramstyle.model.sources.torch_tensors import Storage, View, find_tensors

PICKLE, BYTE_ORDER, VERSION = "data.pkl", "byteorder", "version"
# The newest version that torch itself reads.
MAX_VERSION = 10
MAX_TEXT = 16
# A member takes at least 46 bytes of the table of contents, so there are fewer than 46,000.
MAX_CONTENTS = 2 * 1024 * 1024
LOCAL_HEADER = 30


@contextmanager
def open_torch_zip(path: Path) -> Iterator[Tensors]:
    """Open a checkpoint in the zip format; yield its tensors by dotted names.

    Raises
    ------
    ModelError
        If it is not a dictionary of tensors, imports a global that is not on the allow-list, is
        compressed or encrypted, or its parts contradict each other.
    """
    with open_archive(path) as archive:
        members = {info.filename: info for info in archive.infolist()}
        root = _root(members)
        if _text(archive, members, f"{root}/{BYTE_ORDER}", "little") != "little":
            raise ModelError("expected little-endian elements, found another byte order")
        version = _text(archive, members, f"{root}/{VERSION}", "1")
        if not version.isdecimal() or int(version) > MAX_VERSION:
            raise ModelError(
                f"expected a format of version {MAX_VERSION} or less, found {quoted(version)}"
            )
        member = _plain_member(members, f"{root}/{PICKLE}")
        if member.file_size > MAX_BYTES:
            raise ModelError(
                f"expected a {PICKLE} of at most {MAX_BYTES} bytes, found a larger one"
            )
        pickled = _read(archive, member, 0, member.file_size)
        views = find_tensors(unpickle(io.BytesIO(pickled.tobytes()), {}))
        yield {
            name: StoredTensor(
                view.shape,
                view.storage.dtype,
                partial(_load, archive, _storage_member(members, root, view.storage), view),
            )
            for name, view in views.items()
        }


@contextmanager
def open_archive(path: Path) -> Iterator[zipfile.ZipFile]:
    """Open a zip archive after checks of its table of contents.

    Raises
    ------
    ModelError
        If the table is too large, a name leads out of the archive or occurs twice, or members
        overlap. Members that do not overlap are together no larger than the file.
    """
    with path.open("rb") as stream:
        bounded = BoundedReader(stream, "a table of contents", per_read=MAX_CONTENTS)
        with zipfile.ZipFile(bounded) as archive:
            _check_names(archive)
            _check_offsets(archive)
            _accept_missing_checksums(archive)
            yield archive


def _check_names(archive: zipfile.ZipFile) -> None:
    names = set[str]()
    for info in archive.infolist():
        # The name as stored: `filename` has other separators and ends at a NUL.
        name = info.orig_filename
        if name.startswith("/") or "\\" in name or "\0" in name or ".." in name.split("/"):
            raise ModelError(f"expected names inside the archive, found {quoted(name)}")
        if name in names:
            raise ModelError(f"expected every name once, found {quoted(name)} twice")
        names.add(name)


def _check_offsets(archive: zipfile.ZipFile) -> None:
    end = 0
    for info in sorted(archive.infolist(), key=lambda info: info.header_offset):
        if info.header_offset < end:
            raise ModelError("expected members one after the other, found some that overlap")
        end = info.header_offset + LOCAL_HEADER + info.compress_size
    if end > archive.start_dir:
        raise ModelError("expected members one after the other, found one cut short")


def _accept_missing_checksums(archive: zipfile.ZipFile) -> None:
    """Check no checksums if all are 0: torch.serialization.set_crc32_options(False) omits them."""
    if not any(info.CRC for info in archive.infolist()):
        for info in archive.infolist():
            # zipfile compares the checksum only where there is one.
            del info.CRC


def _root(members: Mapping[str, zipfile.ZipInfo]) -> str:
    roots = [root for root, _, name in (n.partition("/") for n in members) if name == PICKLE]
    if len(roots) != 1:
        raise ModelError(f"expected one NAME/{PICKLE}, as torch writes, found {len(roots)}")
    return roots[0]


def _plain_member(members: Mapping[str, zipfile.ZipInfo], name: str) -> zipfile.ZipInfo:
    """Return a member that is neither compressed nor encrypted."""
    info = members.get(name)
    if info is None:
        raise ModelError(f"expected a member {quoted(name)}, found none")
    if info.flag_bits & 1:
        raise ModelError(f"expected plain members, found {quoted(name)} encrypted")
    if info.compress_type != zipfile.ZIP_STORED or info.compress_size != info.file_size:
        raise ModelError(f"expected plain members, found {quoted(name)} compressed")
    return info


def _text(
    archive: zipfile.ZipFile, members: Mapping[str, zipfile.ZipInfo], name: str, default: str
) -> str:
    """Return the text of a short member; some versions of torch omit some of these members."""
    if name not in members:
        return default
    info = _plain_member(members, name)
    if info.file_size > MAX_TEXT:
        raise ModelError(f"expected a word in {quoted(name)}, found {info.file_size} bytes")
    return _read(archive, info, 0, info.file_size).tobytes().decode("ascii").strip()


def _storage_member(
    members: Mapping[str, zipfile.ZipInfo], root: str, storage: Storage
) -> zipfile.ZipInfo:
    info = _plain_member(members, f"{root}/data/{storage.key}")
    if info.file_size != storage.nbytes:
        raise ModelError(
            f"expected a storage of {storage.nbytes} bytes, as its tensor describes it, found "
            f"{info.file_size} bytes in {quoted(info.filename)}"
        )
    return info


def _load(archive: zipfile.ZipFile, info: zipfile.ZipInfo, view: View) -> Array:
    return view.array(_read(archive, info, view.first_byte, view.nbytes))


def _read(archive: zipfile.ZipFile, info: zipfile.ZipInfo, start: int, count: int) -> Array:
    """Return a part of a member as uint8; read all of the member, which checks its checksum."""
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
