"""A download on disk: what has arrived, its hash, and the lock that keeps others away."""

import hashlib
import os
import re
import stat
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from io import FileIO
from pathlib import Path
from typing import Self

from gramstyle.errors import ModelError
from gramstyle.model.published import PublicFile

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

NUMBER = re.compile(r"[0-9]{1,18}")
# On Windows this byte is locked, far behind anything in the file.
LOCKED_BYTE = 2**30


def is_there(file: PublicFile, target: Path) -> bool:
    """Say whether the file is there; raises ModelError if anything else is."""
    if not os.path.lexists(target):
        return False
    with on_disk(target, "read"):
        is_file = target.is_file()
    if not is_file:
        raise ModelError(f"{target} is there and is not a file; move it away")
    with on_disk(target, "read"), target.open("rb") as stream:
        found = hashlib.file_digest(stream, hash_of(file)).hexdigest()
    if not file.is_digest(found):
        raise ModelError(
            f"{target} is there and is not the published file: expected {expected_digest(file)}, "
            f"found {found}; move it away, or choose another name"
        )
    return True


def beside(target: Path, suffix: str) -> Path:
    """Return the name of a passing file; raises ModelError where that is not for a plain file."""
    path = target.with_name(target.name + suffix)
    # What a link leads to would be overwritten, and a pipe would be waited for. It is looked at
    # once, because another process may remove it between two looks.
    with on_disk(path), suppress(FileNotFoundError):
        if not stat.S_ISREG(path.lstat().st_mode):
            raise ModelError(f"{path} is there and is not a plain file; move it away")
    return path


def hash_of(file: PublicFile) -> "Callable[[], hashlib._Hash]":
    """Return what begins a hash of the kind that is published."""
    return partial(hashlib.new, file.algorithm, usedforsecurity=False)


def expected_digest(file: PublicFile) -> str:
    """Return the published digest as text, with an ellipsis where not all of it is published."""
    whole = len(file.digest) == 2 * hash_of(file)().digest_size
    return f"{file.algorithm} {file.digest}{'' if whole else '…'}"


@contextmanager
def on_disk(path: Path, what: str = "write", then: str = "") -> Iterator[None]:
    """Say in one line what the disk refused, and what then."""
    try:
        yield
    except OSError as error:
        raise ModelError(f"cannot {what} {path}: {error.strerror}{then}") from None


@contextmanager
def alone(target: Path) -> Iterator[None]:
    """Keep every other process from fetching the same file meanwhile.

    The lock is the system's, on a file that holds this process's number: it ends with the
    process, however that ends.

    Raises
    ------
    ModelError
        If another process is at it.
    """
    path = beside(target, ".lock")
    with on_disk(path):
        stream = path.open("a+b", buffering=0)
    with stream:
        try:
            _lock(stream)
            # One that another process has removed since it was opened keeps nobody away.
            held = os.path.samestat(os.fstat(stream.fileno()), path.stat())
        except (BlockingIOError, PermissionError, FileNotFoundError):
            held = False
        except OSError as error:
            raise ModelError(f"cannot lock {path}: {error.strerror}") from None
        if not held:
            stream.seek(0)
            holder = stream.read(20).decode("ascii", "replace")
            number = f" (number {holder})" if NUMBER.fullmatch(holder) else ""
            raise ModelError(
                f"another process{number} is downloading {target}; wait until it is done, or "
                "choose another name"
            )
        with on_disk(path):
            stream.truncate(0)
            stream.write(str(os.getpid()).encode())
        try:
            yield
        finally:
            with suppress(OSError):  # Windows does not remove what is open
                path.unlink()


def _lock(stream: FileIO) -> None:
    """Lock a file without waiting; raises BlockingIOError or PermissionError if another has."""
    if sys.platform == "win32":
        # A byte far behind the text, which stays readable so.
        stream.seek(LOCKED_BYTE)
        msvcrt.locking(stream.fileno(), msvcrt.LK_NBLCK, 1)
    else:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)


class Part:
    """What has arrived of a file, on disk, and its hash.

    Attributes
    ----------
    size
        How many bytes are there.
    joined
        Whether they came over more than one connection.
    """

    def __init__(self, path: Path, file: PublicFile) -> None:
        self._path, self._file = path, file
        with on_disk(path):
            # Without a buffer, what has arrived is with the system however this process ends,
            # and nothing is left to write, and to fail, when the file is closed.
            self._stream = path.open("a+b", buffering=0)
            self._stream.seek(0)
            self._hash = hashlib.file_digest(self._stream, hash_of(file))
            self.size = self._stream.tell()
        self.joined = self.size > 0

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, *_exception: object) -> None:
        """Close the file, and remove it where it holds nothing."""
        self._stream.close()
        if not self.size:
            with suppress(OSError):
                self._path.unlink()

    def append(self, data: bytes) -> None:
        """Write what has arrived."""
        with on_disk(self._path, then=f"; {self.kept()}"):
            written = 0
            while written < len(data):
                written += self._stream.write(memoryview(data)[written:])
        self._hash.update(data)
        self.size += len(data)

    def restart(self) -> None:
        """Forget everything."""
        with on_disk(self._path):
            self._stream.truncate(0)
        self._hash, self.size, self.joined = hash_of(self._file)(), 0, False

    def is_whole(self) -> bool:
        """Say whether the published file is there, and if so see it safely on disk."""
        if not self._file.is_digest(self.hexdigest()):
            return False
        with on_disk(self._path, then=f"; {self.kept()}"):
            os.fsync(self._stream.fileno())
        return True

    def hexdigest(self) -> str:
        """Return the digest of what is there."""
        return self._hash.hexdigest()

    def kept(self) -> str:
        """Return how far it got, and how to go on."""
        if not self.size:
            return (
                "nothing is kept; try again later, or get it in another way and give it as: "
                "gramstyle model export --from FILE"
            )
        of = f" of {self._file.size:,}" if self._file.size else ""
        return (
            f"{self.size:,}{of} bytes are kept in {self._path}, and the same command goes on "
            "from there"
        )
