"""Both optimisers on functions whose minimum is known, and what is particular to SciPy's."""

import math
from typing import Any

import numpy as np
import pytest

from gramstyle.core.arrays import Array
from gramstyle.errors import NonFiniteError
from gramstyle.optimise import lbfgsb, scipy_lbfgsb
from gramstyle.optimise.interface import Iterate
from optimise.objectives import At, Quadratic

SHAPE = (3, 4, 5)
START = np.full(SHAPE, 128.0)


@pytest.fixture(params=[scipy_lbfgsb.minimise, lbfgsb.minimise], ids=["scipy", "lbfgsb"])
def run(request: pytest.FixtureRequest) -> Any:
    def run(objective: Any, x0: Array, iterations: int = 200, **options: Any) -> Any:
        settings = {"tolerance": 0.0, "history": 10, **options}
        return request.param(objective, x0, iterations=iterations, **settings)

    return run


def test_a_bounded_quadratic_is_solved_at_any_scale_of_the_loss(run: Any) -> None:
    for n, scale in ((1, 1.0), (2, 1.0), (60, 1e-9), (60, 1e13), (200, 1.0)):
        objective = Quadratic(n, condition=1e2, scale=scale)
        x = run(objective, np.full(n, 128.0), iterations=300).best.x
        g = objective(x).gradient
        # At a minimum in a box, a clipped step along −gradient returns to the same point. Within
        # 1e-5 grey levels the loss, about 1e6, is constant to its sixteenth digit.
        step_back = np.clip(x - g / np.linalg.norm(objective.A, 2), 0, 255) - x
        assert np.abs(step_back).max() < 1e-5


def test_no_evaluation_is_ever_outside_0_to_255(run: Any) -> None:
    objective = Quadratic()
    run(objective, np.full(60, 300.0))
    assert min(call.min() for call in objective.calls) >= 0
    assert max(call.max() for call in objective.calls) <= 255


def test_the_first_step_moves_the_pixels_by_one_grey_level_at_any_scale(run: Any) -> None:
    for scale in (1e-9, 1e13):
        objective = Quadratic(scale=scale)
        run(objective, START, iterations=1)
        moved = objective.calls[1] - objective.calls[0]
        # The first step is −g, scaled to this length; only rounding remains.
        assert np.sqrt(np.mean(moved**2)) == pytest.approx(1.0, rel=1e-9)


def test_every_evaluation_is_counted_and_the_start_is_evaluated_once(run: Any) -> None:
    objective = Quadratic()
    result = run(objective, START, iterations=5)
    assert len([call for call in objective.calls if (call == 128).all()]) == 1
    assert result.evaluations == len(objective.calls)


def test_each_iterate_has_its_own_evaluation_and_a_lower_loss(run: Any) -> None:
    seen = list[Iterate[At]]()
    copies = list[Array]()

    def callback(iterate: Iterate[At]) -> None:
        seen.append(iterate)
        copies.append(iterate.x.copy())

    result = run(Quadratic(), START, iterations=20, callback=callback)
    assert [iterate.iteration for iterate in seen] == list(range(1, 21))
    losses = [iterate.evaluation.loss for iterate in seen]
    assert losses == sorted(losses, reverse=True)
    for iterate, copy in zip(seen, copies, strict=True):
        assert iterate.x.shape == SHAPE
        assert Quadratic()(iterate.x).loss == iterate.evaluation.loss
        np.testing.assert_array_equal(iterate.x, copy)  # not modified after the callback
    assert result.best == seen[-1]


@pytest.mark.parametrize(
    ("options", "iterations", "reason"),
    [
        ({"iterations": 0}, {0}, "no iterations asked for"),
        ({"iterations": 5}, {5}, "all iterations done"),
        ({"callback": lambda it: it.iteration == 3}, {3}, "stopped by the caller"),
        (
            {"tolerance": 0.001},
            range(11, 100),
            "the loss fell by less than 0.001 of itself in 10 iterations",
        ),
        ({"iterations": 5000}, range(20, 5000), "L-BFGS-B found no better image"),
    ],
)
def test_a_run_ends_for_the_reason_that_it_gives(
    options: Any, iterations: Any, reason: str, run: Any
) -> None:
    result = run(Quadratic(), START, **options)
    assert result.reason.startswith(reason)
    assert result.iterations in iterations


def test_a_converged_run_ends_early_with_nearly_the_same_loss(run: Any) -> None:
    # The target is partly out of bounds, so the loss stays above 0.
    patient = run(Quadratic(), START, tolerance=0.0, iterations=150)
    early = run(Quadratic(), START, tolerance=0.001, iterations=150)
    assert 10 < early.iterations < patient.iterations
    assert early.best.evaluation.loss == pytest.approx(patient.best.evaluation.loss, rel=0.001)


def test_a_start_with_a_zero_gradient_is_returned_at_once(run: Any) -> None:
    result = run(lambda x: At(7.0, np.zeros_like(x)), np.full((2, 2), 100.0))
    assert (result.iterations, result.evaluations, result.best.iteration) == (0, 1, 0)
    assert result.reason == "the gradient is zero at the start"


@pytest.mark.parametrize("where", ["loss", "gradient"])
def test_a_value_that_is_not_finite_ends_the_run_after_the_last_finite_iterate(
    where: str, run: Any
) -> None:
    class Breaking(Quadratic):
        def __call__(self, x: Array) -> At:
            at = super().__call__(x)
            if len(self.calls) <= 6:
                return at
            # An infinity at a bound, where the step is 0, must be found too.
            bad = np.where(x == x.min(), np.inf, at.gradient)
            return At(math.nan, at.gradient) if where == "loss" else At(at.loss, bad)

    seen = list[Iterate[At]]()
    with pytest.raises(NonFiniteError):
        run(Breaking(), START, callback=seen.append)
    assert seen
    assert all(np.isfinite(iterate.evaluation.loss) for iterate in seen)
    for bad in (At(math.inf, START), At(1.0, np.full(SHAPE, np.nan))):
        with pytest.raises(NonFiniteError, match="start"):
            run(lambda _, bad=bad: bad, START)


def test_the_best_iterate_is_returned_even_if_a_later_one_is_worse(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    target = np.linspace(0.0, 255.0, 60)

    def bowl(x: Array) -> At:
        return At(float(np.sum((x - target) ** 2)), 2 * (x - target))

    def wandering(evaluate: Any, start: Array, *, after_iteration: Any, **_options: Any) -> str:
        """An optimiser that moves towards the target and then away from it."""
        evaluate(start, np.empty(60))
        for share in (0.5, 0.9, 0.2):
            evaluate(start + share * (target - start), np.empty(60))
            after_iteration()
        return "wandered"

    monkeypatch.setattr(scipy_lbfgsb, "driver", lambda: wandering)
    result = scipy_lbfgsb.minimise(
        bowl, np.full(60, 128.0), iterations=9, tolerance=0.0, history=10
    )
    assert (result.best.iteration, result.iterations) == (2, 3)
    assert result.reason == "L-BFGS-B found no better image (wandered)"
