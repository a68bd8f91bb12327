"""Signals that stop the program."""

import gc
import signal
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest

from gramstyle.errors import GramstyleError
from gramstyle.system.signals import (
    HungUp,
    Terminated,
    exit_code,
    held_back,
    stop_message,
    stop_signals,
)

NUMBERS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]


@pytest.fixture(autouse=True)
def own_handlers() -> Iterator[None]:
    """Begin with the handlers of a program that a shell has started, and restore the others."""
    before = {number: signal.getsignal(number) for number in NUMBERS}
    for number in NUMBERS:
        default = number == signal.SIGINT
        signal.signal(number, signal.default_int_handler if default else signal.SIG_DFL)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize(
    ("number", "code", "word"),
    [(signal.SIGINT, 130, "Ctrl-C"), (signal.SIGTERM, 143, "terminated"),
     (signal.SIGHUP, 129, "terminal")],
)  # fmt: skip
def test_each_signal_has_its_exit_code_and_its_words(number: int, code: int, word: str) -> None:
    with pytest.raises(KeyboardInterrupt) as stop, stop_signals(until_exit=False):
        signal.raise_signal(number)
    assert exit_code(stop.value) == code
    assert word in stop_message(stop.value)


@pytest.mark.parametrize("number", NUMBERS)
def test_a_signal_that_is_ignored_at_the_start_stays_ignored(number: int) -> None:
    signal.signal(number, signal.SIG_IGN)
    with stop_signals(until_exit=True):
        signal.raise_signal(number)
    assert signal.getsignal(number) is signal.SIG_IGN


def test_the_handlers_are_restored() -> None:
    with stop_signals(until_exit=False):
        assert signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_signal_is_held_back_until_the_end_of_the_outermost_block() -> None:
    written = []

    def write() -> None:
        with held_back():
            with held_back():
                signal.raise_signal(signal.SIGTERM)
                signal.raise_signal(signal.SIGHUP)
            written.append("whole")

    with stop_signals(until_exit=False), pytest.raises(Terminated):
        write()
    assert written == ["whole"]


@pytest.mark.parametrize(
    ("error", "message"),
    [(GramstyleError("the disk is full"), "the disk is full"), (OSError(), "")],
)
def test_the_message_of_an_error_is_kept_by_the_signal_that_was_held_back(
    error: Exception, message: str
) -> None:
    def fail() -> None:
        with held_back():
            signal.raise_signal(signal.SIGINT)
            raise error

    with stop_signals(until_exit=False):
        with pytest.raises(KeyboardInterrupt, match=f"^{message}$"):
            fail()
        with held_back():  # the signal has been raised, once
            pass


def test_the_second_signal_has_no_effect_and_the_third_one_stops_again() -> None:
    with stop_signals(until_exit=False):
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        with pytest.raises(HungUp):
            signal.raise_signal(signal.SIGHUP)


class Deleted:
    """Can be referred to weakly."""


class Struck(Deleted):
    """A signal arrives while an instance is deleted."""

    def __del__(self) -> None:
        signal.raise_signal(signal.SIGTERM)


def watched() -> Deleted:
    """Return an object; a signal arrives in a callback after it is deleted."""
    target = Deleted()
    weakref.finalize(target, signal.raise_signal, signal.SIGTERM)
    return target


@pytest.mark.parametrize("make", [Struck, watched])
def test_a_signal_is_raised_although_python_discards_exceptions_of_destructors_and_callbacks(
    make: Callable[[], Deleted], capfd: pytest.CaptureFixture[str]
) -> None:
    def work() -> None:
        make()
        time.sleep(300)

    with stop_signals(until_exit=False):
        with pytest.raises(Terminated):
            work()
        signal.raise_signal(signal.SIGINT)  # still the second one, without an effect
        with pytest.raises(HungUp):
            signal.raise_signal(signal.SIGHUP)
    assert capfd.readouterr().err == ""


class HalfMade:
    """A signal arrives before an instance has what its destructor needs."""

    def __init__(self) -> None:
        signal.raise_signal(signal.SIGINT)
        self.name = ""

    def __del__(self) -> None:
        assert self.name == ""


def test_an_object_that_a_signal_left_half_made_is_deleted_without_a_report(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    reported: list[object] = []
    monkeypatch.setattr(sys, "unraisablehook", reported.append)
    with stop_signals(until_exit=False):
        with suppress(KeyboardInterrupt):
            HalfMade()
        gc.collect()
    assert reported == []


def test_other_errors_of_destructors_are_reported_as_before(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    reported: list[object] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda problem: reported.append(problem.exc_type))

    class Broken:
        def __del__(self) -> None:
            raise ValueError

    with stop_signals(until_exit=False):
        Broken()
    assert reported == [ValueError]


def test_in_another_thread_nothing_is_changed() -> None:
    seen = []

    def work() -> None:
        with stop_signals(until_exit=True), held_back():
            seen.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [signal.SIG_DFL]
