"""Read the code points for colour in PNG and AVIF files, which Pillow ignores."""

import struct
from collections.abc import Iterator
from typing import IO

from gramstyle.images.colour.space import CodePoints

# The most bytes of metadata that are searched in an AVIF file, and chunks in a PNG file.
_MOST_BYTES, _MOST_CHUNKS = 1_000_000, 1000
_NCLX = b"colrnclx"


def read_code_points(file: IO[bytes], format_name: str) -> CodePoints | None:
    """Return the code points of a PNG or AVIF file; None if it has none that are valid."""
    if format_name == "PNG":
        return _of_png(file)
    if format_name == "AVIF":
        return _of_avif(file)
    return None


def _of_png(file: IO[bytes]) -> CodePoints | None:
    """Return the code points of the chunk cICP, which comes before the pixels."""
    file.seek(8)
    for _ in range(_MOST_CHUNKS):
        head = file.read(8)
        if len(head) < 8 or head[4:] == b"IDAT":
            return None
        (length,) = struct.unpack(">I", head[:4])
        if head[4:] == b"cICP":
            data = file.read(4)
            if length != 4 or len(data) < 4 or data[2]:  # RGB has the matrix 0
                return None
            return CodePoints(data[0], data[1], full_range=bool(data[3]))
        file.seek(length + 4, 1)
    return None


def _of_avif(file: IO[bytes]) -> CodePoints | None:
    """Return the code points of the property "nclx"; None if several of them differ.

    The decoder itself converts a narrow range to the full one.
    """
    found = set()
    for box in _boxes(file):
        place = box.find(_NCLX)
        while place >= 0:
            numbers = box[place + len(_NCLX) : place + len(_NCLX) + 4]
            if len(numbers) == 4:
                found.add(CodePoints(*struct.unpack(">HH", numbers)))
            place = box.find(_NCLX, place + 1)
    return found.pop() if len(found) == 1 else None


def _boxes(file: IO[bytes]) -> Iterator[bytes]:
    """Yield the "meta" box among the first boxes of an AVIF file."""
    file.seek(0)
    for _ in range(8):
        head = file.read(8)
        if len(head) < 8:
            return
        (length,) = struct.unpack(">I", head[:4])
        if head[4:] == b"meta":
            yield file.read(min(length, _MOST_BYTES))
            return
        if length < 8:
            return
        file.seek(length - 8, 1)
