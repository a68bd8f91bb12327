"""One job: left as it is where its picture is there, else made; what went wrong is its outcome."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from gramstyle.batch.jobs import Job
from gramstyle.errors import GramstyleError
from gramstyle.images import from_pil, write_picture
from gramstyle.made import find_made
from gramstyle.prepare import plan
from gramstyle.transfer import Progress, chart, climb

State = Literal["made", "kept", "failed"]


@dataclass(frozen=True)
class Outcome:
    """What became of a job.

    Attributes
    ----------
    job
        The job.
    state
        "made", "kept" (the picture was there, made in the same way) or "failed".
    seconds
        That it took.
    reason
        Why the run ended, or what went wrong, in one line.
    loss
        Of the picture; None where there is none.
    """

    job: Job
    state: State
    seconds: float
    reason: str
    loss: float | None = None


def attempt(
    job: Job, *, model: Path, callback: Callable[[Progress], None] | None = None
) -> Outcome:
    """Do a job; whatever goes wrong with it is its outcome, but Ctrl-C is not.

    Parameters
    ----------
    job
        Its picture is written whole or not at all, with the settings that it is known again by.
    model
        The network's file.
    callback
        Called after every iteration.
    """
    began = time.monotonic()
    state: State
    try:
        summary = find_kept(job, model=model)
        state = "made" if summary is None else "kept"
        if summary is None:
            summary = _make(job, model, callback)
    except GramstyleError as error:
        return failed(job, str(error), began)
    except MemoryError:
        return failed(job, "there is not enough memory for it; choose a smaller size", began)
    except Exception as error:  # one job must not take the others with it
        what = f"{type(error).__name__}: {error}"
        return failed(job, f"{what}; this is a mistake in gramstyle, please report it", began)
    reason, loss = summary.get("reason"), summary.get("loss")
    return Outcome(
        job,
        state,
        round(time.monotonic() - began, 3),
        reason if isinstance(reason, str) else "",
        loss if isinstance(loss, float) else None,
    )


def failed(job: Job, reason: str, began: float) -> Outcome:
    """Return the outcome of a job that began at a reading of the clock and went wrong."""
    return Outcome(job, "failed", round(time.monotonic() - began, 3), " ".join(reason.split()))


def find_kept(job: Job, *, model: Path) -> Mapping[str, Any] | None:
    """Return the summary of the job's picture if it is there and was made in the same way.

    Raises
    ------
    GramstyleError
        As `transfer` does, and if the output is none of a batch's pictures.
    """
    try:
        if not job.output.exists():
            return None
    except OSError as error:
        raise GramstyleError(f"cannot use {job.output}: {error.strerror}") from None
    planned = plan(job.content, job.style, job.options, model=model)
    found = find_made(job.output, planned, job.mark, owner="this batch")
    if found is None:
        return None
    result = found.get("result")
    return result if isinstance(result, dict) else {}


def _make(job: Job, model: Path, callback: Callable[[Progress], None] | None) -> Mapping[str, Any]:
    course = chart(job.content, job.style, job.options, model=model)
    picture, record = climb(course, callback=callback)
    settings = {**record.settings, **job.mark, "result": record.summary}
    write_picture(job.output, from_pil(picture), settings=settings)
    return record.summary
