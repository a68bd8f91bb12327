"""`gramstyle batch JOBS.toml`."""

import argparse
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from time import monotonic

from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from gramstyle.batch import (
    BatchLog,
    Change,
    Job,
    check_layers,
    check_side_by_side,
    check_whole,
    on_workers,
    one_by_one,
    read_jobs,
    run_jobs,
    side_by_side,
)
from gramstyle.batch.running import Execute
from gramstyle.cli import arguments as add
from gramstyle.cli.parsing import Commands
from gramstyle.cli.printable import printable
from gramstyle.cli.progress import Speaker
from gramstyle.cluster.client import Cluster, open_cluster
from gramstyle.errors import GramstyleError, OptionError
from gramstyle.model import locate_model
from gramstyle.run.options import Options
from gramstyle.run.transfer import Progress
from gramstyle.system.files import check_folder

STATES = {"made": "done", "kept": "was there", "failed": "failed"}


def add_parser(commands: Commands) -> None:
    """Describe the command and its options."""
    parser = commands.add_parser(
        "batch",
        help="render many images, as a file of jobs says",
        description="Do every job of a TOML file (docs/batch.md): many photographs, many "
        "paintings, grids of options. A batch that was stopped goes on with the images that are "
        "missing; a job that fails does not stop the others, and makes the exit code 1.",
        epilog="example: gramstyle batch jobs.toml --log jobs.jsonl",
    )
    parser.set_defaults(run=run_command)
    parser.add_argument("file", type=Path, metavar="JOBS.toml", help="the jobs")
    parser.add_argument("--model", type=Path, metavar="FILE",
        help="the network (default: as for transfer)")  # fmt: skip
    parser.add_argument("--jobs", type=int, metavar="N",
        help="jobs to do at once on this machine, each with its share of the cores, or with its "
        "threads (default 1)")  # fmt: skip
    add.add_cluster(
        parser.add_argument_group("a cluster, which does a job at a time on each worker"),
        work="do the jobs",
    )
    parser.add_argument("--log", type=Path, metavar="FILE.jsonl",
        help="write what became of each job as JSON lines")  # fmt: skip
    add.add_quiet(parser.add_argument_group("progress"))


def run_command(arguments: argparse.Namespace) -> int:
    """Do what the file asks for; return 1 if a job failed."""
    say = Speaker(quiet=arguments.quiet)
    at_once = 1 if arguments.jobs is None else arguments.jobs
    if at_once < 1:
        raise OptionError(f"--jobs must be at least 1, not {at_once}")
    where = add.options_of(arguments)
    if where.on_cluster and arguments.jobs is not None:
        raise OptionError(
            "--jobs is for this machine alone, and a cluster does one job for each worker; leave "
            "--jobs out, or give --workers instead"
        )
    jobs = read_jobs(arguments.file)
    if where.on_cluster:
        check_whole(jobs)
    elif at_once > 1:
        check_side_by_side(jobs)
    _check_log(arguments, jobs)
    model = locate_model(arguments.model, notify=say.tell)
    check_layers(jobs, model)
    began, done = monotonic(), Counter[str]()
    with (
        _opened(where) as cluster,
        BatchLog(arguments.log) as log,
        _display(len(jobs), say) as display,
    ):

        def after_job(change: Change) -> None:
            done[change.outcome.state] += 1
            log.job(change.outcome)
            display.job(change)

        execute: Execute
        if cluster is not None:
            execute = partial(on_workers, cluster=cluster, model=model)
        elif at_once == 1:
            execute = partial(one_by_one, model=model, callback=display.iteration)
        else:
            execute = partial(side_by_side, model=model, at_once=at_once)
        try:
            run_jobs(jobs, execute=execute, on_change=after_job)
        except (GramstyleError, KeyboardInterrupt) as stop:
            reason = str(stop) or "stopped"
            there = done["made"] + done["kept"]
            kept = f"{there} of {len(jobs)} images are there, to go on from"
            raise type(stop)(f"{reason} ({kept})") from None
    if not arguments.quiet:
        took = timedelta(seconds=round(monotonic() - began))
        print(  # noqa: T201 - the program's one line of output
            f"{len(jobs)} jobs in {took}: {done['made']} done, {done['kept']} were there, "
            f"{done['failed']} failed"
        )
    return 1 if done["failed"] else 0


def _opened(where: Options) -> AbstractContextManager[Cluster | None]:
    """Open the cluster that is asked for, if one is."""
    if not where.on_cluster:
        return nullcontext()
    return open_cluster(scheduler=where.scheduler, workers=where.workers)


def _check_log(arguments: argparse.Namespace, jobs: Sequence[Job]) -> None:
    """Refuse a log that would overwrite what is read or written."""
    log: Path | None = arguments.log
    if log is None:
        return
    check_folder(log, error=OptionError)
    used = {path for job in jobs for path in (*job.inputs, job.output)}
    used |= {arguments.file, *([arguments.model] if arguments.model else [])}
    if os.path.realpath(log) in {os.path.realpath(path) for path in used}:
        raise OptionError(
            f"--log {log} is the jobs file, an image or the model; choose another name"
        )


@dataclass(frozen=True)
class _Display:
    """What to call after a job, and after an iteration of one."""

    job: Callable[[Change], None]
    iteration: Callable[[Job, Progress], None]


@contextmanager
def _display(total: int, say: Speaker) -> Iterator[_Display]:
    """Give functions that show a bar on a terminal, and lines elsewhere; reasons always."""
    columns = (BarColumn(bar_width=24), MofNCompleteColumn(), TextColumn("{task.description}"))
    shown = say.is_terminal and not say.quiet
    errors = Speaker(quiet=False) if say.quiet else say  # as the bar's, or lines would cross it
    with Bar(*columns, TimeRemainingColumn(), console=say, disable=not shown) as bar:
        jobs = bar.add_task("jobs", total=total)
        current = bar.add_task("", total=None, visible=False)

        def after_job(change: Change) -> None:
            outcome = change.outcome
            bar.update(jobs, completed=change.done)
            bar.update(current, visible=False)
            place = f"{change.done}/{change.jobs} {outcome.job.name}"
            if outcome.state == "failed":
                errors.tell(printable(f"{place}: failed: {outcome.reason}"))
            elif not say.is_terminal:
                say.tell(printable(f"{place}: {STATES[outcome.state]}"))

        def after_iteration(job: Job, progress: Progress) -> None:
            bar.update(
                current,
                completed=progress.losses.iteration,
                total=progress.iterations,
                description=printable(job.name),
                visible=True,
            )

        yield _Display(after_job, after_iteration)
