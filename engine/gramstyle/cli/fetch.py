"""`gramstyle model fetch NAME`."""

import argparse
import shlex
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from gramstyle.cli.parsing import Commands
from gramstyle.model.fetch import Received, fetch
from gramstyle.model.locate import cached_model, make_folder_of
from gramstyle.model.published import PUBLIC_FILES

# Without a terminal, a line every so many seconds.
LINE_SECONDS = 15.0

Show = Callable[[Received], None]


def add_parser(actions: Commands) -> None:
    """Describe the command."""
    parser = actions.add_parser(
        "fetch",
        help="download a published file of weights",
        description="Download a file of weights from where it was published and check its hash. "
        "A download that breaks off goes on where it stopped when the command is given again.",
        epilog=_list(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run_fetch)
    parser.add_argument("name", choices=tuple(PUBLIC_FILES), metavar="NAME",
        help="which file; they are listed below")  # fmt: skip
    parser.add_argument("--to", type=Path, metavar="FILE",
        help="where to write it (default: downloads/ in the user's cache)")  # fmt: skip
    parser.add_argument("--quiet", action="store_true", help="show no progress")


def run_fetch(arguments: argparse.Namespace) -> None:
    """Download, and say where it is and what to do with it."""
    file = PUBLIC_FILES[arguments.name]
    target = arguments.to or make_folder_of(cached_model().parent / "downloads" / file.file_name)
    try:
        with _display(Console(stderr=True, quiet=arguments.quiet)) as show:
            fetch(file, target, callback=show)
    except KeyboardInterrupt as stop:
        raise type(stop)(
            f"{str(stop) or 'stopped'}; what has arrived is kept, and the same command goes on "
            "from there"
        ) from None
    print(f"{target} is {file.file_name}, as published")  # noqa: T201
    source = shlex.quote(str(target))
    print(f"next: gramstyle model export --from {source} --to vgg19.onnx")  # noqa: T201


def _list() -> str:
    width = max(map(len, PUBLIC_FILES))
    lines = [
        f"  {name:<{width}}  {file.network.name}\n"
        f"  {'':<{width}}  {file.file_name}{_size(file.size)}"
        for name, file in PUBLIC_FILES.items()
    ]
    return "files:\n" + "\n".join(lines)


def _size(size: int | None) -> str:
    return f", {size / 1e6:.0f} MB" if size else ""


@contextmanager
def _display(console: Console) -> Iterator[Show]:
    """Give a function to call for whatever arrives: a live bar, or plain lines now and then."""
    columns = (
        BarColumn(bar_width=24),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("", total=None)
        lines = _lines(console)

        def show(received: Received) -> None:
            bar.update(task, completed=received.done, total=received.total)
            if received.problem is not None:
                console.print(
                    f"{received.problem}; trying again",
                    soft_wrap=True,
                    markup=False,
                    highlight=False,
                )
            elif not console.is_terminal:
                lines(received)

        yield show


def _lines(console: Console) -> Show:
    """Print a plain line now and then, for files and pipes."""
    begun: tuple[float, int] | None = None
    last = 0.0

    def show(received: Received) -> None:
        nonlocal begun, last
        now, done, total = time.monotonic(), received.done, received.total
        if begun is None:
            begun = now, done
        elif done != total and now - last < LINE_SECONDS:
            return
        last = now
        of = f" of {total / 1e6:.1f}" if total else ""
        speed = (done - begun[1]) / max(now - begun[0], 1e-9)
        left = ""
        if total and speed > 0:
            left = f", {timedelta(seconds=round((total - done) / speed))} left"
        pace = f", {speed / 1e6:.1f} MB/s{left}" if speed > 0 else ""
        console.print(f"{done / 1e6:.1f}{of} MB{pace}", soft_wrap=True, highlight=False)

    return show
