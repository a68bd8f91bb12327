"""A small valid file, and the parts of it that its format protects by lengths and checksums."""

import io
import struct
import zipfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass

Files = Mapping[str, bytes]
Parts = tuple[bytes, ...]

PNG_HEAD = 8


@dataclass(frozen=True)
class Sample:
    """A file, or several in one folder.

    Attributes
    ----------
    name
        Its name in reports.
    files
        The bytes of each file, by name.
    parts
        What a length or a checksum in the files protects. Mutants of a part reach the code behind
        that check.
    assemble
        Returns the files with other parts, with right lengths and checksums.
    accepted
        Whether gramstyle reads the files; if not, it refuses them.
    """

    name: str
    files: Files
    parts: Parts = ()
    assemble: Callable[[Parts], Files] | None = None
    accepted: bool = True


def png_sample(name: str, data: bytes) -> Sample:
    """Return a PNG file; its parts are its chunks."""
    chunks, at = [], PNG_HEAD
    while at < len(data):
        (size,) = struct.unpack_from(">I", data, at)
        chunks.append(data[at + 4 : at + 8 + size])
        at += 12 + size

    def chunk(part: bytes) -> bytes:
        size = max(0, len(part) - 4)
        return struct.pack(">I", size) + part + struct.pack(">I", zlib.crc32(part))

    def assemble(parts: Parts) -> Files:
        return {name: data[:PNG_HEAD] + b"".join(map(chunk, parts))}

    return Sample(name, {name: data}, tuple(chunks), assemble)


def safetensors_sample(name: str, data: bytes) -> Sample:
    """Return a safetensors file; its part is its header, whose length comes before it."""
    end = 8 + int.from_bytes(data[:8], "little")

    def assemble(parts: Parts) -> Files:
        return {name: struct.pack("<Q", len(parts[0])) + parts[0] + data[end:]}

    return Sample(name, {name: data}, (data[8:end],), assemble)


def zip_sample(name: str, data: bytes, *, whole: bool = False) -> Sample:
    """Return a zip archive; its part is its first member, in torch's files the pickle.

    With `whole`, its parts are all its members.
    """
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = {each: archive.read(each) for each in archive.namelist()}
    parts = tuple(members.values())[: None if whole else 1]

    def assemble(parts: Parts) -> Files:
        packed = io.BytesIO()
        changed = dict(zip(members, parts, strict=False))
        with zipfile.ZipFile(packed, "w") as archive:
            for each, content in {**members, **changed}.items():
                archive.writestr(zipfile.ZipInfo(each), content)  # of a fixed date
        return {name: packed.getvalue()}

    return Sample(name, assemble(parts), parts, assemble)
