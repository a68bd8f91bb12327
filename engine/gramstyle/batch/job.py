"""A job: one image to render, with all that is needed except the network."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from gramstyle.errors import GramstyleError
from gramstyle.run.options import STARTS, Options
from gramstyle.run.options.masks import mask_sources
from gramstyle.run.settings import style_roles


@dataclass(frozen=True, kw_only=True)
class Job:
    """One image of a batch or of a figure.

    Attributes
    ----------
    label
        What error messages call the job: "job 3" for the third table of a jobs file, or the name
        of a figure's cell.
    name
        The output as the jobs file writes it, or the name of the cell.
    content, style
        The images; several style images are a tuple. A job without one of them is a reconstruction
        of the other.
    output
        The image to write.
    options
        How to render it.
    owner
        What the image belongs to. A figure stores a record of the losses beside each image.

    Examples
    --------
    >>> from pathlib import Path
    >>> from gramstyle import Options
    >>> from gramstyle.batch import Job
    >>> paths = {name: Path(f"{name}.jpg") for name in ("content", "style")}
    >>> job = Job(label="job 1", name="out.png", output=Path("out.png"), options=Options(), **paths)
    >>> sorted(job.inputs)
    ['content', 'style']
    """

    label: str
    name: str
    content: Path | None
    style: Path | tuple[Path, ...] | None
    output: Path
    options: Options
    owner: Literal["batch", "figure"] = "batch"

    @property
    def styles(self) -> tuple[Path, ...]:
        """The style images."""
        if self.style is None:
            return ()
        return self.style if isinstance(self.style, tuple) else (self.style,)

    @property
    def inputs(self) -> dict[str, Path]:
        """The image files that the job reads, by role: content, style, style2, …, init, masks."""
        start = self.options.start
        is_file = isinstance(start, str | os.PathLike) and start not in STARTS
        init = Path(start) if is_file else None  # type: ignore[arg-type]
        styles = dict(zip(style_roles(len(self.styles)), self.styles, strict=True))
        masks = {
            role: Path(source)
            for role, source in mask_sources(self.options).items()
            if isinstance(source, str | os.PathLike)
        }
        files = {"content": self.content, **styles, "init": init, **masks}
        return {role: path for role, path in files.items() if path is not None}

    @property
    def mark(self) -> dict[str, str]:
        """The setting that identifies an image as the output of this job."""
        return {"job": self.output.name} if self.owner == "batch" else {"cell": self.name}

    @property
    def record(self) -> Path | None:
        """The file for the record of the losses, if the job has one."""
        return self.output.with_suffix(".jsonl") if self.owner == "figure" else None

    def with_threads(self, share: int | None) -> "Job":
        """Return the job with a number of threads, unless its options contain one."""
        if share is None or self.options.threads is not None:
            return self
        return replace(self, options=replace(self.options, threads=share))


@contextmanager
def located(where: str) -> Iterator[None]:
    """Prefix every error with the place where it occurred."""
    try:
        yield
    except GramstyleError as error:
        raise type(error)(f"{where}: {error}") from None
