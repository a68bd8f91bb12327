"""The image files that a jobs file names, by paths and by patterns."""

import glob
import os
from pathlib import Path, PurePath

from gramstyle.batch.job import Job
from gramstyle.errors import ImageError, OptionError
from gramstyle.images import SUFFIXES
from gramstyle.run.option_values import shown


def images_of(text: str, folder: Path, patterns: list[str]) -> list[Path]:
    """Return the image with this name, or the images that match this pattern, at least one.

    A pattern is also added to `patterns`.
    """
    path = path_in("it", text, folder)
    if os.path.lexists(path) or not glob.has_magic(text):
        return [existing(path)]
    if "**" in text:
        raise OptionError(f"{shown(text)}: ** is not supported; write */ for one folder")
    pattern = os.path.normpath(Path(glob.escape(str(folder))) / text)
    patterns.append(pattern)
    found = sorted(glob.glob(pattern))  # noqa: PTH207 - Path.glob takes no absolute pattern
    images = [Path(name) for name in found if Path(name).suffix.lower() in SUFFIXES]
    if not images:
        raise ImageError(f"there is no image {shown(text)}; check the pattern")
    return images


def check_patterns(job: Job, patterns: list[str]) -> None:
    """Refuse an output that the next run would take for an image to read."""
    for pattern in patterns:
        if PurePath(job.output).match(pattern):
            raise OptionError(
                f"{shown(job.name)} would be one of the images of {shown(Path(pattern).name)} in "
                "the next run; choose a folder of its own for output"
            )


def path_in(name: str, text: str, folder: Path) -> Path:
    """Return a path that is relative to a folder as an absolute one; errors call it `name`."""
    if not text or "\0" in text:
        raise OptionError(f"{name} is not a path: {shown(text)}")
    return Path(os.path.normpath(folder / text))


def existing(path: Path) -> Path:
    """Return the path if there is such a file; raise an ImageError otherwise."""
    try:
        if path.is_dir():
            raise ImageError(f"{shown(str(path))} is a folder; write .../* for its images")
        if path.exists():
            return path
    except OSError as error:
        reason = f"{error.strerror}; check the path"
        raise ImageError(f"cannot read {shown(str(path))}: {reason}") from None
    raise ImageError(f"there is no file {shown(str(path))}; check the path")
