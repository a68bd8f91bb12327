"""The errors of checkpoints, in one line with the remedy."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

from gramstyle.errors import GramstyleError

# Remedies.
OTHER_FOLDER = "name a folder that contains the checkpoint of a run, or an empty one to begin with"
START_AGAIN = "start the run again, in an empty folder"
COPY_AGAIN = f"copy the folder once more, or {START_AGAIN}"

MAX_SHOWN = 60


class CheckpointError(GramstyleError):
    """A checkpoint that cannot be written or used."""


class RefusedError(Exception):
    """What is wrong with a checkpoint, and the remedy; `naming_folder` adds the folder."""


def refuse(problem: str) -> NoReturn:
    """Refuse a checkpoint."""
    raise RefusedError(problem)


@contextmanager
def naming_folder(folder: Path) -> Iterator[None]:
    """Raise any problem with a checkpoint as one line that names its folder."""
    try:
        yield
    except RefusedError as reason:
        raise CheckpointError(f"cannot use {folder} as a checkpoint: {reason}") from None
    except OSError as reason:
        raise CheckpointError(
            f"cannot read the checkpoint in {folder}: {reason.strerror}; repair that, or "
            f"{START_AGAIN}"
        ) from None


def shown(value: object) -> str:
    """Return an untrusted value in a few printable characters."""
    text = ascii(value)
    return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}…"
