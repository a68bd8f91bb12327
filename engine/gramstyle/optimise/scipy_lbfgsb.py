"""Minimise with SciPy's L-BFGS-B, the reference.

`gramstyle.optimise.lbfgsb` implements the same method in bounded memory, for arrays anywhere.
"""

import math
from collections.abc import Callable

import numpy as np

from gramstyle.core.arrays import Array
from gramstyle.errors import NonFiniteError
from gramstyle.optimise.interface import (
    LOWER,
    UPPER,
    Callback,
    E,
    HasLossAndGradient,
    Iterate,
    Minimum,
    convergence_reason,
    has_converged,
)
from gramstyle.optimise.scipy_driver import driver

__all__ = ["HasLossAndGradient", "Iterate", "Minimum", "minimise"]


def minimise(
    loss_and_gradient: Callable[[Array], E],
    x0: Array,
    *,
    iterations: int,
    tolerance: float,
    history: int,
    callback: Callback[E] | None = None,
) -> Minimum[E]:
    """Minimise a loss by L-BFGS-B with every entry of x bounded to 0..255.

    The first step of L-BFGS-B is minus the whole gradient. Loss and gradient are therefore both
    multiplied by √n / ‖∇₀‖, which makes the first step move the pixels by one grey level (root
    mean square). If they were scaled by the loss instead, the step could vanish in float32's
    rounding.

    Parameters
    ----------
    loss_and_gradient : callable
        The objective. It is called with float64 arrays of x0's shape and returns an object with
        `.loss`, a float, and `.gradient`, an array of that shape.
    x0 : ndarray
        The start, of any shape, clipped to 0..255.
    iterations : int
        The maximum number of iterations.
    tolerance : float
        The relative tolerance: the run ends when the loss has fallen by less than this fraction
        of itself over the last ten iterations. With 0 it never ends for that reason.
    history : int
        The number of pairs (step, gradient difference) that L-BFGS-B stores.
    callback : callable, optional
        Called with an `Iterate` after every iteration; the run ends when it returns True.

    Returns
    -------
    Minimum
        The iterate with the smallest loss (the start counts as iteration 0), the numbers of
        iterations and evaluations, and the reason for the end.

    Raises
    ------
    NonFiniteError
        If a loss or gradient is NaN or infinite. `callback` has received all earlier iterates.

    Examples
    --------
    >>> from dataclasses import dataclass
    >>> import numpy as np
    >>> from gramstyle.optimise.scipy_lbfgsb import minimise
    >>> @dataclass
    ... class Evaluation:
    ...     loss: float
    ...     gradient: np.ndarray
    >>> def bowl(x):
    ...     return Evaluation(float(np.sum((x - 100) ** 2)), 2 * (x - 100))
    >>> found = minimise(bowl, np.zeros(3), iterations=50, tolerance=0.0, history=10)
    >>> found.best.x.round(3).tolist()
    [100.0, 100.0, 100.0]
    """
    shape = x0.shape
    start = np.clip(x0.astype(np.float64), LOWER, UPPER)
    at = loss_and_gradient(start)
    norm = float(np.linalg.norm(at.gradient.astype(np.float64).ravel()))
    if not math.isfinite(at.loss) or not math.isfinite(norm):
        raise NonFiniteError("the loss or its gradient at the start is not finite")
    best = Iterate(iteration=0, evaluations=1, x=start, evaluation=at)
    if norm == 0.0 or iterations == 0:
        reason = "the gradient is zero at the start" if norm == 0.0 else "no iterations asked for"
        return Minimum(best=best, iterations=0, evaluations=1, reason=reason)
    scale = math.sqrt(start.size) / norm

    evaluations = 0
    losses, here = [at.loss], start
    stopped = ""

    def scaled(x: Array, g: Array) -> float:
        nonlocal evaluations, at, here
        evaluations += 1
        if evaluations > 1:  # the first call is at the start, which is evaluated already
            here = x.reshape(shape)
            at = loss_and_gradient(here)
        np.multiply(at.gradient.reshape(-1), scale, out=g, dtype=np.float64)
        # A sum of finite numbers may overflow, so that it does not suffice.
        if not math.isfinite(at.loss) or not (math.isfinite(g.sum()) or np.isfinite(g).all()):
            raise NonFiniteError("the loss or its gradient is not finite")
        return at.loss * scale

    def after_iteration() -> bool:
        # The line search evaluates the point that it accepts last: `at` and `here` belong to it.
        nonlocal best, stopped
        iterate = Iterate(iteration=len(losses), evaluations=evaluations, x=here, evaluation=at)
        losses.append(at.loss)
        if at.loss < best.evaluation.loss:
            best = iterate
        if callback is not None and callback(iterate):
            stopped = "stopped by the caller"
        elif has_converged(losses, tolerance):
            stopped = convergence_reason(tolerance)
        return bool(stopped)

    # SciPy's own tolerances are 0: only `iterations` and `tolerance` end the run.
    end = driver()(
        scaled,
        start.reshape(-1).copy(),
        bounds=(LOWER, UPPER),
        history=history,
        iterations=iterations,
        evaluations=20 * iterations + 20,
        after_iteration=after_iteration,
    )
    done = len(losses) - 1
    if not stopped and done >= iterations:
        stopped = "all iterations done"
    elif not stopped:
        stopped = f"L-BFGS-B found no better image ({end})"
    return Minimum(best=best, iterations=done, evaluations=evaluations, reason=stopped)
