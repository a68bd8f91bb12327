"""Workers on other machines, or processes on this one, by Dask. The only `import distributed`.

Nothing that a task needs lies in one place only: data go to the workers as tasks that return them,
whose recipes the scheduler keeps, so that a worker which is lost costs what it had computed.
"""

import logging
import re
import signal
import sys
import threading
import time
import uuid
import warnings
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Generic, TypeVar

from gramstyle.cluster import worker as remote
from gramstyle.errors import GramstyleError, ModelError, OptionError, RuntimeMissingError
from gramstyle.system.machine import available_threads

T = TypeVar("T")
R = TypeVar("R")
D = TypeVar("D")

# What a task will have returned: a Dask future.
Placed = Any

# How long to wait for a scheduler to answer, and for its first worker, in seconds.
ANSWER = 10.0
# How long a cluster may be without any worker before a run ends.
PATIENCE = 60.0

_SETTINGS = {
    # Windows of pixels travel within their tasks: large ones are meant to.
    "distributed.admin.large-graph-warning-threshold": "1TB",
    "distributed.comm.timeouts.connect": f"{ANSWER}s",
}
# What Dask takes for one; of anything else it is not asked, since it may wait for ever.
ADDRESS = re.compile(
    r"((tcp|tls|wss?|ucx)://)?[^\s/:@]+:\d{1,5}|((tcp|tls)://)?\[[0-9a-fA-F:.]+\]:\d{1,5}"
)
_LOGGERS = ("distributed", "distributed.client", "tornado", "tornado.application", "asyncio")


@dataclass(frozen=True)
class Done(Generic[D]):
    """An item of `Cluster.map_jobs` that no worker is needed for: what came of it."""

    result: D


class KilledWorkersError(OptionError):
    """Several workers have died of the same task."""


