"""What clients watch: how far each running job is, its losses so far, and its latest preview."""

import asyncio
import secrets
import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from gramstyle.serve.job import Point, Standing
from gramstyle.serve.reporting import Preview, Report


@dataclass
class Live:
    """A running job: how far it is, all points of its loss curves, and its latest preview.

    The id tells an attempt from the one before it, which may have other points.
    """

    id: str = field(default_factory=lambda: secrets.token_hex(4))
    standing: Standing = field(default_factory=Standing)
    points: list[Point] = field(default_factory=list)
    preview: Preview | None = None


@dataclass(eq=False)
class Watcher:
    """A client that watches a job; the event is set when there is something new to send."""

    job: str
    event: asyncio.Event
    loop: asyncio.AbstractEventLoop
    job_changed: bool = True


class Feed:
    """The running jobs and their watchers; its methods may be called from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._live: dict[str, Live] = {}
        self._watchers: dict[str, set[Watcher]] = defaultdict(set)
        self._closed = False

    def live(self, id_: str) -> Live | None:
        """Return how far a job is, or None if it does not run."""
        return self._live.get(id_)

    def begin(self, id_: str) -> None:
        """Note that a job begins to run, or runs again."""
        with self._lock:
            self._live[id_] = Live()
        self.changed(id_)

    def end(self, id_: str) -> None:
        """Forget a job that has ended; its watchers send its end."""
        with self._lock:
            self._live.pop(id_, None)
        self.changed(id_)

    def tell(self, id_: str, message: Report | Preview) -> None:
        """Note what a worker reports of a job."""
        live = self._live.get(id_)
        if live is None:
            return
        if isinstance(message, Preview):
            live.preview = message
        else:
            live.points.extend(message.points)
            live.standing = message.standing
        self._wake(id_)

    def changed(self, id_: str) -> None:
        """Wake the watchers of a job whose state has changed."""
        self._wake(id_, job_changed=True)

    def close(self) -> None:
        """Wake all watchers, which then end."""
        self._closed = True
        for id_ in list(self._watchers):
            self._wake(id_)

    @property
    def closed(self) -> bool:
        """Whether the server stops."""
        return self._closed

    @property
    def watchers(self) -> int:
        """How many clients watch jobs."""
        return sum(map(len, list(self._watchers.values())))

    @contextmanager
    def watching(self, id_: str) -> Iterator[Watcher]:
        """Watch a job from a coroutine."""
        watcher = Watcher(id_, asyncio.Event(), asyncio.get_running_loop())
        with self._lock:
            self._watchers[id_].add(watcher)
        try:
            yield watcher
        finally:
            with self._lock:
                self._watchers[id_].discard(watcher)
                if not self._watchers[id_]:
                    del self._watchers[id_]

    def _wake(self, id_: str, *, job_changed: bool = False) -> None:
        with self._lock:
            watchers = list(self._watchers.get(id_, ()))
        for watcher in watchers:
            if job_changed:  # not |=, which may undo what another thread notes meanwhile
                watcher.job_changed = True
            try:
                watcher.loop.call_soon_threadsafe(watcher.event.set)
            except RuntimeError:  # its loop has ended
                continue
