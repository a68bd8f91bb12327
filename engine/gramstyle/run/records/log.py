"""The record of a run as JSON lines: the settings, then each iteration, then the end."""

import errno
import json
import os
from collections.abc import Mapping
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import asdict
from io import FileIO
from pathlib import Path
from typing import Any, Self

from gramstyle.errors import GramstyleError
from gramstyle.run.plan import ScalePlan
from gramstyle.run.progress import Losses
from gramstyle.system.files import real_path
from gramstyle.system.lock import locked


class RunLog:
    """Writes JSON lines to a file, unbuffered; without a path it writes nothing.

    If a line cannot be written, for example on a full disk, the log ends there and the run
    continues; `check` then raises the error.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._scale: int | None = None
        self._stream: FileIO | None = None
        self._lock = ExitStack()
        self._failure: GramstyleError | None = None
        if path is not None:
            self._lock.enter_context(_owned(path))
            try:
                # Without a buffer, closing the file writes nothing, so that it cannot fail.
                self._stream = path.open("wb", buffering=0)
            except OSError as error:
                self._lock.close()
                raise GramstyleError(
                    f"cannot write the log {path}: {error.strerror}; choose another place for it"
                ) from None

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, *_exception: object) -> None:
        """Close the file."""
        if self._stream is not None:
            self._stream.close()
        self._lock.close()

    def start(self, settings: Mapping[str, Any]) -> None:
        """Write the settings of the run; raises GramstyleError if they cannot be written."""
        self._write({"event": "start", **settings})
        self.check()

    def iteration(self, losses: Losses, scale: ScalePlan, *, scales: int) -> None:
        """Write the losses of an iteration; before the first one of a scale, write the scale."""
        if scales > 1 and scale.number != self._scale:
            self._scale = scale.number
            self._write(
                {
                    "event": "scale",
                    "scale": scale.number,
                    "width": scale.width,
                    "height": scale.height,
                    "iterations": scale.iterations,
                    "weights": dict(scale.spec.weights),
                }
            )
        self._write({"event": "iteration", **asdict(losses)})

    def end(self, summary: Mapping[str, Any]) -> None:
        """Write how the run ended; raises GramstyleError if the log is not complete."""
        self._write({"event": "end", **summary})
        self.check()

    def check(self) -> None:
        """Raise the GramstyleError that kept a line from being written, if there was one."""
        if self._failure is not None:
            raise self._failure

    def _write(self, entry: Mapping[str, Any]) -> None:
        if self._stream is None or self._failure is not None:
            return
        line = (json.dumps(entry) + "\n").encode()
        try:
            if self._stream.write(line) != len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            self._failure = GramstyleError(f"cannot write the log {self._path}: {error.strerror}")


def _owned(path: Path) -> AbstractContextManager[None]:
    """Keep other processes from writing the same log; pipes and devices may have many writers."""
    place = real_path(path)
    if (place.exists() and not place.is_file()) or not place.parent.is_dir():
        return nullcontext()
    action = f"is writing the log {path}; wait until it has ended, or choose another name"
    return locked(place, error=GramstyleError, action=action)
