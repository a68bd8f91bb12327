"""Call SciPy's L-BFGS-B, directly where that is possible. Only this module imports SciPy.

`scipy.optimize.fmin_l_bfgs_b` builds its bounds in loops over all variables, and copies and checks
x and the gradient around each evaluation. `by_core` therefore calls its compiled core, which SciPy
does not publish, `scipy.optimize._lbfgsb.setulb`: again and again it asks for an evaluation,
reports an iteration, or ends. Before that, `core_works` lets both minimise a small function: all
points must be equal to the last bit, otherwise `by_function` calls the public function.
"""

import logging
from collections.abc import Callable
from functools import cache
from typing import Any, Protocol

import numpy as np
from scipy.optimize import OptimizeResult, fmin_l_bfgs_b

from gramstyle.core.arrays import Array

log = logging.getLogger(__name__)

# Writes the gradient at x (n,) into an array (n,), both float64, and returns the loss. Each x is a
# new array.
Evaluate = Callable[[Array, Array], float]

# The maximum number of evaluations of a line search: SciPy's default.
MAX_TRIALS = 20


class Driver(Protocol):
    """A way to call SciPy's L-BFGS-B."""

    def __call__(
        self,
        evaluate: Evaluate,
        x: Array,
        *,
        bounds: tuple[float, float],
        history: int,
        iterations: int,
        evaluations: int,
        after_iteration: Callable[[], bool],
    ) -> str:
        """Minimise a function; return how SciPy says that it ended, in one word.

        SciPy's own tolerances are 0.

        Parameters
        ----------
        evaluate
            The function.
        x
            The start (n,) in float64, within the bounds; the driver may overwrite it.
        bounds
            The bounds of every entry.
        history
            The number of pairs that are stored.
        iterations, evaluations
            The maximum numbers; the evaluations are compared after an iteration.
        after_iteration
            Called after each iteration, whose point is the one evaluated last. The run ends when it
            returns True.
        """


def driver() -> Driver:
    """Return the fastest driver that works with the installed SciPy."""
    return by_core if core_works() else by_function


def by_function(
    evaluate: Evaluate,
    x: Array,
    *,
    bounds: tuple[float, float],
    history: int,
    iterations: int,
    evaluations: int,
    after_iteration: Callable[[], bool],
) -> str:
    """Minimise with `fmin_l_bfgs_b`: a `Driver`."""

    def with_new_gradient(x: Array) -> tuple[float, Array]:
        g = np.empty_like(x)
        return evaluate(x, g), g

    def callback(intermediate_result: OptimizeResult) -> None:  # noqa: ARG001 - SciPy's name
        if after_iteration():
            raise StopIteration

    _x, _f, information = fmin_l_bfgs_b(
        with_new_gradient,
        x,
        # `scipy.optimize.minimize` does the same, but stores a tuple of two new numbers for each
        # variable: 100 MB more at 512×512. Here all variables share one tuple.
        bounds=[bounds] * x.size,
        m=history,
        maxiter=iterations,
        maxfun=evaluations,
        factr=0.0,
        pgtol=0.0,
        # SciPy's stubs declare only the older callback(x) of this function.
        callback=callback,  # type: ignore[arg-type]
        maxls=MAX_TRIALS,
    )
    return str(information["task"]).split(":")[0].lower()


# The parameters of the core. What it reports or asks for is in task[0]; the caller ends it by
# writing there, and its reason into task[1].
SIGNATURE = "setulb(m,x,l,u,nbd,f,g,factr,pgtol,wa,iwa,task,lsave,isave,dsave,maxls,ln_task)"
ITERATED, EVALUATE, STOP = 1, 3, 5
BY_EVALUATIONS, BY_ITERATIONS, BY_CALLBACK = 502, 504, 505
ENDS = {4: "convergence", STOP: "stop", 6: "warning", 7: "error", 8: "abnormal"}

# Its name for a variable that has both bounds.
BOTH_BOUNDS = 2


def by_core(
    evaluate: Evaluate,
    x: Array,
    *,
    bounds: tuple[float, float],
    history: int,
    iterations: int,
    evaluations: int,
    after_iteration: Callable[[], bool],
) -> str:
    """Minimise with the core: a `Driver`."""
    n, m, setulb = x.size, history, _core()
    lower, upper = (np.full(n, bound, np.float64) for bound in bounds)
    kinds = np.full(n, BOTH_BOUNDS, np.int32)
    loss, g = np.zeros(()), np.zeros(n)
    # The core's memory; the sizes are those of the original Fortran program.
    floats = np.zeros(2 * m * n + 5 * n + 11 * m * m + 8 * m)
    indices = np.zeros(3 * n, np.int32)
    task, task_of_line = np.zeros(2, np.int32), np.zeros(2, np.int32)
    flags, counters, numbers = np.zeros(4, np.int32), np.zeros(44, np.int32), np.zeros(29)
    iterated = evaluated = 0
    point, value, gradient = np.full(n, np.nan), np.nan, np.zeros(n)  # of the last evaluation
    while True:
        setulb(
            m, x, lower, upper, kinds, loss, g, 0.0, 0.0, floats, indices, task, flags, counters,
            numbers, MAX_TRIALS, task_of_line,
        )  # fmt: skip
        if task[0] == EVALUATE:
            # Like `fmin_l_bfgs_b`, do not evaluate the same point twice in a row. The core may have
            # overwritten `loss` and `g`.
            if not np.array_equal(x, point):
                evaluated += 1
                point = x.copy()
                value = evaluate(point, gradient)
            loss[...], g[:] = value, gradient
        elif task[0] == ITERATED:
            iterated += 1
            if after_iteration():
                task[:] = STOP, BY_CALLBACK
            if iterated >= iterations:
                task[:] = STOP, BY_ITERATIONS
            elif evaluated > evaluations:
                task[:] = STOP, BY_EVALUATIONS
        else:
            return ENDS[int(task[0])]


@cache
def core_works() -> bool:
    """Return whether the core visits the same points as `fmin_l_bfgs_b`, to the last bit."""
    try:
        works = _core().__doc__ == SIGNATURE and _visited(by_core) == _visited(by_function)
    except Exception as error:  # something private may fail in any way
        log.info("the core of SciPy's L-BFGS-B cannot be called: %r", error)
        return False
    if not works:
        log.info("the core of SciPy's L-BFGS-B has changed")
    return works


def _core() -> Callable[..., Any]:
    from scipy.optimize import _lbfgsb

    core: Callable[..., Any] = _lbfgsb.setulb
    return core


def _visited(driver: Driver) -> list[bytes | str]:
    """Return the points at which a driver evaluates a function of 40 variables, and its reports.

    The function bends so much that some line searches need several evaluations; a quarter of the
    variables end at a bound.
    """
    targets, weights = np.linspace(-90.0, 340.0, 40), np.linspace(0.1, 9.0, 40)
    visited: list[bytes | str] = []

    def evaluate(x: Array, g: Array) -> float:
        visited.append(x.tobytes())
        u = (x - targets) / 30.0
        g[:] = weights * (4.0 * u**3 - 6.0 * u - 15.0 * np.sin(5.0 * u)) / 30.0
        return float(np.sum(weights * (u**4 - 3.0 * u**2 + 3.0 * np.cos(5.0 * u))))

    def after_iteration() -> bool:
        visited.append("iteration")
        return False

    end = driver(
        evaluate, np.full(40, 100.0), bounds=(0.0, 255.0), history=3, iterations=15,
        evaluations=1000, after_iteration=after_iteration,
    )  # fmt: skip
    return [*visited, end]
