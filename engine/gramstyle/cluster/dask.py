"""The only module that imports Dask: it opens clusters, and defines code for their processes."""

import logging
import re
import signal
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from types import ModuleType
from typing import Any

from gramstyle.cluster.worker import find_model, installed_version, introduce, keep_model
from gramstyle.errors import OptionError, RuntimeMissingError
from gramstyle.system.installing import remedy

# How long to wait for a scheduler to answer, and for its first worker, in seconds.
ANSWER = 10.0

_SETTINGS = {
    # Tasks contain windows of pixels, which may be large: Dask must not warn.
    "distributed.admin.large-graph-warning-threshold": "1TB",
    "distributed.comm.timeouts.connect": f"{ANSWER}s",
}
# The addresses that Dask accepts. With others Dask may wait forever, so they are refused first.
ADDRESS = re.compile(
    r"((tcp|tls|wss?|ucx)://)?[^\s/:@]+:\d{1,5}|((tcp|tls)://)?\[[0-9a-fA-F:.]+\]:\d{1,5}"
)
_LOGGERS = ("distributed", "distributed.client", "tornado", "tornado.application", "asyncio")


def configured() -> AbstractContextManager[Any]:
    """Return the context in which Dask has the settings that gramstyle needs."""
    load_distributed()
    import dask

    context: AbstractContextManager[Any] = dask.config.set(_SETTINGS)
    return context


def load_distributed() -> ModuleType:
    """Import Dask's distributed package; raises RuntimeMissingError if it is not installed."""
    try:
        import distributed
        import distributed.scheduler
    except ImportError as error:
        raise RuntimeMissingError(
            f"a cluster needs Dask ({error}); {remedy('distributed', error)}"
        ) from None
    module: ModuleType = distributed
    return module


def still_wanted() -> bool:
    """Return whether the result of the present task is still wanted; True outside a task."""
    if "distributed" not in sys.modules:  # then no task runs here
        return True
    try:
        worker = load_distributed().get_worker()
    except ValueError:
        return True
    task = worker.state.tasks.get(worker.get_current_task())
    return task is not None and task.state != "cancelled"


def local_cluster(distributed: ModuleType, workers: int) -> AbstractContextManager[Any]:
    """Start workers on this machine, without a dashboard or a memory limit (see `--memory`)."""
    with _ignoring_interrupts():
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
def _ignoring_interrupts() -> Iterator[None]:
    """Make processes that start meanwhile ignore Ctrl-C, which a terminal sends to all of them."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def client_of(distributed: ModuleType, address: str) -> AbstractContextManager[Any]:
    """Return a client that is connected to a scheduler; raises OptionError if none answers."""
    if not ADDRESS.fullmatch(address):
        raise OptionError(
            f"{address!r} is not the address of a Dask scheduler, such as tcp://10.0.0.5:8786; "
            "give the one that dask scheduler has printed"
        )
    try:
        with warnings.catch_warnings():
            # `check_versions` refuses another version.
            warnings.simplefilter("ignore", distributed.versions.VersionMismatchWarning)
            client: Any = distributed.Client(address, timeout=ANSWER, direct_to_workers=True)
    except Exception as error:  # a server that is not Dask may answer anything
        what = " ".join(str(error).split()) or type(error).__name__
        raise OptionError(
            f"there is no Dask scheduler at {address} ({what}); check the address, or start one: "
            "dask scheduler"
        ) from None
    return client  # type: ignore[no-any-return]


def check_versions(client: Any, distributed: ModuleType, address: str) -> None:
    """Refuse a scheduler without workers, or with other versions than here; raises OptionError."""
    try:
        client.wait_for_workers(1, timeout=ANSWER)
    except TimeoutError:
        raise OptionError(
            f"the scheduler at {address} has no workers; start some: dask worker {address}"
        ) from None

    def version() -> str:  # is sent as code: gramstyle may not be installed there
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
    _refuse_others(gramstyle, installed_version(), "gramstyle", address)


def _refuse_others(theirs: dict[str, str], wanted: str, package: str, address: str) -> None:
    for who, found in theirs.items():
        if found != wanted:
            raise OptionError(
                f"{who} of {address} has {package} {found} and this is {wanted}; install the same "
                "on all"
            )


def model_plugins(sha256: str, data: bytes) -> tuple[Any, Any]:
    """Return the plugins that serve the model from the scheduler and fetch it to a worker."""
    distributed = load_distributed()

    class Provider(distributed.SchedulerPlugin):  # type: ignore[name-defined,misc]
        idempotent = True

        def start(self, scheduler: Any) -> None:
            def give() -> bytes:
                return data

            scheduler.handlers[f"gramstyle_model_{sha256}"] = give

    class Setup(distributed.WorkerPlugin):  # type: ignore[name-defined,misc]
        async def setup(self, worker: Any) -> None:
            introduce(str(worker.address), worker.state.nthreads)
            if find_model(sha256) is None:
                ask = getattr(worker.scheduler, f"gramstyle_model_{sha256}")
                keep_model(sha256, await ask())

    return Provider(), Setup()


@contextmanager
def quiet_logs() -> Iterator[None]:
    """Silence Dask's loggers: errors are raised instead."""
    before = {name: logging.getLogger(name).level for name in _LOGGERS}
    for name in _LOGGERS:
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        for name, level in before.items():
            logging.getLogger(name).setLevel(level)
