"""Read checkpoints as untrusted input."""

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
from gramstyle.run.checkpoint.archive import Arrays, BoundedReader, Expected, room_for
from gramstyle.run.checkpoint.manifest import Manifest, decoded
from gramstyle.run.checkpoint.problems import (
    COPY_AGAIN,
    OTHER_FOLDER,
    START_AGAIN,
    naming_folder,
    refuse,
)


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint as it was passed to `save`.

    Attributes
    ----------
    manifest
        Plain JSON values.
    arrays
        The arrays by name.
    """

    manifest: Mapping[str, Any]
    arrays: Mapping[str, Array]


def read_manifest(folder: Path) -> Mapping[str, Any]:
    """Return the manifest that was passed to `save`, without reading the state.

    Raises
    ------
    CheckpointError
        If there is no manifest, it is damaged, or it has another version.
    """
    with naming_folder(folder):
        return manifest_in(folder).run


def load(folder: Path, *, expected: Mapping[str, Expected]) -> Checkpoint:
    """Read a whole checkpoint; parameters and errors are those of `opened`."""
    with opened(folder, expected=expected) as checkpoint:
        return Checkpoint(checkpoint.run, {name: checkpoint.read(name) for name in expected})


class OpenCheckpoint:
    """A checkpoint whose arrays are read one by one; see `opened`."""

    def __init__(self, folder: Path, run: Mapping[str, Any], arrays: Arrays) -> None:
        self._folder, self._arrays = folder, arrays
        self.run = run

    def read(self, name: str) -> Array:
        """Return an array in its original memory order, C or Fortran.

        Raises
        ------
        CheckpointError
            If the array is not as expected.
        """
        with naming_folder(self._folder):
            return self._arrays.read(name)


@contextmanager
def opened(folder: Path, *, expected: Mapping[str, Expected]) -> Iterator[OpenCheckpoint]:
    """Open a checkpoint and check its size and hash.

    Parameters
    ----------
    folder
        The folder into which `save` wrote it.
    expected
        The arrays that it must contain, by name, no more and no fewer; `read_manifest` returns
        the values on which they depend.

    Raises
    ------
    CheckpointError
        If there is no checkpoint, it is damaged, it has another version, or it does not contain
        these arrays.
    """
    with ExitStack() as stack:
        with naming_folder(folder):
            manifest = manifest_in(folder)
            file = stack.enter_context(_opened(folder / manifest.state))
            _check_integrity(file, manifest, expected)
            checkpoint = OpenCheckpoint(folder, manifest.run, Arrays(file, expected))
        yield checkpoint


def manifest_in(folder: Path) -> Manifest:
    """Return the manifest in a folder.

    Raises
    ------
    RefusedError
        If there is none, or it cannot be used.
    OSError
        If it cannot be read.
    """
    if not folder.is_dir():
        refuse(f"there is no such folder; {OTHER_FOLDER}")
    path = folder / manifests.NAME
    if not os.path.lexists(path):
        refuse(f"there is no {path.name} in it; {OTHER_FOLDER}")
    with _opened(path) as file:
        return decoded(file.read(manifests.MAX_BYTES + 1))


def _opened(path: Path) -> BoundedReader:
    """Open a regular file for reading; refuse a link, a pipe or a device."""
    if path.is_symlink():
        refuse(f"{path.name} is a link; put the file itself there, or {START_AGAIN}")
    try:
        raw = io.FileIO(path, opener=_open_itself)
    except FileNotFoundError:
        refuse(f"{path.name} is missing; put it back, or {START_AGAIN}")
    except IsADirectoryError:
        refuse(f"{path.name} is a folder; {COPY_AGAIN}")
    if not stat.S_ISREG(os.fstat(raw.fileno()).st_mode):
        raw.close()
        refuse(f"{path.name} is not a regular file; {COPY_AGAIN}")
    return BoundedReader(raw)


def _open_itself(path: str, flags: int) -> int:
    """Open without following a link that has just been created, and without blocking on a pipe."""
    return os.open(path, flags | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))


def _check_integrity(
    file: BoundedReader, manifest: Manifest, expected: Mapping[str, Expected]
) -> None:
    """Compare size and hash with the manifest, and the size with that of the expected arrays."""
    size = os.fstat(file.fileno()).st_size
    if size != manifest.bytes:
        refuse(
            f"{manifest.state} has {size:,} bytes instead of {manifest.bytes:,}: it was truncated "
            f"or replaced; {COPY_AGAIN}"
        )
    if size > room_for(expected):
        refuse(f"{manifest.state} contains more than the arrays of this run; {START_AGAIN}")
    if hashlib.file_digest(file, "sha256").hexdigest() != manifest.sha256:
        refuse(f"{manifest.state} is damaged: its hash is wrong; {COPY_AGAIN}")
