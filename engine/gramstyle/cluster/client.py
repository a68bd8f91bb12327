"""The interface of a Dask cluster for the rest of the program.

All data that a task needs are results of tasks, which the scheduler can run again. A lost worker
therefore costs only the work that it had done.
"""

import time
import uuid
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from gramstyle.cluster import worker
from gramstyle.cluster.dask import load_distributed, model_plugins
from gramstyle.errors import GramstyleError, ModelError, OptionError

T = TypeVar("T")
R = TypeVar("R")
D = TypeVar("D")

# The result of a task, on the worker that computes it: a Dask future.
Placed = Any

# How long a cluster may be without any worker before a run ends, in seconds.
PATIENCE = 60.0


@dataclass(frozen=True)
class Done(Generic[D]):
    """An item of `Cluster.map_jobs` whose result is known, so that it needs no worker."""

    result: D


class KilledWorkersError(OptionError):
    """An error: several workers have died while they ran the same task."""


class Cluster:
    """A Dask scheduler with workers; `open_cluster` opens one.

    Parameters
    ----------
    client
        A `distributed.Client`.
    address
        The name of the cluster in messages.
    threads
        How many threads an engine on a worker uses; None uses as many as the worker has.
    patience
        How many seconds to wait while there is no worker.
    """

    def __init__(
        self, client: Any, address: str, *, threads: int | None, patience: float = PATIENCE
    ) -> None:
        self._client = client
        self._address = address
        self._patience = patience
        self.threads = threads

    def worker_count(self) -> int:
        """Return the present number of workers; raises OptionError if there is no answer."""
        try:
            with self._one_line_errors():
                # A scheduler that is stopped keeps its connections and never answers.
                there = self._client.sync(self._client.nthreads, callback_timeout=self._patience)
        except TimeoutError:
            raise self._gone() from None
        return len(there)

    def submit(
        self,
        function: Callable[..., Any],
        *arguments: Any,
        priority: int = 0,
        near: str | None = None,
    ) -> Placed:
        """Submit a task that calls a function on a worker; return its future.

        Parameters
        ----------
        function
            A function of a module that the workers have. It may run again on another worker.
        arguments
            Values, which the scheduler stores, or results of `submit`, which workers send to each
            other.
        priority
            Tasks of a higher priority run first, then those that were submitted first.
        near
            The address of the preferred worker: another one runs the task only if this one is gone
            or much busier.
        """
        key = f"{function.__name__}-{uuid.uuid4().hex}"
        with self._one_line_errors():
            return self._client.submit(
                function, *arguments, key=key, pure=False, priority=priority,
                workers=near, allow_other_workers=near is not None,
            )  # fmt: skip

    def wait(self, placed: Placed) -> None:
        """Wait until a task has ended.

        Raises
        ------
        OptionError
            If the scheduler is gone, or there has been no worker for too long.
        """
        seen = time.monotonic()
        while True:
            with self._one_line_errors():
                try:
                    self._wait(placed, 1.0)
                    return
                except TimeoutError:
                    seen = self._last_seen(seen)

    def fetch(self, placed: Placed) -> Any:
        """Return the result of a task, or raise its error.

        Raises
        ------
        GramstyleError
            The error of the task; OptionError as in `wait`, or if several workers died while they
            ran the task.
        """
        error, result = self._ended(placed)
        if error is not None:
            raise error
        return result

    def place_model(self, path: Path, sha256: str) -> None:
        """Provide each present or future worker with the model file before its first task.

        A worker that finds the file where gramstyle looks for models uses that one. The others
        fetch it from the scheduler, check it, and store it.

        Raises
        ------
        ModelError
            If the file has changed since it was read, or a worker cannot store it.
        """
        try:
            data = path.read_bytes()
        except OSError as error:
            raise ModelError(f"cannot read {path}: {error.strerror}; check the path") from None
        if worker.sha256_of(data) != sha256:
            raise ModelError(f"{path} has just been changed; start again")
        provider, setup = model_plugins(sha256, data)
        with self._one_line_errors():
            self._client.register_plugin(provider, name=f"gramstyle-provider-{sha256}")
            self._client.register_plugin(setup, name=f"gramstyle-model-{sha256}")

    def map_jobs(
        self, function: Callable[[T], R], items: Iterable[T | Done[D]], *, ahead: int = 2
    ) -> Generator[tuple[int, R | D | GramstyleError], None, None]:
        """Call a function with each item on the workers; yield the results as they arrive.

        Parameters
        ----------
        function
            A function of a module that the workers have. A worker processes one item at a time; an
            item whose worker dies is processed again on another one.
        items
            Iterated over as workers become free; a `Done` item goes to no worker.
        ahead
            How many items are submitted for each worker at a time.

        Yields
        ------
        tuple
            The item's place in `items`, and its result, or the error that the function raised,
            which does not affect the other items.

        Raises
        ------
        OptionError
            As `wait` does.
        """
        waiting, more = enumerate(items), True
        under_way: dict[Placed, tuple[int, T]] = {}
        seen = time.monotonic()
        try:
            while more or under_way:
                seen = self._last_seen(seen)
                if more and len(under_way) < max(1, ahead * self.worker_count()):
                    entry = next(waiting, None)
                    more = entry is not None
                    if entry is not None:
                        index, item = entry
                        if isinstance(item, Done):
                            yield index, item.result
                        else:
                            under_way[self.submit(worker.alone, function, item)] = index, item
                else:
                    self._wait_for_one(under_way)
                for placed in [placed for placed in under_way if placed.done()]:
                    place, given = under_way.pop(placed)
                    outcome = self._outcome(placed)
                    if isinstance(outcome, KilledWorkersError):
                        # Another item on the same worker may be the cause: try this one alone.
                        for other in under_way:
                            self.wait(other)
                        outcome = self._outcome(self.submit(worker.alone, function, given))
                    yield place, outcome
        finally:
            for placed in under_way:
                placed.release()

    def subscribe(self, topic: str, receive: Callable[[Any], None]) -> None:
        """Call a function with each message that tasks announce under a topic, in a thread."""
        with self._one_line_errors():
            self._client.subscribe_topic(topic, lambda event: receive(event[1]))

    def flag(self, name: str) -> None:
        """Raise a flag, which tasks can look at."""
        with self._one_line_errors():
            load_distributed().Event(name, client=self._client).set()

    def ended(self, placed: Placed, seconds: float) -> bool:
        """Return whether a task has ended, or wait so long for its end.

        Raises
        ------
        OptionError
            If the scheduler is gone.
        """
        with self._one_line_errors():
            try:
                self._wait(placed, seconds)
            except TimeoutError:
                return False
            return True

    def _wait(self, placed: Any, seconds: float, **more: Any) -> None:
        """Wait for tasks of this cluster; raise TimeoutError if they have not ended by then."""
        # Dask would otherwise ask the newest client of the process, which may be another cluster's.
        with self._client.as_current():
            load_distributed().wait(placed, timeout=seconds, **more)

    def _wait_for_one(self, under_way: Iterable[Placed]) -> None:
        """Wait until one of several tasks has ended, for a second at most."""
        with self._one_line_errors(), suppress(TimeoutError):
            self._wait(list(under_way), 1.0, return_when="FIRST_COMPLETED")

    def _outcome(self, placed: Placed) -> Any:
        """Return the result of a task, or its error as a GramstyleError."""
        error, result = self._ended(placed)
        if error is None or isinstance(error, GramstyleError):
            return result if error is None else error
        # An unexpected error of one item must not end the others.
        what = " ".join(f"{type(error).__name__}: {error}".split())
        return GramstyleError(f"{what}; this is a bug in gramstyle, please report it")

    def _ended(self, placed: Placed) -> tuple[Exception | None, Any]:
        """Return the error of a task, and its result."""
        distributed, patience = load_distributed(), self._patience
        while True:
            self.wait(placed)
            with self._one_line_errors():
                try:
                    error = placed.exception(timeout=patience)
                    if error is None:
                        return None, placed.result(timeout=patience)
                except TimeoutError:
                    # Another worker computes the task again, or the result is large.
                    patience *= 2
                    continue
            if isinstance(error, distributed.scheduler.KilledWorker):
                error = KilledWorkersError(
                    f"{error.allowed_failures + 1} workers have died while they ran the same task; "
                    "if their memory is short, choose smaller tiles, or a smaller size"
                )
            return error, None

    def _last_seen(self, before: float) -> float:
        """Return the last time when there was a worker; raise OptionError if it is too long ago."""
        now = time.monotonic()
        if self.worker_count():
            return now
        if now - before >= self._patience:
            raise OptionError(
                f"the cluster at {self._address} has had no worker for {self._patience:.0f} "
                "seconds; start some, and begin again"
            )
        return before

    @contextmanager
    def _one_line_errors(self) -> Iterator[None]:
        """Replace Dask's errors by an OptionError of one line."""
        distributed = load_distributed()
        try:
            yield
        except TimeoutError:
            raise
        except (distributed.client.CancelledError, OSError):
            raise self._gone() from None

    def _gone(self) -> OptionError:
        return OptionError(
            f"the scheduler at {self._address} does not answer any more; start it again"
        )
