"""Test an adapter on random cases; of those that fail, find a small one.

Hypothesis draws the cases and shrinks the first that fails. The same seed gives the same cases with
the same versions of Hypothesis and gramstyle.
"""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from hypothesis import HealthCheck, Phase, Verbosity, given, seed, settings
from hypothesis.configuration import set_hypothesis_home_dir
from hypothesis.errors import Flaky

from gramstyle.conformance.cases import Case
from gramstyle.conformance.comparing import Adapter
from gramstyle.conformance.posed import DTYPES
from gramstyle.conformance.running import Report, Result, check
from gramstyle.conformance.strategies import cases
from gramstyle.errors import OptionError

# The most cases of a run.
MOST = 10_000_000
# Shrinking ends after so many cases, and in any case after so many seconds.
ATTEMPTS, SECONDS = 2000, 60.0


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """What a run of random cases found.

    Attributes
    ----------
    asked, seed
        How many cases were to be drawn, and from which seed.
    passed
        How many cases passed, before the first that failed.
    report
        The result of the smallest case that failed; if none did, of the case whose answer deviates
        most from the truth.
    smallest
        The smallest case that failed; None if none did.
    shrunk_from
        How many cases were tried to find it.

    Examples
    --------
    >>> from gramstyle.conformance.drawing import run_random
    >>> def wrong(image, case):
    ...     return 0.0, 0 * image, {}
    >>> drawn = run_random(wrong, count=100)
    >>> drawn.passed, drawn.smallest.network.names
    (0, ('conv1_1',))
    """

    asked: int
    seed: int
    passed: int
    report: Report
    smallest: Case | None = field(repr=False)
    shrunk_from: int = 0


def run_random(
    adapter: Adapter,
    *,
    count: int,
    seed: int = 0,
    dtype: str = "float64",
    seconds: float = SECONDS,
    callback: Callable[[int], None] | None = None,
) -> Drawn:
    """Test an adapter on random cases, up to the first that fails; then shrink that case.

    Parameters
    ----------
    adapter
        As for `gramstyle.conformance.running.run`.
    count
        The number of cases.
    seed
        A whole number from 0; the same number gives the same cases.
    dtype
        "float64" or "float32": the float type of the image, in which to compute.
    seconds
        The longest time for shrinking.
    callback
        Called with the number of cases that have passed, after each.

    Raises
    ------
    OptionError
        If the count, the seed or the dtype is none of these.

    Examples
    --------
    >>> from gramstyle.conformance.adapters.numpy_plain import value_and_grad
    >>> from gramstyle.conformance.drawing import run_random
    >>> drawn = run_random(value_and_grad, count=5, seed=1)
    >>> drawn.passed, drawn.smallest
    (5, None)
    """
    if not 1 <= count <= MOST:
        raise OptionError(f"--random must be 1 to {MOST} cases, not {count}")
    if seed < 0:
        raise OptionError(f"--seed must be 0 or more, not {seed}")
    if dtype not in DTYPES:
        raise OptionError(
            f"random cases are for {' and '.join(DTYPES)}, not for {dtype}, in which rounding "
            "decides too often; choose --dtype"
        )
    search = _Search(adapter, dtype, seconds, callback)
    _draw(search.test, count, seed, dtype)
    result = search.worst
    if search.smallest is not None:
        result = check(adapter, search.smallest, dtype=dtype)
        if result.passed:
            problem = "failed when it was drawn and passes when it is repeated"
            result = replace(result, problem=problem)
    return Drawn(
        asked=count,
        seed=seed,
        passed=search.passed,
        report=Report(dtype=dtype, results=() if result is None else (result,)),
        smallest=search.smallest,
        shrunk_from=search.attempts,
    )


class _CaseFailedError(Exception):
    """Tells Hypothesis that a case failed."""


class _EnoughError(BaseException):
    """Ends shrinking; Hypothesis does not take it for a failure of the case."""


@dataclass
class _Search:
    """What was found so far."""

    adapter: Adapter
    dtype: str
    seconds: float
    callback: Callable[[int], None] | None
    passed: int = 0
    worst: Result | None = None
    smallest: Case | None = None
    attempts: int = 0
    ends: float = 0.0

    def test(self, case: Case) -> None:
        """Test the adapter on a case."""
        if self.smallest is not None:
            self.attempts += 1
            if self.attempts > ATTEMPTS or time.monotonic() > self.ends:
                raise _EnoughError
        result = check(self.adapter, case, dtype=self.dtype, explained=False)
        if not result.passed:
            if self.smallest is None:
                self.ends = time.monotonic() + self.seconds
            # Of two equally large cases, the later one is the simpler one.
            if self.smallest is None or _size(case) <= _size(self.smallest):
                self.smallest = case
            raise _CaseFailedError
        if self.smallest is None:
            self.passed += 1
            if _deviation(result) >= _deviation(self.worst):
                self.worst = replace(result, case=f"random case {self.passed}", found=None)
            if self.callback is not None:
                self.callback(self.passed)


def _draw(test: Callable[[Case], None], count: int, start: int, dtype: str) -> None:
    """Call a test with random cases, and with smaller ones after it has failed."""
    # Hypothesis then writes no files into the working directory.
    set_hypothesis_home_dir(os.devnull)
    options = settings(
        max_examples=count,
        phases=(Phase.generate, Phase.shrink),
        database=None,
        deadline=None,
        derandomize=False,
        report_multiple_bugs=False,
        print_blob=False,
        suppress_health_check=list(HealthCheck),
        verbosity=Verbosity.quiet,
    )

    @seed(start)
    @options
    @given(cases(dtype=dtype))
    def each(case: Case) -> None:
        test(case)

    try:
        each()
    except (_CaseFailedError, _EnoughError, Flaky):
        pass
    finally:
        set_hypothesis_home_dir(None)


def _size(case: Case) -> tuple[int, ...]:
    """Return a measure of cases: layers, then terms, then numbers."""
    terms = case.objective.terms
    style = 0 if case.a is None else case.a.size
    weights = sum(layer.W.size for layer in case.layers if hasattr(layer, "W"))
    return len(case.layers), len(terms), case.x.size + style + weights


def _deviation(result: Result | None) -> float:
    worst = None if result is None else result.worst
    return -1.0 if worst is None else worst.relative
