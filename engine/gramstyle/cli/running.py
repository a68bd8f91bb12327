"""One optimisation run by a command: its progress, its files, and what a stopped one leaves."""

import argparse
import secrets
import tempfile
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import PIL.Image
from rich.console import Console

from gramstyle.cli.progress import display
from gramstyle.errors import GramstyleError, ImageError, OptionError
from gramstyle.images import check_output, from_pil, write_image
from gramstyle.run.log import RunLog
from gramstyle.run.prepare import Prepared
from gramstyle.run.transfer import Course, Position, Progress, Result, climb, run


def perform(prepared: Prepared, arguments: argparse.Namespace, say: Console) -> None:
    """Run one size, show progress, write the image and the log, and say so."""
    _perform(partial(run, prepared), prepared.settings, arguments, say)


def perform_levels(
    course: Course,
    arguments: argparse.Namespace,
    say: Console,
    *,
    keep: Callable[[Position], None] | None = None,
    every: int = 1,
    since: Callable[[], Position] | None = None,
    folder: Path | None = None,
) -> None:
    """Run through the levels of a course in the same way; `folder` is where `keep` keeps it."""
    run_with = partial(climb, course, keep=keep, every=every)
    try:
        _perform(run_with, course.settings, arguments, say, since=since)
    except KeyboardInterrupt as stop:
        if folder is None:
            raise
        raise type(stop)(f"{stop}; go on with: gramstyle resume {folder}") from None


def _perform(
    run_with: Callable[..., Result],
    settings: Mapping[str, Any],
    arguments: argparse.Namespace,
    say: Console,
    *,
    since: Callable[[], Position] | None = None,
) -> None:
    output: Path = arguments.output
    latest: Progress | None = None
    # Before the log is opened: it may be the one that the run has written so far.
    held = [] if since is None else [since()]
    first = "another" if held else "the first"

    with (
        RunLog(arguments.log) as log,
        display(say, quiet=arguments.quiet) as show,
    ):
        log.start(settings)

        def after_iteration(progress: Progress) -> None:
            nonlocal latest
            latest = progress
            show(progress)
            log.iteration(progress.losses, progress.stage)
            iteration = progress.losses.iteration
            if arguments.save_every and iteration % arguments.save_every == 0:
                _write(_numbered(output, iteration), progress.image(), dict(settings))

        if held:
            run_with = partial(run_with, since=partial(_told, held, log))
        try:
            result = run_with(callback=after_iteration)
        except (GramstyleError, KeyboardInterrupt) as stop:
            raise _stopped(stop, latest, output, dict(settings), first) from None
        log.end(result.record.summary)
    _save(output, result.image, {**result.record.settings, "result": result.record.summary})
    if not arguments.quiet:
        _report(output, result)


def _told(held: list[Position], log: RunLog) -> Position:
    """Hand over the position that a run goes on from, and log how it came there."""
    at = held.pop()
    for losses in at.losses:
        if losses.iteration:
            log.iteration(losses, at.stages[losses.level])
    return at


def check_files(arguments: argparse.Namespace, inputs: Sequence[Path]) -> None:
    """Refuse to start on what could not be written at the end, or would overwrite an input."""
    check_output(arguments.output, inputs)
    if arguments.save_every is not None:
        if arguments.save_every < 1:
            raise OptionError(f"--save-every must be at least 1, not {arguments.save_every}")
        # The numbered images can meet an input only where one is called like them.
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
    """Write an image that must not be lost; where that fails, to the folder for passing files."""
    try:
        _write(output, image, settings)
    except ImageError as error:
        spare = Path(tempfile.gettempdir()) / f"{output.stem}-{secrets.token_hex(4)}{output.suffix}"
        try:
            _write(spare, image, settings)
        except ImageError:
            raise error from None
        raise ImageError(f"{error} (the image is kept as {spare})") from None


def _stopped(
    stop: BaseException,
    latest: Progress | None,
    output: Path,
    settings: dict[str, Any],
    first: str,
) -> BaseException:
    """Save the image so far and return the same interruption, saying what became of it."""
    reason = str(stop) or "stopped"
    if latest is None:
        return type(stop)(f"{reason} before {first} iteration; nothing was written")
    iteration = latest.losses.iteration
    settings["result"] = {"iterations": iteration, "loss": latest.losses.loss, "reason": reason}
    _save(output, latest.image(), settings)
    size = ""
    if latest.stage.number + 1 < latest.stage.of:
        size = f", {latest.stage.width}×{latest.stage.height} pixels,"
    return type(stop)(f"{reason}; the image of iteration {iteration}{size} is in {output}")


def _report(output: Path, result: Result) -> None:
    took = timedelta(seconds=round(result.record.seconds))
    done = result.record.losses[-1].iteration
    width, height = result.image.size
    print(  # noqa: T201 - the program's one line of output
        f"wrote {output} ({width}×{height}) after {done} iterations in {took}: "
        f"{result.record.reason}"
    )
