"""Copies of a run's images in its checkpoint's folder.

A checkpoint may come from somebody else, and a path in it could lead anywhere. It therefore
contains no paths: the images are read from the folder itself.
"""

import re
import secrets
import shutil
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from gramstyle.run.checkpoint.problems import (
    COPY_AGAIN,
    START_AGAIN,
    CheckpointError,
    refuse,
    shown,
)
from gramstyle.system import files

# Each run has a folder of its own, so that a new run leaves the images of the former one in place
# until its first checkpoint is complete.
FOLDER = re.compile(r"inputs-[0-9a-f]{16}")


def copy_inputs(folder: Path, sources: Mapping[str, Path]) -> tuple[str, dict[str, str]]:
    """Copy image files into a new folder in a checkpoint's folder.

    Parameters
    ----------
    folder
        The checkpoint's folder.
    sources
        The image files by role, which is the name of a folder.

    Returns
    -------
    str, dict
        The new folder's name, and the names of the copies by role.

    Raises
    ------
    CheckpointError
        If a file cannot be read or written.
    """
    inputs = folder / f"inputs-{secrets.token_hex(8)}"
    names = {role: plain_name(source.name, role) for role, source in sources.items()}
    try:
        inputs.mkdir()
        for role, source in sources.items():
            copy = inputs / role / names[role]
            copy.parent.mkdir()
            files.replace_file(copy, source.read_bytes())
            files.sync_folder(copy.parent)
        files.sync_folder(inputs)
    except OSError as reason:
        shutil.rmtree(inputs, ignore_errors=True)
        raise CheckpointError(
            f"cannot copy the images of the run to {folder}: {reason.strerror}; free space there "
            "or choose another folder"
        ) from None
    except BaseException:
        shutil.rmtree(inputs, ignore_errors=True)
        raise
    return inputs.name, names


def plain_name(name: str, role: str) -> str:
    """Return a file's name, or the role of its image if the name could lead to another folder."""
    is_plain = name not in ("", ".", "..") and not any(ord(c) < 32 or c in "/\\:" for c in name)
    return name if is_plain else role


def input_in(folder: Path, inputs: str, role: str, name: str) -> Path:
    """Return the copy of an image; refuse a name that leads out of the folder.

    Raises
    ------
    RefusedError
        If a name is not plain, or the file or one of its folders is missing or is a link.
    """
    if not FOLDER.fullmatch(inputs):
        refuse(f"{shown(inputs)} is not a folder of images; {START_AGAIN}")
    if name != plain_name(name, role):
        refuse(f"{shown(name)} is not the name of an image; {START_AGAIN}")
    path = folder
    for part in (inputs, role, name):
        path /= part
        if path.is_symlink():
            refuse(f"{shown(path.relative_to(folder).as_posix())} is a link; {COPY_AGAIN}")
    if not path.is_file():
        refuse(f"its image {shown(path.relative_to(folder).as_posix())} is missing; {COPY_AGAIN}")
    return path


def remove_inputs(folder: Path, *, except_for: str) -> None:
    """Remove the images of earlier runs; ignore those that cannot be removed."""
    with suppress(OSError):
        for path in list(folder.iterdir()):
            if FOLDER.fullmatch(path.name) and path.name != except_for and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