class Cluster:
    """A Dask scheduler with workers, as the rest of the program sees it; see `open_cluster`.

    Parameters
    ----------
    client
        A `distributed.Client`.
    address
        What to call the cluster in messages.
    threads
        How many threads an engine on a worker has; None is as many as the worker was given.
    patience
        After how many seconds without any worker to give up.
    """

    def __init__(
        self, client: Any, address: str, *, threads: int | None, patience: float = PATIENCE
    ) -> None:
        self._client = client
        self._address = address
        self._patience = patience
        self.threads = threads

    def worker_count(self) -> int:
        """Return how many workers there are now."""
        with self._plainly():
            return len(self._client.nthreads())

    def submit(
        self,
        function: Callable[..., Any],
        *arguments: Any,
        priority: int = 0,
        near: str | None = None,
    ) -> Placed:
        """Have a function computed on some worker.

        Parameters
        ----------
        function
            Of a module that the workers have. It may be computed again, elsewhere.
        arguments
            Values, which the scheduler keeps, or what `submit` has returned, which workers hand
            on to each other.
        priority
            Higher ones first; of equal ones those submitted first.
        near
            The address of the worker that is to do it, unless it is gone or much busier than
            another one.
        """
        key = f"{function.__name__}-{uuid.uuid4().hex}"
        with self._plainly():
            return self._client.submit(
                function, *arguments, key=key, pure=False, priority=priority,
                workers=near, allow_other_workers=near is not None,
            )  # fmt: skip

    def wait(self, placed: Placed) -> None:
        """Wait until a task is done, or has failed.

        Raises
        ------
        OptionError
            If the scheduler is gone, or all workers have been for too long.
        """
        distributed, seen = _load(), time.monotonic()
        while True:
            with self._plainly():
                try:
                    distributed.wait(placed, timeout=1.0)
                    return
                except TimeoutError:
                    seen = self._last_seen(seen)

    def fetch(self, placed: Placed) -> Any:
        """Return what a task has returned, or raise what it has raised.

        Raises
        ------
        GramstyleError
            What the task raised; as `wait` does; if several workers have died of the task.
        """
        error, result = self._come_of(placed)
        if error is not None:
            raise error
        return result

    def place_model(self, path: Path, sha256: str) -> None:
        """See to it that each worker, now or later, has the model's file before its first task.

        A worker that finds it where gramstyle looks for models does not ask; the others get it from
        the scheduler, check it, and keep it.

        Raises
        ------
        ModelError
            If the file has changed since it was read, or a worker cannot keep it.
        """
        try:
            data = path.read_bytes()
        except OSError as error:
            raise ModelError(f"cannot read {path}: {error.strerror}; check the path") from None
        if remote.sha256_of(data) != sha256:
            raise ModelError(f"{path} has just been changed; start again")
        shelf, setup = _plugins(_load(), sha256, data)
        with self._plainly():
            self._client.register_plugin(shelf, name=f"gramstyle-shelf-{sha256}")
            self._client.register_plugin(setup, name=f"gramstyle-model-{sha256}")

    def map_jobs(
        self, function: Callable[[T], R], items: Iterable[T | Done[D]], *, ahead: int = 2
    ) -> Generator[tuple[int, R | D | GramstyleError], None, None]:
        """Yield what a function makes of each item, as it is finished.

        Parameters
        ----------
        function
            Of a module that the workers have; a worker does one item at a time. An item whose
            worker dies is done again elsewhere.
        items
            Taken as they are needed; one that is `Done` goes to no worker.
        ahead
            How many items for each worker are under way at a time.

        Yields
        ------
        tuple
            The item's place in `items`, and what came of it; or the error that the function
            raised, which the other items do not suffer from.

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
                            under_way[self.submit(remote.alone, function, item)] = index, item
                else:
                    self._wait_for_one(under_way)
                for placed in [placed for placed in under_way if placed.done()]:
                    place, given = under_way.pop(placed)
                    outcome = self._outcome(placed)
                    if isinstance(outcome, KilledWorkersError):
                        # Of it, or of another that was at the same worker: once more, by itself.
                        for other in under_way:
                            self.wait(other)
                        outcome = self._outcome(self.submit(remote.alone, function, given))
                    yield place, outcome
        finally:
            for placed in under_way:
                placed.release()

    def _wait_for_one(self, under_way: Iterable[Placed]) -> None:
        """Wait until one of several tasks is done, but not for long."""
        distributed = _load()
        with self._plainly(), suppress(TimeoutError):
            distributed.wait(list(under_way), timeout=1.0, return_when="FIRST_COMPLETED")

    def _outcome(self, placed: Placed) -> Any:
        """Return what a task has returned, or what it has raised as a GramstyleError."""
        error, result = self._come_of(placed)
        if error is None or isinstance(error, GramstyleError):
            return result if error is None else error
        # One item must not take the others with it.
        what = " ".join(f"{type(error).__name__}: {error}".split())
        return GramstyleError(f"{what}; this is a mistake in gramstyle, please report it")

    def _come_of(self, placed: Placed) -> tuple[Exception | None, Any]:
        """Return what a task has raised, and what it has returned."""
        distributed, patience = _load(), self._patience
        while True:
            self.wait(placed)
            with self._plainly():
                try:
                    error = placed.exception(timeout=patience)
                    if error is None:
                        return None, placed.result(timeout=patience)
                except TimeoutError:
                    # Its worker has died since, and somebody computes it again; or it is large.
                    patience *= 2
                    continue
            if isinstance(error, distributed.scheduler.KilledWorker):
                error = KilledWorkersError(
                    f"{error.allowed_failures + 1} workers have died of the same task; if memory "
                    "is short on them, choose smaller tiles, or a smaller size"
                )
            return error, None

    def _last_seen(self, before: float) -> float:
        """Return when there was a worker last; raise OptionError if that is too long ago."""
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
    def _plainly(self) -> Iterator[None]:
        """Say in one line what Dask says in many."""
        distributed = _load()
        try:
            yield
        except TimeoutError:
            raise
        except (distributed.client.CancelledError, OSError):
            raise OptionError(
                f"the scheduler at {self._address} does not answer any more; start it again"
            ) from None


def still_wanted() -> bool:
    """Say, in a task, whether somebody still waits for it; True where there is no task."""
    if "distributed" not in sys.modules:  # nor is it imported for that
        return True
    try:
        worker = _load().get_worker()
    except ValueError:
        return True
    task = worker.state.tasks.get(worker.get_current_task())
    return task is not None and task.state != "cancelled"


@contextmanager
def open_cluster(
    *,
    scheduler: str | None = None,
    workers: int | None = None,
    threads: int | None = None,
    patience: float = PATIENCE,
) -> Iterator[Cluster]:
    """Give a cluster: somebody's, or processes on this machine that end with this one.

    A script that starts workers must be importable: its work stands under
    ``if __name__ == "__main__":``.

    Parameters
    ----------
    scheduler
        The address of a Dask scheduler, such as ``tcp://10.0.0.5:8786``.
    workers
        Instead: how many processes to start here.
    threads
        How many threads an engine on a worker has; None is as many as the worker was started
        with, or this machine's cores shared out among the processes.
    patience
        After how many seconds without any worker to give up.

    Raises
    ------
    OptionError
        If there is no scheduler at the address within ten seconds, or no worker; if it or one of
        them has another version of gramstyle or of Dask.
    RuntimeMissingError
        If Dask is not installed.
    """
    if (scheduler is None) == (workers is None):
        raise OptionError("a cluster has either a scheduler's address or a number of workers")
    distributed = _load()
    import dask

    with ExitStack() as stack:
        stack.enter_context(_quiet())
        stack.enter_context(dask.config.set(_SETTINGS))
        if workers is not None:
            threads = threads or max(1, available_threads() // workers)
            address = "this machine"
            local = stack.enter_context(_local(distributed, workers))
            client = stack.enter_context(distributed.Client(local, direct_to_workers=True))
        else:
            assert scheduler is not None  # noqa: S101 - one of the two
            address = scheduler
            client = stack.enter_context(_client_of(distributed, scheduler))
            _check_versions(client, distributed, address)
        yield Cluster(client, address, threads=threads, patience=patience)


def _load() -> ModuleType:
    try:
        import distributed
        import distributed.scheduler
    except ImportError as error:
        raise RuntimeMissingError(
            f'a cluster needs Dask ({error}); install it with: pip install "gramstyle[distributed]"'
        ) from None
    module: ModuleType = distributed
    return module


def _local(distributed: ModuleType, workers: int) -> AbstractContextManager[Any]:
    """Start workers here: no page to look at, no limit on memory, which `--memory` sets."""
    with _deaf():
        local: AbstractContextManager[Any] = distributed.LocalCluster(
            n_workers=workers,
            threads_per_worker=1,
            processes=True,
            host="127.0.0.1",
            dashboard_address="127.0.0.1:0",
            memory_limit=0,
            silence_logs=logging.CRITICAL,
            death_timeout=60,
        )
    return local


@contextmanager
def _deaf() -> Iterator[None]:
    """Start processes that do not hear Ctrl-C, which a terminal sends to all of them."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _client_of(distributed: ModuleType, address: str) -> AbstractContextManager[Any]:
    if not ADDRESS.fullmatch(address):
        raise OptionError(
            f"there is no Dask scheduler at {address!r}, which is no address like "
            "tcp://10.0.0.5:8786; give the one that dask scheduler has printed"
        )
    try:
        with warnings.catch_warnings():
            # Another version is refused in our own words.
            warnings.simplefilter("ignore", distributed.versions.VersionMismatchWarning)
            client: Any = distributed.Client(address, timeout=ANSWER, direct_to_workers=True)
    except Exception as error:  # whatever answers there may say anything
        what = " ".join(str(error).split()) or type(error).__name__
        raise OptionError(
            f"there is no Dask scheduler at {address} ({what}); check the address, or start one: "
            "dask scheduler"
        ) from None
    return client  # type: ignore[no-any-return]


