"""SciPy's L-BFGS-B, called through its core and through its public function: the same points."""

import sys
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import scipy.optimize

from gramstyle.core.arrays import Array
from gramstyle.optimise import scipy_driver
from gramstyle.optimise.scipy_driver import Driver, by_core, by_function, core_works, driver
from gramstyle.optimise.scipy_lbfgsb import minimise
from optimise.objectives import Quadratic

Told = list[tuple[str, bytes]]

core = pytest.mark.skipif(
    not hasattr(scipy.optimize, "_lbfgsb")
    or scipy.optimize._lbfgsb.setulb.__doc__ != scipy_driver.SIGNATURE,
    reason="this SciPy has another core",
)


@pytest.fixture(autouse=True)
def checked_anew() -> Iterator[None]:
    """Check the core in each test, as a new process would."""
    core_works.cache_clear()
    yield
    core_works.cache_clear()


def bending(n: int, seed: int) -> Callable[[Array, Array], float]:
    """A function whose line searches take several evaluations, with minima outside the bounds."""
    rng = np.random.default_rng(seed)
    targets, weights = rng.uniform(-90, 340, n), np.geomspace(1e-2, 1e2, n)

    def evaluate(x: Array, g: Array) -> float:
        u = (x - targets) / 30
        g[:] = weights * (4 * u**3 - 6 * u - 15 * np.sin(5 * u)) / 30
        return float(np.sum(weights * (u**4 - 3 * u**2 + 3 * np.cos(5 * u))))

    return evaluate


def told(by: Driver, function: Callable[[Array, Array], float], n: int, **more: Any) -> Told:
    """Return all that a driver calls, with the points, and how it ends."""
    seen: Told = []

    def evaluate(x: Array, g: Array) -> float:
        seen.append(("evaluate", x.tobytes()))
        return function(x, g)

    def after_iteration() -> bool:
        seen.append(("iteration", b""))
        stop = more.get("stop_after")
        return stop is not None and sum(word == "iteration" for word, _ in seen) == stop

    end = by(
        evaluate,
        np.random.default_rng(n).uniform(0, 255, n),
        bounds=(0.0, 255.0),
        history=more.get("history", 10),
        iterations=more.get("iterations", 60),
        evaluations=more.get("evaluations", 10_000),
        after_iteration=after_iteration,
    )
    return [*seen, (end, b"")]


def wrong_gradient(x: Array, g: Array) -> float:
    """A gradient that points uphill after a while, so that line searches fail."""
    g[:] = 2 * (x - 100.0) * (1 if np.abs(x - 100).max() > 60 else -1)
    return float(np.sum((x - 100.0) ** 2))


def least_at_a_bound(x: Array, g: Array) -> float:
    """A function whose minimum in the box is at a corner, where the projected gradient is 0.

    Elsewhere, the processor's last bits decide between the end of progress and a failed search.
    """
    g[:] = 2 * (x - 300.0)
    return float(np.sum((x - 300.0) ** 2))


@core
@pytest.mark.parametrize("n", [1, 2, 7, 61, 1003])
@pytest.mark.parametrize("history", [1, 3, 10])
def test_both_drivers_visit_the_same_points_to_the_last_bit(n: int, history: int) -> None:
    function = bending(n, seed=n + history)
    ours = told(by_core, function, n, history=history)
    assert ours == told(by_function, function, n, history=history)
    last = np.frombuffer([point for word, point in ours if word == "evaluate"][-1])
    assert n < 7 or ((last <= 0) | (last >= 255)).any()  # bounds take part


@core
@pytest.mark.parametrize(
    ("function", "more", "end"),
    [
        (bending(61, 0), {"iterations": 7}, "stop"),
        (bending(61, 0), {"stop_after": 4}, "stop"),
        (bending(61, 0), {"evaluations": 9}, "stop"),
        (least_at_a_bound, {"iterations": 5000}, "convergence"),
        (wrong_gradient, {}, "abnormal"),
    ],
    ids=["iterations", "callback", "evaluations", "convergence", "abnormal"],
)
def test_both_drivers_end_in_the_same_way(
    function: Callable[[Array, Array], float], more: dict[str, int], end: str
) -> None:
    ours = told(by_core, function, 61, **more)
    assert ours == told(by_function, function, 61, **more)
    assert ours[-1][0] == end


