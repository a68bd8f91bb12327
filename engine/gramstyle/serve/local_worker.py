"""A worker that is a process on this machine."""

import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path

from gramstyle.serve import worker
from gramstyle.serve.rendering import Ended, Order
from gramstyle.serve.reporting import Preview, Report, Stop
from gramstyle.serve.worker import Interrupted, Unable
from gramstyle.serve.workers import WorkerDiedError

# How often a thread looks whether its job shall end, in seconds.
_LOOK = 0.1
# How much longer than its time limit a job may take before its worker is taken for hung, and how
# long a worker may take to start, in seconds. Compiling everything takes 15 seconds on two cores.
_GRACE, _START = 120.0, 600.0


class LocalWorker:
    """A process that runs jobs; it is started again when it has died.

    Parameters
    ----------
    model
        The file of the network.
    machine
        Options of the machine.
    """

    def __init__(self, model: Path, machine: dict[str, object]) -> None:
        self._model, self._machine = model, machine
        self._pipe: Connection | None = None
        self._process: BaseProcess | None = None
        self.ready = False

    @property
    def process_id(self) -> int | None:
        """The id of the process."""
        return None if self._process is None else self._process.pid

    def open(self) -> None:
        """Start the process if it does not run, and wait until it is ready."""
        if self._process is not None and self._process.is_alive():
            return
        self.close()
        pipe, self._process = worker.start(self._model, self._machine)
        self._pipe = pipe
        try:
            if not pipe.poll(_START):
                raise self._died("it did not start")
            message = pipe.recv()
            if isinstance(message, Unable):
                raise self._died(message.reason)
        except (EOFError, OSError):
            raise self._died("it ended while it started") from None
        self.ready = True

    def run(
        self,
        order: Order,
        *,
        tell: Callable[[Report | Preview], None],
        stop: Callable[[], Stop | None],
    ) -> Ended | None:
        """Run a job; see `gramstyle.serve.workers.Worker`."""
        pipe, told = self._pipe, None
        assert pipe is not None  # noqa: S101 - it is open
        until = time.monotonic() + order.seconds + _GRACE
        try:
            pipe.send(order)
            while True:
                if pipe.poll(_LOOK):
                    message = pipe.recv()
                    if isinstance(message, Ended):
                        return message
                    if isinstance(message, Interrupted):
                        return None
                    tell(message)
                wanted = stop()
                if wanted is not None and wanted != told:
                    told = wanted
                    pipe.send(wanted)
                    until = min(until, time.monotonic() + _GRACE)
                if time.monotonic() > until:
                    raise self._died("it did not answer")
        except (EOFError, OSError):
            raise self._died(None) from None

    def close(self) -> None:
        """End the process at once."""
        self.ready = False
        # Another thread may close it at the same moment.
        process, self._process = self._process, None
        pipe, self._pipe = self._pipe, None
        if process is not None:
            process.kill()
            process.join()
        if pipe is not None:
            pipe.close()

    def _died(self, reason: str | None) -> WorkerDiedError:
        """Return the error of a process that has ended or hangs, after its end."""
        process = self._process
        if reason is None:
            reason = "it was ended"
            if process is not None:  # else another thread has closed it
                process.join(1.0)
                reason = f"it ended with code {process.exitcode}"
        self.close()
        return WorkerDiedError(reason)
