"""The image files that a jobs file names, by paths and by patterns."""

import fnmatch
import glob
import os
import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePath

from gramstyle.batch.job import Job
from gramstyle.errors import ImageError, OptionError
from gramstyle.images import SUFFIXES
from gramstyle.run.options.values import shown

# How many names of files that are left out a message contains.
MAX_NAMES = 5


@dataclass(frozen=True)
class Found:
    """The images that a path or a pattern names.

    Attributes
    ----------
    images
        At least one image file, sorted by name.
    pattern
        The pattern as an absolute path; None for the path of one file.
    left_out
        One line that says which other files and folders the pattern matches; empty without any.
    """

    images: list[Path]
    pattern: Path | None = None
    left_out: str = ""


def images_of(text: str, folder: Path) -> Found:
    """Return the image with this name, or the images that match this pattern, at least one."""
    path = path_in("it", text, folder)
    if os.path.lexists(path) or not glob.has_magic(text):
        return Found([existing(path)])
    if "**" in text:
        raise OptionError(f"{shown(text)}: ** is not supported; write */ for one folder")
    found = matching(path)
    images = [each for each in found if each.suffix.lower() in SUFFIXES and not each.is_dir()]
    left_out = _left_out(text, set(found) - set(images))
    if not images:
        others = f" ({left_out})" if left_out else ""
        raise ImageError(f"there is no image {shown(text)}; check the pattern{others}")
    return Found(images, path, left_out)


def matching(pattern: Path) -> list[Path]:
    """Return the files and folders that match an absolute path with patterns in it, sorted.

    A part of the path that exists as it is written stands for itself: a folder "[2024]" is not a
    pattern. Otherwise letters may be composed (NFC, as most keyboards write them) or decomposed
    (NFD, as macOS stores them).
    """
    found = [Path(pattern.anchor)]
    for part in pattern.parts[1:]:
        found = [path for base in found for path in _entries(base, part)]
    return sorted(found, key=str)


def check_patterns(job: Job, patterns: Iterable[Path]) -> None:
    """Refuse an output that a pattern would match in the next run."""
    parts = job.output.parts
    for pattern in patterns:
        same_depth = len(parts) == len(pattern.parts)
        if same_depth and all(map(_fits, parts[1:], pattern.parts[1:])):
            raise OptionError(
                f"{shown(job.name)} would be one of the images of {shown(pattern.name)} in "
                "the next run; choose another folder for output"
            )


def path_in(name: str, text: str, folder: Path) -> Path:
    """Return a path that is relative to a folder as an absolute one; errors call it `name`."""
    if not text or "\0" in text:
        raise OptionError(f"{name} is not a path: {shown(text)}")
    return Path(os.path.normpath(folder / text))


def existing(path: Path) -> Path:
    """Return the path if there is such a file; raise an ImageError otherwise.

    A file of the same name is such a file if its letters are composed in another way, or if its
    extension has another case.
    """
    try:
        if path.is_dir():
            raise ImageError(f"{shown(str(path))} is a folder; write .../* for its images")
        if path.exists():
            return path
        same = matching(Path(path.anchor, *map(glob.escape, path.parts[1:])))
        if same and same[0] != path:
            return existing(same[0])
    except OSError as error:
        reason = f"{error.strerror}; check the path"
        raise ImageError(f"cannot read {shown(str(path))}: {reason}") from None
    raise ImageError(f"there is no file {shown(str(path))}; check the path")


def _entries(base: Path, part: str) -> list[Path]:
    """Return the entries of a folder that a part of a path names."""
    if os.path.lexists(base / part):
        return [base / part]
    try:
        return [path for path in base.iterdir() if _fits(path.name, part)]
    except OSError:  # it is not a folder, or it cannot be read
        return []


def _fits(name: str, part: str) -> bool:
    """Return whether a name equals a part of a path, or matches it as a pattern."""
    if name == part:
        return True
    if name.startswith(".") and not part.startswith("."):
        return False
    return _expression(part).match(unicodedata.normalize("NFC", name)) is not None


@lru_cache(maxsize=256)
def _expression(part: str) -> re.Pattern[str]:
    """Return a pattern as a regular expression over names in the normal form NFC.

    An extension of images has any case, as cameras write .JPG. Brackets also stand for themselves.
    """
    part = unicodedata.normalize("NFC", part)
    stem, suffix = os.path.splitext(part)  # noqa: PTH122 - a pattern, not a path
    brackets_as_they_are = stem.replace("[", "[[]")
    if suffix.lower() in SUFFIXES:
        suffix = "".join(f"[{c.lower()}{c.upper()}]" if c.isalpha() else c for c in suffix)
    return re.compile(
        "|".join(fnmatch.translate(each + suffix) for each in {stem, brackets_as_they_are})
    )


def _left_out(text: str, paths: set[Path]) -> str:
    """Return a line about files and folders that a pattern matches and that are no images."""
    folders = sorted(path.name for path in paths if path.is_dir())
    others = sorted(path.name for path in paths if not path.is_dir())
    if not paths:
        return ""
    kinds = []
    if others:
        what = "file is no image" if len(others) == 1 else "files are no images"
        kinds.append(f"{len(others)} {what}: {_names(others)}")
    if folders:
        what = "is a folder" if len(folders) == 1 else "are folders"
        inner = PurePath(text, "*").as_posix()
        kinds.append(f"{len(folders)} {what}: {_names(folders)} (write {shown(inner)})")
    return f"left out of {shown(text)}: {', '.join(kinds)}"


def _names(names: list[str]) -> str:
    listed = ", ".join(shown(name) for name in names[:MAX_NAMES])
    rest = len(names) - MAX_NAMES
    return f"{listed} and {rest} more" if rest > 0 else listed
