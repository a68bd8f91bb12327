"""A lock that keeps two processes from downloading the same file at once."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import FileIO
from pathlib import Path

from gramstyle.errors import ModelError
from gramstyle.model.fetch.partial import NUMBER, report_disk_errors, sibling

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

# On Windows this byte is locked, far behind the text in the file, which stays readable.
LOCKED_BYTE = 2**30


@contextmanager
def locked(target: Path) -> Iterator[None]:
    """Hold the lock on a download.

    The operating system's lock is on a file that holds this process's id, so the lock ends with
    the process, even when the process is killed.

    Raises
    ------
    ModelError
        If another process holds the lock.
    """
    path = sibling(target, ".lock")
    with report_disk_errors(path):
        stream = path.open("a+b", buffering=0)
    with stream:
        try:
            try_lock(stream)
            # Another process may have removed the file after it was opened here; a lock on a
            # removed file excludes no other process.
            is_held = os.path.samestat(os.fstat(stream.fileno()), path.stat())
        except (BlockingIOError, PermissionError, FileNotFoundError):
            is_held = False
        except OSError as error:
            raise ModelError(f"cannot lock {path}: {error.strerror}") from None
        if not is_held:
            stream.seek(0)
            holder = stream.read(20).decode("ascii", "replace")
            number = f" (process id {holder})" if NUMBER.fullmatch(holder) else ""
            raise ModelError(
                f"another process{number} is downloading {target}; wait until it has finished, or "
                "choose another name"
            )
        with report_disk_errors(path):
            stream.truncate(0)
            stream.write(str(os.getpid()).encode())
        try:
            yield
        finally:
            with suppress(OSError):  # Windows does not remove a file that is open
                path.unlink()


def try_lock(stream: FileIO) -> None:
    """Lock a file without waiting; raise BlockingIOError or PermissionError if it is locked."""
    if sys.platform == "win32":
        stream.seek(LOCKED_BYTE)
        msvcrt.locking(stream.fileno(), msvcrt.LK_NBLCK, 1)
    else:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
