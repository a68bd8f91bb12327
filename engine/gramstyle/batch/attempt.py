"""One job: left as it is where its image is there, else made; what went wrong is its outcome."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeVar

from gramstyle.batch.fingerprint import SETTING, recipe
from gramstyle.batch.jobs import Job
from gramstyle.errors import GramstyleError, ImageError
from gramstyle.images import from_pil, read_image, write_image
from gramstyle.run.prepare import plan
from gramstyle.run.reuse import find_made, settings_of
from gramstyle.run.transfer import Progress, chart, climb

State = Literal["made", "kept", "failed"]

T = TypeVar("T")

# What a plan chooses by the memory of the machine where a job does not ask for it.
_CHOSEN = ("tile", "optimiser")

_OWNER = "this batch"


@dataclass(frozen=True)
class Outcome:
    """What became of a job.

    Attributes
    ----------
    job
        The job.
    state
        "made", "kept" (the image was there, made in the same way) or "failed".
    seconds
        That it took.
    reason
        Why the run ended, or what went wrong, in one line.
    loss
        Of the image; None where there is none.
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
        Its image is written whole or not at all, with the settings that it is known again by.
    model
        The network's file.
    callback
        Called after every iteration.
    """
    return guarded(job, partial(_done, job, model, callback))


def guarded(job: Job, step: Callable[[], T]) -> T | Outcome:
    """Take a step of a job; whatever goes wrong with it is the job's outcome, but Ctrl-C is not."""
    began = time.monotonic()
    try:
        return step()
    except GramstyleError as error:
        return failed(job, str(error), began)
    except MemoryError:
        return failed(job, "there is not enough memory for it; choose a smaller size", began)
    except Exception as error:  # one job must not take the others with it
        what = f"{type(error).__name__}: {error}"
        return failed(job, f"{what}; this is a mistake in gramstyle, please report it", began)


def failed(job: Job, reason: str, began: float) -> Outcome:
    """Return the outcome of a job that began at a reading of the clock and went wrong."""
    return Outcome(job, "failed", round(time.monotonic() - began, 3), " ".join(reason.split()))


def kept(job: Job, *, model: Path) -> Outcome | None:
    """Return the outcome of a job whose image is there, made in the same way.

    Raises
    ------
    GramstyleError
        As `find_kept` does.
    """
    began = time.monotonic()
    summary = find_kept(job, model=model)
    return None if summary is None else _outcome(job, "kept", summary, began)


def find_kept(job: Job, *, model: Path) -> Mapping[str, Any] | None:
    """Return the summary of the job's image if it is there and was made in the same way.

    Raises
    ------
    GramstyleError
        As `transfer` does, and if the output is none of a batch's images.
    """
    try:
        if not job.output.exists():
            return None
    except OSError as error:
        raise GramstyleError(f"cannot use {job.output}: {error.strerror}") from None
    settings = settings_of(job.output, job.mark, owner=_OWNER)
    known = settings.get(SETTING)
    if known is None or known != recipe(job, model=model):
        # Another file may still have the same pixels.
        planned = plan(job.content, job.style, job.options, model=model)
        same = {name: settings.get(name) for name in _CHOSEN if getattr(job.options, name) is None}
        same |= {SETTING: known} if known is not None else {}
        planned = replace(planned, settings={**planned.settings, **same})
        if find_made(job.output, planned, job.mark, owner=_OWNER) is None:
            return None
    elif not _is_whole(job, settings):
        return None
    result = settings.get("result")
    return result if isinstance(result, dict) else {}


def _is_whole(job: Job, settings: Mapping[str, Any]) -> bool:
    """Say whether an image can be read, and is as large as its settings say."""
    most = max(job.options.max_pixels, job.options.size**2)
    try:
        found = read_image(job.output, max_pixels=most)
    except ImageError:
        return False
    content = settings.get("content")
    size = {"width": found.width, "height": found.height}
    return isinstance(content, dict) and size.items() <= content.items()


def _done(job: Job, model: Path, callback: Callable[[Progress], None] | None) -> Outcome:
    began = time.monotonic()
    found = kept(job, model=model)
    if found is not None:
        return found
    return _outcome(job, "made", _make(job, model, callback), began)


def _outcome(job: Job, state: State, summary: Mapping[str, Any], began: float) -> Outcome:
    reason, loss = summary.get("reason"), summary.get("loss")
    return Outcome(
        job,
        state,
        round(time.monotonic() - began, 3),
        reason if isinstance(reason, str) else "",
        loss if isinstance(loss, float) else None,
    )


def _make(job: Job, model: Path, callback: Callable[[Progress], None] | None) -> Mapping[str, Any]:
    before = recipe(job, model=model)
    course = chart(job.content, job.style, job.options, model=model)
    image, record = climb(course, callback=callback)
    settings = {**record.settings, **job.mark, "result": record.summary}
    # Where a file was exchanged on the way, nobody knows which of the two was read.
    if before is not None and before == recipe(job, model=model):
        settings[SETTING] = before
    write_image(job.output, from_pil(image), settings=settings)
    return record.summary
