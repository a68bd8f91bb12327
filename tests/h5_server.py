"""One process that reads the tables of contents of many HDF5 files.

gramstyle starts a process for each file, which takes 0.2 s. Tests with hundreds of damaged files
send them all to one process, which has the same limit of memory, a limit of time for each file,
and is started again when a file has ended it.
"""

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gramstyle.model.sources import h5_table

SECONDS = 10

PROGRAM = f"""
import json, signal, sys
import h5py, resource
sys.path.append({str(Path(h5_table.__file__).parent)!r})
from h5_table import MAX_MEMORY, read_table
resource.setrlimit(resource.RLIMIT_AS, (MAX_MEMORY, MAX_MEMORY))
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
for line in sys.stdin:
    signal.setitimer(signal.ITIMER_PROF, {SECONDS})  # processor time
    path, start, size = json.loads(line)
    table = json.dumps(read_table(h5py, path, int(start), int(size)))
    signal.setitimer(signal.ITIMER_PROF, 0)
    print(table, flush=True)
"""


class H5Server:
    """Has the method `run` of the module subprocess, for `gramstyle.model.sources.keras`."""

    TimeoutExpired, DEVNULL, PIPE = subprocess.TimeoutExpired, subprocess.DEVNULL, subprocess.PIPE

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None

    def run(self, command: Sequence[str], **_: Any) -> subprocess.CompletedProcess[bytes]:
        """Return what the program prints for the last three arguments, or how it ended."""
        process = self._process = self._process or self._started()
        assert process.stdin is not None
        assert process.stdout is not None
        print(json.dumps(command[-3:]), file=process.stdin, flush=True)
        answer = process.stdout.readline()
        if not answer:
            self._process = None
            return subprocess.CompletedProcess(command, process.wait(), b"")
        return subprocess.CompletedProcess(command, 0, answer.encode())

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.communicate()

    def _started(self) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-P", "-c", PROGRAM],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
