"""The compiled loops of L-BFGS-B: equal to the plain ones, for any number of threads."""

import math
import sys
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest

from gramstyle.core.arrays import Array
from gramstyle.optimise import lbfgsb, scipy_lbfgsb
from gramstyle.optimise.lbfgsb import (
    PairsInMemory,
    PairsInRows,
    State,
    begin,
    loops,
    pairs_on_host,
    proceed,
    rows,
    step,
)
from gramstyle.optimise.lbfgsb.blocks import Gradient
from gramstyle.optimise.lbfgsb.loops import CompiledLoops, PlainLoops
from gramstyle.optimise.lbfgsb.model import NO_PRODUCTS
from optimise.objectives import At


class NaNFirst:
    """NumPy, except that new arrays begin with NaN: what is read before it is written shows."""

    def __getattr__(self, name: str) -> Any:
        return getattr(np, name)

    def empty(self, *arguments: Any) -> Array:
        return self._filled(np.empty(*arguments))

    def empty_like(self, array: Array) -> Array:
        return self._filled(np.empty_like(array))

    def _filled(self, array: Array) -> Array:
        if array.dtype.kind == "f":
            array.fill(np.nan)
        return array


@pytest.fixture(autouse=True)
def nan_in_new_arrays(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (loops, rows):
        monkeypatch.setattr(module, "np", NaNFirst())


class Coupled:
    """Σ h u²/2 + c u⁴/4 + neighbours' products, with minima outside the bounds for a third of u."""

    def __init__(self, n: int, condition: float = 1e3) -> None:
        rng = np.random.default_rng(n)
        self.h = rng.permutation(np.geomspace(1, condition, n))
        self.target = rng.uniform(-60, 320, n)
        self.start = rng.uniform(-20, 280, n).astype(np.float32)  # some at their bounds

    def __call__(self, x: Array) -> At:
        u = x.astype(np.float64) - self.target
        g = self.h * u + 1e-3 * u**3
        g[1:] += 0.3 * u[:-1]
        g[:-1] += 0.3 * u[1:]
        loss = np.sum(self.h * u**2) / 2 + 1e-3 * np.sum(u**4) / 4 + 0.3 * u[1:] @ u[:-1]
        return At(float(loss), g.astype(np.float32))


def with_pairs(n: int, k: int, rng: np.random.Generator, **more: Any) -> PairsInRows:
    """Return k pairs of a quadratic, after some that they have replaced."""
    pairs, h = PairsInRows(max(k, 1), **more), rng.uniform(0.5, 20, n)
    for _ in range(k + k // 2):
        s = rng.standard_normal(n)
        y = h * s + 0.2 * np.roll(s, 1) + 0.2 * np.roll(s, -1)
        pairs.append(n, [(slice(0, n), s, y)])
    return pairs


def at_bounds(n: int, share: float, rng: np.random.Generator) -> tuple[Array, Gradient]:
    """Return an x of which this share is at a bound, and a gradient of mixed signs."""
    x = rng.uniform(0, 255, n).astype(np.float32)
    x[rng.random(n) < share / 2] = 0
    x[rng.random(n) < share / 2] = 255
    return x, Gradient(rng.standard_normal(n).astype(np.float32) * 40, 0.37)


@pytest.mark.parametrize("n", [1, 2, 31, 1023, 1024, 1025, 40_007])
@pytest.mark.parametrize(("k", "share"), [(0, 0.1), (1, 0.0), (3, 0.1), (10, 0.4), (10, 0.95)])
def test_the_direction_is_that_of_the_plain_loops(n: int, k: int, share: float) -> None:
    rng = np.random.default_rng(n + k)
    pairs = with_pairs(n, k, rng, threads=2)
    x, g = at_bounds(n, share, rng)
    ours, plain = (
        kind(pairs).find_direction(x, g, NO_PRODUCTS) for kind in (CompiledLoops, PlainLoops)
    )
    if plain is None:
        assert ours is None
        return
    assert ours is not None
    assert ours.d.dtype == x.dtype
    # Sums in another order change d by less than float32's rounding of x, 1.5e-5 at 255, and k
    # pairs contradict each other where n is smaller than k, which amplifies that.
    np.testing.assert_allclose(ours.d, plain.d, rtol=0, atol=4e-5 if n > 2 * k else 0.3)
    if n > 2 * k:
        assert ours.slope == pytest.approx(plain.slope, rel=1e-6)
        assert ours.longest == pytest.approx(plain.longest, rel=1e-4)
    np.testing.assert_allclose(ours.products, plain.products, rtol=0, atol=1e-12 * n * 400)


def test_products_that_are_known_are_not_computed_again() -> None:
    rng = np.random.default_rng(1)
    pairs = with_pairs(300, 4, rng)
    x, g = at_bounds(300, 0.2, rng)
    over = CompiledLoops(pairs)
    whole = over.find_direction(x, g, NO_PRODUCTS)
    assert whole is not None
    known = np.ix_([0, 1, 2, 4, 5, 6], [0, 1, 2, 4, 5, 6])
    doctored = whole.products[known] * (1 + 1e-9)
    again = over.find_direction(x, g, doctored)
    assert again is not None
    np.testing.assert_array_equal(again.products[known], doctored)
    new = again.products[[3, 7]]
    # Sums of 300 products in one order.
    np.testing.assert_allclose(new, whole.products[[3, 7]], rtol=1e-12, atol=1e-9)


def test_pairs_without_curvature_give_no_direction() -> None:
    rng = np.random.default_rng(2)
    pairs, s = PairsInRows(2), rng.standard_normal(50)
    pairs.append(50, [(slice(0, 50), s, -s)])
    x, g = at_bounds(50, 0.1, rng)
    for kind in (CompiledLoops, PlainLoops):
        assert kind(pairs).find_direction(x, g, NO_PRODUCTS) is None


@pytest.mark.parametrize("n", [1, 1025, 40_007])
def test_the_other_loops_are_the_plain_ones(n: int) -> None:
    rng = np.random.default_rng(n)
    x, g = at_bounds(n, 0.2, rng)
    d, unscaled = rng.standard_normal((2, n)).astype(np.float32) * 30
    after_g = Gradient(unscaled, 0.37)
    found = {}
    for kind in (CompiledLoops, PlainLoops):
        pairs = PairsInRows(2, threads=3)
        over = kind(pairs)
        after = over.clipped_step(x, d, 0.7)
        over.append_pair(x, after, g, after_g)
        found[kind] = (after, *next(pairs.saved()), over.slope(g, d))
    ours, plain = found.values()
    for mine, theirs in zip(ours[:3], plain[:3], strict=True):
        np.testing.assert_array_equal(mine, theirs)
    assert after.min() >= 0
    assert after.max() <= 255
    # A sum of n products in another order, in float64.
    assert ours[3] == pytest.approx(plain[3], rel=1e-10)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_gradient_that_is_not_finite_shows_even_where_the_direction_is_0(bad: float) -> None:
    g = np.ones(5000, np.float32)
    g[4321] = bad
    slope = CompiledLoops(PairsInRows(1)).slope(Gradient(g, 2.0), np.zeros(5000, np.float32))
    assert not math.isfinite(slope)


# Whole minimisations


def minimised(n: int, pairs: Callable[[int], Any], iterations: int = 30) -> tuple[Any, list[float]]:
    objective, losses = Coupled(n), list[float]()
    found = lbfgsb.minimise(
        objective,
        objective.start,
        iterations=iterations,
        tolerance=0.0,
        history=6,
        pairs=pairs,
        callback=lambda iterate: losses.append(iterate.evaluation.loss),
    )
    return found, losses


@pytest.mark.parametrize("n", [2, 1023, 50_001])
def test_the_result_has_the_same_bits_with_any_number_of_threads(n: int) -> None:
    first, *others = (minimised(n, partial(PairsInRows, threads=t))[0] for t in (1, 2, 5))
    for other in others:
        np.testing.assert_array_equal(other.best.x, first.best.x)
        assert other.evaluations == first.evaluations


@pytest.mark.parametrize("n", [31, 1023, 50_001])
def test_a_minimisation_follows_the_plain_one_and_ends_as_low_as_scipy_s(n: int) -> None:
    ours, losses = minimised(n, PairsInRows)
    plain, plain_losses = minimised(n, PairsInMemory)
    # The same path up to rounding: float32's of x, over thirty iterations.
    np.testing.assert_allclose(losses, plain_losses, rtol=1e-5)
    assert ours.evaluations == plain.evaluations
    objective = Coupled(n)
    scipy = scipy_lbfgsb.minimise(
        objective, objective.start, iterations=30, tolerance=0.0, history=6
    )
    # Two paths to one minimum, which both nearly reach: from the start's loss, 1e-3 of the way.
    start = objective(np.clip(objective.start, 0, 255)).loss
    assert ours.best.evaluation.loss - scipy.best.evaluation.loss <= 1e-3 * (
        start - scipy.best.evaluation.loss
    )


def test_a_run_resumed_from_saved_pairs_is_bit_identical() -> None:
    objective = Coupled(3001)

    def on(state: State[At], iterations: int) -> State[At]:
        for _ in range(iterations):
            following = step(objective, state)
            assert following is not None
            state = following
        return state

    halfway = on(begin(objective, objective.start, pairs=PairsInRows(5, threads=2)), 9)
    rows = [(s.copy(), y.copy()) for s, y in halfway.pairs.saved()]
    read = PairsInRows(5)
    read.restore(rows)
    resumed = replace(halfway, x=halfway.x.copy(), pairs=read)
    ends = [proceed(objective, each, iterations=20, tolerance=0.0) for each in (halfway, resumed)]
    np.testing.assert_array_equal(ends[0].best.x, ends[1].best.x)
    assert ends[0].evaluations == ends[1].evaluations


def test_float64_and_gradients_in_any_order_of_memory_are_taken() -> None:
    objective = Coupled(999)

    def reversed_planes(x: Array) -> At:
        at = objective(x.reshape(-1))
        gradient = np.ascontiguousarray(at.gradient.reshape(3, 9, 37)[::-1])[::-1]
        return At(at.loss, gradient.astype(np.float64))

    start = objective.start.astype(np.float64).reshape(3, 9, 37)
    found = [
        lbfgsb.minimise(
            reversed_planes, start, iterations=10, tolerance=0.0, history=4, pairs=pairs
        )
        for pairs in (PairsInRows, PairsInMemory)
    ]
    assert found[0].best.x.dtype == np.float64
    # Sums in another order, over ten iterations with pairs in float32.
    np.testing.assert_allclose(found[0].best.x, found[1].best.x, rtol=0, atol=1e-4)


# The storage


def test_numba_and_a_history_of_at_most_64_pairs_choose_the_compiled_loops(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert isinstance(pairs_on_host(64, threads=2), PairsInRows)
    assert isinstance(pairs_on_host(65, threads=2), PairsInMemory)
    monkeypatch.delattr("gramstyle.optimise.lbfgsb.compiled", raising=False)
    monkeypatch.setitem(sys.modules, "gramstyle.optimise.lbfgsb.compiled", None)
    assert isinstance(pairs_on_host(10, threads=2), PairsInMemory)


def test_a_part_that_fails_ends_the_iteration() -> None:
    pairs = PairsInRows(2, threads=2)

    def failing(number: int) -> None:
        if number == 5:
            raise MemoryError("no room")

    with pytest.raises(MemoryError, match="no room"):
        pairs.for_each(failing, 9)


class Bowl:
    """A bowl that needs the memory of its gradient, and of one temporary vector."""

    def __call__(self, x: Array) -> At:
        g = x - np.float32(100)
        return At(float(np.vdot(g, g)) / 2, g)


def test_an_iteration_needs_no_more_vectors_than_the_plain_loops(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.undo()  # arrays begin as they are
    n, history, vector = 2_000_000, 3, 8e6
    x0, peaks = np.full(n, 128.0, np.float32), list[float]()
    x0[::7] = 3
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        state = begin(Bowl(), x0, pairs=PairsInRows(history))
        for _ in range(2):
            tracemalloc.reset_peak()
            state = step(Bowl(), state) or state
            peaks.append((tracemalloc.get_traced_memory()[1] - before) / vector)
    finally:
        tracemalloc.stop()
    # Six vectors, all pairs, and a tenth of a vector for the parts' sums.
    assert max(peaks) <= 6 + 2 * history + 0.1
