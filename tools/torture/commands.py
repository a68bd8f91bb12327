"""Run gramstyle's commands in forks of this process, which has imported everything already."""

import os
import select
import signal
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from gramstyle import cli
from gramstyle.engines import onnx_session  # noqa: F401 - imported once, before the forks
from gramstyle.model.architecture import VGGS, Architecture

from .from_tests import BLOCKS

Arguments = Sequence[str | Path]


@dataclass(frozen=True)
class Ended:
    """A command that has ended.

    Attributes
    ----------
    code
        Its exit code; negative for a signal.
    errors
        What it wrote to standard error.
    seconds
        How long it ran.
    """

    code: int
    errors: str
    seconds: float

    @property
    def killed(self) -> bool:
        """Whether SIGKILL ended it."""
        return self.code == -signal.SIGKILL


def run(
    arguments: Arguments,
    *,
    kill_after: float | None = None,
    prepare: Callable[[], None] | None = None,
) -> Ended:
    """Run a command to its end, or kill it after so many seconds.

    Parameters
    ----------
    arguments
        Those of `gramstyle`.
    kill_after
        After how many seconds SIGKILL is sent.
    prepare
        Called in the fork before the command.
    """
    with tempfile.TemporaryFile() as errors:
        began = time.monotonic()
        child = os.fork()
        if child == 0:
            _work(arguments, errors.fileno(), prepare)
        if kill_after is not None:
            _wait(child, kill_after)
            os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        seconds = time.monotonic() - began
        errors.seek(0)
        text = errors.read().decode(errors="replace")
    return Ended(os.waitstatus_to_exitcode(status), text, seconds)


def narrow() -> None:
    """Make VGG-19 as narrow as the weights files of the corpus, in this process."""
    VGGS["VGG-19"] = Architecture(BLOCKS)


def _wait(child: int, seconds: float) -> None:
    """Wait so long, or until the process has ended."""
    handle = os.pidfd_open(child)
    select.select([handle], [], [], seconds)
    os.close(handle)


def _work(arguments: Arguments, errors: int, prepare: Callable[[], None] | None) -> None:
    """Run a command in this process; never return."""
    try:
        nothing = os.open(os.devnull, os.O_RDWR)
        os.dup2(nothing, 0)
        os.dup2(nothing, 1)
        os.dup2(errors, 2)
        if prepare is not None:
            prepare()
        os._exit(_exit_code(arguments))
    except BaseException:
        os.write(2, traceback.format_exc().encode())
    finally:
        os._exit(1)


def _exit_code(arguments: Arguments) -> int:
    try:
        return cli.main([str(each) for each in arguments])
    except SystemExit as end:  # of the parser of arguments
        return end.code if isinstance(end.code, int) else 1
