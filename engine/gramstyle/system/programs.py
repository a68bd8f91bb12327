"""Start another program and exchange lines with it, within a time limit. No shell is involved."""

import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import IO

from gramstyle.errors import OptionError

# The longest line that is read, and how much of the standard error is kept, in bytes.
LONGEST = 1 << 20
TAIL = 4096
# How long a program may take to end after its input has ended, or after it was killed.
PATIENCE = 2.0
# How often to look whether a program that does not answer still runs.
POLL = 0.1


# A line that names an error, as "TypeError: …" does.
ERROR = re.compile(r"(Uncaught )?[\w.]*(Error|Exception)\b")


class ProgramError(Exception):
    """What a program did instead of answering, in one sentence that begins with a verb."""


class LineProgram:
    """A running program that answers each line on its standard input with one line.

    Parameters
    ----------
    command
        The program and its arguments.
    variables
        Variables of the environment, besides those of this process.

    Raises
    ------
    OptionError
        If the program cannot be started.
    """

    def __init__(self, command: Sequence[str], *, variables: Mapping[str, str]) -> None:
        try:
            self._process = subprocess.Popen(  # noqa: S603 - the user names the program
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env={**os.environ, **variables},
                start_new_session=True,  # so that what it starts ends with it
            )
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise OptionError(f"cannot start the program {command[0]!r}: {reason}") from None
        self._exchange: threading.Thread | None = None
        self._tail = b""
        self._errors = threading.Thread(target=self._read_errors, daemon=True)
        self._errors.start()

    def exchange(self, line: bytes, *, seconds: float) -> bytes:
        """Write a line and return the line that the program answers.

        After an error the program no longer runs.

        Raises
        ------
        ProgramError
            If the program ends, closes its output, does not answer in time, or writes a line of
            more than a mebibyte.
        """
        answers: list[bytes] = []
        self._exchange = threading.Thread(
            target=lambda: answers.append(self._write_and_read(line)), daemon=True
        )
        self._exchange.start()
        deadline = time.monotonic() + seconds
        while self._exchange.is_alive() and (left := deadline - time.monotonic()) > 0:
            self._exchange.join(min(left, POLL))
            if self._process.poll() is not None:
                # What it started may hold its output open; what it wrote is there by now.
                self._exchange.join(PATIENCE)
                break
        if self._exchange.is_alive():
            late = self._process.poll() is None
            limit = f"{seconds:g} second{'s' * (seconds != 1)}"
            raise ProgramError(self._failed(f"did not answer within {limit}" * late))
        answer = answers[0]
        if not answer:
            raise ProgramError(self._failed(""))
        if len(answer) > LONGEST:
            raise ProgramError(self._failed("wrote a line of more than a mebibyte"))
        return answer

    def end(self) -> None:
        """End the input of the program, which then ends; kill what still runs after a while."""
        with suppress(OSError):
            _pipe(self._process.stdin).close()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(PATIENCE)
        self.kill()

    def kill(self) -> str:
        """Kill the program and all that it started; return the telling line of its errors."""
        if os.name != "nt":
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)
        self._process.kill()
        self._process.wait()
        readers = {self._errors: [self._process.stderr]}
        if self._exchange is not None:
            readers[self._exchange] = [self._process.stdin, self._process.stdout]
        for reader, pipes in readers.items():
            reader.join(PATIENCE)
            # A thread that still reads has the pipe locked: what the program started has left its
            # group and holds the other end.
            for pipe in pipes if not reader.is_alive() else ():
                with suppress(OSError):
                    _pipe(pipe).close()
        lines = [line for line in self._tail.decode(errors="replace").splitlines() if line.strip()]
        # Node.js writes where the error was before it, and its own version behind it.
        errors = [line for line in lines if ERROR.match(line)]
        return next(iter([*errors[-1:], *lines[-1:]]), "").strip()

    def _failed(self, what: str) -> str:
        """End the program; return what it did and the telling line of its standard error."""
        if not what:
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(PATIENCE)
            what = _ended(self._process.poll())
        last = self.kill()
        return f"{what}; on stderr: {last}" if last else what

    def _write_and_read(self, line: bytes) -> bytes:
        with suppress(OSError):  # a program that has ended also ends its output
            _pipe(self._process.stdin).write(line + b"\n")
            _pipe(self._process.stdin).flush()
        try:
            return _pipe(self._process.stdout).readline(LONGEST + 1)
        except (OSError, ValueError):
            return b""

    def _read_errors(self) -> None:
        with suppress(OSError, ValueError):
            while chunk := os.read(_pipe(self._process.stderr).fileno(), TAIL):
                self._tail = (self._tail + chunk)[-TAIL:]


def _ended(code: int | None) -> str:
    """Say how a program ended whose output has ended."""
    if code is None:
        return "closed its standard output"
    if code >= 0:
        return f"ended with exit code {code}"
    try:
        return f"was ended by {signal.Signals(-code).name}"
    except ValueError:
        return f"was ended by signal {-code}"


def _pipe(pipe: IO[bytes] | None) -> IO[bytes]:
    assert pipe is not None  # noqa: S101 - all three are pipes
    return pipe
