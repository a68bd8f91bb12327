"""The service: what its HTTP interface calls. Its methods may be called from any thread."""

import math
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from gramstyle.errors import GramstyleError, OptionError
from gramstyle.images import encode_image, read_original
from gramstyle.images.preview import preview
from gramstyle.run.options.values import names_image
from gramstyle.run.recipes import Recipe
from gramstyle.run.records.reading import read_record, read_start
from gramstyle.serve import uploads
from gramstyle.serve.feed import Feed
from gramstyle.serve.folder import DataFolder
from gramstyle.serve.job import Job, Point, Request, Standing, Upload
from gramstyle.serve.limits import Limits
from gramstyle.serve.options import check_request, uploads_of

# The time after which a client that was refused tries again, in seconds.
_SOONEST, _LATEST = 5, 600


class Runs(Protocol):
    """What runs the jobs: workers, or the command line with its one run."""

    @property
    def count(self) -> int:
        """The number of workers."""

    @property
    def ready(self) -> int:
        """The number of workers that are ready for jobs or run one."""

    @property
    def deaths(self) -> int:
        """How many workers have died."""

    def notify(self) -> None:
        """Look for a new job."""

    def stop_job(self, id_: str) -> None:
        """End a running job, which keeps its image so far."""


class UnknownError(GramstyleError):
    """There is no such job, upload or image."""


class InUseError(GramstyleError):
    """An upload cannot be removed, because a job that has not ended uses it."""


class FullError(GramstyleError):
    """The queue is full; `retry_after` says in how many seconds to try again."""

    def __init__(self, message: str, retry_after: int) -> None:
        super().__init__(message)
        self.retry_after = retry_after


@dataclass(frozen=True)
class Seen:
    """A job as a client sees it: the job, how far it is, and its place in the queue from 1."""

    job: Job
    standing: Standing
    position: int | None


