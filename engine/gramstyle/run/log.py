"""The record of a run as JSON lines: one of settings, one an iteration, one at the end."""

import errno
import json
import os
from collections.abc import Mapping
from dataclasses import asdict
from io import FileIO
from pathlib import Path
from typing import Any, Self

from gramstyle.errors import GramstyleError
from gramstyle.run.transfer import Losses, Stage


class RunLog:
    """A file of JSON lines, each on disk as soon as it is written; without a path, nothing."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._level: int | None = None
        self._stream: FileIO | None = None
        if path is not None:
            try:
                # Without a buffer nothing is left to write, and to fail, when it is closed.
                self._stream = path.open("wb", buffering=0)
            except OSError as error:
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

    def start(self, settings: Mapping[str, Any]) -> None:
        """Write what is about to be done."""
        self._write({"event": "start", **settings})

    def iteration(self, losses: Losses, stage: Stage) -> None:
        """Write the losses of one iteration, and before the first of a level what that is."""
        if stage.of > 1 and stage.number != self._level:
            self._level = stage.number
            self._write(
                {
                    "event": "level",
                    "level": stage.number,
                    "width": stage.width,
                    "height": stage.height,
                    "iterations": stage.iterations,
                    "alpha": stage.weights.alpha,
                    "beta": stage.weights.beta,
                }
            )
        self._write({"event": "iteration", **asdict(losses)})

    def end(self, summary: Mapping[str, Any]) -> None:
        """Write how it ended."""
        self._write({"event": "end", **summary})

    def _write(self, entry: Mapping[str, Any]) -> None:
        if self._stream is None:
            return
        line = (json.dumps(entry) + "\n").encode()
        try:
            if self._stream.write(line) != len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            raise GramstyleError(f"cannot write the log {self._path}: {error.strerror}") from None
