"""A run that a command executes: its progress, its files, and its report."""

import argparse
import shlex
from collections.abc import Callable, Sequence
from datetime import timedelta
from functools import partial
from pathlib import Path

from gramstyle.cli.pipes import DASH, FORMAT, check_standard_output, is_standard_output, shown
from gramstyle.cli.progress import display
from gramstyle.cli.running.animation import AnimationOutput
from gramstyle.cli.running.image import ImageOutput, numbered
from gramstyle.cli.running.live import watched
from gramstyle.cli.speaking import Speaker, report
from gramstyle.errors import OptionError
from gramstyle.images import EXTENSIONS, check_output
from gramstyle.images.animation import check_animation
from gramstyle.images.encoding import check_depth
from gramstyle.run.checkpoint import is_file_of
from gramstyle.run.options import BOUNDS
from gramstyle.run.options.values import MACHINE
from gramstyle.run.plan import RunPlan
from gramstyle.run.records.log import RunLog
from gramstyle.run.resume.checkpointer import Checkpointer
from gramstyle.run.state import RunState
from gramstyle.run.transfer import Progress, Result, execute
from gramstyle.system.files import is_same_place


def perform(
    plan: RunPlan,
    arguments: argparse.Namespace,
    say: Speaker,
    *,
    checkpointer: Checkpointer | None = None,
    resumed: Callable[[], RunState] | None = None,
) -> None:
    """Execute a plan, show its progress, write its files, and print where the image is."""
    output = ImageOutput(arguments.output, plan, resumed=resumed is not None)
    try:
        result = _perform(plan, arguments, say, output, checkpointer, resumed)
    except KeyboardInterrupt as stop:
        if checkpointer is None or output.finished:
            raise
        remedy = f"Resume the run with: {_resume_command(checkpointer, arguments)}"
        raise type(stop)(f"{stop}. {remedy}") from None
    if not arguments.quiet:
        tell = say.tell if arguments.output == DASH else report
        tell(_sentence(arguments.output, result))


def _perform(
    plan: RunPlan,
    arguments: argparse.Namespace,
    say: Speaker,
    output: ImageOutput,
    checkpointer: Checkpointer | None,
    resumed: Callable[[], RunState] | None,
) -> Result:
    # Read the state before opening the log, since that overwrites the log of the run so far. The
    # run pops the state from the list, so that no second reference keeps it in memory.
    pending = [] if resumed is None else [resumed()]
    animation = AnimationOutput(arguments.record, plan)

    with (
        RunLog(arguments.log) as log,
        watched(plan, say, live=getattr(arguments, "live", False)) as watcher,
        display(say, quiet=arguments.quiet) as show,
    ):
        log.start(plan.settings.to_json())

        def after_iteration(progress: Progress) -> bool:
            output.latest = progress
            show(progress)
            log.iteration(progress.losses, progress.scale, scales=progress.scales)
            animation.add(progress)
            if arguments.save_every and progress.losses.iteration % arguments.save_every == 0:
                output.numbered(progress)
            return watcher.after_iteration(progress)

        try:
            result = execute(
                plan,
                callback=after_iteration,
                saver=checkpointer,
                state=partial(_logged, pending, plan, log) if pending else None,
            )
            output.finish(result, log)
            watcher.finish(result)
            animation.finish(result.image)
        except BaseException as stop:
            ended = animation.stopped(output.stopped(stop))
            if ended is stop:
                raise
            raise ended from None
    return result


def _resume_command(checkpointer: Checkpointer, arguments: argparse.Namespace) -> str:
    """Return the command that resumes a run on this machine, as it was started."""
    words = ["gramstyle", "resume", str(checkpointer.folder), "-o", str(arguments.output)]
    for name in ("model", *MACHINE):
        value = getattr(arguments, name, None)
        if value is not None:
            words += [f"--{name.replace('_', '-')}", str(value)]
    return shlex.join(words)


def _logged(pending: list[RunState], plan: RunPlan, log: RunLog) -> RunState:
    """Return the state to resume from, and log the iterations before it."""
    state = pending.pop()
    for losses in state.losses:
        if losses.iteration:
            log.iteration(losses, plan.scales[losses.scale], scales=len(plan.scales))
    return state


def check_files(arguments: argparse.Namespace, inputs: Sequence[Path], *, depth: int = 8) -> None:
    """Refuse files that could not be written at the end, or would overwrite an input.

    Parameters
    ----------
    depth
        The bits per channel of the image.
    """
    files = [path for path in inputs if path != DASH]
    output: Path = arguments.output
    if output == DASH:
        check_standard_output()
        check_depth(depth, EXTENSIONS[FORMAT])
    else:
        check_output(output, files, depth=depth)
        files.append(output)
    if arguments.save_every is not None:
        _check_numbered(output, arguments.save_every, inputs)
    if arguments.log is not None:
        _check_place("--log", arguments.log, arguments, files)
    record: Path | None = arguments.record
    if record is not None:
        check_animation(record)
        _check_place("--record", record, arguments, files)
        if arguments.log is not None and is_same_place(record, arguments.log):
            raise OptionError(f"--record {record} is the log; choose another name")


def _check_place(
    option: str, file: Path, arguments: argparse.Namespace, images: Sequence[Path]
) -> None:
    """Refuse a file of an option that would overwrite a file that is read or written."""
    used = [*images, *([arguments.model] if arguments.model else [])]
    if any(is_same_place(file, path) for path in used):
        raise OptionError(f"{option} {file} is one of the images or the model; choose another name")
    if arguments.output == DASH and is_standard_output(file):
        raise OptionError(f"{option} {file} is standard output, where the image goes; name a file")
    checkpoint: Path | None = getattr(arguments, "checkpoint", None) or getattr(
        arguments, "folder", None
    )
    if checkpoint is not None and is_file_of(checkpoint, file):
        raise OptionError(f"{option} {file} is a file of the checkpoint; choose another name")


def _check_numbered(output: Path, every: int, inputs: Sequence[Path]) -> None:
    """Refuse numbered images that would overwrite an input, which has a name of the same form."""
    if every < 1:
        raise OptionError(f"--save-every must be at least 1, not {every}")
    if output == DASH:
        raise OptionError("--save-every needs a file; name one with -o, or leave it out")
    check_output(numbered(output, BOUNDS["iterations"][1]), [])  # the longest name
    for existing in output.parent.glob(f"*{output.suffix}"):
        if existing.name.startswith(f"{output.stem}-"):
            check_output(existing, inputs)


def _sentence(output: Path, result: Result) -> str:
    took = timedelta(seconds=round(result.record.seconds))
    done = result.record.losses[-1].iteration
    width, height = result.rendered.width, result.rendered.height
    return (
        f"wrote {shown(output)} ({width}×{height}) after {done} "
        f"{'iteration' if done == 1 else 'iterations'} in {took}: {result.record.reason}"
    )
