"""Check, before the work, that a file can be written after it."""

import os
import re
from pathlib import Path

from gramstyle.errors import GramstyleError
from gramstyle.system.files import (
    NO_NEW_FILE,
    check_folder,
    check_regular,
    real_path,
    temporary_path,
)


def check_file(path: Path, *, error: type[GramstyleError]) -> None:
    """Check, before the work, that `write_atomically` can write an output file.

    Raises
    ------
    GramstyleError
        Of the type given, if it cannot.
    """
    check_folder(path, error=error)
    try:
        check_replaceable(real_path(path))
    except OSError as reason:
        raise error(f"cannot write {path}: {reason.strerror}; choose another name") from None


def check_replaceable(target: Path) -> None:
    """Check, before the work, that `replace_file` can write a file; leave no trace.

    Raises
    ------
    OSError
        If it cannot.
    """
    exists = check_regular(target)
    try:
        part = temporary_path(target.parent)
        part.touch(exist_ok=False)
        part.unlink()
    except OSError as reason:
        if not (exists and reason.errno in NO_NEW_FILE):
            raise
        with target.open("r+b"):
            return
    if exists:
        try:
            target.open("r+b").close()
        except OSError:
            if not _can_be_renamed_over(target):
                raise


def _can_be_renamed_over(target: Path) -> bool:
    """Return whether a file that is not writable may be replaced by another one."""
    if _is_mounted(target):
        return False
    # The system checks its rules for removing an entry (permissions, sticky folders, immutable
    # files) before it notices that a file is no folder, and removes nothing.
    try:
        target.rmdir()
    except NotADirectoryError:
        return True
    except OSError:
        return False
    return True


def _is_mounted(target: Path) -> bool:
    """Return whether a file is itself a mount point, as in a container (on Linux)."""
    try:
        lines = Path("/proc/self/mountinfo").read_bytes().splitlines()
    except OSError:
        return False
    place = os.fsencode(real_path(target))
    return any(_unescaped(line.split(b" ")[4]) == place for line in lines)


def _unescaped(field: bytes) -> bytes:
    """Return a path of mountinfo, in which blanks and backslashes are octal numbers."""
    return re.sub(rb"\\([0-7]{3})", lambda match: bytes([int(match[1], 8)]), field)
