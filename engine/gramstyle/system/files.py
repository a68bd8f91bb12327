"""Write files atomically: a reader sees the old file or the complete new one."""

import errno
import os
import re
import secrets
import stat
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from gramstyle.errors import GramstyleError
from gramstyle.system.signals import held_back

# The names of temporary files, by which those of a killed process are recognised.
TEMPORARY_NAME = re.compile(r"\.gramstyle-[0-9a-f]{16}\.part")


# The errors of a file system that lacks an operation: a share may have no fsync, for example.
UNSUPPORTED = frozenset({errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP})
# The errors of a folder in which no file can be created, and of a file that cannot be renamed to
# another, though that may be writable: it is mounted, or a sticky folder belongs to another user.
NO_NEW_FILE = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})
_NO_RENAME = UNSUPPORTED | {errno.EACCES, errno.EPERM, errno.EBUSY, errno.EEXIST, errno.EXDEV}


def temporary_path(folder: Path) -> Path:
    """Return a new path for a temporary file in a folder."""
    return folder / f".gramstyle-{secrets.token_hex(8)}.part"


class HalfWrittenError(OSError):
    """A file could be neither overwritten nor restored; its message names the new content."""

    def __init__(self, problem: BaseException, part: Path) -> None:
        """Describe what happened while the old content was restored."""
        reason = getattr(problem, "strerror", None) or "interrupted"
        kept = f"; the new content is in {part}" if part.exists() else ""
        super().__init__(getattr(problem, "errno", None) or errno.EINTR, f"{reason}{kept}")


@held_back()
def replace_file(target: Path, data: bytes) -> None:
    """Write a temporary file in the same folder, then rename it to the target.

    A reader sees the old file or the new one at every moment, and a failure leaves no temporary
    file behind. A replaced file keeps its permissions. The new file survives a power cut.

    Where that is impossible (a folder that is read-only or a mounted file, for example), the
    target is overwritten; if that fails, its old content is restored. A process that is killed
    meanwhile leaves the complete new content in the temporary file, if the folder can hold one.

    Raises
    ------
    OSError
        If the file cannot be written (no such folder, no permission, no space left), or the
        target is a folder, a pipe or a device.
    """
    exists = check_regular(target)
    part = temporary_path(target.parent)
    try:
        try:
            _write_beside(target, data, part)
            part.replace(target)
        except OSError as reason:
            impossible = _NO_RENAME if part.exists() else NO_NEW_FILE if exists else ()
            if reason.errno not in impossible:
                raise
            _overwrite(target, data, part)
            _discard(part)
    except HalfWrittenError:  # the temporary file has the new content
        raise
    except BaseException:
        _discard(part)
        raise
    sync_folder(target.parent)


def _discard(part: Path) -> None:
    """Remove a temporary file if there is one; a read-only folder refuses even if there is none."""
    with suppress(OSError):
        part.unlink()


def check_regular(target: Path) -> bool:
    """Return whether a file exists; raise OSError if it is a folder, a pipe or a device."""
    try:
        status = target.stat()
    except FileNotFoundError:
        return False
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "it exists and is not a file")
    return True


def _write_beside(target: Path, data: bytes, part: Path) -> None:
    """Write a temporary file with the permissions of the target, if that exists."""
    # Not tempfile, whose files only their owner may read; here the umask decides.
    with part.open("xb") as file:
        if target.exists():
            _copy_mode(target, part)
        file.write(data)
        file.flush()
        sync(file.fileno())


def _copy_mode(source: Path, target: Path) -> None:
    mode = stat.S_IMODE(source.stat().st_mode)
    try:
        target.chmod(mode)
    except OSError as reason:  # some shares give all files the same permissions
        if reason.errno not in (*UNSUPPORTED, errno.EPERM, errno.EACCES):
            raise


def _overwrite(target: Path, data: bytes, part: Path) -> None:
    """Write over the bytes of a file, or create it; restore the old content after a failure."""
    existed = target.exists()
    with target.open("r+b" if existed else "x+b") as file:
        old = file.read()
        try:
            _fill(file, data)
        except BaseException:
            try:
                _fill(file, old)
            except BaseException as problem:
                raise HalfWrittenError(problem, part) from None
            if not existed:
                target.unlink()
            raise


def _fill(file: BinaryIO, data: bytes) -> None:
    file.seek(0)
    file.write(data)  # before the rest is cut off, so that there is room to restore it
    file.truncate()
    file.flush()
    sync(file.fileno())


def sync(handle: int) -> None:
    """Sync an open file, or an open folder, to the disk, where the file system supports it."""
    try:
        os.fsync(handle)
    except OSError as reason:
        if reason.errno not in UNSUPPORTED:
            raise


def sync_folder(folder: Path) -> None:
    """Sync a folder's entries to the disk, so that a renamed file survives a power cut.

    Does nothing where the system cannot: on Windows, or without permission to list the folder.
    """
    if os.name == "nt":
        return
    try:
        handle = os.open(folder, os.O_RDONLY)
    except PermissionError:
        return
    try:
        sync(handle)
    finally:
        os.close(handle)


def write_atomically(path: Path, data: bytes, *, error: type[GramstyleError]) -> None:
    """Call `replace_file` and report a failure in one line; follow symbolic links.

    Raises
    ------
    GramstyleError
        Of the type given, if the file cannot be written.
    """
    try:
        replace_file(real_path(path), data)
    except OSError as reason:
        raise error(f"cannot write {path}: {reason.strerror}; nothing was written") from None


def real_path(path: str | os.PathLike[str]) -> Path:
    """Return the path to which symbolic links lead; unlike `Path.resolve`, raise no error.

    A link that leads to itself stays in the path, where reading or writing it is an OSError.
    """
    return Path(os.path.realpath(path))


def is_same_place(a: str | os.PathLike[str], b: str | os.PathLike[str]) -> bool:
    """Return whether writing to one path changes what is read from the other.

    They are names of one file, as for `is_same_file`, or of one file that does not exist yet.
    """
    return is_same_file(a, b) or real_path(a) == real_path(b)


def is_same_file(a: str | os.PathLike[str], b: str | os.PathLike[str]) -> bool:
    """Return whether two paths name the same existing file, following symbolic and hard links."""
    try:
        return Path(a).samefile(b)
    except (OSError, ValueError):  # one of the two does not exist, so they differ
        return False


def check_folder(path: Path, *, error: type[GramstyleError]) -> None:
    """Check, before the work, that the folder of an output file exists.

    Raises
    ------
    GramstyleError
        Of the type given, if it does not, or if the system refuses the path.
    """
    try:
        folder = real_path(path).parent if path.is_symlink() else path.parent
        is_there = folder.is_dir()
    except OSError as reason:  # the name is too long, or a folder may not be searched
        raise error(f"cannot write {path}: {reason.strerror}; choose another name") from None
    if not is_there:
        raise error(f"cannot write {path}: there is no folder {folder}; make it first")
