"""Write checkpoints, so that the last one is whole whatever happens to the next."""

import errno
import os
import re
import secrets
from collections.abc import Iterable, Mapping
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any

from gramstyle.core.arrays import Array
from gramstyle.run.checkpoint import manifest as manifests
from gramstyle.run.checkpoint.archive import Hashed, write_arrays
from gramstyle.run.checkpoint.loading import manifest_in, read_manifest
from gramstyle.run.checkpoint.manifest import STATE, Manifest, encoded, plain
from gramstyle.run.checkpoint.problems import CheckpointError, RefusedError, shown
from gramstyle.system import files

# As `files.replace_file` calls what it has not finished, and so does `save`.
PART = re.compile(r"\.gramstyle-[0-9a-f]{16}\.part")


def check_folder(folder: Path) -> Mapping[str, Any] | None:
    """Make sure, before a run starts, that `save` may write into a folder and harms nobody there.

    Makes the folder if there is none.

    Returns
    -------
    Mapping or None
        The manifest of the checkpoint that is there, which the next `save` replaces.

    Raises
    ------
    CheckpointError
        If the folder cannot be made or written to, holds something but no checkpoint, or holds
        one that cannot be used.
    """
    try:
        if not folder.exists():
            files.check_folder(folder, error=CheckpointError)
            folder.mkdir()
            _sync(folder.parent)
        elif not folder.is_dir():
            raise CheckpointError(f"{folder} is there and is not a folder; choose another one")
        names = sorted(path.name for path in folder.iterdir())
        there = read_manifest(folder) if manifests.NAME in names else None
        # A first save that was killed leaves a file under its passing name.
        stranger = next((name for name in names if not PART.fullmatch(name)), None)
        if there is None and stranger is not None:
            raise CheckpointError(
                f"{folder} holds {shown(stranger)} and no checkpoint; choose an empty folder"
            )
        part = _passing(folder)
        part.touch(exist_ok=False)
        part.unlink()
    except OSError as reason:
        raise CheckpointError(
            f"cannot write checkpoints into {folder}: {reason.strerror}; choose another folder"
        ) from None
    return there


def save(folder: Path, manifest: Mapping[str, Any], arrays: Iterable[tuple[str, Array]]) -> None:
    """Write a checkpoint that replaces the one before.

    Whatever happens, `load` gives the old one or the new one. The disk must have room for both.

    Parameters
    ----------
    folder
        One that `check_folder` let pass.
    manifest
        Plain JSON values, among them "iteration", a whole number from 0 up. Tuples come back as
        lists.
    arrays
        By name, numbers or truth values, of NumPy or CuPy. Each is written before the next is
        asked for; no copy is made but of one that is neither in C's nor in Fortran's order.

    Raises
    ------
    CheckpointError
        If it cannot be written, for lack of room for instance; says which one is still there.
    TypeError, ValueError
        If the manifest is not JSON, or not of a sensible size, or lacks its iteration; if an
        array's name is no plain one or is there twice, or it holds neither numbers nor truth
        values.
    """
    run = plain(manifest)
    iteration: int = run["iteration"]
    try:
        before = _there(folder)
        if before is not None:
            _tidy(folder, keep=before.state)  # room first: a save that was killed leaves a file
        _tidy(folder, keep=_commit(folder, iteration, run, arrays))
    except OSError as reason:
        raise CheckpointError(
            f"cannot write the checkpoint of iteration {iteration} into {folder}: "
            f"{reason.strerror}; {_what_is_left(folder)}; make room there or choose another folder"
        ) from None


def _commit(
    folder: Path, iteration: int, run: Mapping[str, Any], arrays: Iterable[tuple[str, Array]]
) -> str:
    """Write state and manifest, each durable before the next step; return the state's name."""
    part, state = _passing(folder), _free(folder, iteration)
    try:
        with part.open("xb") as file:
            written = Hashed(file)
            write_arrays(written, arrays)
            file.flush()
            os.fsync(file.fileno())
        manifest = encoded(Manifest(state.name, written.sha256.hexdigest(), written.bytes, run))
        part.rename(state)
        _sync(folder)
        files.replace_file(folder / manifests.NAME, manifest)
        _sync(folder)
    except BaseException:
        with suppress(OSError):
            part.unlink(missing_ok=True)
            # An interruption can come when the new manifest is in place already.
            there = _there(folder)
            if there is None or there.state != state.name:
                state.unlink(missing_ok=True)
        raise
    return state.name


def _there(folder: Path) -> Manifest | None:
    """Return the manifest that is in a folder, if there is one and it can be used."""
    try:
        return manifest_in(folder)
    except RefusedError:
        return None


def _what_is_left(folder: Path) -> str:
    with suppress(OSError):
        there = _there(folder)
        if there is not None:
            return f"the checkpoint of iteration {there.iteration} is whole"
    return "there is no earlier one"


def _tidy(folder: Path, *, keep: str) -> None:
    """Remove what older saves left, whole or not; a file that will not go harms nobody."""
    with suppress(OSError):
        for path in list(folder.iterdir()):
            if path.name != keep and (STATE.fullmatch(path.name) or PART.fullmatch(path.name)):
                path.unlink(missing_ok=True)


def _passing(folder: Path) -> Path:
    return folder / f".gramstyle-{secrets.token_hex(8)}.part"


def _free(folder: Path, iteration: int) -> Path:
    """Return a state's path that nothing has: an iteration may be saved twice, by two runs."""
    endings = ("" if number == 1 else f"-{number}" for number in count(1))
    paths = (folder / f"state-{iteration:06}{ending}.npz" for ending in endings)
    return next(path for path in paths if not os.path.lexists(path))


def _sync(folder: Path) -> None:
    """Make the names in a folder durable, where the system has a way to."""
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as reason:
        # Some network file systems have none.
        if reason.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(handle)