@pytest.mark.parametrize("by", [pytest.param(by_core, marks=core), by_function])
def test_an_error_in_the_function_passes_through(by: Driver) -> None:
    calls = 0

    def failing(x: Array, g: Array) -> float:
        nonlocal calls
        calls += 1
        if calls == 5:
            raise OSError("the disk is full")
        return bending(9, 0)(x, g)

    with pytest.raises(OSError, match="the disk is full"):
        told(by, failing, 9)


# The check of the core


@core
def test_the_core_of_this_scipy_is_used() -> None:
    assert driver() is by_core


def there_is_no_core(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr("scipy.optimize._lbfgsb")
    monkeypatch.setitem(sys.modules, "scipy.optimize._lbfgsb", None)


def there_is_no_setulb(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr("scipy.optimize._lbfgsb.setulb")


class Changed:
    """A core that does something else after a number of calls."""

    def __init__(self, calls: int, change: Callable[..., Any], signature: str) -> None:
        self.__doc__ = signature
        self.plain, self.left, self.change = scipy.optimize._lbfgsb.setulb, calls, change

    def __call__(self, *arguments: Any) -> None:
        self.left -= 1
        if self.left < 0:
            self.change(*arguments)
        self.plain(*arguments)


def it_raises(monkeypatch: pytest.MonkeyPatch) -> None:
    def change(*_: Any) -> None:
        raise TypeError("function takes exactly 18 arguments")

    replace_core(monkeypatch, Changed(0, change, scipy_driver.SIGNATURE))


def it_takes_other_arguments(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: Any) -> None:
        raise AssertionError("it may write outside its arrays")

    replace_core(monkeypatch, Changed(0, never, "setulb(m,x,l,u,nbd,f,g,pgtol,wa)"))


def its_last_bits_differ(monkeypatch: pytest.MonkeyPatch) -> None:
    def change(_m: int, x: Array, *_: Any) -> None:
        x[7] = np.nextafter(x[7], 255.0)

    replace_core(monkeypatch, Changed(12, change, scipy_driver.SIGNATURE))


def replace_core(monkeypatch: pytest.MonkeyPatch, core: Any) -> None:
    """Replace the core for `by_core` alone: the public function still works."""
    monkeypatch.setattr(scipy_driver, "_core", lambda: core)


@core
@pytest.mark.parametrize(
    "change",
    [
        there_is_no_core,
        there_is_no_setulb,
        it_raises,
        it_takes_other_arguments,
        its_last_bits_differ,
    ],
)
def test_the_public_function_is_called_if_the_core_is_not_what_it_was(
    change: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    public = minimised(Quadratic())
    core_works.cache_clear()
    change(monkeypatch)
    assert driver() is by_function
    if change in (there_is_no_core, there_is_no_setulb):
        return  # the public function of this SciPy needs it too
    np.testing.assert_array_equal(minimised(Quadratic()), public)


def minimised(objective: Quadratic) -> Array:
    found = minimise(objective, np.full(60, 128.0), iterations=25, tolerance=0.0, history=10)
    return found.best.x


def test_no_driver_is_called_with_more_than_it_needs() -> None:
    """Objective and iterate share one array, which is not changed later."""
    given: list[Array] = []
    objective = Quadratic()

    def recording(x: Array) -> Any:
        given.append(x)
        return objective(x)

    seen: list[Array] = []
    minimise(
        recording, np.full(60, 128.0), iterations=5, tolerance=0.0, history=10,
        callback=lambda iterate: seen.append(iterate.x),
    )  # fmt: skip
    assert all(any(x is each for each in given) for x in seen)
    for x, call in zip(given, objective.calls, strict=True):
        np.testing.assert_array_equal(x, call)
