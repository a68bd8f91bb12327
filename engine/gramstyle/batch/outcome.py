"""Run one job: reuse its image or render it. An error becomes the outcome of the job."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from gramstyle.batch.job import Job
from gramstyle.batch.render import ModelFile, Progress, render
from gramstyle.batch.reuse import FINGERPRINT, find_reusable, fingerprint, own_settings
from gramstyle.errors import GramstyleError
from gramstyle.images import write_image

State = Literal["done", "reused", "failed"]

T = TypeVar("T")


@dataclass(frozen=True)
class Outcome:
    """The outcome of a job.

    Attributes
    ----------
    job
        The job.
    state
        "done" (the image was rendered), "reused" (it existed already) or "failed".
    seconds
        How long the job took.
    reason
        Why the run ended, or what went wrong, in one line.
    loss
        The loss of the image; None if there is none.
    error
        What went wrong, for a job that failed.

    Examples
    --------
    >>> from pathlib import Path
    >>> from gramstyle import Options
    >>> from gramstyle.batch import Job, one_by_one
    >>> from gramstyle.model import locate_model
    >>> paths = {"content": Path("photo.jpg"), "style": Path("painting.jpg")}
    >>> options = Options(size=32, iterations=1)
    >>> names = {"label": "job 1", "name": "state.png", "output": Path("state.png")}
    >>> job = Job(**names, **paths, options=options)
    >>> (outcome,) = one_by_one([job], model=locate_model())
    >>> outcome.state, outcome.reason
    ('done', 'all iterations done')
    """

    job: Job
    state: State
    seconds: float
    reason: str
    loss: float | None = None
    error: GramstyleError | None = None


def attempt(
    job: Job, *, model: ModelFile, callback: Callable[[Progress], None] | None = None
) -> Outcome:
    """Run a job; every error except Ctrl-C becomes its outcome.

    Parameters
    ----------
    job
        Its image is written completely or not at all, with its settings and its fingerprint.
    model
        The network's file, or an open model.
    callback
        Called after every iteration.
    """

    def reused_or_rendered() -> Outcome:
        began = time.monotonic()
        found = reused(job, model=model)
        return found or _outcome(job, "done", _rendered(job, model, callback), began)

    return guarded(job, reused_or_rendered)


def guarded(job: Job, step: Callable[[], T]) -> T | Outcome:
    """Return the result of a step of a job, or the outcome of the job if the step fails."""
    began = time.monotonic()
    try:
        return step()
    except GramstyleError as error:
        return failed(job, error, began)
    except MemoryError:
        text = "there is not enough memory for it; choose a smaller size"
    except Exception as error:  # an error of one job must not stop the others
        text = f"{type(error).__name__}: {error}; this is a bug in gramstyle, please report it"
    return failed(job, GramstyleError(text), began)


def failed(job: Job, error: GramstyleError, began: float) -> Outcome:
    """Return the outcome of a job that failed; `began` is the time at which it started."""
    reason = " ".join(str(error).split())
    return Outcome(job, "failed", _seconds_since(began), reason, error=error)


def reused(job: Job, *, model: ModelFile) -> Outcome | None:
    """Return the outcome of a job whose image can be reused; None if it must be rendered."""
    began = time.monotonic()
    summary = find_reusable(job, model=model)
    return None if summary is None else _outcome(job, "reused", summary, began)


def _outcome(job: Job, state: State, summary: Mapping[str, Any], began: float) -> Outcome:
    reason, loss = summary.get("reason"), summary.get("loss")
    return Outcome(
        job,
        state,
        _seconds_since(began),
        reason if isinstance(reason, str) else "",
        loss if isinstance(loss, float) else None,
    )


def _rendered(
    job: Job, model: ModelFile, callback: Callable[[Progress], None] | None
) -> Mapping[str, Any]:
    """Render the job's image and write it; return the summary of the run."""
    before = fingerprint(job, model=model)
    result, settings = render(job, model=model, callback=callback)
    # If a file was replaced during the run, it is unknown which of the two was read.
    if before is not None and before == fingerprint(job, model=model):
        settings[FINGERPRINT] = before
    own_settings(job)  # the run took a while, and another file may have appeared there
    write_image(job.output, result.rendered, settings=settings, encoding=result.encoding)
    summary: Mapping[str, Any] = settings["result"]
    return summary


def _seconds_since(began: float) -> float:
    return round(time.monotonic() - began, 3)
