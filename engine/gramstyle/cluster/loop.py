"""An event loop in a thread: Dask's servers and connections run there."""

import asyncio
import threading
from collections.abc import Coroutine, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any, TypeVar

from gramstyle.system.processes import interrupts_blocked

T = TypeVar("T")


class EventLoop:
    """Runs coroutines in the thread of an event loop; `event_loop` opens one."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop

    def submit(self, coroutine: Coroutine[Any, Any, T]) -> Future[T]:
        """Start a coroutine."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop)

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine and return its result; an exception such as Ctrl-C cancels it.

        Raises
        ------
        BaseException
            What the coroutine raises.
        """
        running = self.submit(coroutine)
        try:
            return running.result()
        except BaseException:
            running.cancel()
            raise


@contextmanager
def event_loop() -> Iterator[EventLoop]:
    """Run an event loop in a thread; at the end, cancel what still runs there, and end the thread.

    A terminal sends Ctrl-C to all processes. The thread and the processes that are started in it
    ignore it; the main thread ends them.
    """
    started: Future[asyncio.AbstractEventLoop] = Future()
    ended = asyncio.Event()

    async def live() -> None:
        started.set_result(asyncio.get_running_loop())
        await ended.wait()

    def run() -> None:
        with interrupts_blocked():
            asyncio.run(live())

    thread = threading.Thread(target=run, name="gramstyle-cluster", daemon=True)
    thread.start()
    try:
        yield EventLoop(started.result())
    finally:
        started.result().call_soon_threadsafe(ended.set)
        thread.join()
