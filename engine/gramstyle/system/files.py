"""Files that appear whole or not at all."""

import errno
import os
import secrets
import stat
from pathlib import Path

from gramstyle.errors import GramstyleError


def replace_file(target: Path, data: bytes) -> None:
    """Write a file under a passing name beside its place, then rename it into place.

    Whatever happens, a reader sees the old file or the new one, and nothing is left behind. A
    file that is replaced keeps its permissions.

    Raises
    ------
    OSError
        If the file cannot be written (no such folder, no permission, no space left), or the
        name is that of a folder, a pipe or a device.
    """
    if target.exists() and not target.is_file():
        raise OSError(errno.EINVAL, "it is there and is not a file")
    part = target.with_name(f".gramstyle-{secrets.token_hex(8)}.part")
    try:
        # Not by tempfile, whose files nobody else may read: here the umask decides.
        with part.open("xb") as file:
            if target.exists():
                part.chmod(stat.S_IMODE(target.stat().st_mode))
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        part.replace(target)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def write_atomically(path: Path, data: bytes, *, error: type[GramstyleError]) -> None:
    """Do what `replace_file` does, and say in one line what stopped it.

    Raises
    ------
    GramstyleError
        Of the type given, if the file cannot be written.
    """
    try:
        replace_file(path, data)
    except OSError as reason:
        raise error(f"cannot write {path}: {reason.strerror}; nothing was written") from None


def check_folder(path: Path, *, error: type[GramstyleError]) -> None:
    """Refuse to start on a file that could not be written in the end.

    Raises
    ------
    GramstyleError
        Of the type given, if there is no folder for it.
    """
    if not path.parent.is_dir():
        raise error(f"cannot write {path}: there is no folder {path.parent}; make it first")