class Service:
    """The jobs, their workers, and what clients watch.

    Parameters
    ----------
    folder, feed, workers, limits
        The parts of the service.
    live
        The id of the only job, if this is the page of one run; then no job can be submitted.
    """

    def __init__(
        self,
        folder: DataFolder,
        feed: Feed,
        workers: Runs,
        limits: Limits,
        *,
        live: str | None = None,
    ) -> None:
        self._folder, self._workers = folder, workers
        self.feed, self.limits, self.live = feed, limits, live

    # Uploads

    def upload(self, data: bytes, name: str) -> Upload:
        """Accept an uploaded image; raises GramstyleError."""
        self._check_open()
        return uploads.accept(data, name, self._folder, self.limits)

    def reduced_upload(self, id_: str, edge: int) -> bytes:
        """Return an upload as a WebP with edges of at most `edge` pixels; raises UnknownError."""
        found = self._folder.store.upload(id_)
        if found is None:
            raise _no_upload()
        try:
            return uploads.reduced(found, self._folder, edge)
        except FileNotFoundError:  # it has been removed in this moment
            raise _no_upload() from None

    def remove_upload(self, id_: str) -> None:
        """Remove an upload; raises UnknownError, and InUseError while a job needs it."""
        self._check_open()
        store = self._folder.store
        if store.upload(id_) is None:
            raise _no_upload()
        if not store.remove_upload(id_):
            raise InUseError(
                "a job that waits or runs uses this upload; wait until the job has ended, or "
                "remove the job"
            )
        self._folder.remove_upload(id_)

    # Jobs

    def submit(self, request: Request, client: str) -> Seen:
        """Add a job to the queue.

        Raises
        ------
        OptionError
            If an option or an image of the request cannot be used.
        FullError
            If the queue is full.
        StorageError
            If the service has stored more than it may.
        """
        self._check_open()
        check_request(request, self.limits)
        self._folder.check_room(0, most=self.limits.storage)
        store = self._folder.store
        images = uploads_of(request)
        for each in images:
            if store.upload(each) is None:
                raise _no_upload()
        job = Job(
            id=uploads.new_id(), client=client, request=request, state="waiting",
            created=time.time(),
        )  # fmt: skip
        with store.together():  # else several clients could take the last place
            waiting = store.counts().get("waiting", 0)
            if waiting >= self.limits.queue:
                raise FullError(
                    f"the queue is full: {waiting} jobs wait; try again later",
                    self._retry_after(),
                )
            try:
                store.add_job(job, images)
            except KeyError:  # it has been removed in this moment
                raise _no_upload() from None
        self._workers.notify()
        return self.see(job.id)

    def see(self, id_: str) -> Seen:
        """Return a job; raises UnknownError."""
        store = self._folder.store
        job = store.job(id_)
        if job is None:
            raise UnknownError("there is no such job; it may have been removed")
        live = self.feed.live(id_)
        if live is not None:
            job = replace(job, has_image=job.has_image or live.preview is not None)
        standing = job.standing if live is None or job.over else live.standing
        position = None
        if job.state == "waiting":
            waiting = store.waiting()
            position = waiting.index(id_) + 1 if id_ in waiting else None
        return Seen(job, standing, position)

    def points(self, id_: str) -> list[Point]:
        """Return the points of the loss curves so far; none where they are not known any more."""
        live = self.feed.live(id_)
        if live is not None:
            return list(live.points)
        try:
            record = read_record(self._folder.job(id_).log)
        except GramstyleError:
            return []
        return [(each.iteration, each.total, dict(each.terms)) for each in record]

    def last_preview(self, id_: str) -> tuple[bytes, tuple[int, int]] | None:
        """Return a small WebP of the result of a job, and its size; None if there is no image."""
        path = self._folder.job(id_).image
        if not path.exists():
            return None
        try:
            return preview(read_original(path, name="the image").image(), 512)
        except GramstyleError:  # it has been removed in this moment
            return None

    def image(self, id_: str, extension: str, *, metadata: bool) -> bytes:
        """Return the image of a job as a file of some format, or its preview while it runs.

        Raises
        ------
        UnknownError
            If there is no such job, or no image yet.
        """
        self.see(id_)
        live = self.feed.live(id_)
        if self._folder.job(id_).ended.exists():
            try:
                return self._result(id_, extension, metadata=metadata)
            except (GramstyleError, OSError):
                self.see(id_)  # it may have been removed in this moment
                raise
        if live is None or live.preview is None:
            raise UnknownError("there is no image yet; try again later")
        if extension == ".webp":
            return live.preview.webp
        return encode_image(read_original(live.preview.webp).image(), extension)

    def recipe(self, id_: str) -> str:
        """Return the recipe of a job as TOML; raises UnknownError."""
        request = self.see(id_).job.request
        names = self._names(request)
        return Recipe(
            content=Path(names[request.content]),
            styles=tuple(Path(names[each]) for each in request.styles),
            preset=request.preset,
            values=_named(request.options, names),
        ).to_toml()

    def cancel(self, id_: str) -> Seen:
        """End a job: a waiting one at once, a running one after its iteration."""
        self.see(id_)
        self._end_early(id_)
        return self.see(id_)

    def remove(self, id_: str) -> None:
        """End a job, and remove it with its files and its uploads that no other job uses."""
        self._check_open()
        with self._folder.store.together():
            job = self.see(id_).job
            if job.state == "running":  # the files are removed when it has ended
                self._workers.stop_job(id_)
            self._folder.store.remove(id_)
        if job.state != "running":
            self._folder.remove_rest(job)
        self.feed.changed(id_)

    # The state of the whole

    def counts(self) -> Mapping[str, int]:
        """Return the number of jobs by state."""
        return self._folder.store.counts()

    def size(self) -> int:
        """Return how many bytes all files of the service have."""
        return self._folder.size()

    def has_room(self) -> bool:
        """Return whether the disk has room for the largest upload."""
        try:
            return shutil.disk_usage(self._folder.path).free >= self.limits.upload_bytes
        except OSError:
            return False

    @property
    def workers_ready(self) -> int:
        """The number of workers that are ready for jobs."""
        return self._workers.ready

    @property
    def worker_deaths(self) -> int:
        """How many workers have died."""
        return self._workers.deaths

    def _end_early(self, id_: str) -> None:
        """End a waiting job, or ask its worker to end it.

        An interrupted job has an image in its checkpoint, which the next worker makes.
        """
        with self._folder.store.together():
            job = self.see(id_).job
            interrupted = self._folder.job(id_).checkpoint.exists()
            if job.state == "waiting" and not interrupted:
                self._folder.store.end(
                    id_, "cancelled", standing=job.standing, has_image=False, reason="cancelled"
                )
                self.feed.changed(id_)
            elif not job.over:
                self._workers.stop_job(id_)

    def _retry_after(self) -> int:
        """Return in how many seconds a place in the queue is probably free."""
        seconds = (self._folder.store.mean_seconds() or 30.0) / self._workers.count
        return min(_LATEST, max(_SOONEST, math.ceil(seconds)))

    def _result(self, id_: str, extension: str, *, metadata: bool) -> bytes:
        """Return the image of a job that has ended."""
        path = self._folder.job(id_).image
        if extension == ".png" and not metadata:
            return path.read_bytes()
        original = read_original(path, name="the image")
        settings = self._settings(id_) if metadata else None
        return encode_image(original.image(), extension, settings=settings)

    def _settings(self, id_: str) -> dict[str, Any]:
        """Return the settings that an image of the command line would have."""
        settings = read_start(self._folder.job(id_).log)
        settings.pop("event", None)
        names = self._names(self.see(id_).job.request)
        return {key: _renamed(value, names) for key, value in settings.items()}

    def _names(self, request: Request) -> dict[str, str]:
        """Return the names of the files that a client has uploaded, by their ids."""
        found = {id_: self._folder.store.upload(id_) for id_ in uploads_of(request)}
        return {id_: "image" if each is None else each.name for id_, each in found.items()}

    def _check_open(self) -> None:
        if self.live is not None:
            raise OptionError("this page shows one run of the command line; it takes no jobs")


def _no_upload() -> UnknownError:
    return UnknownError("there is no such upload; it may have been removed, so upload it again")


def _named(options: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    """Return options in which images have the names of their files."""
    named = dict(options)
    for name, value in options.items():
        if names_image(name, value) and value is not None:
            several = isinstance(value, list)
            named[name] = [names[each] for each in value] if several else names[value]
    return {name: value for name, value in named.items() if value is not None}


def _renamed(value: Any, names: Mapping[str, str]) -> Any:
    """Return JSON values in which ids of uploads are replaced by the names of their files."""
    if isinstance(value, dict):
        return {key: _renamed(each, names) for key, each in value.items()}
    if isinstance(value, list):
        return [_renamed(each, names) for each in value]
    return names.get(value, value) if isinstance(value, str) else value
