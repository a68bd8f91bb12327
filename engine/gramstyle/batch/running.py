"""All jobs of a batch, by whoever executes them."""

import time
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Protocol

from gramstyle.batch.attempt import Outcome, attempt, failed
from gramstyle.batch.checking import check_side_by_side
from gramstyle.batch.jobs import Job
from gramstyle.errors import GramstyleError, OptionError
from gramstyle.run.transfer import Progress
from gramstyle.system.machine import available_threads
from gramstyle.system.processes import each_in_a_process

Outcomes = Generator[Outcome, None, None]


class Execute(Protocol):
    """What does the jobs: here one by one, in several processes, or on other machines."""

    def __call__(self, jobs: Sequence[Job], /) -> Outcomes:
        """Yield an outcome for each job, in any order, as they are finished.

        A job that goes wrong is an outcome too. When the generator is closed, all work ends.
        """


@dataclass(frozen=True)
class Change:
    """What a callback is told after a job.

    Attributes
    ----------
    outcome
        What became of it.
    done, jobs
        How many are finished with this one, failed ones too, and how many there are.
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
    """Do all jobs; one that fails does not stop the others.

    Parameters
    ----------
    jobs
        As `read_jobs` gives them.
    execute
        `one_by_one` or `side_by_side` with a model, `on_workers` with a cluster too, or anything
        else that gives outcomes.
    on_change
        Called after every job.

    Returns
    -------
    tuple of Outcome
        In the order in which they came.
    """
    outcomes: list[Outcome] = []
    # Closed whatever happens, or the work of a stopped batch would go on until it is forgotten.
    with closing(execute(jobs)) as finished:
        for outcome in finished:
            outcomes.append(outcome)
            if on_change is not None:
                on_change(Change(outcome, len(outcomes), len(jobs)))
    return tuple(outcomes)


def one_by_one(
    jobs: Sequence[Job], /, *, model: Path, callback: Callable[[Job, Progress], None] | None = None
) -> Outcomes:
    """Do the jobs in this process; `callback` is called after every iteration of each."""
    for job in jobs:

        def after_iteration(progress: Progress, job: Job = job) -> None:
            if callback is not None:
                callback(job, progress)

        yield attempt(job, model=model, callback=after_iteration)


def side_by_side(jobs: Sequence[Job], /, *, model: Path, at_once: int) -> Outcomes:
    """Do several jobs at once, each in a process of its own with its share of the cores.

    Raises
    ------
    OptionError
        If `at_once` is below 1, or a job starts workers itself.
    """
    if at_once < 1:
        raise OptionError(f"jobs must be at least 1, not {at_once}")
    check_side_by_side(jobs)
    at_once = min(at_once, max(1, len(jobs)))
    share = max(1, available_threads() // at_once)
    given = {job.output: job for job in jobs}
    began = time.monotonic()
    work = partial(attempt, model=model)
    shared = [job.with_threads(share) for job in jobs]
    for job, answer in each_in_a_process(work, shared, at_once=at_once):
        if isinstance(answer, GramstyleError):
            answer = failed(job, str(answer), began)
        yield replace(answer, job=given[job.output])
