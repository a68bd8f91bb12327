"""A folder that is written completely or not at all, and only where nothing else is lost."""

import secrets
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

from gramstyle.errors import ModelError, OptionError
from gramstyle.system.files import check_folder


def resolved(folder: Path) -> Path:
    """Return the path of a folder without links; raise OptionError if a link is broken."""
    try:
        return folder.resolve()
    except (OSError, RuntimeError):
        raise OptionError(f"{folder} is a broken link; choose another folder") from None


def check_replaceable(folder: Path, is_known: Callable[[str], bool], what: str) -> None:
    """Raise an error if a folder cannot be written, or contains what may not be replaced.

    Parameters
    ----------
    folder
        The folder, which need not exist.
    is_known
        Whether a path below the folder may be replaced.
    what
        What the folder may contain, for the error.
    """
    check_folder(folder, error=OptionError)
    if folder.exists():
        _check_contents(folder, is_known, what)
    try:  # as `replace_folder` does
        temporary = _beside(folder, "part")
        temporary.mkdir()
        temporary.rmdir()
    except OSError as reason:
        raise OptionError(
            f"cannot write {folder}: {reason.strerror}; choose another folder"
        ) from None


def _check_contents(folder: Path, is_known: Callable[[str], bool], what: str) -> None:
    if not folder.is_dir():
        raise OptionError(f"{folder} exists and is not a folder; choose another name")
    try:
        paths = (path.relative_to(folder).as_posix() for path in folder.rglob("*"))
        # Stop at the first: the folder may be a home directory.
        other = next((path for path in paths if not is_known(path)), None)
    except OSError as reason:
        raise ModelError(f"cannot read {folder}: {reason.strerror}") from None
    if other is not None:
        raise OptionError(
            f"{folder} contains other things than {what}, for example {other}; choose an empty "
            "folder"
        )


def replace_folder(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write all files into a temporary folder beside this one, then rename it into place.

    Raises
    ------
    ModelError
        If that fails; the folder is then as it was.
    """
    try:
        _replace(folder, files)
    except OSError as reason:
        raise ModelError(f"cannot write {folder}: {reason.strerror}; nothing was written") from None


def _replace(folder: Path, files: Mapping[str, bytes]) -> None:
    temporary, old = _beside(folder, "part"), _beside(folder, "old")
    try:
        for name, data in files.items():
            path = temporary / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        if folder.exists():
            folder.rename(old)
        try:
            temporary.rename(folder)
        except BaseException:
            if old.exists():
                old.rename(folder)
            raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    shutil.rmtree(old, ignore_errors=True)


def _beside(folder: Path, suffix: str) -> Path:
    """Return a new name beside a folder."""
    return folder.with_name(f".gramstyle-{secrets.token_hex(8)}.{suffix}")
