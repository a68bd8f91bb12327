"""A job: one transfer of a batch, with all that doing it takes but the network."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from gramstyle.errors import GramstyleError
from gramstyle.run.options import STARTS, Options


@dataclass(frozen=True, kw_only=True)
class Job:
    """One transfer of a batch.

    Attributes
    ----------
    table
        Which of the file's tables it comes from, counted from 1.
    name
        Its output as the file has it.
    content, style, output
        Absolute paths.
    options
        How; an image to start from is an absolute path too.
    """

    table: int
    name: str
    content: Path
    style: Path
    output: Path
    options: Options

    @property
    def inputs(self) -> tuple[Path, ...]:
        """The images that it reads."""
        start = self.options.start
        return (self.content, self.style, *([] if start in STARTS else [Path(str(start))]))

    @property
    def mark(self) -> dict[str, str]:
        """The setting by which its image is known again."""
        return {"job": self.output.name}

    def with_threads(self, share: int | None) -> "Job":
        """Return the job with a share of cores to use, unless it says how many itself."""
        if share is None or self.options.threads is not None:
            return self
        return replace(self, options=replace(self.options, threads=share))


@contextmanager
def saying(where: str) -> Iterator[None]:
    """Put a place in the file before what is wrong there."""
    try:
        yield
    except GramstyleError as error:
        raise type(error)(f"{where}: {error}") from None
