"""A server in a process of its own, which can be killed and started again on the same folder."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tools.torture.from_tests import ROOT

from .client import Client

# How long a server may take to do what it is asked for, in seconds; it is far more than it needs.
PATIENCE = 120.0


class ServerError(Exception):
    """The server did not do what it was started for; the text has what it wrote."""


@dataclass
class Server:
    """A process `gramstyle serve`.

    Attributes
    ----------
    data
        The folder of the service. What the server writes to standard error is beside it.
    model
        The model file; None is the usual one.
    arguments
        Further arguments.
    environment
        Variables for the process, over those of this one.
    saving
        The time between two checkpoints of a job in seconds; None is the usual time.
    grace
        How long a worker may be silent after the time of its job; None is the usual time.
    """

    data: Path
    model: Path | None = None
    arguments: Sequence[str] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    saving: float | None = None
    grace: float | None = None
    port: int = field(default_factory=lambda: free_port())
    process: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> Path:
        """The file with what the server has written."""
        return self.data.with_name(f"{self.data.name}.log")

    def client(self) -> Client:
        """Return a client of the server."""
        return Client(self.port)

    def begin(self) -> None:
        """Start the process; do not wait for it."""
        times = (str(self.saving or 0), str(self.grace or 0))
        command = [sys.executable, "-m", "tools.torture.service.serve", *times]
        command += ["serve", "--data", str(self.data), "--port", str(self.port), *self.arguments]
        if self.model is not None:
            command += ["--model", str(self.model)]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                command, cwd=ROOT, stderr=log, stdout=log, env={**os.environ, **self.environment}
            )

    def start(self, workers: int = 0) -> None:
        """Start the process, and wait until it answers and so many workers are ready."""
        self.begin()
        wait_for(lambda: self._is_ready(workers), f"a server with {workers} workers", self)

    def kill(self) -> None:
        """Send SIGKILL to the server, and wait for its end."""
        process = self._running()
        process.kill()
        process.wait()

    def stop(self) -> int:
        """Send SIGTERM, and return the exit code."""
        process = self._running()
        process.terminate()
        return process.wait(PATIENCE)

    @property
    def workers(self) -> list[int]:
        """The process ids of the workers."""
        return [
            child
            for child in _children(self._running().pid)
            if b"spawn_main" in _command_line(child)
        ]

    @property
    def memory(self) -> int:
        """The bytes of memory of the server process, without its workers."""
        pages = int(Path(f"/proc/{self._running().pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")

    @property
    def written(self) -> str:
        """What the server has written so far."""
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def _running(self) -> subprocess.Popen[bytes]:
        assert self.process is not None  # noqa: S101 - it was started
        return self.process

    def _is_ready(self, workers: int) -> bool:
        if self._running().poll() is not None:
            code = self._running().returncode
            raise ServerError(f"it has ended with code {code}: {self.written}")
        client = self.client()
        try:
            if not workers:
                return client.get("/healthz").status == 200
            return int(client.get("/readyz").json()["workers"]) >= workers
        except OSError:
            return False
        finally:
            client.close()


@contextmanager
def started(server: Server, workers: int = 0) -> Iterator[Server]:
    """Run a server during the block."""
    try:
        server.start(workers)
        yield server
    finally:
        process = server.process
        if process is not None and process.poll() is None:
            process.send_signal(signal.SIGCONT)
            process.terminate()
            try:
                process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def wait_for(
    condition: Callable[[], bool], what: str, server: Server, seconds: float = PATIENCE
) -> None:
    """Wait until a condition holds; raise ServerError if it takes too long."""
    until = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > until:
            raise ServerError(f"no {what} in {seconds:.0f} s; the server wrote: {server.written}")
        time.sleep(0.05)


def free_port() -> int:
    """Return a port that no program uses at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def tracebacks(text: str) -> list[str]:
    """Return the last lines of the tracebacks in what a server has written."""
    found = re.findall(r"^Traceback .*?\n(?:(?: .*|\s*)\n)+(.*)", text, re.MULTILINE)
    return [line[:200] for line in found]


def _children(pid: int) -> list[int]:
    try:
        found = [path.read_text() for path in Path(f"/proc/{pid}/task").glob("*/children")]
    except OSError:  # a thread has ended meanwhile
        return []
    return [int(each) for text in found for each in text.split()]


def _command_line(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""
