"""The page on one run of the command line: it shows the run, and can end it."""

import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from gramstyle.images import encode_image, read_original
from gramstyle.images.preview import preview
from gramstyle.run.progress import Progress, Result
from gramstyle.serve.feed import Feed
from gramstyle.serve.folder import DataFolder, opened
from gramstyle.serve.job import Job, Request, Standing, State, Upload
from gramstyle.serve.limits import Limits
from gramstyle.serve.options import JOB_OPTIONS
from gramstyle.serve.reporting import PREVIEW, Reporter, Stop
from gramstyle.serve.service import Service
from gramstyle.serve.uploads import clean_name, new_id
from gramstyle.system.temporary import temporary_directory

# How long a run waits at its end until the page has the result, in seconds.
_LAST_LOOK = 5.0
_CLIENT = "command line"


class LiveRun:
    """A run that a page shows; it stands in the place of workers in the service."""

    count = ready = 1
    deaths = 0

    def __init__(self, folder: DataFolder, feed: Feed, id_: str) -> None:
        self._folder, self._feed, self.id = folder, feed, id_
        self._stop = threading.Event()
        self._reporter = Reporter(
            lambda message: feed.tell(id_, message), self._wanted, seconds=float("inf")
        )

    def notify(self) -> None:
        """Do nothing: no job waits."""

    def stop_job(self, _id: str) -> None:
        """End the run after its iteration."""
        self._stop.set()

    def after_iteration(self, progress: Progress) -> bool:
        """Show an iteration; return whether the run shall end."""
        return self._reporter.after_iteration(progress)

    def finish(self, result: Result) -> None:
        """Show the result, and wait a moment until the page has it."""
        files = self._folder.job(self.id)
        files.folder.mkdir(exist_ok=True)
        files.image.write_bytes(encode_image(result.rendered, ".png"))
        files.ended.write_bytes(b"{}")
        standing = self._reporter.standing
        state: State = "finished"
        reason = result.record.reason
        if self._stop.is_set():
            state, reason = "cancelled", "stopped on the page"
        self._end(state, standing, has_image=True, reason=reason)

    def fail(self) -> None:
        """Show that the run has ended without a result."""
        self._end("cancelled", self._reporter.standing, has_image=False, reason="stopped")

    def _end(self, state: State, standing: Standing, *, has_image: bool, reason: str) -> None:
        is_watched = self._feed.watchers > 0
        self._folder.store.end(
            self.id, state, standing=standing, has_image=has_image, reason=reason
        )
        self._feed.end(self.id)
        until = time.monotonic() + _LAST_LOOK
        while self._feed.watchers and time.monotonic() < until:
            time.sleep(0.05)
        if has_image and is_watched:
            time.sleep(min(1.0, max(0.0, until - time.monotonic())))  # the page asks for the image

    def _wanted(self) -> Stop | None:
        return "cancel" if self._stop.is_set() else None


@contextmanager
def live_run(
    content: Any, styles: Sequence[Any], given: Mapping[str, Any]
) -> Iterator[tuple[Service, LiveRun]]:
    """Prepare a service that shows one run, in a temporary folder.

    Parameters
    ----------
    content, styles
        The images of the run, as `transfer` takes them.
    given
        The options of the run.
    """
    with temporary_directory() as place, opened(place / "live") as folder:
        names = [_added(folder, source) for source in (content, *styles)]
        options = {name: value for name, value in given.items() if name in JOB_OPTIONS}
        request = Request(content=names[0], styles=tuple(names[1:]), options=options)
        now, id_ = time.time(), new_id()
        job = Job(
            id=id_, client=_CLIENT, request=request, state="running", created=now, started=now
        )
        folder.store.add_job(job, names)
        feed = Feed()
        feed.begin(id_)
        run = LiveRun(folder, feed, id_)
        try:
            yield Service(folder, feed, run, Limits(), live=id_), run
        finally:
            feed.close()


def _added(folder: DataFolder, source: Any) -> str:
    """Add an image of the run as an upload, as small as its thumbnail; return its id."""
    original = read_original(source, name="the image")
    webp, (width, height) = preview(original.image(), PREVIEW)
    name = clean_name(Path(source).name) if isinstance(source, str | Path) else "image"
    upload = Upload(new_id(), width, height, len(webp), name)
    folder.write_upload(upload.id, webp)
    folder.store.add_upload(upload)
    return upload.id
