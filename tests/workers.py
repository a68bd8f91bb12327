"""Helpers for the tests that start workers."""

import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

# Runs gramstyle with its arguments. Python honours a SIGINT that its parent ignores, as shells'
# background jobs do.
PROGRAM = (
    sys.executable,
    "-c",
    "import signal; signal.signal(signal.SIGINT, signal.default_int_handler);"
    "import sys; from gramstyle.cli import main; sys.exit(main())",
)


# Seconds that a test waits for one thing, however busy the machine is.
PATIENCE = 300


def until(condition: Callable[[], Any], seconds: float = PATIENCE) -> Any:
    """Wait until a condition holds, however busy the machine is."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, f"it did not happen within {seconds} seconds"
        time.sleep(0.02)
    return found


@contextmanager
def program(command: Sequence[str | Path], **more: Any) -> Iterator[subprocess.Popen[Any]]:
    """Start a program; where the block fails, it does not wait for the end of the program."""
    with subprocess.Popen(command, **more) as process:
        try:
            yield process
        except BaseException:
            process.kill()
            raise


def by_value(function: Any) -> Any:
    """Pickle a test module by value: workers cannot import tests."""
    cloudpickle = pytest.importorskip("cloudpickle")
    cloudpickle.register_pickle_by_value(sys.modules[function.__module__])
    return function


def in_session(leader: int) -> list[int]:
    """Return the processes that a program with a session of its own has left, or has now."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            if os.getsid(process.pid) == leader and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process.pid)
    return found


def listening(pid: int) -> set[int]:
    """Return the TCP ports of a process that accept connections."""
    connections = psutil.Process(pid).net_connections(kind="tcp")
    return {each.laddr.port for each in connections if each.status == psutil.CONN_LISTEN}


def free_port() -> int:
    with socket.socket() as there:
        there.bind(("127.0.0.1", 0))
        return int(there.getsockname()[1])


@contextmanager
def mute_server() -> Iterator[int]:
    """Listen on a port, accept connections, and never answer."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        accepted = []

        def accept() -> None:
            with suppress(OSError):
                while True:
                    accepted.append(server.accept()[0])

        threading.Thread(target=accept, daemon=True).start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)
        for connection in accepted:
            connection.close()


def certificates(security: Any, folder: Path) -> dict[str, str]:
    """Write the certificates of a cluster to files; return Dask's settings that name them."""
    files = {
        "ca-file": security.tls_ca_file,
        "client.cert": security.tls_client_cert,
        "client.key": security.tls_client_key,
    }
    settings = {}
    for name, pem in files.items():
        path = folder / f"{name}.pem"
        path.write_text(pem)
        settings[f"distributed.comm.tls.{name}"] = str(path)
    return settings
