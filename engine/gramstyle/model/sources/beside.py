"""Find the other files of weights that one file names, in its own folder only."""

from pathlib import Path, PurePosixPath, PureWindowsPath

from gramstyle.errors import ModelError
from gramstyle.model.messages import quoted

MAX_NAME = 300


def file_beside(path: Path, name: str) -> Path:
    """Return the file that a weights file refers to by a name relative to its folder.

    Symbolic links are allowed only to files in that folder. If `path` is itself a link, as in the
    cache of the Hugging Face Hub, the folder of its target is allowed too.

    Raises
    ------
    ModelError
        If the name leads out of the folder, or is not that of a regular file.
    """
    windows = PureWindowsPath(name)
    if (
        not 0 < len(name) <= MAX_NAME
        or not name.isprintable()
        or windows.drive
        or windows.root
        or ".." in windows.parts
        or "\\" in name
    ):
        raise ModelError(f"expected the name of a file in the same folder, found {quoted(name)}")
    target = path.parent / PurePosixPath(name)
    resolved = target.resolve()
    folders = (path.parent.resolve(), path.resolve().parent)
    if not any(resolved.is_relative_to(folder) for folder in folders):
        raise ModelError(
            f"expected {quoted(name)} in the same folder, found a link to another one; replace the "
            "link with a copy of the file"
        )
    if not resolved.is_file():
        raise ModelError(
            f"expected the file {quoted(name)} in the same folder, found none; copy it there"
        )
    return resolved
