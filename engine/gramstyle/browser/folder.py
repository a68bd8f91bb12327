"""Write a folder of files as a whole: a reader sees the old folder, or the complete new one."""

import json
import os
import shutil
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from gramstyle.errors import OptionError
from gramstyle.system.files import real_path, temporary_path
from gramstyle.system.signals import held_back

# The file that lists the files of a folder, and the key of the list.
SETTINGS, FILES = "settings.json", "files"


def check_web_folder(path: Path) -> None:
    """Check, before the work, that `write_web_folder` may write or replace a folder.

    Raises
    ------
    OptionError
        If its parent is missing or not writable, or it contains files of others.
    """
    target = real_path(path)
    if not target.parent.is_dir():
        raise OptionError(f"cannot write {path}: there is no folder {target.parent}; make it first")
    try:
        part = temporary_path(target.parent)
        part.mkdir()
        part.rmdir()
        if not target.exists():
            return
        if not target.is_dir():
            raise OptionError(f"{path} is a file; name a folder that does not exist")
        if Path.cwd().is_relative_to(target):
            raise OptionError(f"{path} is the current folder; go to another one, or name another")
        found = {
            each.relative_to(target).as_posix() for each in target.rglob("*") if not each.is_dir()
        }
        foreign = sorted(found - _files_of(target))
    except OSError as error:
        raise OptionError(f"cannot write {path}: {error.strerror}; name another folder") from None
    if foreign:
        raise OptionError(
            f"{path} contains {foreign[0]}, which this command has not written; name an empty or "
            "new folder, or remove it"
        )


def write_web_folder(path: Path, files: Mapping[str, bytes]) -> None:
    """Write files to a new folder, then put it in the place of the old one.

    Raises
    ------
    OptionError
        If the folder cannot be written; the old one is then unchanged.
    """
    check_web_folder(path)
    target = real_path(path)
    part = temporary_path(target.parent)
    try:
        for name, data in files.items():
            (part / name).parent.mkdir(parents=True, exist_ok=True)
            (part / name).write_bytes(data)
        _exchange(part, target)
    except OSError as error:
        raise OptionError(f"cannot write {path}: {error.strerror}; nothing was written") from None
    finally:
        shutil.rmtree(part, ignore_errors=True)


@held_back()
def _exchange(part: Path, target: Path) -> None:
    """Rename the new folder to its place; keep the old one if that fails."""
    if not target.exists():
        part.replace(target)
        return
    old = temporary_path(target.parent)
    target.replace(old)
    try:
        part.replace(target)
    except BaseException:
        old.replace(target)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _files_of(folder: Path) -> set[str]:
    """Return the files that a folder's settings list; none if it has no such settings."""
    with suppress(OSError, ValueError, KeyError, TypeError):
        listed = json.loads((folder / SETTINGS).read_bytes())[FILES]
        return {os.fspath(name) for name in listed}
    return set()
