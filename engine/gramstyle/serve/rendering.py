"""Run one job in its folder: begin it or continue it from its checkpoint, report, write the image.

This runs in a worker process. Everything that it knows of the job is in the order and in the files.
"""

import json
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from gramstyle.errors import GramstyleError
from gramstyle.images import write_image
from gramstyle.run.checkpoint import CheckpointError, check_folder, owned
from gramstyle.run.open_model import OpenModel
from gramstyle.run.plan import RunPlan, plan_run
from gramstyle.run.progress import Losses, Progress, Result
from gramstyle.run.records.log import RunLog
from gramstyle.run.resume import Resumed, resume
from gramstyle.run.resume.checkpointer import Checkpointer
from gramstyle.run.state import RunState
from gramstyle.run.transfer import execute
from gramstyle.serve.folder import JobFiles
from gramstyle.serve.job import Request, Standing
from gramstyle.serve.options import job_options, uploads_of
from gramstyle.serve.reporting import REASONS, Preview, Report, Reporter, Stop
from gramstyle.system.files import write_atomically

# How long a worker that was killed with its server may still hold a checkpoint, in seconds.
_PATIENCE = 20.0
# What a client is told of an error whose sentence names files of the server.
NO_FILES = "the server could not read or write the files of the job; its disk may be full"


@dataclass(frozen=True, kw_only=True)
class Order:
    """A job for a worker.

    Attributes
    ----------
    folder
        The folder of the job.
    request
        What the client asked for, in which images are paths.
    machine
        Options of the machine.
    seconds
        The longest time of the run.
    saving
        The time between two checkpoints in seconds.
    """

    folder: Path
    request: Request
    machine: Mapping[str, Any]
    seconds: float
    saving: float = 10.0


@dataclass(frozen=True)
class Ended:
    """How a job ended; `problem` is empty unless it failed, and `stop` says what ended it."""

    standing: Standing
    has_image: bool
    reason: str = ""
    problem: str = ""
    stop: Stop | None = None


class InterruptedJobError(Exception):
    """The server stops; the state of the run is saved."""


def run_job(
    order: Order,
    *,
    model: OpenModel,
    tell: Callable[[Report | Preview], None],
    stop: Callable[[], Stop | None],
) -> Ended:
    """Run a job to its end.

    Parameters
    ----------
    order
        The job.
    model
        The open model.
    tell
        Receives reports and previews.
    stop
        Returns why the run shall end now, if it shall.

    Returns
    -------
    Ended
        How it ended. The files are complete then.

    Raises
    ------
    InterruptedJobError
        If the run was stopped because the server stops; it can be continued.
    """
    files = JobFiles(order.folder)
    before = already_ended(files)
    if before is not None:
        return before
    teller = Reporter(tell, stop, seconds=order.seconds)
    try:
        files.folder.mkdir(exist_ok=True)
        files.checkpoint.mkdir(exist_ok=True)
        with _owned(files.checkpoint):
            _run(order, files, model, teller)
    except GramstyleError as error:
        problem = _without_files(error, order)
        return Ended(teller.standing, has_image=False, problem=problem)
    except OSError as error:
        sys.stderr.write(f"{error}\n")
        return Ended(teller.standing, has_image=False, problem=NO_FILES)
    shutil.rmtree(files.checkpoint, ignore_errors=True)
    ended = already_ended(files)
    assert ended is not None  # noqa: S101 - the run has just written it
    return ended


def already_ended(files: JobFiles) -> Ended | None:
    """Return how a job ended, if its files say so; None also if the file is damaged."""
    try:
        table = json.loads(files.ended.read_bytes())
        return Ended(**{**table, "standing": Standing(**table["standing"])})
    except (OSError, ValueError, TypeError, KeyError):
        return None


def _without_files(error: GramstyleError, order: Order) -> str:
    """Return a sentence for the client, who must not see the names of files of the server."""
    sentence = " ".join(str(error).split())
    request = order.request
    names = dict.fromkeys(uploads_of(request), "an image of the job")
    names |= dict.fromkeys(request.styles, "a style image")
    names[request.content] = "the content image"
    shown = sentence
    for path, name in names.items():
        shown = shown.replace(repr(path), name).replace(path, name)
    if str(order.folder.parent) in shown:
        sys.stderr.write(f"{sentence}\n")
        return NO_FILES
    return shown


