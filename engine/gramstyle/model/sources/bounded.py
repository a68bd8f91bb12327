"""Reads from untrusted files, which must not decide how much memory a read takes."""

import io
from typing import IO

from gramstyle.core.arrays import Array
from gramstyle.errors import ModelError

CHUNK = 1024 * 1024


class BoundedReader:
    """A stream that refuses large reads.

    It serves parsers that read as many bytes as the file tells them to: zipfile reads a whole
    table of contents at once, tarfile a whole extended header, pickletools a whole string. It
    limits the bytes of one read, and of all reads; `content` is the name of the data in errors.
    """

    def __init__(
        self,
        stream: IO[bytes] | io.BufferedIOBase,
        content: str,
        *,
        per_read: int,
        in_total: int | None = None,
    ) -> None:
        self._stream, self._content = stream, content
        self._per_read, self._in_total = per_read, in_total
        self._total = 0
        self.seek, self.tell, self.seekable = stream.seek, stream.tell, stream.seekable

    def read(self, size: int | None = -1) -> bytes:
        """Read as a file does; raise ModelError if the read or the total is too large."""
        if size is None or size < 0:
            at = self.tell()
            size = self.seek(0, io.SEEK_END) - at
            self.seek(at)
        if size > self._per_read:
            raise ModelError(
                f"expected {self._content} of at most {self._per_read} bytes, found {size}"
            )
        return self._counted(self._stream.read(size))

    def readline(self) -> bytes:
        """Read a line, or the part of it that one read may take."""
        return self._counted(self._stream.readline(self._per_read))

    def _counted(self, data: bytes) -> bytes:
        self._total += len(data)
        if self._in_total is not None and self._total > self._in_total:
            raise ModelError(
                f"expected {self._content} of at most {self._in_total} bytes in total, found more"
            )
        return data


def read_into(target: Array, stream: IO[bytes] | io.BufferedIOBase, start: int) -> None:
    """Fill a uint8 vector from `start` on; raise ModelError if the stream ends before."""
    stream.seek(start)
    if stream.readinto(target.data) != target.size:  # type: ignore[union-attr]
        raise ModelError("expected complete tensors, found one cut short")


def read_limited(stream: IO[bytes], limit: int, content: str) -> bytes:
    """Read a compressed stream to its end; raise ModelError if it has more than `limit` bytes.

    The chunks bound the memory of the decompressor.
    """
    data = bytearray()
    while chunk := stream.read(CHUNK):
        data += chunk
        if len(data) > limit:
            raise ModelError(f"expected at most {limit} bytes in {content}, found more")
    return bytes(data)
