"""Show the progress of a run: a bar on a terminal, plain lines elsewhere, nothing with --quiet."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta

from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from gramstyle.cli.speaking import Speaker
from gramstyle.run.transfer import Progress

# Without a terminal, a line every so many iterations, or when this many seconds have passed.
LINE_EVERY, LINE_SECONDS = 10, 15.0

Show = Callable[[Progress], None]


@contextmanager
def display(say: Speaker, *, quiet: bool) -> Iterator[Show]:
    """Yield a function to call after every iteration; restore the terminal at the end."""
    if quiet:
        yield lambda _progress: None
    elif say.is_terminal:
        with live_bar(say) as show:
            yield show
    else:
        yield lines(say)


@contextmanager
def counted(say: Speaker, total: int, noun: str) -> Iterator[Callable[[int], None]]:
    """Yield a function that shows how many are done, in a bar; without a terminal, nothing."""
    columns = (BarColumn(bar_width=24), MofNCompleteColumn(), TextColumn(noun))
    shown = say.is_terminal and not say.quiet
    with Bar(*columns, TimeRemainingColumn(), console=say, disable=not shown) as bar:
        task = bar.add_task("", total=total)
        yield lambda done: bar.update(task, completed=done)


@contextmanager
def live_bar(say: Speaker) -> Iterator[Show]:
    """Yield a function that shows the progress in a bar in the terminal's last line."""
    columns = (
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TextColumn("{task.description}", markup=False),
    )
    # stdout may receive an image, which rich would take for text.
    with Bar(*columns, console=say, redirect_stdout=False) as bar:
        task = bar.add_task("starting", total=None)

        def show(progress: Progress) -> None:
            bar.update(
                task,
                completed=progress.losses.iteration,
                total=progress.iterations,
                description=f"{scale_text(progress)}{loss_text(progress)}  {time_text(progress)}",
            )

        yield show


def lines(say: Speaker) -> Show:
    """Return a function that prints a plain line now and then, for files and pipes."""
    last = time.monotonic()

    def show(progress: Progress) -> None:
        nonlocal last
        iteration, total = progress.losses.iteration, progress.iterations
        due = iteration % LINE_EVERY == 0 or time.monotonic() - last > LINE_SECONDS
        if due or iteration in (1, total):
            last = time.monotonic()
            say.tell(
                f"iteration {iteration}/{total}  {scale_text(progress)}{loss_text(progress)}  "
                f"{time_text(progress)}"
            )

    return show


def scale_text(progress: Progress) -> str:
    """Return the present scale of a run as text; empty if there is only one scale."""
    scale = progress.scale
    if progress.scales == 1:
        return ""
    return f"scale {scale.number + 1}/{progress.scales} {scale.width}×{scale.height}  "


def time_text(progress: Progress) -> str:
    """Return the time of an iteration and the time left as text."""
    left = timedelta(seconds=round(progress.seconds_left))
    return f"{progress.seconds_per_iteration:.2f} s each  {left} left"


def loss_text(progress: Progress) -> str:
    """Return the total loss, and the weighted losses that add up to it, as text."""
    losses, weights = progress.losses, progress.scale.spec.weights
    total = f"loss {losses.loss:.3e}"
    parts = {name: weights[name] * value for name, value in losses.terms.items() if weights[name]}
    if len(parts) < 2:
        return total
    return f"{total} = {' + '.join(f'{name} {value:.3e}' for name, value in parts.items())}"
