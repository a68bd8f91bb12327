"""The signals that stop a program: raised as exceptions, delayed while a file is written."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

from gramstyle.errors import GramstyleError


class Terminated(KeyboardInterrupt):
    """SIGTERM, handled like Ctrl-C."""


class HungUp(KeyboardInterrupt):
    """SIGHUP, which a terminal sends when it is closed, handled like Ctrl-C."""


# By name: Windows has no SIGHUP.
_EXCEPTIONS: dict[int, type[KeyboardInterrupt]] = {
    getattr(signal, name): exception
    for name, exception in (
        ("SIGINT", KeyboardInterrupt),
        ("SIGTERM", Terminated),
        ("SIGHUP", HungUp),
    )
    if hasattr(signal, name)
}


class _State:
    """The present action of signals; the handlers run in the main thread only."""

    ends_at_once = False
    blocks = 0
    held: int | None = None
    received = 0


@contextmanager
def stop_signals(*, until_exit: bool) -> Iterator[None]:
    """Raise SIGINT, SIGTERM and SIGHUP as exceptions during the block.

    A signal that is ignored at the start stays ignored, as nohup and shells expect. A second signal
    has no effect, so that the work that the first one started is completed; a third one is raised
    again. In a thread other than the main one, this function does nothing.

    Parameters
    ----------
    until_exit
        Whether the process ends after the block. The signals then end it at once: Python's own
        handler of Ctrl-C would print a traceback while the interpreter ends.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    _State.blocks, _State.held, _State.received = 0, None, 0
    before = {
        number: signal.signal(number, _handle)
        for number in _EXCEPTIONS
        if signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler)
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if until_exit else handler)


@contextmanager
def held_back() -> Iterator[None]:
    """Delay the signals of `stop_signals` during the block, and raise them at its end.

    If the block raises a GramstyleError, the exception of the signal has its message.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    _State.blocks += 1
    problem = ""
    try:
        yield
    except GramstyleError as error:
        problem = str(error)
        raise
    finally:
        _State.blocks -= 1
        held = _State.held
        if held is not None and not _State.blocks:
            _State.held = None
            raise _EXCEPTIONS[held](problem)


@contextmanager
def ending_at_once() -> Iterator[None]:
    """Let a signal end the process at once, with one line, while there is nothing to lose.

    An exception that is raised while modules are imported could be swallowed by their code.
    """
    _State.ends_at_once = True
    try:
        yield
    finally:
        _State.ends_at_once = False


def stop_message(stop: KeyboardInterrupt) -> str:
    """Return what stopped the program."""
    return str(stop) or _WORDS.get(type(stop), "stopped")


def exit_code(stop: KeyboardInterrupt) -> int:
    """Return the exit code of a program that was stopped: 128 and the number of the signal."""
    numbers = {exception: number for number, exception in _EXCEPTIONS.items()}
    return 128 + numbers.get(type(stop), signal.SIGINT)


_WORDS: dict[type[KeyboardInterrupt], str] = {
    KeyboardInterrupt: "stopped by Ctrl-C",
    Terminated: "terminated",
    HungUp: "stopped because its terminal was closed",
}


def _handle(number: int, _frame: FrameType | None) -> None:
    exception = _EXCEPTIONS[number]
    if _State.ends_at_once:
        with suppress(OSError):
            os.write(2, f"gramstyle: {_WORDS[exception]}\n".encode())
        os._exit(128 + number)
    if _State.blocks:
        _State.held = _State.held or number
        return
    _State.received += 1
    if _State.received != 2:
        raise exception
