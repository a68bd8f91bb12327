"""A cluster of processes on this machine, to which only the program that starts it can connect."""

import asyncio
import logging
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager, suppress
from typing import Any

from gramstyle.cluster.dask import load_distributed
from gramstyle.cluster.loop import EventLoop
from gramstyle.errors import OptionError, RuntimeMissingError
from gramstyle.system.installing import remedy

# How long a worker may take to start, in seconds; a busy machine needs more than a few.
START = 300.0


@contextmanager
def local_cluster(loop: EventLoop, workers: int) -> Iterator[Any]:
    """Start workers on this machine, without a memory limit (see `--memory`); yield the cluster.

    All connections use TLS with a certificate that only these processes have: Dask executes what
    a connection sends, and other users can connect to the ports of this machine.

    Raises
    ------
    OptionError
        If a worker does not start.
    RuntimeMissingError
        If the package that makes certificates is not installed.
    """
    distributed = load_distributed()
    try:
        security = distributed.Security.temporary()
    except ImportError:
        raise RuntimeMissingError(
            "workers on this machine need certificates, which cryptography makes; "
            f"{remedy('distributed')}"
        ) from None
    stack = AsyncExitStack()

    async def start() -> Any:
        cluster = distributed.LocalCluster(
            n_workers=workers,
            threads_per_worker=1,
            processes=True,
            host="127.0.0.1",
            security=security,
            dashboard_address="127.0.0.1:0",
            scheduler_kwargs={"dashboard": False},
            memory_limit=0,
            silence_logs=logging.CRITICAL,
            death_timeout=START,
            asynchronous=True,
        )
        # If Ctrl-C ends the program while `close` waits, its workers end with it.
        cluster.shutdown_on_close = False
        return await stack.enter_async_context(cluster)

    starting = loop.submit(start())

    async def close() -> None:
        # After Ctrl-C the start continues; its processes end once they have started.
        with suppress(Exception):
            await asyncio.wrap_future(starting)
        await stack.aclose()

    try:
        yield _started(starting)
    finally:
        loop.submit(close()).result()


def _started(starting: Any) -> Any:
    """Return the cluster once it has started."""
    try:
        return starting.result()
    except (RuntimeError, OSError, TimeoutError) as error:
        what = " ".join(str(error).split()) or "it did not start in time"
        raise OptionError(
            f"a worker on this machine has not started ({what}); if memory is short, choose fewer "
            "--workers"
        ) from None
