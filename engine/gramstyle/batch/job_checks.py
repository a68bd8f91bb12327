"""Checks before the first job begins. Every GramstyleError starts with the label of its job."""

import os
import stat
from collections.abc import Iterable, Sequence
from pathlib import Path

from gramstyle.batch.job import Job, located
from gramstyle.batch.render import planned_settings
from gramstyle.batch.reuse import own_settings
from gramstyle.errors import GramstyleError, ImageError, OptionError
from gramstyle.images import check_output
from gramstyle.model import read_model
from gramstyle.run.options.values import shown


def check_outputs(jobs: Sequence[Job]) -> None:
    """Refuse jobs that could not write their files, or would overwrite other files."""
    first_of: dict[str, Job] = {}
    writable: set[tuple[Path, str, int]] = set()
    read = {_identity(path) for path in {path for job in jobs for path in job.inputs.values()}}
    for job in jobs:
        target = os.path.realpath(job.output)
        other = first_of.setdefault(target, job)
        if other is not job:
            labels = dict.fromkeys((other.label, job.label))
            raise OptionError(
                f"{' and '.join(labels)}: more than one image would be {shown(job.name)}; use "
                "placeholders in output, as in {content}-{style}.png"
            )
        with located(job.label):
            identity = _identity(job.output)
            if identity is not None and identity in read:
                raise ImageError(
                    f"{shown(job.name)} is one of the images to read; choose another name"
                )
            if job.record is not None and job.record.is_dir():
                raise GramstyleError(f"{job.record} is a folder; move it away")
            # One trial is enough for all outputs of one folder and format.
            kind = (Path(target).parent, job.output.suffix, job.options.depth)
            if kind not in writable:
                check_output(job.output, [], depth=job.options.depth)
                writable.add(kind)
            own_settings(job)


def check_inputs(jobs: Iterable[Job], model: Path) -> None:
    """Read the jobs' images, and refuse jobs whose run could not start."""
    for job in jobs:
        with located(job.label):
            planned_settings(job, model=model)


def check_layers(jobs: Iterable[Job], model: Path) -> None:
    """Refuse jobs that name layers which the network does not have."""
    network = read_model(model).network
    known: set[tuple[str, ...]] = set()
    for job in jobs:
        layers = (*(job.options.content_layers or ()), *(job.options.style_layers or ()))
        if layers not in known:
            with located(job.label):
                network.until(layers)
            known.add(layers)


def check_whole(jobs: Iterable[Job]) -> None:
    """Refuse jobs with their own cluster in a batch whose jobs run on workers."""
    for job in jobs:
        if job.options.on_cluster:
            key = "workers" if job.options.scheduler is None else "scheduler"
            raise OptionError(
                f"{job.label}: it asks for a cluster of its own, but the batch runs on one; remove "
                f"{key} from the job, or leave --scheduler and --workers out"
            )


def check_side_by_side(jobs: Iterable[Job]) -> None:
    """Refuse jobs that start workers, because child processes cannot start workers."""
    for job in jobs:
        if job.options.workers is not None:
            raise OptionError(
                f"{job.label}: it starts workers of its own, which is possible for one job at a "
                "time; remove workers from the job, or leave --jobs out"
            )


def _identity(path: Path) -> tuple[int, int] | None:
    """Return what all names of one file have in common; None if there is no file."""
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
