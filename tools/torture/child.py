"""Read mutants in a child process, whose crash or hang is noticed and names the mutant."""

import json
import os
import resource
import select
import signal
import sys
import tempfile
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import BinaryIO

from .guard import Guard
from .hdf5 import run_programs_in_forks
from .sample import Sample
from .trial import Trial, Trials

# A child that says nothing for so many seconds hangs. Other programs may have the processor for
# long, so this is far more than `trial.MAX_SECONDS`.
HANG = 60.0
# What a child may add to its address space, in bytes. It is more than `trial.MAX_MEMORY`, so that
# a reader that uses too much is seen before the system refuses it more.
ADDRESS_SPACE = 2 * 2**30

Report = Callable[[int, Trial], None]


def read_mutants(
    reader: str,
    first: int,
    last: int,
    samples: Mapping[str, Sequence[Sample]],
    folder: Path,
    report: Report,
) -> None:
    """Read mutants first … last - 1 in a child process, up to one that ends it; report each."""
    at, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(at)
        _work(reader, range(first, last), samples, folder, writer)
    os.close(writer)
    number, last_words = first, ""
    with open(at, "rb", buffering=0) as stream:  # noqa: PTH123 - not a path
        for line in _lines(stream):
            if line is None:
                os.kill(child, signal.SIGKILL)
                last_words = f"no answer in {HANG:.0f} s"
                break
            report(number, Trial(**json.loads(line)))
            number += 1
    _, status = os.waitpid(child, 0)
    if number < last:
        outcome = "hang" if last_words else "crash"
        report(number, Trial(outcome, last_words or f"status {os.waitstatus_to_exitcode(status)}"))


def _lines(stream: BinaryIO) -> Iterator[bytes | None]:
    """Yield each line of a pipe; None if there is none for too long."""
    rest = b""
    while True:
        if not select.select([stream], [], [], HANG)[0]:
            yield None
            return
        data = stream.read(65_536)
        if not data:
            return
        *lines, rest = (rest + data).split(b"\n")
        yield from lines


def _work(
    reader: str,
    numbers: range,
    samples: Mapping[str, Sequence[Sample]],
    folder: Path,
    writer: int,
) -> None:
    """Read mutants and write what became of each; never return."""
    try:
        trials = trials_of_this_process(samples, folder)
        for number in numbers:
            trial = trials.mutant(reader, number)
            os.write(writer, json.dumps(asdict(trial)).encode() + b"\n")
        os._exit(0)
    except BaseException:
        trial = Trial("fault in tools.torture", traceback.format_exc())
        os.write(writer, json.dumps(asdict(trial)).encode() + b"\n")
    finally:
        os._exit(1)


def trials_of_this_process(
    samples: Mapping[str, Sequence[Sample]], folder: Path, *, capture: bool = True
) -> Trials:
    """Limit this process for good, as reading mutants needs it."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + ADDRESS_SPACE
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # Any warning would be a line that the user did not ask for; the program hides these.
    warnings.simplefilter("error")
    warnings.simplefilter("ignore", RuntimeWarning)
    guard = Guard()
    run_programs_in_forks(guard)
    return Trials(samples, folder, guard, _captured_output() if capture else lambda: "")


def _captured_output() -> Callable[[], str]:
    """Send standard output and standard error to a file; return a function that takes its text."""
    with tempfile.TemporaryFile() as file:
        handle = os.dup(file.fileno())
    for stream in (1, 2):
        os.dup2(handle, stream)

    def taken() -> str:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        size = os.fstat(handle).st_size
        if not size:
            return ""
        text = os.pread(handle, size, 0).decode(errors="replace")
        os.ftruncate(handle, 0)
        os.lseek(handle, 0, os.SEEK_SET)
        return text

    return taken
