"""The only module that imports Dask: its settings, its logs, and code for its processes."""

import logging
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from types import ModuleType
from typing import Any

from gramstyle.cluster.worker import find_model, introduce, keep_model
from gramstyle.errors import OptionError, RuntimeMissingError
from gramstyle.system.installing import remedy

_SETTINGS = {
    # Tasks contain windows of pixels, which may be large. Dask must not warn about them.
    "distributed.admin.large-graph-warning-threshold": "1TB",
    # A killed worker is started again, which may take minutes on a busy machine. By default Dask
    # gives the worker up after 15 seconds.
    "distributed.deploy.lost-worker-timeout": "1h",
    # Connecting to a worker that has just died ends after this time.
    "distributed.comm.timeouts.connect": "10s",
    # A scheduler or worker that this program starts serves no web pages, because anyone could read
    # them without a certificate.
    "distributed.scheduler.http.routes": [],
    "distributed.worker.http.routes": [],
}
# The user's timeouts are meant for shared clusters. If this program's own scheduler ended because
# it was idle for a moment, a worker that is starting would wait for it without end.
_LOCAL_SETTINGS = {
    "distributed.scheduler.idle-timeout": None,
    "distributed.scheduler.no-workers-timeout": None,
    "distributed.comm.timeouts.tcp": "30s",
}
_LOGGERS = ("distributed", "distributed.client", "tornado", "tornado.application", "asyncio")


def configured(*, local: bool) -> AbstractContextManager[Any]:
    """Return the context in which Dask has the settings that gramstyle needs.

    Parameters
    ----------
    local
        Whether the scheduler and the workers are processes that this program starts.
    """
    load_distributed()
    import dask

    context: AbstractContextManager[Any] = dask.config.set(
        _SETTINGS | (_LOCAL_SETTINGS if local else {})
    )
    return context


def load_distributed() -> ModuleType:
    """Import Dask's distributed package.

    Raises
    ------
    RuntimeMissingError
        If it is not installed.
    OptionError
        If it cannot read its configuration.
    """
    try:
        import distributed
        import distributed.scheduler
    except ImportError as error:
        raise RuntimeMissingError(
            f"a cluster needs Dask ({error}); {remedy('distributed', error)}"
        ) from None
    except ValueError as error:  # Dask reads its files when it is imported
        reason = " ".join(str(error).split())
        raise OptionError(
            f"Dask cannot read its configuration ({reason}); correct the file or DASK_CONFIG"
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


def announce(topic: str, message: Any) -> None:
    """Send a message of a task to the clients of its cluster; outside a task, do nothing."""
    if "distributed" not in sys.modules:
        return
    try:
        worker = load_distributed().get_worker()
    except ValueError:
        return
    worker.log_event(topic, message)


def is_flagged(name: str) -> bool:
    """Return whether a client has raised this flag; False outside a task."""
    if "distributed" not in sys.modules:
        return False
    distributed = load_distributed()
    try:
        distributed.get_worker()
    except ValueError:
        return False
    return bool(distributed.Event(name).is_set())


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
