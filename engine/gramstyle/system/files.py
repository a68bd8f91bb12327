"""Write files atomically: a reader sees the old file or the complete new one."""

import errno
import os
import re
import secrets
import stat
from pathlib import Path

from gramstyle.errors import GramstyleError
from gramstyle.system.signals import held_back

# The names of temporary files, by which those of a killed process are recognised.
TEMPORARY_NAME = re.compile(r"\.gramstyle-[0-9a-f]{16}\.part")


def temporary_path(folder: Path) -> Path:
    """Return a new path for a temporary file in a folder."""
    return folder / f".gramstyle-{secrets.token_hex(8)}.part"


@held_back()
def replace_file(target: Path, data: bytes) -> None:
    """Write a temporary file in the same folder, then rename it to the target.

    A reader sees the old file or the new one at every moment, and a failure leaves no temporary
    file behind. A replaced file keeps its permissions.

    Raises
    ------
    OSError
        If the file cannot be written (no such folder, no permission, no space left), or the
        target is a folder, a pipe or a device.
    """
    if target.exists() and not target.is_file():
        raise OSError(errno.EINVAL, "it exists and is not a file")
    part = temporary_path(target.parent)
    try:
        # Not tempfile, whose files only their owner may read; here the umask decides.
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
    """Call `replace_file` and report a failure in one line.

    Raises
    ------
    GramstyleError
        Of the type given, if the file cannot be written.
    """
    try:
        replace_file(path, data)
    except OSError as reason:
        raise error(f"cannot write {path}: {reason.strerror}; nothing was written") from None


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
        Of the type given, if it does not.
    """
    if not path.parent.is_dir():
        raise error(f"cannot write {path}: there is no folder {path.parent}; make it first")
