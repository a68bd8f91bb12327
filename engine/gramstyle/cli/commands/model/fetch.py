"""`gramstyle model fetch NAME`: download a published weights file."""

import argparse
import shlex
import textwrap
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from gramstyle.cli.help import Help
from gramstyle.cli.parsing import Commands
from gramstyle.cli.speaking import Speaker, report
from gramstyle.errors import ModelError
from gramstyle.model.fetch import DownloadProgress, fetch
from gramstyle.model.locate import cache_folder, make_folder_of
from gramstyle.model.published import PUBLIC_FILES
from gramstyle.system.signals import stop_message

# Seconds between lines when the output is not a terminal.
LINE_SECONDS = 15.0

# What the first screen of the help shows.
SCREEN = {"the download": ["--to", "--quiet"]}

EXAMPLE = "example: gramstyle model fetch vgg16-torchvision"

Show = Callable[[DownloadProgress], None]


def add_parser(actions: Commands) -> None:
    """Add the action."""
    parser = actions.add_parser(
        "fetch",
        help="download a published weights file",
        usage="gramstyle model fetch NAME [options]",
        description="Download a weights file from its publisher and check its hash. If the "
        "download is interrupted, run the same command again to resume it.",
        epilog=Help(f"{_files()}\n{EXAMPLE}", short=f"{_names()}\n{EXAMPLE}"),
    )
    parser.set_defaults(run=run_fetch)
    parser.show_first(SCREEN, of_run=False)
    parser.add_argument("name", choices=tuple(PUBLIC_FILES), metavar="NAME",
        help="one of the files below")  # fmt: skip
    parser.add_argument("--to", type=Path, metavar="FILE",
        help="the file to write (default: in downloads/ in the user's cache)")  # fmt: skip
    parser.add_argument("--quiet", action="store_true", help="show no progress")


def run_fetch(arguments: argparse.Namespace) -> None:
    """Download the file; print its path and the command that converts it."""
    file = PUBLIC_FILES[arguments.name]
    target = arguments.to or _default_target(file.file_name)
    try:
        with _display(Speaker(quiet=arguments.quiet)) as show:
            fetch(file, target, callback=show)
    except KeyboardInterrupt as stop:
        raise type(stop)(
            f"{stop_message(stop)}. The data received so far are saved; run the same command "
            "again to resume"
        ) from None
    report(f"{target} is {file.file_name}, as published")
    source = shlex.quote(str(target))
    network = file.network.name.split()[0].lower().replace("-", "")
    report(f"next: gramstyle model export --from {source} --to {network}.onnx")


def _default_target(name: str) -> Path:
    """Return the path of a file in the user's cache, in a folder that exists."""
    folder = cache_folder()
    if folder is None:
        raise ModelError("there is no home directory to write to; name a file with --to FILE")
    return make_folder_of(folder / "downloads" / name)


def _names() -> str:
    """Return the names of the files by architecture."""
    names: dict[str, list[str]] = {}
    for name, file in PUBLIC_FILES.items():
        names.setdefault(file.network.name.split()[0], []).append(name)
    lines = [
        textwrap.fill(", ".join(names[each]), 79, initial_indent=f"  {each}  ",
            subsequent_indent=" " * (len(each) + 4), break_on_hyphens=False)
        for each in sorted(names)
    ]  # fmt: skip
    return "\n".join(["files:", *lines, ""])


def _files() -> str:
    """Return the names of the files, each with its network, its publisher's name and its size."""
    width = max(map(len, PUBLIC_FILES))
    lines = [
        f"  {name:<{width}}  {file.network.name}\n"
        f"  {'':<{width}}  {file.file_name}{_size(file.size)}"
        for name, file in PUBLIC_FILES.items()
    ]
    return "\n".join(["files:", *lines, ""])


def _size(size: int | None) -> str:
    return f", {size / 1e6:.0f} MB" if size else ""


@contextmanager
def _display(say: Speaker) -> Iterator[Show]:
    """Yield a callback that shows the download's progress, as a bar or as lines."""
    columns = (
        BarColumn(bar_width=24),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=say, disable=not say.is_terminal) as bar:
        task = bar.add_task("", total=None)
        lines = _lines(say)

        def show(progress: DownloadProgress) -> None:
            bar.update(task, completed=progress.done, total=progress.total)
            if progress.problem is not None:
                say.tell(f"{progress.problem}; reconnecting")
            elif not say.is_terminal:
                lines(progress)

        yield show


def _lines(say: Speaker) -> Show:
    """Return a callback that prints a line every LINE_SECONDS, for files and pipes."""
    start: tuple[float, int] | None = None
    last = 0.0

    def show(progress: DownloadProgress) -> None:
        nonlocal start, last
        now, done, total = time.monotonic(), progress.done, progress.total
        if start is None:
            start = now, done
        elif done != total and now - last < LINE_SECONDS:
            return
        last = now
        of = f" of {total / 1e6:.1f}" if total else ""
        speed = (done - start[1]) / max(now - start[0], 1e-9)
        left = ""
        if total and speed > 0:
            left = f", {timedelta(seconds=round((total - done) / speed))} left"
        speed_text = f", {speed / 1e6:.1f} MB/s{left}" if speed > 0 else ""
        say.tell(f"{done / 1e6:.1f}{of} MB{speed_text}")

    return show
