"""The time of an iteration, from which the time left is computed."""

import time

import pytest

from gramstyle.core.evaluation import LossValues
from gramstyle.run.progress import History, ScaleStart

LOSSES = LossValues(loss=1.0, terms={}, layers={})


class Clock:
    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        monkeypatch.setattr(time, "perf_counter", lambda: self.now)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def start_at(history: History) -> ScaleStart:
    return ScaleStart(
        iteration=history.iteration,
        evaluations=history.losses[-1].evaluations if history.losses else 0,
        seconds=history.seconds if history.losses else 0.0,
        history=10,
    )


def iterations(history: History, clock: Clock, scale: int, start: ScaleStart, *each: float) -> None:
    for number, seconds in enumerate(each, start=1):
        clock.now += seconds
        history.add(scale, start, number, number + 1, LOSSES)


def test_the_warm_up_is_left_out_from_the_first_iteration_on(clock: Clock) -> None:
    history = History()
    start = start_at(history)
    clock.now += 60  # the engine is opened, kernels are compiled, the start is evaluated
    history.add(0, start, 0, 1, LOSSES)
    iterations(history, clock, 0, start, 2.0)
    assert history.seconds_per_iteration(start) == pytest.approx(2)
    clock.now += 4
    history.add(0, start, 2, 3, LOSSES)
    assert history.seconds_per_iteration(start) == pytest.approx(3)


def test_a_later_scale_begins_with_the_time_of_its_evaluations(clock: Clock) -> None:
    history = History()
    first = start_at(history)
    history.add(0, first, 0, 1, LOSSES)
    iterations(history, clock, 0, first, 1.0, 1.0)
    second = start_at(history)
    clock.now += 4  # the start, which has no entry
    iterations(history, clock, 1, second, 4.0)
    assert history.seconds_per_iteration(second) == pytest.approx(4)
    clock.now += 10
    history.add(1, second, 2, 3, LOSSES)
    assert history.seconds_per_iteration(second) == pytest.approx(10)


def test_a_resumed_run_leaves_out_the_time_until_its_first_iteration(clock: Clock) -> None:
    before = History()
    start = start_at(before)
    before.add(0, start, 0, 1, LOSSES)
    iterations(before, clock, 0, start, 1.0, 1.0)
    resumed = History(before.losses, seconds=before.seconds)
    clock.now += 50
    resumed.add(0, start, 3, 4, LOSSES)
    clock.now += 2
    resumed.add(0, start, 4, 5, LOSSES)
    assert resumed.seconds_per_iteration(start) == pytest.approx(2)
