"""The signals that stop a program: raised as exceptions, delayed while a file is written."""

import os
import signal
import sys
import threading
import time
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
_NUMBERS: dict[type[BaseException], int] = {
    exception: number for number, exception in _EXCEPTIONS.items()
}


class _State:
    """The present action of signals; the handlers run in the main thread only."""

    ends_at_once = False
    blocks = 0
    held: int | None = None
    received = 0
    discarded: int | None = None


# How long to wait before a discarded exception is raised again, in seconds.
_PAUSE = 0.01


@contextmanager
def stop_signals(*, until_exit: bool) -> Iterator[None]:
    """Raise SIGINT, SIGTERM and SIGHUP as exceptions during the block.

    A signal that is ignored at the start stays ignored, as nohup and shells expect. A second signal
    has no effect, so that the work that the first one started is completed; a third one is raised
    again. Python discards an exception in a destructor or in a callback of the garbage collector;
    there, the signal is raised again a moment later. In a thread other than the main one, this
    function does nothing.

    Parameters
    ----------
    until_exit
        Whether the process ends after the block. The signals then end it at once: Python's own
        handler of Ctrl-C would print a traceback while the interpreter ends.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    _State.blocks, _State.held, _State.received, _State.discarded = 0, None, 0, None
    before = {
        number: signal.signal(number, _handle)
        for number in _EXCEPTIONS
        if signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler)
    }
    try:
        with _no_signal_discarded(until_exit=until_exit):
            yield
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if until_exit else handler)


@contextmanager
def _no_signal_discarded(*, until_exit: bool) -> Iterator[None]:
    """Raise a signal again whose exception Python discards during the block.

    After a signal, report no exception of a destructor: the signal may have left its object half
    made.
    """
    report, repeating = sys.unraisablehook, []

    def unraisable(discarded: "sys.UnraisableHookArgs") -> None:
        number = _NUMBERS.get(discarded.exc_type)
        if number is None:
            if not _State.received:
                report(discarded)
            return
        _State.blocks += 1  # Python would discard an exception here too
        _State.discarded = number
        repeating.append(threading.Thread(target=_repeat, args=[number], daemon=True))
        repeating[-1].start()
        _State.blocks -= 1

    sys.unraisablehook = unraisable
    try:
        yield
    finally:
        if not until_exit:
            sys.unraisablehook = report
        with suppress(KeyboardInterrupt), held_back():
            _State.discarded = None
            for thread in repeating:
                thread.join()


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
            _State.held = _State.discarded = None
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
    return 128 + _NUMBERS.get(type(stop), signal.SIGINT)


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
    if _State.discarded is None:
        _State.received += 1
        if _State.received == 2:
            return
    _State.held = _State.discarded = None
    raise exception


def _repeat(number: int) -> None:
    """Send the main thread a signal until its exception is raised."""
    while _State.discarded is not None:
        time.sleep(_PAUSE)
        if _State.discarded is not None:
            _send_main_thread(number)


def _send_main_thread(number: int) -> None:
    if hasattr(signal, "pthread_kill"):
        # Only a real signal ends a system call in which the thread waits.
        signal.pthread_kill(threading.main_thread().ident or 0, number)
    else:  # Windows
        signal.raise_signal(number)
