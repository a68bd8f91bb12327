"""Where the files are that a jobs file names: paths, and patterns of images."""

import glob
import os
from pathlib import Path

from gramstyle.batch.values import shown
from gramstyle.errors import ImageError, OptionError
from gramstyle.images import SUFFIXES


def images_of(written: str, folder: Path, patterns: list[str]) -> list[Path]:
    """Return the image of a name, or those of a pattern, which is also kept among `patterns`.

    Raises
    ------
    ImageError, OptionError
        If there is none.
    """
    path = path_in("it", written, folder)
    if os.path.lexists(path) or not glob.has_magic(written):
        return [existing(path)]
    if "**" in written:
        raise OptionError(f"{shown(written)}: ** is not known; write */ for one folder")
    pattern = os.path.normpath(Path(glob.escape(str(folder))) / written)
    patterns.append(pattern)
    found = sorted(glob.glob(pattern))  # noqa: PTH207 - Path.glob takes no absolute pattern
    images = [Path(name) for name in found if Path(name).suffix.lower() in SUFFIXES]
    if not images:
        raise ImageError(f"there is no image {shown(written)}; check the pattern")
    return images


def path_in(name: str, written: str, folder: Path) -> Path:
    """Return the absolute path that is written in a file in a folder, under some name."""
    if not written or "\0" in written:
        raise OptionError(f"{name} is no path: {shown(written)}")
    return Path(os.path.normpath(folder / written))


def existing(path: Path) -> Path:
    """Return a path if there is a file."""
    try:
        if path.is_dir():
            raise ImageError(f"{shown(str(path))} is a folder; write .../* for its images")
        if path.exists():
            return path
    except OSError as error:
        reason = f"{error.strerror}; check the path"
        raise ImageError(f"cannot read {shown(str(path))}: {reason}") from None
    raise ImageError(f"there is no file {shown(str(path))}; check the path")
