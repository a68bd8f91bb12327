"""How a run shows itself: a live bar on a terminal, plain lines elsewhere, nothing if so asked."""

import time
from datetime import timedelta
from types import TracebackType
from typing import Protocol, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from gramstyle.objective import Weights
from gramstyle.transfer import Progress

# Without a terminal, a line every so many iterations, or when this many seconds have passed.
LINE_EVERY, LINE_SECONDS = 10, 15.0


class Display(Protocol):
    """Something that is told of every iteration while a run goes on."""

    def __enter__(self) -> Self:
        """Begin."""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Leave the terminal as it was."""

    def show(self, progress: Progress) -> None:
        """Show where the run stands."""


def display(weights: Weights, console: Console, *, quiet: bool) -> Display:
    """Return the display that suits the console."""
    if quiet:
        return Silence()
    return LiveBar(weights, console) if console.is_terminal else Lines(weights, console)


class Silence:
    """Shows nothing."""

    def __enter__(self) -> Self:
        """Begin nothing."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End nothing."""

    def show(self, progress: Progress) -> None:
        """Show nothing."""


class Lines(Silence):
    """Plain lines, for files and pipes."""

    def __init__(self, weights: Weights, console: Console) -> None:
        self._weights = weights
        self._console = console
        self._last = time.monotonic()

    def show(self, progress: Progress) -> None:
        """Print a line now and then."""
        iteration, total = progress.losses.iteration, progress.iterations
        due = iteration % LINE_EVERY == 0 or time.monotonic() - self._last > LINE_SECONDS
        if due or iteration in (1, total):
            self._last = time.monotonic()
            pace = progress.losses.seconds / iteration
            left = timedelta(seconds=round(pace * (total - iteration)))
            self._console.print(
                f"iteration {iteration}/{total}  {loss_text(progress, self._weights)}  "
                f"{pace:.2f} s each  {left} left",
                soft_wrap=True,
                highlight=False,
            )


class LiveBar(Silence):
    """A bar that moves."""

    def __init__(self, weights: Weights, console: Console) -> None:
        self._weights = weights
        self._bar = Bar(
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.description}"),
            TimeRemainingColumn(),
            console=console,
        )
        self._task = self._bar.add_task("starting", total=None)

    def __enter__(self) -> Self:
        """Take the terminal's last line."""
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Give it back."""
        self._bar.stop()

    def show(self, progress: Progress) -> None:
        """Move the bar."""
        pace = progress.losses.seconds / progress.losses.iteration
        self._bar.update(
            self._task,
            completed=progress.losses.iteration,
            total=progress.iterations,
            description=f"{loss_text(progress, self._weights)}  {pace:.2f} s/it",
        )


def loss_text(progress: Progress, weights: Weights) -> str:
    """Return the total loss and what content and style contribute to it."""
    losses = progress.losses
    content, style = weights.alpha * losses.content, weights.beta * losses.style_loss
    return f"loss {losses.loss:.3e} = content {content:.3e} + style {style:.3e}"
