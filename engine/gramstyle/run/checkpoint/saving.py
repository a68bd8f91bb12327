"""Write checkpoints so that the last one survives any failure of the next."""

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import Any

from gramstyle.core.arrays import Array
from gramstyle.run.checkpoint import manifest as manifests
from gramstyle.run.checkpoint.archive import HashingWriter, write_arrays
from gramstyle.run.checkpoint.inputs import FOLDER
from gramstyle.run.checkpoint.loading import manifest_in, read_manifest
from gramstyle.run.checkpoint.manifest import STATE, Manifest, encoded, plain
from gramstyle.run.checkpoint.problems import CheckpointError, RefusedError, shown
from gramstyle.system import files
from gramstyle.system.lock import IN_FOLDER, locked


def check_folder(folder: Path) -> Mapping[str, Any] | None:
    """Check, before a run, that `save` can write to a folder and overwrites nothing else there.

    Creates the folder if it does not exist.

    Returns
    -------
    Mapping or None
        The manifest of an existing checkpoint, which the next `save` replaces.

    Raises
    ------
    CheckpointError
        If the folder cannot be created or written to, contains files but no checkpoint, or
        contains a checkpoint that cannot be used.
    """
    try:
        if not folder.exists():
            files.check_folder(folder, error=CheckpointError)
            folder.mkdir()
            files.sync_folder(folder.parent)
        elif not folder.is_dir():
            raise CheckpointError(f"{folder} exists and is not a folder; choose another one")
        names = sorted(path.name for path in folder.iterdir())
        manifest = read_manifest(folder) if manifests.NAME in names else None
        other = next((name for name in names if not _is_ours(name)), None)
        if manifest is None and other is not None:
            raise CheckpointError(
                f"{folder} contains {shown(other)} and no checkpoint; choose an empty folder"
            )
        part = files.temporary_path(folder)
        part.touch(exist_ok=False)
        part.unlink()
    except OSError as reason:
        raise CheckpointError(
            f"cannot write checkpoints to {folder}: {reason.strerror}; choose another folder"
        ) from None
    return manifest


def save(folder: Path, manifest: Mapping[str, Any], arrays: Iterable[tuple[str, Array]]) -> None:
    """Write a checkpoint that replaces the previous one.

    After any failure, `load` returns the old checkpoint or the new one. The disk must have space
    for both.

    Parameters
    ----------
    folder
        A folder that `check_folder` has accepted.
    manifest
        Plain JSON values, including "iteration", an integer from 0 up. Tuples are read as lists.
    arrays
        Pairs of a name and a numeric or boolean array of NumPy or CuPy. Each array is written
        before the iterator is advanced to the next. Only an array in neither C nor Fortran order
        is copied.

    Raises
    ------
    CheckpointError
        If the checkpoint cannot be written, for example on a full disk; the message says which
        earlier checkpoint is intact.
    TypeError, ValueError
        If the manifest is not JSON, is too large or lacks its iteration; if an array's name is
        invalid or occurs twice, or the array is neither numeric nor boolean.
    """
    run = plain(manifest)
    iteration: int = run["iteration"]
    try:
        before = _current_manifest(folder)
        if before is not None:
            _remove_files(folder, except_for=before.state)  # left by a save that was killed
        _remove_files(folder, except_for=_commit(folder, iteration, run, arrays))
    except OSError as reason:
        raise CheckpointError(
            f"cannot write the checkpoint of iteration {iteration} to {folder}: "
            f"{reason.strerror}; {_intact(folder)}; free space there or choose another folder"
        ) from None


def _commit(
    folder: Path, iteration: int, run: Mapping[str, Any], arrays: Iterable[tuple[str, Array]]
) -> str:
    """Write state and manifest, each synced before the next step; return the state's name."""
    part, state = files.temporary_path(folder), _unused_path(folder, iteration)
    try:
        with part.open("xb") as file:
            written = HashingWriter(file)
            write_arrays(written, arrays)
            file.flush()
            files.sync(file.fileno())
        manifest = encoded(Manifest(state.name, written.sha256.hexdigest(), written.bytes, run))
        part.rename(state)
        files.sync_folder(folder)
        files.replace_file(folder / manifests.NAME, manifest)  # which syncs the folder too
    except BaseException:
        with suppress(OSError):
            part.unlink(missing_ok=True)
            # An interruption can come after the new manifest is in place.
            current = _current_manifest(folder)
            if current is None or current.state != state.name:
                state.unlink(missing_ok=True)
        raise
    return state.name


@contextmanager
def owned(folder: Path) -> Iterator[None]:
    """Keep other runs out of a checkpoint's folder.

    Raises
    ------
    CheckpointError
        If another run owns it; names the run's process.
    """
    action = f"is running with the checkpoint {folder}; wait until it has ended, or stop it"
    with locked(folder, error=CheckpointError, action=action):
        yield


def _is_ours(name: str) -> bool:
    """Return whether a run that was killed in its first save may have left a file of this name."""
    return name == IN_FOLDER or any(
        pattern.fullmatch(name) for pattern in (files.TEMPORARY_NAME, STATE, FOLDER)
    )


def is_file_of(folder: Path, path: Path) -> bool:
    """Return whether a path is one of the files that a run saves into a checkpoint's folder."""
    folder, path = files.real_path(folder), files.real_path(path)
    if not path.is_relative_to(folder) or path == folder:
        return False
    name = path.relative_to(folder).parts[0]
    return name == manifests.NAME or _is_ours(name)


def _current_manifest(folder: Path) -> Manifest | None:
    """Return the manifest in a folder, or None if there is none that can be used."""
    try:
        return manifest_in(folder)
    except RefusedError:
        return None


def _intact(folder: Path) -> str:
    """Return which checkpoint is still intact, as part of a message."""
    with suppress(OSError):
        current = _current_manifest(folder)
        if current is not None:
            return f"the checkpoint of iteration {current.iteration} is intact"
    return "there is no earlier one"


def _remove_files(folder: Path, *, except_for: str) -> None:
    """Remove state files and temporary files of earlier saves; ignore those that cannot be."""
    with suppress(OSError):
        for path in list(folder.iterdir()):
            ours = STATE.fullmatch(path.name) or files.TEMPORARY_NAME.fullmatch(path.name)
            if ours and path.name != except_for:
                path.unlink(missing_ok=True)


def _unused_path(folder: Path, iteration: int) -> Path:
    """Return an unused path for a state; two runs may save the same iteration."""
    endings = ("" if number == 1 else f"-{number}" for number in count(1))
    paths = (folder / f"state-{iteration:06}{ending}.npz" for ending in endings)
    return next(path for path in paths if not os.path.lexists(path))
