"""Read the jobs file: TOML with the defaults of all jobs, and tables of jobs."""

import os
import re
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from gramstyle.batch.job import Job, located
from gramstyle.batch.job_checks import check_outputs
from gramstyle.batch.job_table import KEYS, MAX_JOBS, as_table, check_keys, jobs_of
from gramstyle.errors import GramstyleError, OptionError
from gramstyle.run.option_values import check_known

MAX_BYTES = 4_000_000

# Strings and comments of TOML, whose contents are not keys.
_TEXT = re.compile(
    r'"""(?:[^\\]|\\.)*?"""|' r"'''.*?'''|" r'"(?:[^"\\\n]|\\.)*"|' r"'[^'\n]*'|#[^\n]*", re.DOTALL
)
# The dots of a key with more parts than a jobs file has. tomllib's time grows with their square.
_DEEP_KEY = re.compile(r"(?:\.[ \t]*[\w-]+[ \t]*){8}")


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
    document = _document(path)
    folder = Path(os.path.normpath(path.absolute().parent))
    jobs: list[Job] = []
    told = dict[str, None]()  # one line for a pattern that several tables contain
    with located(path.name):
        check_known(document, ("defaults", "jobs"))
        defaults = as_table(document.get("defaults", {}), "defaults")
        with located("defaults"):
            check_keys(defaults, KEYS)
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


def _document(path: Path) -> dict[str, Any]:
    try:
        if path.exists() and not path.is_file():
            raise GramstyleError(f"cannot read {path}: it is not a file; name a TOML file")
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise GramstyleError(f"cannot read {path}: {error.strerror}; check the path") from None
    except ValueError as error:  # a NUL in the name
        raise GramstyleError(f"cannot read {str(path)!r}: {error}; check the path") from None
    if len(data) > MAX_BYTES:
        raise GramstyleError(
            f"{path} is larger than {MAX_BYTES:,} bytes; write patterns and grids instead"
        )
    try:
        text = data.decode("utf-8-sig")  # editors on Windows write a byte-order mark
    except UnicodeDecodeError:
        raise GramstyleError(
            f"{path} is not TOML: it is not text in UTF-8; save it in that encoding"
        ) from None
    if _DEEP_KEY.search(_TEXT.sub("s", text)):
        raise GramstyleError(
            f"{path} is not a jobs file: it has a key of more than eight parts; three are enough"
        )
    try:
        return tomllib.loads(text)
    except ValueError as error:
        text = " ".join(str(error).split())[:200]
        raise GramstyleError(f"{path} is not TOML: {text}") from None
    except RecursionError:
        raise GramstyleError(f"{path} is not a jobs file: it is nested too deeply") from None
