"""L-BFGS-B on functions whose minimum is known."""

from dataclasses import dataclass

import numpy as np
import pytest
from scipy.optimize import OptimizeResult

from gramstyle.core.arrays import Array
from gramstyle.errors import NonFiniteError
from gramstyle.optimise import scipy_lbfgsb as optimise
from gramstyle.optimise.scipy_lbfgsb import Iterate, minimise


@dataclass(frozen=True)
class Bowl:
    """½ Σ c (x − target)² at one x."""

    loss: float
    gradient: Array


class Objective:
    """A bowl, elongated and of an awkward scale, that counts its evaluations."""

    def __init__(self, target: Array, scale: float = 1e13) -> None:
        self.target = target
        self.curvature = scale * np.linspace(1, 50, target.size).reshape(target.shape)
        self.calls: list[Array] = []

    def __call__(self, x: Array) -> Bowl:
        self.calls.append(x.copy())
        difference = x - self.target
        loss = 0.5 * float(np.sum(self.curvature * difference**2))
        return Bowl(loss, self.curvature * difference)


@pytest.fixture
def target(rng: np.random.Generator) -> Array:
    return rng.uniform(-100, 355, (3, 4, 5))  # partly outside what a pixel can be


def run(objective: Objective, x0: Array, iterations: int = 200, **options: object):
    settings = {"tolerance": 0.0, "memory": 10, **options}
    return minimise(objective, x0, iterations=iterations, **settings)  # type: ignore[arg-type]


def test_the_minimum_inside_0_to_255_is_found_whatever_the_loss_s_scale(target: Array) -> None:
    for scale in (1e-9, 1.0, 1e13):
        found = run(Objective(target, scale), np.full(target.shape, 128.0)).best.x
        # A quadratic is solved to the optimiser's own precision.
        np.testing.assert_allclose(found, np.clip(target, 0, 255), rtol=0, atol=1e-4)


def test_no_evaluation_is_ever_outside_0_to_255(target: Array) -> None:
    objective = Objective(target)
    run(objective, np.full(target.shape, 300.0))
    assert min(call.min() for call in objective.calls) >= 0
    assert max(call.max() for call in objective.calls) <= 255


def test_the_first_step_moves_the_pixels_by_one_grey_level(target: Array) -> None:
    for scale in (1e-9, 1e13):
        objective = Objective(target, scale)
        run(objective, np.full(target.shape, 128.0), iterations=1)
        step = objective.calls[1] - objective.calls[0]
        # SciPy's line search tries the step −g in full first.
        assert np.sqrt(np.mean(step**2)) == pytest.approx(1.0, rel=1e-9)


def test_the_start_is_evaluated_once(target: Array) -> None:
    objective = Objective(target)
    result = run(objective, np.full(target.shape, 128.0), iterations=5)
    starts = [call for call in objective.calls if (call == 128).all()]
    assert len(starts) == 1
    assert result.evaluations == len(objective.calls)


def test_each_iterate_is_a_copy_with_its_own_evaluation(target: Array) -> None:
    objective, seen = Objective(target), list[Iterate[Bowl]]()
    run(objective, np.full(target.shape, 128.0), iterations=12, callback=seen.append)
    assert [iterate.iteration for iterate in seen] == list(range(1, 13))
    for iterate in seen:
        assert iterate.x.shape == target.shape
        assert Objective(target)(iterate.x).loss == iterate.evaluation.loss


def test_the_losses_of_the_iterates_fall(target: Array) -> None:
    seen = list[Iterate[Bowl]]()
    run(Objective(target), np.full(target.shape, 128.0), iterations=20, callback=seen.append)
    losses = [iterate.evaluation.loss for iterate in seen]
    assert losses == sorted(losses, reverse=True)


def test_the_best_iterate_is_returned_even_if_a_later_one_is_worse(
    target: Array, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wandering(fun, start, *, callback, **_options):
        """An optimiser that goes towards the target and then away from it."""
        fun(start)
        for share in (0.5, 0.9, 0.2):
            x = start + share * (target.ravel() - start)
            fun(x)
            callback(OptimizeResult(x=x))
        return start, 0.0, {"task": "wandered"}

    monkeypatch.setattr(optimise, "fmin_l_bfgs_b", wandering)
    result = run(Objective(target), np.full(target.shape, 128.0), iterations=9)
    assert (result.best.iteration, result.iterations) == (2, 3)
    assert result.reason == "L-BFGS-B found no better image (wandered)"


def test_a_callback_that_returns_true_ends_the_run(target: Array) -> None:
    result = run(
        Objective(target), np.full(target.shape, 128.0), callback=lambda it: it.iteration == 3
    )
    assert (result.iterations, result.reason) == (3, "stopped by the caller")


def test_a_run_that_no_longer_gains_ends_early_and_says_so(target: Array) -> None:
    start = np.full(target.shape, 128.0)  # parts of the target are out of reach: the loss stays
    patient = run(Objective(target), start, tolerance=0.0, iterations=60)
    early = run(Objective(target), start, tolerance=0.001, iterations=60)
    assert 10 < early.iterations < patient.iterations
    assert early.best.evaluation.loss == pytest.approx(patient.best.evaluation.loss, rel=0.001)
    assert "less than 0.001 of itself in 10 iterations" in early.reason


def test_a_start_at_rest_is_returned_at_once() -> None:
    target = np.full((3, 2, 2), 100.0)
    result = run(Objective(target), target)
    assert (result.iterations, result.best.iteration) == (0, 0)
    assert "gradient is zero" in result.reason


def test_a_loss_that_is_not_finite_stops_the_run_after_the_last_good_iterate(
    target: Array,
) -> None:
    class Breaking(Objective):
        def __call__(self, x: Array) -> Bowl:
            bowl = super().__call__(x)
            return Bowl(float("nan"), bowl.gradient) if len(self.calls) > 6 else bowl

    seen = list[Iterate[Bowl]]()
    with pytest.raises(NonFiniteError):
        run(Breaking(target), np.full(target.shape, 128.0), callback=seen.append)
    assert seen
    assert all(np.isfinite(iterate.evaluation.loss) for iterate in seen)


def test_a_start_that_is_not_finite_is_refused(target: Array) -> None:
    with pytest.raises(NonFiniteError, match="start"):
        minimise(
            lambda x: Bowl(float("inf"), x),
            np.full(target.shape, 1.0),
            iterations=3,
            tolerance=0.0,
            memory=10,
        )
