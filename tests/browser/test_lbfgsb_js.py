"""lbfgsb.js under Node.js, against SciPy's L-BFGS-B and gramstyle's own."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.optimize import minimize

from gramstyle.optimise import lbfgsb
from javascript import evaluate

pytestmark = pytest.mark.browser

Function = Callable[[np.ndarray], tuple[float, np.ndarray]]

# The functions once more, in JavaScript; `data` is what Python has drawn.
FUNCTIONS = """
const functions = {
  quadratic: ({ A, b }) => (x) => {
    const Ax = A.map((row) => row.reduce((sum, value, j) => sum + value * x[j], 0));
    let loss = 0;
    const gradient = x.map((value, i) => Ax[i] - b[i]);
    x.forEach((value, i) => { loss += value * (Ax[i] / 2 - b[i]); });
    return { loss, gradient };
  },
  rosenbrock: () => (x) => {
    let loss = 0;
    const gradient = x.map(() => 0);
    for (let i = 0; i + 1 < x.length; i++) {
      const [bend, rest] = [x[i + 1] - x[i] ** 2, 1 - x[i]];
      loss += 100 * bend ** 2 + rest ** 2;
      gradient[i] += -400 * x[i] * bend - 2 * rest;
      gradient[i + 1] += 200 * bend;
    }
    return { loss, gradient };
  },
};
"""

MINIMISE = f"""
import {{ minimise }} from "./lbfgsb.js";
{FUNCTIONS}
const {{ name, data, start, type, ...options }} = given;
const losses = [];
const x0 = type === "float32" ? Float32Array.from(start) : Float64Array.from(start);
const evaluate = functions[name](data);
const onIteration = ({{ loss }}) => {{ losses.push(loss); return losses.length === options.stop; }};
const found = await minimise(evaluate, x0, {{ ...options, onIteration }});
result = {{ ...found, x: Array.from(found.x), losses, kind: found.x.constructor.name }};
"""


@dataclass(frozen=True)
class Problem:
    """A function, its data for JavaScript, the start and the bounds of all entries."""

    name: str
    function: Function
    data: dict[str, Any]
    start: np.ndarray
    lower: float
    upper: float


def quadratic(n: int, lower: float, upper: float, seed: int = 1) -> Problem:
    """½ xᵀAx − bᵀx; the condition of A is 100, and its minimum is partly outside the box."""
    rng = np.random.default_rng(seed)
    Q, _ = np.linalg.qr(rng.standard_normal((n, n)))
    A = (Q * np.geomspace(0.1, 10, n)) @ Q.T
    A = (A + A.T) / 2
    b = A @ rng.uniform(lower - (upper - lower) / 2, upper + (upper - lower) / 2, n)
    data = {"A": A.tolist(), "b": b.tolist()}
    start = rng.uniform(lower, upper, n)
    return Problem(
        "quadratic", lambda x: (x @ (A @ x / 2 - b), A @ x - b), data, start, lower, upper
    )


def rosenbrock(n: int, lower: float, upper: float) -> Problem:
    def function(x: np.ndarray) -> tuple[float, np.ndarray]:
        bend, rest = x[1:] - x[:-1] ** 2, 1 - x[:-1]
        gradient = np.zeros_like(x)
        gradient[:-1] += -400 * x[:-1] * bend - 2 * rest
        gradient[1:] += 200 * bend
        return float(100 * bend @ bend + rest @ rest), gradient

    start = np.linspace(lower, upper, n + 2)[1:-1]
    return Problem("rosenbrock", function, {}, start, lower, upper)


PROBLEMS = {
    "quadratic": quadratic(60, 0.0, 1.0),
    "quadratic of pixels": quadratic(300, 0.0, 255.0),
    "rosenbrock, bounds inactive": rosenbrock(8, -2.0, 2.0),
    "rosenbrock, bounds active": rosenbrock(8, -1.5, 0.8),
}


def minimised(modules: Path, problem: Problem, **options: Any) -> dict[str, Any]:
    given = {
        "name": problem.name,
        "data": problem.data,
        "start": problem.start.tolist(),
        "lower": problem.lower,
        "upper": problem.upper,
        "iterations": 500,
        **options,
    }
    found: dict[str, Any] = evaluate(modules, MINIMISE, given)
    return found


@pytest.mark.parametrize("problem", PROBLEMS.values(), ids=PROBLEMS)
def test_the_minimum_is_that_of_scipy(modules: Path, problem: Problem) -> None:
    bounds = [(problem.lower, problem.upper)] * len(problem.start)
    truth = minimize(
        problem.function, problem.start, jac=True, bounds=bounds, method="L-BFGS-B",
        options={"ftol": 0, "gtol": 1e-11, "maxiter": 2000, "maxfun": 4000},
    )  # fmt: skip
    found = minimised(modules, problem)
    x = np.array(found["x"])
    assert problem.lower <= x.min()
    assert x.max() <= problem.upper
    width = problem.upper - problem.lower
    # Both stop where rounding (1e-16 of the loss) hides a decrease. The loss grows with the square
    # of the distance, so that x is known to about the root of that.
    assert np.abs(x - truth.x).max() < 1e-6 * width
    assert found["loss"] == pytest.approx(truth.fun, rel=1e-12, abs=1e-15)
    assert found["loss"] == pytest.approx(problem.function(x)[0], rel=1e-12, abs=1e-15)


@pytest.mark.parametrize("problem", PROBLEMS.values(), ids=PROBLEMS)
def test_in_float32_the_minimum_is_the_same_but_for_rounding(
    modules: Path, problem: Problem
) -> None:
    truth = np.array(minimised(modules, problem)["x"])
    found = minimised(modules, problem, type="float32")
    assert found["kind"] == "Float32Array"
    # 6e-8 for the rounding of x; its root is the distance at which the loss does not show it, and
    # the condition of Rosenbrock's valley makes ten times as much of it.
    assert np.abs(np.array(found["x"]) - truth).max() < 3e-3 * (problem.upper - problem.lower)


def test_the_iterates_are_those_of_the_python_package(modules: Path) -> None:
    problem = PROBLEMS["quadratic of pixels"]

    class Evaluation:
        def __init__(self, x: np.ndarray) -> None:
            self.loss, self.gradient = problem.function(x)

    losses: list[float] = []
    lbfgsb.minimise(
        Evaluation, problem.start, iterations=20, tolerance=0.0, history=10,
        callback=lambda iterate: losses.append(iterate.evaluation.loss),
    )  # fmt: skip
    found = minimised(modules, problem, iterations=20)
    assert found["iteration"] == len(losses) == 20
    # The same method, with sums in another order: rounding grows from iteration to iteration.
    assert found["losses"] == pytest.approx(losses, rel=1e-6)


def test_a_run_ends_when_the_caller_says_so(modules: Path) -> None:
    found = minimised(modules, PROBLEMS["rosenbrock, bounds active"], stop=3)
    assert (found["iteration"], found["reason"]) == (3, "stopped by the caller")
    assert found["loss"] == min(found["losses"])


def test_a_run_ends_when_the_loss_falls_by_less_than_the_tolerance(modules: Path) -> None:
    found = minimised(modules, PROBLEMS["quadratic"], tolerance=0.01)
    losses = found["losses"]
    assert 10 < found["iteration"] < 100
    assert losses[-11] - losses[-1] < 0.01 * abs(losses[-1])
    assert "fell by less than 0.01" in found["reason"]


def test_a_start_without_gradient_is_the_result(modules: Path) -> None:
    program = """
    import { minimise } from "./lbfgsb.js";
    const flat = (x) => ({ loss: 1, gradient: x.map(() => 0) });
    const { x, ...found } = await minimise(flat, Float64Array.of(300, 7), { iterations: 5 });
    result = { ...found, x: Array.from(x) };
    """
    found = evaluate(modules, program)
    assert found["x"] == [255, 7]
    assert (found["evaluations"], found["reason"]) == (1, "the gradient is zero at the start")


@pytest.mark.parametrize("bad", ["NaN", "Infinity"])
@pytest.mark.parametrize("after", [0, 3])
def test_a_loss_or_gradient_that_is_not_finite_is_an_error(
    modules: Path, bad: str, after: int
) -> None:
    program = f"""
    import {{ minimise, NonFiniteError }} from "./lbfgsb.js";
    let calls = 0;
    const breaks = (x) => {{
      const gradient = x.map((value) => 2 * (value - 90) ** 3);
      if (calls++ >= {after}) gradient[1] = {bad};
      return {{ loss: x.reduce((sum, value) => sum + (value - 90) ** 4 / 2, 0), gradient }};
    }};
    try {{
      await minimise(breaks, Float64Array.of(1, 2, 3), {{ iterations: 50 }});
    }} catch (error) {{
      result = [error instanceof NonFiniteError, error.message];
    }}
    """
    is_one, message = evaluate(modules, program)
    assert is_one
    assert message.startswith("the loss or its gradient")