def _check_versions(client: Any, distributed: ModuleType, address: str) -> None:
    """Refuse a scheduler or a worker that would not understand, and one without workers."""
    try:
        client.wait_for_workers(1, timeout=ANSWER)
    except TimeoutError:
        raise OptionError(
            f"the scheduler at {address} has no workers; start some: dask worker {address}"
        ) from None

    def version() -> str:  # travels by its code: gramstyle may not be there
        from importlib.metadata import PackageNotFoundError, version

        try:
            return version("gramstyle")
        except PackageNotFoundError:
            return "(not installed)"

    dask = client.get_versions()
    wanted = distributed.__version__
    theirs = {"the scheduler": dask["scheduler"]["packages"]["distributed"]}
    for name, found in dask["workers"].items():
        theirs[f"worker {name}"] = found["packages"]["distributed"]
    _refuse_others(theirs, wanted, "distributed", address)
    gramstyle = {"the scheduler": client.run_on_scheduler(version)}
    for name, found in client.run(version).items():
        gramstyle[f"worker {name}"] = found
    _refuse_others(gramstyle, remote.installed_version(), "gramstyle", address)


def _refuse_others(theirs: dict[str, str], wanted: str, package: str, address: str) -> None:
    for who, found in theirs.items():
        if found != wanted:
            raise OptionError(
                f"{who} of {address} has {package} {found} and this is {wanted}; install the same "
                "on all"
            )


def _plugins(distributed: ModuleType, sha256: str, data: bytes) -> tuple[Any, Any]:
    """Return what gives the model out at the scheduler, and what asks for it on a worker."""

    class Shelf(distributed.SchedulerPlugin):  # type: ignore[name-defined,misc]
        idempotent = True

        def start(self, scheduler: Any) -> None:
            def give() -> bytes:
                return data

            scheduler.handlers[f"gramstyle_model_{sha256}"] = give

    class Setup(distributed.WorkerPlugin):  # type: ignore[name-defined,misc]
        async def setup(self, worker: Any) -> None:
            remote.introduce(str(worker.address), worker.state.nthreads)
            if remote.find_model(sha256) is None:
                ask = getattr(worker.scheduler, f"gramstyle_model_{sha256}")
                remote.keep_model(sha256, await ask())

    return Shelf(), Setup()


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep Dask's own lines off the terminal: what goes wrong is raised."""
    before = {name: logging.getLogger(name).level for name in _LOGGERS}
    for name in _LOGGERS:
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        for name, level in before.items():
            logging.getLogger(name).setLevel(level)
