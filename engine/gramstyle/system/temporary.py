"""Folders for temporary files, which a run asks for only when it writes such files."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gramstyle.errors import GramstyleError


def temporary_folder() -> Path:
    """Return the folder for temporary files.

    Raises
    ------
    GramstyleError
        If there is none that can be written.
    """
    try:
        return Path(tempfile.gettempdir())
    except FileNotFoundError:
        raise GramstyleError(
            "there is no folder for temporary files; set TMPDIR to one that can be written"
        ) from None


def scratch_folder() -> Path:
    """Return the folder for large temporary files: TMPDIR, else a folder that is on disk.

    `/tmp` is in memory on many systems, `/var/tmp` never is. Raises as `temporary_folder` does.
    """
    if "TMPDIR" not in os.environ and os.access("/var/tmp", os.W_OK):  # noqa: S108 - so meant
        return Path("/var/tmp")  # noqa: S108
    return temporary_folder()


@contextmanager
def temporary_directory() -> Iterator[Path]:
    """Make a folder for temporary files, and remove it at the end.

    Raises
    ------
    GramstyleError
        If it cannot be made.
    """
    parent = temporary_folder()
    try:
        folder = tempfile.TemporaryDirectory(prefix="gramstyle-", dir=parent)
    except OSError as error:
        raise GramstyleError(
            f"cannot make a folder in {parent}: {error.strerror}; set TMPDIR to another one"
        ) from None
    with folder as name:
        yield Path(name)
