"""Show the progress of several jobs, and say how many are finished when they are stopped."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from gramstyle.batch import Change, Job
from gramstyle.batch.render import Progress
from gramstyle.cli.printable import printable
from gramstyle.cli.speaking import Speaker
from gramstyle.errors import GramstyleError
from gramstyle.system.signals import stop_message


class JobProgress:
    """A bar on a terminal, lines elsewhere; the reasons of failures always."""

    def __init__(self, bar: Bar, total: int, say: Speaker) -> None:
        self.states = Counter[str]()
        self._bar, self._say = bar, say
        # Failures use the bar's console if it prints anything: other lines would cut the bar.
        self._errors = Speaker() if say.quiet else say
        self._jobs = bar.add_task("jobs", total=total)
        self._current = bar.add_task("", total=None, visible=False)

    def job(self, change: Change) -> None:
        """Show that a job is finished."""
        outcome = change.outcome
        self.states[outcome.state] += 1
        self._bar.update(self._jobs, completed=change.done)
        self._bar.update(self._current, visible=False)
        line = f"{change.done}/{change.jobs} {outcome.job.name}: {outcome.state}"
        if outcome.state == "failed":
            self._errors.tell(f"{line}: {outcome.reason}")
        elif not self._say.is_terminal:
            self._say.tell(line)

    def iteration(self, job: Job, progress: Progress) -> None:
        """Show the iteration of a job."""
        self._bar.update(
            self._current,
            completed=progress.losses.iteration,
            total=progress.iterations,
            description=printable(job.name),
            visible=True,
        )


@contextmanager
def job_progress(total: int, say: Speaker, *, place: str = "finished") -> Iterator[JobProgress]:
    """Yield a display for so many jobs; add the number of finished images to what stops them."""
    name = TextColumn("{task.description}", markup=False)
    columns = (BarColumn(bar_width=24), MofNCompleteColumn(), name)
    hidden = say.quiet or not say.is_terminal
    with Bar(*columns, TimeRemainingColumn(), console=say, disable=hidden) as bar:
        display = JobProgress(bar, total, say)
        try:
            yield display
        except (GramstyleError, KeyboardInterrupt) as stop:
            reason = stop_message(stop) if isinstance(stop, KeyboardInterrupt) else str(stop)
            finished = display.states["done"] + display.states["reused"]
            if finished:
                reason += (
                    f" ({finished} of {total} images are {place}; repeat the command to resume)"
                )
            raise type(stop)(reason) from None
