"""What a run reports while it computes: how far it is, its losses, and previews."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from gramstyle.images.preview import preview
from gramstyle.run.plan import RunPlan
from gramstyle.run.progress import Losses, Progress
from gramstyle.run.state import RunState
from gramstyle.serve.job import Point, Standing

# The longest edge of a preview, in pixels, and the least time between two of them and between two
# reports, in seconds.
PREVIEW, BETWEEN_PREVIEWS, BETWEEN_REPORTS = 512, 0.5, 0.25
# Why a run shall end: the client cancels it, its time is up, or the server stops.
Stop = Literal["cancel", "time", "shutdown"]
REASONS: Mapping[Stop, str] = {"cancel": "cancelled", "time": "stopped at the time limit"}


@dataclass(frozen=True)
class Report:
    """How far a job is, and the points of the loss curves since the last report."""

    standing: Standing
    points: tuple[Point, ...] = ()


@dataclass(frozen=True)
class Preview:
    """A small image of an iterate as WebP."""

    iteration: int
    width: int
    height: int
    webp: bytes = field(repr=False)


class Reporter:
    """Reports the iterations of a run, and says whether it shall end.

    Parameters
    ----------
    tell
        Receives reports and previews.
    stop
        Returns why the run shall end now, if it shall.
    seconds
        The longest time of the run.
    """

    def __init__(
        self,
        tell: Callable[[Report | Preview], None],
        stop: Callable[[], Stop | None],
        *,
        seconds: float,
    ) -> None:
        self._tell, self._stop, self._seconds = tell, stop, seconds
        self._points: list[Point] = []
        self._reported = self._previewed = -1e9
        self.standing = Standing()
        self.stopped: Stop | None = None

    def continue_from(self, plan: RunPlan, state: RunState) -> None:
        """Report the losses of the run so far."""
        self._points = [_point(plan, losses) for losses in state.losses]

    def after_iteration(self, progress: Progress) -> bool:
        """Report an iteration if a report is due; return whether the run ends here."""
        losses, now = progress.losses, time.monotonic()
        self.standing = Standing(
            iteration=losses.iteration,
            iterations=progress.iterations,
            loss=losses.loss,
            seconds=round(losses.seconds, 3),
            seconds_left=round(progress.seconds_left, 1),
            width=progress.scale.width,
            height=progress.scale.height,
            scale=losses.scale + 1,
            scales=progress.scales,
        )
        weights = progress.scale.spec.weights
        self._points.append(_weighted(losses, weights))
        if now - self._reported >= BETWEEN_REPORTS or losses.iteration == progress.iterations:
            self._reported = now
            self._tell(Report(self.standing, tuple(self._points)))
            self._points.clear()
        if now - self._previewed >= BETWEEN_PREVIEWS:
            webp, (width, height) = preview(progress.rendered(), PREVIEW)
            self._tell(Preview(losses.iteration, width, height, webp))
            self._previewed = time.monotonic()
        stop = self._stop()
        if stop is None and losses.seconds >= self._seconds:
            stop = "time"
        self.stopped = stop
        return stop in ("cancel", "time")


def _point(plan: RunPlan, losses: Losses) -> Point:
    return _weighted(losses, plan.scales[losses.scale].spec.weights)


def _weighted(losses: Losses, weights: Mapping[str, float]) -> Point:
    terms = {name: weights[name] * value for name, value in losses.terms.items()}
    return losses.iteration, losses.loss, terms
