"""What can be wrong with a checkpoint, in one line with the remedy."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

from gramstyle.errors import GramstyleError

ELSEWHERE = "give a folder that a run has saved into, or an empty one to begin with"
AGAIN = "start the run again, in an empty folder"
COPY = f"copy the folder once more, or {AGAIN}"

MAX_SHOWN = 60


class CheckpointError(GramstyleError):
    """A checkpoint that cannot be written, or cannot be used."""


class RefusedError(Exception):
    """What is wrong with a checkpoint, and the remedy; `telling` adds the folder."""


def refuse(problem: str) -> NoReturn:
    """Refuse a checkpoint."""
    raise RefusedError(problem)


@contextmanager
def telling(folder: Path) -> Iterator[None]:
    """Turn what is wrong with a checkpoint into one line that names its folder."""
    try:
        yield
    except RefusedError as reason:
        raise CheckpointError(f"cannot use {folder} as a checkpoint: {reason}") from None
    except OSError as reason:
        raise CheckpointError(
            f"cannot read the checkpoint in {folder}: {reason.strerror}; see to that, or {AGAIN}"
        ) from None


def shown(value: object) -> str:
    """Return a value that a stranger chose in a few printable characters."""
    text = ascii(value)
    return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}…"
