"""The process in which jobs run, one after the other, with the model open all the time."""

import multiprocessing
import os
import queue
import signal
import sys
import threading
import traceback
import warnings
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

from gramstyle.errors import GramstyleError
from gramstyle.run.open_model import OpenModel
from gramstyle.run.options import Options
from gramstyle.run.transfer import transfer
from gramstyle.serve.job import Standing
from gramstyle.serve.rendering import Ended, InterruptedJobError, Order, run_job
from gramstyle.serve.reporting import Stop
from gramstyle.system.processes import end_with_parent

BUG = "gramstyle failed unexpectedly, which is a bug in it; the log of the server has the details"
# How much more a worker gives way to other programs, the server above all.
_NICE = 5


@dataclass(frozen=True)
class Ready:
    """The worker has opened the model and compiled what it needs."""


@dataclass(frozen=True)
class Unable:
    """The worker cannot open the model, and ends."""

    reason: str


@dataclass(frozen=True)
class Interrupted:
    """The worker has saved the state of its job, because the server stops."""


def work(pipe: Connection, model: Path, machine: dict[str, Any]) -> None:
    """Receive orders and stops over a pipe, run the jobs, and send reports.

    Parameters
    ----------
    pipe
        The connection to the server: `Order` and `Stop` come in, and `Report`, `Preview`, `Ended`,
        `Ready`, `Unable` and `Interrupted` go out.
    model
        The file of the network.
    machine
        Options of the machine for the first, small run.
    """
    # The server ends its workers itself. A terminal and systemd send these signals to all of them,
    # when the states of jobs must still be saved.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    threading.Thread(target=end_with_parent, daemon=True).start()
    warnings.simplefilter("ignore", RuntimeWarning)  # an overflow raises an error of its own
    with suppress(OSError, AttributeError):
        os.nice(_NICE)
    inbox = _Inbox(pipe)
    with OpenModel(model) as opened:
        try:
            opened.parts()
        except GramstyleError as error:
            pipe.send(Unable(" ".join(str(error).split())))
            return
        _warm_up(opened, machine)
        pipe.send(Ready())
        while True:
            order = inbox.next_order()
            pipe.send(_answer(order, opened, pipe, inbox))


class _Inbox:
    """The orders and stops that arrive while a job runs."""

    def __init__(self, pipe: Connection) -> None:
        self._orders: queue.SimpleQueue[Order] = queue.SimpleQueue()
        self.stop: Stop | None = None
        threading.Thread(target=self._receive, args=(pipe,), daemon=True).start()

    def next_order(self) -> Order:
        """Wait for the next job."""
        return self._orders.get()

    def _receive(self, pipe: Connection) -> None:
        try:
            while True:
                message = pipe.recv()
                if isinstance(message, Order):
                    self.stop = None
                    self._orders.put(message)
                else:
                    self.stop = message
        except (EOFError, OSError):  # the server has ended
            os._exit(0)


def _answer(order: Order, model: OpenModel, pipe: Connection, inbox: _Inbox) -> Ended | Interrupted:
    try:
        return run_job(order, model=model, tell=pipe.send, stop=lambda: inbox.stop)
    except InterruptedJobError:
        return Interrupted()
    except MemoryError:
        sys.stderr.write(f"not enough memory for the job in {order.folder}\n")
        os._exit(1)  # as the system would end it: the memory is free again, and the job retries
    except Exception:
        sys.stderr.write(traceback.format_exc())
        return Ended(Standing(), has_image=False, problem=BUG)


def _warm_up(model: OpenModel, machine: dict[str, Any]) -> None:
    """Run a tiny transfer, so that the first job finds all code imported and compiled."""
    # Noise, since a gradient of zero would end the run before the optimiser is compiled.
    content, style = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), np.uint8)
    with suppress(GramstyleError):  # a job that fails for the same reason reports it
        transfer(content, style, Options(size=32, iterations=2, **machine), model=model)


def start(model: Path, machine: dict[str, Any]) -> tuple[Connection, Any]:
    """Start a worker; return the connection to it, and its process."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=work, args=(theirs, model, machine), daemon=True)
    process.start()
    theirs.close()  # the worker has its own copy: when it dies, ours sees the end of the file
    return ours, process
