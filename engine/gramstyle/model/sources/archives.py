"""zip archives of other programs: checked before they are read, never unpacked to disk."""

import struct
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from gramstyle.core.arrays import Array
from gramstyle.errors import ModelError
from gramstyle.model.messages import quoted
from gramstyle.model.sources.bounded import CHUNK, BoundedReader

# A member takes at least 46 bytes of the table of contents, so there are fewer than 46,000.
MAX_CONTENTS = 2 * 1024 * 1024
LOCAL_HEADER = 30
# The lengths of the name and the extra field, which follow the local header.
LENGTHS = struct.Struct("<26x2H")


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


def plain_member(members: Mapping[str, zipfile.ZipInfo], name: str) -> zipfile.ZipInfo:
    """Return a member that is neither compressed nor encrypted."""
    info = members.get(name)
    if info is None:
        raise ModelError(f"expected a member {quoted(name)}, found none")
    if info.flag_bits & 1:
        raise ModelError(f"expected plain members, found {quoted(name)} encrypted")
    if info.compress_type != zipfile.ZIP_STORED or info.compress_size != info.file_size:
        raise ModelError(
            f"expected plain members, found {quoted(name)} compressed; use the file as it was saved"
        )
    return info


def read_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo, start: int, count: int) -> Array:
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


def member_span(path: Path, archive: zipfile.ZipFile, name: str) -> tuple[int, int]:
    """Return the offset in the file and the size of a plain member, whose checksum is checked."""
    info = plain_member({info.filename: info for info in archive.infolist()}, name)
    read_member(archive, info, 0, 0)
    with path.open("rb") as stream:
        stream.seek(info.header_offset)
        lengths = LENGTHS.unpack(stream.read(LENGTHS.size))
    return info.header_offset + LOCAL_HEADER + sum(lengths), info.file_size
