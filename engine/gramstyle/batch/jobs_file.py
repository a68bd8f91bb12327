"""Read the jobs file: TOML with the defaults of all jobs, and tables of jobs."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from gramstyle.batch.job import Job, located
from gramstyle.batch.job_checks import check_outputs
from gramstyle.batch.job_table import FILE, KEYS, MAX_JOBS, as_table, jobs_of
from gramstyle.errors import OptionError
from gramstyle.run.options.values import check_keys, check_known
from gramstyle.system.toml_file import read_toml

MAX_BYTES = 4_000_000


def read_jobs(
    path: Path,
    *,
    machine: Mapping[str, Any] | None = None,
    notify: Callable[[str], None] | None = None,
) -> tuple[Job, ...]:
    """Read a jobs file, and check everything that can be checked without opening its images.

    Parameters
    ----------
    path
        A TOML file: a table ``defaults`` for all jobs, and ``[[jobs]]`` with ``content``,
        ``style``, ``output``, any field of `Options` except `MACHINE`, and a table ``grid`` of
        lists; every combination of their values is a job. Paths are relative to the file's folder;
        content and style may be patterns such as ``photos/*``; output may have placeholders such
        as ``{content}``.
    machine
        Options of the machine (`gramstyle.run.options.MACHINE`) by name, for all jobs.
    notify
        Called with one line for each pattern that matches files that are not images.

    Returns
    -------
    tuple of Job
        In the order of the file; within a table the content image changes slowest.

    Raises
    ------
    GramstyleError
        If the file cannot be read, or if a job is invalid; names the number of its table and the
        key.

    Examples
    --------
    >>> from pathlib import Path
    >>> from gramstyle.batch import read_jobs
    >>> images = 'content = "photo.jpg", style = "painting.jpg"'
    >>> text = f'jobs = [{{{images}, output = "result.png", size = 32}}]'
    >>> file = Path("jobs.toml")
    >>> _ = file.write_text(text)
    >>> (job,) = read_jobs(file)
    >>> job.name, job.options.size
    ('result.png', 32)
    """
    document = read_toml(
        path, what=FILE, most_bytes=MAX_BYTES, remedy="write patterns and grids instead"
    )
    folder = Path(os.path.normpath(path.absolute().parent))
    jobs: list[Job] = []
    told = dict[str, None]()  # one line for a pattern that several tables contain
    with located(path.name):
        check_known(document, ("defaults", "jobs"))
        defaults = as_table(document.get("defaults", {}), "defaults")
        with located("defaults"):
            check_keys(defaults, KEYS, file=FILE)
        tables = document.get("jobs", [])
        if not isinstance(tables, list) or not tables:
            raise OptionError("it has no jobs; begin each with a line [[jobs]]")
        for number, table in enumerate(tables, start=1):
            label = f"job {number}"
            with located(label):
                for job in jobs_of(
                    label,
                    as_table(table, "jobs"),
                    defaults,
                    folder,
                    machine=machine or {},
                    notify=told.setdefault,
                ):
                    jobs.append(job)
                    if len(jobs) > MAX_JOBS:
                        raise OptionError(f"there are more than {MAX_JOBS:,} jobs; divide the file")
        check_outputs(jobs)
    if notify is not None:
        for line in told:
            notify(line)
    return tuple(jobs)
