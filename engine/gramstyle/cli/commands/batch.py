"""`gramstyle batch JOBS.toml`."""

import argparse
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from datetime import timedelta
from functools import partial
from pathlib import Path
from time import monotonic

from gramstyle.batch import (
    BatchLog,
    Change,
    Execute,
    Job,
    check_layers,
    on_workers,
    one_by_one,
    read_jobs,
    run_jobs,
    side_by_side,
)
from gramstyle.cli import arguments as add
from gramstyle.cli.help import Help
from gramstyle.cli.job_progress import job_progress
from gramstyle.cli.parsing import Commands
from gramstyle.cli.speaking import Speaker, report
from gramstyle.cluster.client import Cluster
from gramstyle.cluster.opening import open_cluster
from gramstyle.cluster.remote import exposure
from gramstyle.errors import OptionError
from gramstyle.model import load_model
from gramstyle.run.options import Options
from gramstyle.run.plan import check_packages
from gramstyle.system.files import check_folder, is_same_place

# What the first screen of the help shows.
SCREEN = {
    "the batch": ["--jobs", "--log", "--quiet"],
    "each job": ["--threads", "--memory", "--device"],
    "a cluster": ["--scheduler", "--workers"],
}


def add_parser(commands: Commands, summary: str) -> None:
    """Describe the command and its options."""
    parser = commands.add_parser(
        "batch",
        help=summary,
        usage="gramstyle batch JOBS.toml [options]",
        description="Run every job of a TOML file (docs/batch.md): many photographs, many "
        "paintings, grids of options. If a batch is stopped, repeat the command to render the "
        "missing images. A job that fails does not stop the others; the exit code is then 1. The "
        "machine is chosen here, not by the file.",
        epilog="example: gramstyle batch jobs.toml --log jobs.jsonl",
    )
    parser.set_defaults(run=run_command)
    parser.add_argument("file", type=Path, metavar="JOBS.toml", help="the jobs")
    parser.add_argument("--model", type=Path, metavar="FILE",
        help="the network (default: as for transfer)")  # fmt: skip
    parser.add_argument("--jobs", type=int, metavar="N",
        help=Help("jobs to run at once on this machine, each with its share of the cores, or with "
        "--threads (default 1)", short="jobs to run at once on this machine (default 1)")
    )  # fmt: skip
    machine = parser.add_argument_group("the machine")
    add.add_resources(machine, work="run the jobs")
    add.add_device(machine)
    parser.add_argument("--log", type=Path, metavar="FILE.jsonl",
        help="write the outcome of each job as JSON lines")  # fmt: skip
    add.add_quiet(parser)
    parser.show_first(SCREEN)


def run_command(arguments: argparse.Namespace) -> int:
    """Run the jobs of the file; return 1 if one failed."""
    say = Speaker(quiet=arguments.quiet)
    at_once = 1 if arguments.jobs is None else arguments.jobs
    if at_once < 1:
        raise OptionError(f"--jobs must be at least 1, not {at_once}")
    where = add.options_of(arguments)
    if where.on_cluster and arguments.jobs is not None:
        raise OptionError(
            "--jobs is for this machine only, and a cluster does one job on each worker; leave "
            "--jobs out, or give --workers instead"
        )
    machine = add.machine_of(arguments)
    for name in ("scheduler", "workers"):  # the cluster does whole jobs
        machine.pop(name, None)
    jobs = read_jobs(arguments.file, machine=machine, notify=say.tell)
    _check_log(arguments, jobs)
    runs = [where] if where.on_cluster else [job.options for job in jobs]
    check = partial(check_packages, *runs)
    model = load_model(arguments.model, notify=say.tell, check=check).path
    check_layers(jobs, model)
    began = monotonic()
    with (
        _cluster(where, say) as cluster,
        BatchLog(arguments.log) as log,
        job_progress(len(jobs), say) as display,
    ):

        def after_job(change: Change) -> None:
            log.job(change.outcome)
            display.job(change)

        execute: Execute
        if cluster is not None:
            execute = partial(on_workers, cluster=cluster, model=model)
        elif at_once == 1:
            execute = partial(one_by_one, model=model, callback=display.iteration)
        else:
            execute = partial(side_by_side, model=model, at_once=at_once)
        run_jobs(jobs, execute=execute, on_change=after_job)
    states = display.states
    if not arguments.quiet:
        took = timedelta(seconds=round(monotonic() - began))
        report(
            f"{len(jobs)} {'job' if len(jobs) == 1 else 'jobs'} in {took}: {states['done']} done, "
            f"{states['reused']} reused, {states['failed']} failed"
        )
    log.check()
    return 1 if states["failed"] else 0


def _cluster(where: Options, say: Speaker) -> AbstractContextManager[Cluster | None]:
    """Open a cluster if the options ask for one."""
    if not where.on_cluster:
        return nullcontext()
    warning = None if where.scheduler is None else exposure(where.scheduler)
    if warning is not None:
        say.tell(warning)
    return open_cluster(scheduler=where.scheduler, workers=where.workers, threads=where.threads)


def _check_log(arguments: argparse.Namespace, jobs: Sequence[Job]) -> None:
    """Refuse a log that would overwrite a file that is read or written."""
    log: Path | None = arguments.log
    if log is None:
        return
    check_folder(log, error=OptionError)
    used = {path for job in jobs for path in (*job.inputs.values(), job.output)}
    used |= {arguments.file, *([arguments.model] if arguments.model else [])}
    if any(is_same_place(log, path) for path in used):
        raise OptionError(
            f"--log {log} is the jobs file, an image or the model; choose another name"
        )
