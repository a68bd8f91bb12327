"""A download on disk: the bytes received so far and their digest."""

import hashlib
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Self

from gramstyle.errors import ModelError
from gramstyle.model.published import PublicFile
from gramstyle.system.files import sync

NUMBER = re.compile(r"[0-9]{1,18}")


def is_downloaded(file: PublicFile, target: Path) -> bool:
    """Return whether the target is the published file; raise ModelError for any other file."""
    if not os.path.lexists(target):
        return False
    with report_disk_errors(target, "read"):
        is_file = target.is_file()
    if not is_file:
        raise ModelError(f"{target} exists and is not a file; move it away")
    with report_disk_errors(target, "read"), target.open("rb") as stream:
        found = hashlib.file_digest(stream, file.new_hash).hexdigest()
    if not file.is_digest(found):
        raise ModelError(
            f"{target} exists and is not the published file: expected {file.digest_text}, "
            f"found {found}; move it away, or choose another name"
        )
    return True


def sibling(target: Path, suffix: str) -> Path:
    """Return the path of a temporary file beside the target.

    Raise ModelError if something other than a regular file has that name.
    """
    path = target.with_name(target.name + suffix)
    # Opening a link would overwrite the file it leads to; opening a pipe would block. One lstat
    # and no second look, because another process may remove the file in between.
    with report_disk_errors(path), suppress(FileNotFoundError):
        if not stat.S_ISREG(path.lstat().st_mode):
            raise ModelError(f"{path} exists and is not a regular file; move it away")
    return path


@contextmanager
def report_disk_errors(path: Path, action: str = "write", remedy: str = "") -> Iterator[None]:
    """Turn an OSError into a ModelError of one line, which ends with the remedy."""
    try:
        yield
    except OSError as error:
        raise ModelError(f"cannot {action} {path}: {error.strerror}{remedy}") from None


class PartialFile:
    """The received part of a file, on disk, and its running digest.

    Attributes
    ----------
    size
        Number of bytes received.
    is_joined
        Whether they came over more than one connection.
    """

    def __init__(self, path: Path, file: PublicFile) -> None:
        self._path, self._file = path, file
        with report_disk_errors(path):
            # Without a buffer, received bytes reach the operating system even if this process is
            # killed, and closing the file cannot fail on bytes that are still to be written.
            self._stream = path.open("a+b", buffering=0)
            self._stream.seek(0)
            self._hash = hashlib.file_digest(self._stream, file.new_hash)
            self.size = self._stream.tell()
        self.is_joined = self.size > 0

    def __enter__(self) -> Self:
        """Return the file itself."""
        return self

    def __exit__(self, *_exception: object) -> None:
        """Close the file; remove it if it is empty."""
        self._stream.close()
        if not self.size:
            with suppress(OSError):
                self._path.unlink()

    def append(self, data: bytes) -> None:
        """Write received bytes at the end."""
        with report_disk_errors(self._path, remedy=f"; {self.resume_hint()}"):
            written = 0
            while written < len(data):
                written += self._stream.write(memoryview(data)[written:])
        self._hash.update(data)
        self.size += len(data)

    def restart(self) -> None:
        """Discard all received bytes."""
        with report_disk_errors(self._path):
            self._stream.truncate(0)
        self._hash, self.size, self.is_joined = self._file.new_hash(), 0, False

    def is_complete(self) -> bool:
        """Return whether this is the published file; if so, flush it to the disk first."""
        if not self._file.is_digest(self.hexdigest()):
            return False
        with report_disk_errors(self._path, remedy=f"; {self.resume_hint()}"):
            sync(self._stream.fileno())
        return True

    def hexdigest(self) -> str:
        """Return the digest of the received bytes."""
        return self._hash.hexdigest()

    def resume_hint(self) -> str:
        """Return how much was received and how to resume the download."""
        if not self.size:
            return (
                "nothing was saved; try again later, or obtain the file in another way and run: "
                "gramstyle model export --from FILE"
            )
        total = f" of {self._file.size:,}" if self._file.size else ""
        return (
            f"{self.size:,}{total} bytes are saved in {self._path}; run the same command again to "
            "resume"
        )
