"""The model, the caches and the folders for temporary files."""

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from gramstyle.cli.doctor.asking import Answer
from gramstyle.cli.doctor.finding import Finding
from gramstyle.errors import GramstyleError
from gramstyle.system.temporary import scratch_folder, temporary_folder

# The room that a run with spill files may need in the folder for temporary files, in bytes.
ROOM = 2 * 10**9


def model(answers: Mapping[str, Answer]) -> Iterator[Finding]:
    """Yield the model file: where it is, and whether it is intact."""
    answer = answers["model"]
    if answer.problem:
        yield Finding("model", "file", answer.problem, "broken", "repair the packages above")
        return
    found = answer.value
    if "path" not in found:
        value = "none yet: the first run builds it, from a download of 18 MB"
        remedy = "to build it now: gramstyle model export"
        yield Finding("model", "file", value, "note", remedy)
        return
    yield Finding("model", "file", f"{found['path']} ({found['source']})")
    if "problem" in found:
        remedy = "build another one: gramstyle model export --to FILE, and name it with --model"
        yield Finding("model", "contents", found["problem"], "broken", remedy)
        return
    size = f"{found['bytes'] / 1e6:.1f} MB"
    yield Finding("model", "contents", f"intact, {size}, {found['name']}")
    yield Finding("model", "sha256", found["sha256"])


def caches(answers: Mapping[str, Answer]) -> Iterator[Finding]:
    """Yield the caches: where they are, their size, and whether they can be written."""
    section = "files"
    home = "set XDG_CACHE_HOME to a folder that can be written"
    yield _cache("model cache", answers["model"].value.get("cache"), home)
    numba = answers.get("numba")
    if numba is not None and not numba.problem:
        remedy = "set NUMBA_CACHE_DIR to a folder that can be written"
        yield _cache("compiled code", numba.value.get("cache"), remedy)
    yield from _temporary(section, "temporary files", temporary_folder)
    yield from _temporary(section, "large temporary files", scratch_folder)


def _cache(name: str, folder: str | None, remedy: str) -> Finding:
    if folder is None:
        return Finding("files", name, "there is no folder for it", "note", remedy)
    path = Path(folder)
    problem = _obstacle(_existing(path))
    if problem:
        return Finding("files", name, f"{path} cannot be written: {problem}", "note", remedy)
    return Finding("files", name, f"{path}, {_bytes_in(path) / 1e6:.1f} MB")


def _temporary(section: str, name: str, find: Callable[[], Path]) -> Iterator[Finding]:
    remedy = "set TMPDIR to a folder that can be written and has room"
    try:
        folder = find()
    except GramstyleError as error:
        yield Finding(section, name, str(error), "note", remedy)
        return
    problem = _obstacle(folder)
    if problem:
        yield Finding(section, name, f"{folder} cannot be written: {problem}", "note", remedy)
        return
    free = shutil.disk_usage(folder).free
    text = f"{folder}, {free / 1e9:.1f} GB free"
    if free < ROOM:
        yield Finding(section, name, f"{text}, too little for large images", "note", remedy)
    else:
        yield Finding(section, name, text)


def _existing(path: Path) -> Path:
    """Return the nearest folder that exists, in which the others would be made."""
    return next((each for each in (path, *path.parents) if os.path.lexists(each)), path)


def _obstacle(folder: Path) -> str:
    """Return why a file cannot be written into a folder; "" if it can."""
    try:
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        return error.strerror or type(error).__name__
    return ""


def _bytes_in(folder: Path) -> int:
    """Return the bytes of the files in a folder and its subfolders, as far as they can be read."""
    total = 0
    for place, _, names in os.walk(folder, onerror=None):
        for name in names:
            try:
                total += Path(place, name).lstat().st_size
            except OSError:
                continue
    return total
