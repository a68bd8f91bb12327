"""The workers: each takes the job that is next, runs it in a process, and takes the next one."""

import logging
import shutil
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Protocol

from gramstyle.serve.feed import Feed
from gramstyle.serve.folder import DataFolder
from gramstyle.serve.job import Job, Standing, State
from gramstyle.serve.limits import Limits
from gramstyle.serve.options import uploads_of, with_files
from gramstyle.serve.rendering import NO_FILES, Ended, Order, already_ended
from gramstyle.serve.reporting import Preview, Report, Stop

_log = logging.getLogger(__name__)

# How long workers may take to save their states when the server stops, in seconds.
_LAST_WORDS = 20.0
# How long a worker waits before it looks for a job again after an error of the store, in seconds.
_PAUSE = 1.0


class WorkerDiedError(Exception):
    """The process of a worker has ended while it ran a job, or never answered again."""


class Worker(Protocol):
    """Runs one job at a time."""

    @property
    def ready(self) -> bool:
        """Whether it is ready for jobs, or runs one."""

    def open(self) -> None:
        """Get ready for jobs if it is not; raises WorkerDiedError."""

    def run(
        self,
        order: Order,
        *,
        tell: Callable[[Report | Preview], None],
        stop: Callable[[], Stop | None],
    ) -> Ended | None:
        """Run a job, and return how it ended; None if it was interrupted and can be continued.

        Raises WorkerDiedError if it did not end.
        """

    def close(self) -> None:
        """End the process at once."""


