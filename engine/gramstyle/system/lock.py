"""Locks that keep two processes from writing the same file, or to the same folder, at once."""

import errno
import os
import re
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import FileIO
from pathlib import Path

from gramstyle.errors import GramstyleError

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

# The name of the lock file in a folder that one process owns.
IN_FOLDER = ".gramstyle.lock"
# On Windows this byte is locked, far after the text in the file, which stays readable.
LOCKED_BYTE = 2**30
# How often a lock file is opened again that another process has just removed.
ATTEMPTS = 3

PROCESS_ID = re.compile(rb"[0-9]{1,18}")
# Some network file systems have no locks, and some folders take no new file. Work that is possible
# there must not fail for that.
# NFS locks only files that are open for writing (EBADF). A name may be too long with the ending.
_NO_LOCKS = (errno.ENOTSUP, errno.ENOSYS, errno.ENOLCK, errno.EINVAL, errno.EBADF)
_NO_NEW_FILE = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENAMETOOLONG)
# Other users must be able to open a lock file, whatever the umask is, to see that it is locked.
_MODE = 0o644


@contextmanager
def locked(target: Path, *, error: type[GramstyleError], action: str) -> Iterator[None]:
    """Hold the lock of a file or folder, so that no other process writes to it.

    The operating system's lock is on a file that holds this process's id. The lock ends with the
    process, even when the process is killed, and the next process takes the file over. Where no
    lock file can be created, or the file system has no locks, there is no lock.

    Parameters
    ----------
    target
        A folder, in which the lock file is; or a file, beside which it is.
    error
        The type of the errors.
    action
        What the holder of the lock does, and the remedy, for the message "another process …".

    Raises
    ------
    GramstyleError
        Of the type given, if another process holds the lock, or the lock file cannot be created
        for another reason than permissions.
    """
    path = target / IN_FOLDER if target.is_dir() else target.with_name(f"{target.name}.lock")
    stream: FileIO | None
    try:
        stream = _acquired(path)
    except _HeldError as held:
        raise error(f"another process{held} {action}") from None
    except _NotAFileError:
        raise error(f"{path} exists and is not a regular file; move it away") from None
    except OSError as reason:
        if reason.errno not in _NO_NEW_FILE:
            raise error(f"cannot write {path}: {reason.strerror}") from None
        stream = None
    try:
        yield
    finally:
        if stream is not None:
            with stream, suppress(OSError):  # Windows does not remove a file that is open
                path.unlink()


def try_lock(stream: FileIO) -> None:
    """Lock a file without waiting; raise BlockingIOError or PermissionError if it is locked."""
    if sys.platform == "win32":
        stream.seek(LOCKED_BYTE)
        msvcrt.locking(stream.fileno(), msvcrt.LK_NBLCK, 1)
    else:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)


class _HeldError(Exception):
    """Another process holds the lock; the text names its id if it is known."""


class _NotAFileError(Exception):
    """Something else has the lock file's name: a folder, a pipe or a link."""


def _acquired(path: Path) -> FileIO:
    """Return the lock file, locked, with this process's id in it."""
    for _ in range(ATTEMPTS):
        stream = _opened(path)
        try:
            if _is_locked(stream, path):
                with suppress(OSError):  # on a full disk the lock holds without the id
                    stream.truncate(0)
                    stream.write(str(os.getpid()).encode())
                    if os.chmod in os.supports_fd:
                        os.chmod(stream.fileno(), _MODE)  # noqa: PTH101 - not by its name
                return stream
        except BaseException:
            stream.close()
            raise
        stream.close()
    raise _HeldError("")


def _opened(path: Path) -> FileIO:
    """Open a lock file, which is created if it is missing."""
    # Opening a link would overwrite the file it leads to; opening a pipe would block. One lstat
    # and no second look, because another process may remove the file in between.
    with suppress(FileNotFoundError):
        if not stat.S_ISREG(path.lstat().st_mode):
            raise _NotAFileError
    try:
        return FileIO(path, "a+")
    except PermissionError:
        if not path.exists():
            raise
        return FileIO(path)  # another user's; it can be locked, but not written


def _is_locked(stream: FileIO, path: Path) -> bool:
    """Lock the file; return False if the lock's file has been removed in the meantime."""
    try:
        try_lock(stream)
    except (BlockingIOError, PermissionError):
        stream.seek(0)
        holder = stream.read(20)
        known = PROCESS_ID.fullmatch(holder)
        raise _HeldError(f" (process id {holder.decode()})" if known else "") from None
    except OSError as reason:
        if reason.errno not in _NO_LOCKS:
            raise
    # A lock on a removed file excludes no other process.
    with suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(stream.fileno()), path.stat())
    return False
