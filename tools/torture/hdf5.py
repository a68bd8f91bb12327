"""Run gramstyle's program for HDF5 in a fork: as separate as a program, and much faster.

gramstyle starts a program for each file in HDF5, which takes a tenth of a second or more. Most
mutants are read by the same code in a fork of this process, which has imported h5py already.
"""

import os
import resource
import subprocess
import sys
from collections.abc import Sequence
from functools import cache
from itertools import count
from pathlib import Path
from types import CodeType
from typing import Any

import gramstyle

from .guard import Guard

PACKAGE = Path(gramstyle.__file__).parent
# One file in this many is read by the program itself.
BY_PROGRAM = 500
# Seconds of the processor in a fork; the program's own limit is longer.
MAX_SECONDS = 5


def run_programs_in_forks(guard: Guard) -> None:
    """Replace `subprocess.run` in this process for gramstyle's own programs, and allow them."""
    import h5py  # noqa: F401 - imported once, before the forks

    started, calls = subprocess.run, count(1)

    def run(command: Sequence[str], **options: Any) -> subprocess.CompletedProcess[bytes]:
        program = next((k for k, word in enumerate(command) if _is_ours(word)), None)
        if program is None:
            return started(command, **options)
        with guard.opened():
            if next(calls) % BY_PROGRAM == 0:
                return started(command, **options)
            return _forked(command[program:])

    subprocess.run = run  # type: ignore[assignment]


def _is_ours(word: str) -> bool:
    return word.endswith(".py") and Path(word).is_relative_to(PACKAGE)


def _forked(arguments: Sequence[str]) -> subprocess.CompletedProcess[bytes]:
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        _work(arguments, writer)
    os.close(writer)
    with open(reader, "rb") as stream:  # noqa: PTH123 - not a path
        output = stream.read()
    _, status = os.waitpid(child, 0)
    return subprocess.CompletedProcess(arguments, os.waitstatus_to_exitcode(status), output)


def _work(arguments: Sequence[str], writer: int) -> None:
    """Run a program whose output goes into a pipe; never return."""
    try:
        os.dup2(writer, 1)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        resource.setrlimit(resource.RLIMIT_CPU, (MAX_SECONDS, MAX_SECONDS))
        # The program limits its memory; this process has more to begin with.
        resource.setrlimit = lambda *_: None
        sys.argv = list(arguments)
        exec(_code(arguments[0]), {"__name__": "__main__", "__file__": arguments[0]})  # noqa: S102
        sys.stdout.flush()
        os._exit(0)
    finally:
        os._exit(1)


@cache
def _code(path: str) -> CodeType:
    return compile(Path(path).read_bytes(), path, "exec")
