"""How a run shows itself: a live bar on a terminal, plain lines elsewhere, nothing if so asked."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from gramstyle.run.transfer import Progress

# Without a terminal, a line every so many iterations, or when this many seconds have passed.
LINE_EVERY, LINE_SECONDS = 10, 15.0

Show = Callable[[Progress], None]


class Speaker(Console):
    """Where a command says what it is doing: on stderr, unless it was told to be quiet."""

    def __init__(self, *, quiet: bool) -> None:
        super().__init__(stderr=True, quiet=quiet)

    def tell(self, sentence: str) -> None:
        """Print a sentence as it is."""
        self.print(sentence, soft_wrap=True, markup=False, highlight=False)


@contextmanager
def display(console: Console, *, quiet: bool) -> Iterator[Show]:
    """Give a function to call after every iteration; leave the terminal as it was in the end."""
    if quiet:
        yield lambda _progress: None
    elif console.is_terminal:
        with live_bar(console) as show:
            yield show
    else:
        yield lines(console)


@contextmanager
def counted(console: Console, total: int, noun: str) -> Iterator[Callable[[int], None]]:
    """Give a function to tell how many are done; a bar on a terminal, nothing elsewhere."""
    columns = (BarColumn(bar_width=24), MofNCompleteColumn(), TextColumn(noun))
    shown = console.is_terminal and not console.quiet
    with Bar(*columns, TimeRemainingColumn(), console=console, disable=not shown) as bar:
        task = bar.add_task("", total=total)
        yield lambda done: bar.update(task, completed=done)


@contextmanager
def live_bar(console: Console) -> Iterator[Show]:
    """Show a bar that moves, in the terminal's last line."""
    columns = (
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TextColumn("{task.description}"),
        TimeRemainingColumn(),
    )
    with Bar(*columns, console=console) as bar:
        task = bar.add_task("starting", total=None)

        def show(progress: Progress) -> None:
            bar.update(
                task,
                completed=progress.losses.iteration,
                total=progress.iterations,
                description=f"{level_text(progress)}{loss_text(progress)}  "
                f"{pace(progress):.2f} s/it",
            )

        yield show


def lines(console: Console) -> Show:
    """Print a plain line now and then, for files and pipes."""
    last = time.monotonic()

    def show(progress: Progress) -> None:
        nonlocal last
        iteration, total = progress.losses.iteration, progress.iterations
        due = iteration % LINE_EVERY == 0 or time.monotonic() - last > LINE_SECONDS
        if due or iteration in (1, total):
            last = time.monotonic()
            left = timedelta(seconds=round(seconds_left(progress)))
            console.print(
                f"iteration {iteration}/{total}  {level_text(progress)}{loss_text(progress)}  "
                f"{pace(progress):.2f} s each  {left} left",
                soft_wrap=True,
                highlight=False,
            )

    return show


def pace(progress: Progress) -> float:
    """Return the seconds that an iteration of this level has taken on average."""
    losses, stage = progress.losses, progress.stage
    return (losses.seconds - stage.began) / (losses.iteration - stage.iterated)


def seconds_left(progress: Progress) -> float:
    """Return how long this level and those after it will take, at the pace of this one."""
    stage = progress.stage
    here = stage.iterated + stage.iterations - progress.losses.iteration
    return pace(progress) * (here + stage.ahead)


def level_text(progress: Progress) -> str:
    """Return which level a run is at, where there are several."""
    stage = progress.stage
    if stage.of == 1:
        return ""
    return f"level {stage.number + 1}/{stage.of} {stage.width}×{stage.height}  "


def loss_text(progress: Progress) -> str:
    """Return the total loss and what content and style contribute to it."""
    losses, weights = progress.losses, progress.stage.weights
    content, style = weights.alpha * losses.content, weights.beta * losses.style_loss
    if weights.alpha == 0 or weights.beta == 0:
        return f"loss {losses.loss:.3e}"
    return f"loss {losses.loss:.3e} = content {content:.3e} + style {style:.3e}"
