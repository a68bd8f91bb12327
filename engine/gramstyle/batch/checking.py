"""What would stop a job at its end, found before the first one begins."""

import os
import stat
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePath

from gramstyle.batch.jobs import Job, saying
from gramstyle.batch.values import shown
from gramstyle.errors import GramstyleError, ImageError, OptionError
from gramstyle.images import check_output
from gramstyle.model import read_model
from gramstyle.run.reuse import settings_of


def check_files(jobs: Sequence[Job]) -> None:
    """Refuse jobs that could not write their images, or would overwrite what is not theirs.

    Raises
    ------
    GramstyleError
        With the table's number and the output.
    """
    places: dict[str, Job] = {}
    writable: set[tuple[Path, str]] = set()
    read = {_identity(path) for path in {path for job in jobs for path in job.inputs}}
    for job in jobs:
        place = os.path.realpath(job.output)
        other = places.setdefault(place, job)
        if other is not job:
            tables = dict.fromkeys((f"job {other.table}", f"job {job.table}"))
            raise OptionError(
                f"{' and '.join(tables)}: more than one image would be {shown(job.name)}; put "
                "what differs into output, as in {content}-{style}.png"
            )
        with saying(f"job {job.table}: {shown(job.name)}"):
            identity = _identity(job.output)
            if identity is not None and identity in read:
                raise ImageError("it is one of the images to read; choose another name")
            # A trial of the folder and of the format is enough for all that have both.
            kind = (Path(place).parent, job.output.suffix)
            if kind not in writable:
                check_output(job.output, [])
                writable.add(kind)
            if identity is not None:
                settings_of(job.output, job.mark, owner="this batch")


def check_patterns(job: Job, patterns: Iterable[str]) -> None:
    """Refuse an image that the next run would take for one of those to read.

    Raises
    ------
    OptionError
        With the pattern.
    """
    for pattern in patterns:
        if PurePath(job.output).match(pattern):
            raise OptionError(
                f"{shown(job.name)} would be one of the images of {shown(Path(pattern).name)} "
                "the next time; choose a folder of its own for output"
            )


def check_layers(jobs: Iterable[Job], model: Path) -> None:
    """Refuse jobs that name layers which the network does not have.

    Raises
    ------
    OptionError, ModelError
        With the job's table, or if the model cannot be read.
    """
    network = read_model(model).network
    known: set[tuple[str, ...]] = set()
    for job in jobs:
        layers = (job.options.content_layer, *job.options.style_layers)
        if layers not in known:
            with saying(f"job {job.table}"):
                network.until(layers)
            known.add(layers)


def check_whole(jobs: Iterable[Job]) -> None:
    """Refuse jobs that ask for a cluster, where each is to be done whole by one of its workers.

    Raises
    ------
    OptionError
        With the job's table.
    """
    for job in jobs:
        if job.options.on_cluster:
            key = "workers" if job.options.scheduler is None else "scheduler"
            raise OptionError(
                f"job {job.table}: it asks for a cluster of its own, and the batch is on one; take "
                f"{key} out of the job, or leave --scheduler and --workers out"
            )


def check_side_by_side(jobs: Iterable[Job]) -> None:
    """Refuse jobs that start workers, which one of several processes cannot.

    Raises
    ------
    OptionError
        With the job's table.
    """
    for job in jobs:
        if job.options.workers is not None:
            raise OptionError(
                f"job {job.table}: it starts workers of its own, which takes one job at a time; "
                "take workers out of the job, or leave --jobs out"
            )


def _identity(path: Path) -> tuple[int, int] | None:
    """Return what two names of one file have in common; None where there is no file."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    except OSError as error:
        reason = f"{error.strerror}; check the path"
        raise GramstyleError(f"cannot use {shown(str(path))}: {reason}") from None
    if not stat.S_ISREG(status.st_mode):
        raise ImageError(f"{shown(str(path))} is not a file; choose another name")
    return status.st_dev, status.st_ino
