"""How often an adapter is called for its rate, with a clock that the test moves."""

from types import SimpleNamespace
from typing import Any

import pytest

from conformance_cases import CASES, right
from gramstyle.conformance import Case, timing
from gramstyle.conformance.reports.reporting import table
from gramstyle.conformance.running import run
from gramstyle.conformance.timing import LEAST, MOST, rate_of
from gramstyle.core.arrays import Array

CASE = CASES["relu"]


class Clock:
    """A clock that stands still unless an adapter moves it."""

    now = 0.0

    def perf_counter(self) -> float:
        return self.now


class Adapter:
    """Takes these times, the last of them again and again."""

    def __init__(self, clock: Clock, *times: float, own: float | None = None) -> None:
        self.calls, self.seconds = 0, own
        self._clock, self._times = clock, times

    def __call__(self, image: Array, case: Case) -> Any:
        self._clock.now += self._times[min(self.calls, len(self._times) - 1)]
        self.calls += 1
        return right(image, case)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(timing, "time", SimpleNamespace(perf_counter=clock.perf_counter))
    return clock


def test_the_rate_is_that_of_the_median_call_after_a_warm_up(clock: Clock) -> None:
    adapter = Adapter(clock, 1000.0, 0.5, 0.25, 100.0)
    assert rate_of(adapter, CASE, "float64") == 2.0
    assert adapter.calls == 1 + LEAST


def test_a_fast_adapter_is_called_for_a_quarter_of_a_second_at_most_so_often(clock: Clock) -> None:
    adapter = Adapter(clock, 1 / 64)
    assert rate_of(adapter, CASE, "float64") == 64.0
    assert 16 <= adapter.calls <= 19
    faster = Adapter(clock, 1e-6)
    assert rate_of(faster, CASE, "float64") == pytest.approx(1e6)
    assert faster.calls == 1 + MOST


def test_the_time_that_an_adapter_measured_itself_counts(clock: Clock) -> None:
    assert rate_of(Adapter(clock, 1.0, own=0.125), CASE, "float64") == 8.0


def test_an_adapter_that_raises_on_the_way_has_no_rate(clock: Clock) -> None:
    calls = []

    def adapter(image: Array, case: Case) -> Any:
        calls.append(image)
        if len(calls) > 2:
            raise SystemExit
        return right(image, case)

    assert rate_of(adapter, CASE, "float64") is None
    assert rate_of(Adapter(clock, 0.0), CASE, "float64") is None  # too fast for the clock


def test_the_table_of_a_timed_run_shows_the_rates(clock: Clock) -> None:
    pair = [CASES["relu"], CASES["convolution"]]
    report = run(Adapter(clock, 0.5), pair, dtype="float64", timed=True)
    header, *lines = table(report).splitlines()
    assert header.split()[-2:] == ["evaluations/s", "verdict"]
    assert [line.split()[-2] for line in lines] == ["2.00", "2.00"]
    assert "evaluations" not in table(run(right, pair, dtype="float64"))