def _run(order: Order, files: JobFiles, model: OpenModel, teller: Reporter) -> None:
    plan, resumed, pending = _planned(order, files, model)
    saver = _Saver(order, files, plan, resumed, teller)
    with RunLog(files.log) as log:
        log.start(plan.settings.to_json())
        for state in pending:
            teller.continue_from(plan, state)
            for losses in state.losses:
                _log(log, plan, losses)

        def after_iteration(progress: Progress) -> bool:
            log.iteration(progress.losses, progress.scale, scales=progress.scales)
            return teller.after_iteration(progress)

        result = execute(
            plan, callback=after_iteration, saver=saver, state=pending.pop if pending else None
        )
        _finish(files, result, log, teller)


def _finish(files: JobFiles, result: Result, log: RunLog, teller: Reporter) -> None:
    record, last = result.record, result.record.losses[-1]
    standing = Standing(
        iteration=last.iteration,
        iterations=teller.standing.iterations or last.iteration,
        loss=record.losses[record.best].loss,
        seconds=round(record.seconds, 3),
        seconds_left=0.0,
        width=result.rendered.width,
        height=result.rendered.height,
        scale=last.scale + 1,
        scales=teller.standing.scales,
    )
    stop = teller.stopped
    reason = record.reason if stop is None else REASONS[stop]
    write_image(files.image, result.rendered, encoding=result.encoding)
    log.end({**record.summary, "reason": reason})
    ended = Ended(standing, has_image=True, reason=reason, stop=stop)
    write_atomically(files.ended, json.dumps(asdict(ended)).encode(), error=GramstyleError)


def _planned(
    order: Order, files: JobFiles, model: OpenModel
) -> tuple[RunPlan, Resumed | None, list[RunState]]:
    """Return the plan of a job, and its run and state if there is a checkpoint to continue."""
    try:
        if check_folder(files.checkpoint) is not None:
            resumed = resume(files.checkpoint, model=model, machine=order.machine)
            return resumed.plan, resumed, [resumed.state()]
    except GramstyleError:  # damaged, or of another version: the job begins again
        for each in files.checkpoint.iterdir():
            if each.is_file() and not each.name.startswith("."):
                each.unlink()
    request = order.request
    options = job_options(request, order.machine)
    return plan_run(request.content, list(request.styles), options, model=model), None, []


def _log(log: RunLog, plan: RunPlan, losses: Losses) -> None:
    if losses.iteration:
        log.iteration(losses, plan.scales[losses.scale], scales=len(plan.scales))


@contextmanager
def _owned(folder: Path) -> Iterator[None]:
    """Own a checkpoint; wait for a worker that has lost its server and is about to end."""
    until = time.monotonic() + _PATIENCE
    with ExitStack() as stack:
        while True:
            try:
                stack.enter_context(owned(folder))
                break
            except CheckpointError:
                if time.monotonic() > until:
                    raise
                time.sleep(0.1)
        yield


class _Saver:
    """Saves the state of a run at intervals of time, and when the server stops."""

    every = 1

    def __init__(
        self,
        order: Order,
        files: JobFiles,
        plan: RunPlan,
        resumed: Resumed | None,
        teller: Reporter,
    ) -> None:
        self._order, self._files, self._plan, self._teller = order, files, plan, teller
        self._into = None if resumed is None else resumed.checkpointer(files.image)
        self._saved = time.monotonic()

    def save(self, state: RunState) -> None:
        """Save a state if one is due.

        Raises
        ------
        InterruptedJobError
            If the server stops.
        """
        stops = self._teller.stopped == "shutdown"
        if time.monotonic() - self._saved < self._order.saving and not stops:
            return
        if self._into is None:  # not at the start: most small jobs never save a state
            folder = self._files.checkpoint
            self._into = Checkpointer.beginning(folder, self._plan, self._files.image, self.every)
        self._into.save(state)
        self._saved = time.monotonic()
        if stops:
            raise InterruptedJobError
