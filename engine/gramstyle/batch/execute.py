"""Run all jobs of a batch with an executor: one by one, side by side, or on a cluster."""

import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Protocol

from gramstyle.batch.job import Job
from gramstyle.batch.job_checks import check_side_by_side
from gramstyle.batch.outcome import Outcome, attempt, failed, guarded, reused
from gramstyle.batch.render import Progress
from gramstyle.errors import GramstyleError, OptionError
from gramstyle.run.open_model import OpenModel
from gramstyle.system.files import real_path
from gramstyle.system.lock import locked
from gramstyle.system.machine import available_threads
from gramstyle.system.processes import each_in_a_process

Outcomes = Generator[Outcome, None, None]

# Each lock takes an open file, and on some systems a process may have only 256. A batch that is
# started twice locks the same first folders, so this number suffices to refuse the second one.
MAX_LOCKS = 100


class Execute(Protocol):
    """An executor."""

    def __call__(self, jobs: Sequence[Job], /) -> Outcomes:
        """Yield the outcome of each job as soon as it is finished, in any order.

        A job that fails has an outcome too. Closing the generator stops all jobs.
        """


@dataclass(frozen=True)
class Change:
    """The argument of a callback after each job.

    Attributes
    ----------
    outcome
        The outcome of the job.
    done, jobs
        The number of jobs finished so far, including those that failed, and the number of all jobs.

    Examples
    --------
    >>> from functools import partial
    >>> from pathlib import Path
    >>> from gramstyle import Options
    >>> from gramstyle.batch import Job, one_by_one, run_jobs
    >>> from gramstyle.model import locate_model
    >>> paths = {"content": Path("photo.jpg"), "style": Path("painting.jpg")}
    >>> options = Options(size=32, iterations=1)
    >>> names = {"label": "job 1", "name": "change.png", "output": Path("change.png")}
    >>> job = Job(**names, **paths, options=options)
    >>> execute = partial(one_by_one, model=locate_model())
    >>> def tell(change):
    ...     print(f"{change.done} of {change.jobs}: {change.outcome.job.name}")
    ...
    >>> outcomes = run_jobs([job], execute=execute, on_change=tell)
    1 of 1: change.png
    """

    outcome: Outcome
    done: int
    jobs: int


def run_jobs(
    jobs: Sequence[Job],
    *,
    execute: Execute,
    on_change: Callable[[Change], None] | None = None,
) -> tuple[Outcome, ...]:
    """Run all jobs; a job that fails does not stop the others.

    Parameters
    ----------
    jobs
        The jobs, for example from `read_jobs`.
    execute
        `one_by_one` or `side_by_side` with a model, `on_workers` with a model and a cluster, or an
        executor of your own.
    on_change
        Called after every job.

    Returns
    -------
    tuple of Outcome
        In the order in which the jobs finished.

    Raises
    ------
    GramstyleError
        If another batch or figure writes to a folder of these jobs.

    Examples
    --------
    >>> from functools import partial
    >>> from pathlib import Path
    >>> from gramstyle import Options
    >>> from gramstyle.batch import Job, one_by_one, run_jobs
    >>> from gramstyle.model import locate_model
    >>> paths = {"content": Path("photo.jpg"), "style": Path("painting.jpg")}
    >>> options = Options(size=32, iterations=1)
    >>> names = {"label": "job 1", "name": "batch.png", "output": Path("batch.png")}
    >>> job = Job(**names, **paths, options=options)
    >>> execute = partial(one_by_one, model=locate_model())
    >>> [outcome.state for outcome in run_jobs([job], execute=execute)]
    ['done']
    """
    outcomes: list[Outcome] = []
    # Without this, the jobs of a stopped batch would continue until garbage collection.
    with _owned(jobs), closing(execute(jobs)) as finished:
        for outcome in finished:
            outcomes.append(outcome)
            if on_change is not None:
                on_change(Change(outcome, len(outcomes), len(jobs)))
    return tuple(outcomes)


@contextmanager
def _owned(jobs: Sequence[Job]) -> Iterator[None]:
    """Lock the folders where these jobs write their images."""
    folders = sorted({real_path(job.output.parent) for job in jobs})
    with ExitStack() as stack:
        for folder in folders[:MAX_LOCKS]:
            action = f"renders into {folder}; wait until it has ended, or choose another folder"
            stack.enter_context(locked(folder, error=GramstyleError, action=action))
        yield


def one_by_one(
    jobs: Sequence[Job], /, *, model: Path, callback: Callable[[Job, Progress], None] | None = None
) -> Outcomes:
    """Run the jobs in this process; `callback` is called after every iteration of each.

    Examples
    --------
    >>> from pathlib import Path
    >>> from gramstyle import Options
    >>> from gramstyle.batch import Job, one_by_one
    >>> from gramstyle.model import locate_model
    >>> paths = {"content": Path("photo.jpg"), "style": Path("painting.jpg")}
    >>> options = Options(size=32, iterations=1)
    >>> names = {"label": "job 1", "name": "one.png", "output": Path("one.png")}
    >>> job = Job(**names, **paths, options=options)
    >>> [outcome.state for outcome in one_by_one([job], model=locate_model())]
    ['done']
    """
    with OpenModel(model) as opened:
        for job in jobs:
            yield attempt(job, model=opened, callback=callback and partial(callback, job))


def side_by_side(jobs: Sequence[Job], /, *, model: Path, at_once: int) -> Outcomes:
    """Run several jobs at once, each in its own process with its share of the cores.

    Raises
    ------
    OptionError
        If `at_once` is below 1, or if a job starts its own workers.

    Examples
    --------
    >>> from functools import partial
    >>> from gramstyle.batch import run_jobs, side_by_side
    >>> execute = partial(side_by_side, model=model, at_once=2)  # doctest: +SKIP
    >>> outcomes = run_jobs(jobs, execute=execute)  # doctest: +SKIP
    """
    if at_once < 1:
        raise OptionError(f"jobs must be at least 1, not {at_once}")
    check_side_by_side(jobs)
    missing: dict[Path, Job] = {}
    for job in jobs:
        outcome = guarded(job, partial(reused, job, model=model))
        if outcome is None:
            missing[job.output] = job
        else:
            yield outcome
    at_once = min(at_once, max(1, len(missing)))
    share = max(1, available_threads() // at_once)
    shared = [job.with_threads(share) for job in missing.values()]
    began, work = time.monotonic(), partial(attempt, model=model)
    with closing(each_in_a_process(work, shared, at_once=at_once)) as finished:
        for job, answer in finished:
            if isinstance(answer, GramstyleError):
                answer = failed(job, answer, began)
            yield replace(answer, job=missing[job.output])
