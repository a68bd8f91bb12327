"""Read a checkpoint as what it is: input from a stranger."""

import hashlib
import io
import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gramstyle.core.arrays import Array
from gramstyle.run.checkpoint import manifest as manifests
from gramstyle.run.checkpoint.archive import Arrays, Expected, Sips, room_for
from gramstyle.run.checkpoint.manifest import Manifest, decoded
from gramstyle.run.checkpoint.problems import AGAIN, COPY, ELSEWHERE, refuse, telling


@dataclass(frozen=True)
class Checkpoint:
    """What `save` was given.

    Attributes
    ----------
    manifest
        Plain JSON values.
    arrays
        By name.
    """

    manifest: Mapping[str, Any]
    arrays: Mapping[str, Array]


def read_manifest(folder: Path) -> Mapping[str, Any]:
    """Return the manifest that `save` was given; the state is not looked at.

    Raises
    ------
    CheckpointError
        If there is none, or it is not as it was written, or of another version.
    """
    with telling(folder):
        return manifest_in(folder).run


def load(folder: Path, *, expected: Mapping[str, Expected]) -> Checkpoint:
    """Read a checkpoint back, bit by bit as it was saved; takes and raises what `opened` does."""
    with opened(folder, expected=expected) as there:
        return Checkpoint(there.run, {name: there.read(name) for name in expected})


class Opened:
    """A checkpoint whose arrays are read when they are asked for; see `opened`."""

    def __init__(self, folder: Path, run: Mapping[str, Any], arrays: Arrays) -> None:
        self._folder, self._arrays = folder, arrays
        self.run = run

    def read(self, name: str) -> Array:
        """Return an array, in the order, C's or Fortran's, that it had.

        Raises
        ------
        CheckpointError
            If it is not the one expected.
        """
        with telling(self._folder):
            return self._arrays.read(name)


@contextmanager
def opened(folder: Path, *, expected: Mapping[str, Expected]) -> Iterator[Opened]:
    """Open a checkpoint and hold its hash against it.

    Parameters
    ----------
    folder
        Where `save` wrote it.
    expected
        The arrays that it must hold, by name, no more and no fewer; `read_manifest` gives what
        they depend on.

    Raises
    ------
    CheckpointError
        If there is no checkpoint, it is not as it was written, of another version, or does not
        hold these arrays.
    """
    with ExitStack() as stack:
        with telling(folder):
            manifest = manifest_in(folder)
            file = stack.enter_context(_opened(folder / manifest.state))
            _check_whole(file, manifest, expected)
            there = Opened(folder, manifest.run, Arrays(file, expected))
        yield there


def manifest_in(folder: Path) -> Manifest:
    """Return the manifest that is in a folder.

    Raises
    ------
    RefusedError
        If there is none, or it cannot be used.
    OSError
        If it cannot be read.
    """
    if not folder.is_dir():
        refuse(f"there is no such folder; {ELSEWHERE}")
    path = folder / manifests.NAME
    if not os.path.lexists(path):
        refuse(f"there is no {path.name} in it; {ELSEWHERE}")
    with _opened(path) as file:
        return decoded(file.read(manifests.MAX_BYTES + 1))


def _opened(path: Path) -> Sips:
    """Open a file for reading that is in the folder itself: no link, no pipe, no device."""
    if path.is_symlink():
        refuse(f"{path.name} is a link; put the file itself there, or {AGAIN}")
    try:
        raw = io.FileIO(path, opener=_open_itself)
    except FileNotFoundError:
        refuse(f"{path.name} is missing; put it back, or {AGAIN}")
    except IsADirectoryError:
        refuse(f"{path.name} is a folder; {COPY}")
    if not stat.S_ISREG(os.fstat(raw.fileno()).st_mode):
        raw.close()
        refuse(f"{path.name} is not a file; {COPY}")
    return Sips(raw)


def _open_itself(path: str, flags: int) -> int:
    """Open no link that has come since, and do not wait for somebody to write into a pipe."""
    return os.open(path, flags | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))


def _check_whole(file: Sips, manifest: Manifest, expected: Mapping[str, Expected]) -> None:
    """Hold size and hash against the manifest, and the size against what may be in the file."""
    size = os.fstat(file.fileno()).st_size
    if size != manifest.bytes:
        refuse(
            f"{manifest.state} has {size:,} bytes instead of {manifest.bytes:,}: it was cut or "
            f"replaced; {COPY}"
        )
    if size > room_for(expected):
        refuse(f"{manifest.state} holds more than the arrays of this run; {AGAIN}")
    if hashlib.file_digest(file, "sha256").hexdigest() != manifest.sha256:
        refuse(f"{manifest.state} is damaged: it is not as it was written; {COPY}")
