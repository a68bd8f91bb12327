"""One mutant: read it, and say what happened."""

import resource
import shutil
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from gramstyle.errors import GramstyleError

from .guard import ForbiddenActionError, Guard
from .mutations import mutant
from .readers import READERS, SAYS_WHAT_TO_DO, WRITING
from .sample import Files, Sample

# What a mutant of a few kilobytes may take.
MAX_SECONDS = 2.0  # of the processor
MAX_MEMORY = 256 * 2**20  # bytes, on top of what the process had
MAX_MESSAGE = 1000  # characters


@dataclass(frozen=True)
class Trial:
    """What became of one mutant.

    Attributes
    ----------
    outcome
        "accepted", "refused", or the promise that was broken.
    detail
        What happened instead, with the place in the code.
    seconds
        The time of the processor.
    """

    outcome: str
    detail: str = ""
    seconds: float = 0.0

    @property
    def is_finding(self) -> bool:
        """Whether a promise was broken."""
        return self.outcome not in ("accepted", "refused")


class Trials:
    """Reads mutants in one folder of this process.

    Parameters
    ----------
    samples
        The corpus.
    folder
        An empty folder; in it lie the files of one mutant at a time.
    guard
        Refuses forbidden actions.
    output
        Returns what this process has printed since the last call; it must print nothing.
    """

    def __init__(
        self,
        samples: Mapping[str, Sequence[Sample]],
        folder: Path,
        guard: Guard,
        output: Callable[[], str],
    ) -> None:
        self._samples, self._folder, self._guard, self._output = samples, folder, guard, output
        self._peak = _peak_memory()

    def mutant(self, reader: str, number: int) -> Trial:
        """Read a mutant."""
        return self.read(reader, mutant(reader, number, self._samples[reader])[1])

    def read(
        self,
        reader: str,
        files: Files,
        on_error: Callable[[BaseException], object] = id,
    ) -> Trial:
        """Read files, the first of which a reader is given; `on_error` receives its exception."""
        paths = [self._folder / name for name in files]
        for path, data in zip(paths, files.values(), strict=True):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        began = time.process_time()
        try:
            outcome, detail = self._outcome(reader, paths[0], on_error)
        finally:
            seconds = time.process_time() - began
            there = [path for path in self._folder.rglob("*") if not path.is_dir()]
            for path in self._folder.iterdir():
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        printed = self._output()
        peak, before = _peak_memory(), self._peak
        self._peak = max(peak, before)
        if outcome in ("accepted", "refused"):
            if sorted(there) != sorted(paths):
                return Trial("wrote a file", f"{sorted(set(there) - set(paths))}", seconds)
            if printed:
                return Trial("printed", printed[:MAX_MESSAGE], seconds)
            if peak - before > MAX_MEMORY:
                return Trial("memory", f"{(peak - before) / 2**20:.0f} MiB more", seconds)
            if seconds > MAX_SECONDS:
                return Trial("slow", f"{seconds:.1f} s of the processor", seconds)
        return Trial(outcome, detail, seconds)

    def _outcome(
        self, reader: str, path: Path, on_error: Callable[[BaseException], object]
    ) -> tuple[str, str]:
        try:
            with self._guard.closed(may_write=reader in WRITING):
                READERS[reader](path)
        except (Exception, ForbiddenActionError) as error:
            on_error(error)
            if isinstance(error, GramstyleError):
                return _refusal(error, path if reader in SAYS_WHAT_TO_DO else None)
            kinds = {Warning: "warning", ForbiddenActionError: "forbidden action"}
            kind = next((k for each, k in kinds.items() if isinstance(error, each)), "exception")
            text = f"{type(error).__name__}: {error}"
            return kind, f"{text[:MAX_MESSAGE]} {_place(error)}"
        return "accepted", ""


def _refusal(error: GramstyleError, path: Path | None) -> tuple[str, str]:
    """Check that a refusal is one line, and that it does not hide that memory ran out.

    With a path, the line must name the file or its folder, and say what to do.
    """
    message = str(error)
    if path is not None and not (path.name in message or str(path.parent) in message):
        return "names no file", f"{message} {_place(error)}"
    if path is not None and "; " not in message:
        return "says not what to do", f"{message} {_place(error)}"
    if len(message.splitlines()) != 1 or len(message) > MAX_MESSAGE:
        return "not one line", f"{message[:MAX_MESSAGE]!r} {_place(error)}"
    cause = error.__context__
    while cause is not None:
        if isinstance(cause, MemoryError):
            return "memory", f"MemoryError {_place(cause)}"
        cause = cause.__context__
    return "refused", ""


def _place(error: BaseException) -> str:
    """Return the last place of a traceback in gramstyle, and the last place of all."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if "/gramstyle/" in frame.filename]
    places = [f"{Path(at.filename).name}:{at.lineno}" for at in (*ours[-1:], *frames[-1:])]
    return f"({', '.join(dict.fromkeys(places))})"


def _peak_memory() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