class Workers:
    """Gives jobs to workers, each of which has a thread here.

    Parameters
    ----------
    folder, feed, limits
        The jobs, what clients watch, and the limits.
    workers
        The workers.
    machine
        Options of the machine for every job.
    saving
        The time between two checkpoints in seconds.
    """

    def __init__(
        self,
        folder: DataFolder,
        feed: Feed,
        limits: Limits,
        workers: Sequence[Worker],
        *,
        machine: dict[str, object],
        saving: float,
    ) -> None:
        self._folder, self._feed, self._limits = folder, feed, limits
        self._workers, self._machine, self._saving = workers, machine, saving
        self._stops: dict[str, Stop] = {}
        self._ends: dict[str, Ended] = {}  # of jobs, until the store has them
        self._stopping = False
        self._work = threading.Condition()
        self._running: set[str] = set()
        self.deaths = 0
        self._threads = [
            threading.Thread(target=self._serve, args=(worker,), daemon=True) for worker in workers
        ]

    def start(self) -> None:
        """Put jobs that a former server has left back in the queue, and start the threads."""
        self._recover()
        self._remove_oldest()  # the limits may be lower than those of the former server
        for thread in self._threads:
            thread.start()

    @property
    def count(self) -> int:
        """The number of workers."""
        return len(self._workers)

    @property
    def ready(self) -> int:
        """The number of workers that are ready for jobs or run one."""
        return sum(worker.ready for worker in self._workers)

    def notify(self) -> None:
        """Wake a worker: there is a new job."""
        with self._work:
            self._work.notify_all()

    def stop_job(self, id_: str) -> None:
        """End a running job, which keeps its image so far."""
        self._stops[id_] = "cancel"

    def stop(self) -> None:
        """Save the states of running jobs, and end all workers."""
        self._stopping = True
        with self._work:
            self._work.notify_all()
            self._work.wait_for(lambda: not self._running, _LAST_WORDS)
        for worker, thread in zip(self._workers, self._threads, strict=True):
            worker.close()
            while thread.is_alive():  # it may just have started the process of its worker
                thread.join(0.2)
                worker.close()

    def _serve(self, worker: Worker) -> None:
        """Run one job after the other until the server stops."""
        is_recovered = True
        while not self._stopping:
            try:
                if not is_recovered:
                    self._recover()
                    is_recovered = True
                worker.open()
                self._serve_one(worker)
            except WorkerDiedError as error:  # it has died without a job
                if not self._stopping:
                    _log.error("a worker cannot start: %s", error)
                    time.sleep(_PAUSE)  # do not spin
            except Exception as error:  # the disk of the store may be full
                _log.error("%s: %s", type(error).__name__, error)
                time.sleep(_PAUSE)
                is_recovered = False

    def _serve_one(self, worker: Worker) -> None:
        """Run the job that is next, or wait a moment for one."""
        with self._work:
            job = None if self._stopping else self._folder.store.start_next()
            if job is None:
                self._work.wait(1.0)
                return
            self._running.add(job.id)
        self._feed.begin(job.id)
        _log.info("job %s starts", job.id)
        try:
            self._run(worker, job)
        finally:
            with self._work:
                self._running.discard(job.id)
                self._work.notify_all()
            self._stops.pop(job.id, None)
            self._feed.end(job.id)

    def _recover(self) -> None:
        """Put jobs that no worker runs back in the queue, or end those that are complete."""
        store = self._folder.store
        with self._work:
            lost = [job for job in store.in_state("running") if job.id not in self._running]
            for job in lost:
                ended = self._ends.get(job.id) or already_ended(self._folder.job(job.id))
                if ended is None:
                    store.wait_again(job.id)
                else:
                    self._end(job, ended)

    def _run(self, worker: Worker, job: Job) -> None:
        try:
            ended = worker.run(
                self._order(job),
                tell=partial(self._feed.tell, job.id),
                stop=lambda: "shutdown" if self._stopping else self._stops.get(job.id),
            )
        except WorkerDiedError as reason:
            ended = self._after_death(job, str(reason))
        except OSError as error:  # the disk may be full
            _log.error("the job %s failed: %s", job.id, error)
            ended = Ended(self._standing(job), has_image=False, problem=NO_FILES)
        else:
            if ended is None:  # interrupted, and its state is saved
                self._folder.store.wait_again(job.id)
        if ended is not None:
            self._ends[job.id] = ended
            self._end(job, ended)

    def _after_death(self, job: Job, reason: str) -> Ended | None:
        """Put a job whose worker has died back in the queue; return its end if it has one."""
        files = self._folder.job(job.id)
        ended = already_ended(files)
        if ended is not None:
            return ended
        if self._stopping:  # its end says nothing about the job
            self._folder.store.wait_again(job.id)
            return None
        self.deaths += 1
        _log.error("a worker has died in the job %s: %s", job.id, reason)
        if self._stops.get(job.id) == "cancel":
            return Ended(self._standing(job), has_image=False, reason="cancelled", stop="cancel")
        # A job that gets further each time is not what kills its workers.
        standing = self._standing(job)
        further = standing.iteration > job.standing.iteration
        attempts = 1 if further else job.attempts + 1
        if attempts > self._limits.retries:
            times = "once" if attempts == 1 else f"{attempts} times"
            return Ended(
                standing,
                has_image=False,
                problem=f"its worker has died {times} ({reason}); if memory is short, choose a "
                "smaller size",
            )
        best = standing if further else job.standing
        self._folder.store.wait_again(job.id, attempts=attempts, standing=best)
        return None

    def _standing(self, job: Job) -> Standing:
        live = self._feed.live(job.id)
        return job.standing if live is None else live.standing

    def _end(self, job: Job, ended: Ended) -> None:
        store = self._folder.store
        state: State = "failed" if ended.problem else "finished"
        if ended.stop == "cancel":
            state = "cancelled"
        # A failed job has left its checkpoint; without it a full disk has room for the store.
        shutil.rmtree(self._folder.job(job.id).checkpoint, ignore_errors=True)
        there = store.end(
            job.id,
            state,
            standing=ended.standing,
            has_image=ended.has_image,
            reason=ended.reason or None,
            problem=ended.problem or None,
        )
        self._ends.pop(job.id, None)
        what = ended.problem or ended.reason
        _log.info("job %s %s after %.1f s: %s", job.id, state, ended.standing.seconds, what)
        if not there and store.job(job.id) is None:  # removed while it ran
            self._folder.remove_rest(job)
        self._remove_oldest()

    def _remove_oldest(self) -> None:
        """Remove ended jobs and unused uploads beyond their limits."""
        store = self._folder.store
        for id_ in store.remove_oldest(most=self._limits.results):
            self._folder.remove_job(id_)
        for id_ in store.remove_unused_uploads(most_bytes=self._limits.uploads):
            self._folder.remove_upload(id_)

    def _order(self, job: Job) -> Order:
        files = {id_: str(self._folder.upload(id_)) for id_ in uploads_of(job.request)}
        return Order(
            folder=self._folder.job(job.id).folder,
            request=with_files(job.request, files),
            machine=self._machine,
            seconds=self._limits.seconds,
            saving=self._saving,
        )
