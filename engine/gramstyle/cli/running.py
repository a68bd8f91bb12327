"""A run that a command executes: its progress, its files, and the image of a stopped run."""

import argparse
import secrets
import shlex
from collections.abc import Callable, Sequence
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import PIL.Image
from rich.console import Console

from gramstyle.cli.progress import display
from gramstyle.errors import GramstyleError, ImageError, OptionError
from gramstyle.images import check_output, from_pil, write_image
from gramstyle.run.checkpointer import Checkpointer
from gramstyle.run.log import RunLog
from gramstyle.run.option_values import MACHINE
from gramstyle.run.plan import RunPlan
from gramstyle.run.state import RunState
from gramstyle.run.transfer import Progress, Result, execute
from gramstyle.system.temporary import temporary_folder


def perform(
    plan: RunPlan,
    arguments: argparse.Namespace,
    say: Console,
    *,
    checkpointer: Checkpointer | None = None,
    resumed: Callable[[], RunState] | None = None,
) -> None:
    """Execute a plan, show its progress, write the image and the log, and print where it is."""
    try:
        _perform(plan, arguments, say, checkpointer, resumed)
    except KeyboardInterrupt as stop:
        if checkpointer is None:
            raise
        remedy = f"resume it with: {_resume_command(checkpointer, arguments)}"
        raise type(stop)(f"{stop}; {remedy}") from None


def _perform(
    plan: RunPlan,
    arguments: argparse.Namespace,
    say: Console,
    checkpointer: Checkpointer | None,
    resumed: Callable[[], RunState] | None,
) -> None:
    output: Path = arguments.output
    settings = plan.settings.to_json()
    latest: Progress | None = None
    # Read the state before opening the log, since that overwrites the log of the run so far. The
    # run pops the state from the list, so that no second reference keeps it in memory.
    pending = [] if resumed is None else [resumed()]
    first = "another" if pending else "the first"

    with (
        RunLog(arguments.log) as log,
        display(say, quiet=arguments.quiet) as show,
    ):
        log.start(plan.settings.to_json())

        def after_iteration(progress: Progress) -> None:
            nonlocal latest
            latest = progress
            show(progress)
            log.iteration(progress.losses, progress.scale, scales=progress.scales)
            iteration = progress.losses.iteration
            if arguments.save_every and iteration % arguments.save_every == 0:
                _write(_numbered(output, iteration), progress.image(), settings)

        try:
            result = execute(
                plan,
                callback=after_iteration,
                saver=checkpointer,
                state=partial(_logged, pending, plan, log) if pending else None,
            )
        except (GramstyleError, KeyboardInterrupt) as stop:
            raise _stopped(stop, latest, output, settings, first) from None
        log.end(result.record.summary)
    _save(output, result.image, {**settings, "result": result.record.summary})
    if not arguments.quiet:
        _report(output, result)


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


def check_files(arguments: argparse.Namespace, inputs: Sequence[Path]) -> None:
    """Refuse files that could not be written at the end, or would overwrite an input."""
    check_output(arguments.output, inputs)
    if arguments.save_every is not None:
        if arguments.save_every < 1:
            raise OptionError(f"--save-every must be at least 1, not {arguments.save_every}")
        # A numbered image can overwrite an input only if the input has a name of the same form.
        stem = arguments.output.stem
        for existing in arguments.output.parent.glob(f"*{arguments.output.suffix}"):
            if existing.name.startswith(f"{stem}-"):
                check_output(existing, inputs)
    if arguments.log is not None:
        used = [*inputs, arguments.output, *([arguments.model] if arguments.model else [])]
        if arguments.log.resolve() in {path.resolve() for path in used}:
            raise OptionError(
                f"--log {arguments.log} is one of the images or the model; choose another name"
            )


def _numbered(output: Path, iteration: int) -> Path:
    return output.with_name(f"{output.stem}-{iteration:04d}{output.suffix}")


def _write(path: Path, image: PIL.Image.Image, settings: dict[str, Any]) -> None:
    write_image(path, from_pil(image), settings=settings)


def _save(output: Path, image: PIL.Image.Image, settings: dict[str, Any]) -> None:
    """Write an image; if that fails, write it to the folder for temporary files."""
    try:
        _write(output, image, settings)
    except ImageError as error:
        name = f"{output.stem}-{secrets.token_hex(4)}{output.suffix}"
        try:
            spare = temporary_folder() / name
            _write(spare, image, settings)
        except GramstyleError:
            raise error from None
        raise ImageError(f"{error} (the image was saved as {spare})") from None


def _stopped(
    stop: BaseException,
    latest: Progress | None,
    output: Path,
    settings: dict[str, Any],
    first: str,
) -> BaseException:
    """Save the image so far; return the same interruption with a message that names the file."""
    reason = str(stop) or "stopped"
    if latest is None:
        return type(stop)(f"{reason} before {first} iteration; nothing was written")
    iteration = latest.losses.iteration
    settings["result"] = {"iterations": iteration, "loss": latest.losses.loss, "reason": reason}
    _save(output, latest.image(), settings)
    size = ""
    if latest.scale.number + 1 < latest.scales:
        size = f", {latest.scale.width}×{latest.scale.height} pixels,"
    return type(stop)(f"{reason}; the image of iteration {iteration}{size} is in {output}")


def _report(output: Path, result: Result) -> None:
    took = timedelta(seconds=round(result.record.seconds))
    done = result.record.losses[-1].iteration
    width, height = result.image.size
    print(  # noqa: T201 - the program's one line of output
        f"wrote {output} ({width}×{height}) after {done} iterations in {took}: "
        f"{result.record.reason}"
    )
