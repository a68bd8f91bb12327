"""L-BFGS-B over the pixels: SciPy's, the reference. The only module that knows it.

`lbfgsb` is the same method where the pixels are on a GPU.
"""

import math
from collections.abc import Callable

import numpy as np
from scipy.optimize import OptimizeResult, fmin_l_bfgs_b

from gramstyle.core.arrays import Array
from gramstyle.errors import NonFiniteError
from gramstyle.optimise.descent import (
    BRIGHTEST,
    DARKEST,
    Callback,
    E,
    HasLossAndGradient,
    Iterate,
    Minimum,
    converged,
    has_converged,
)

__all__ = ["HasLossAndGradient", "Iterate", "Minimum", "minimise"]


def minimise(
    loss_and_gradient: Callable[[Array], E],
    x0: Array,
    *,
    iterations: int,
    tolerance: float,
    memory: int,
    callback: Callback[E] | None = None,
) -> Minimum[E]:
    """Make the loss small by L-BFGS-B, every entry of x kept within 0..255.

    L-BFGS-B's first step is minus the gradient in full. Loss and gradient are therefore both
    multiplied by √n / ‖∇₀‖, so that the first step moves the pixels by one grey level (root
    mean square): scaled by the loss instead, that step can vanish below float32's noise.

    Parameters
    ----------
    loss_and_gradient
        The objective; called with float64 arrays of x0's shape.
    x0
        The start, clipped to 0..255.
    iterations
        How many iterations at most.
    tolerance
        End early once the loss has fallen by less than this share of itself over the last ten
        iterations; 0 never does.
    memory
        How many pairs of steps and gradient differences L-BFGS-B remembers.
    callback
        Called after every iteration; the run ends when it returns True.

    Returns
    -------
    Minimum
        The iterate with the smallest loss (with iteration 0, the start, among them).

    Raises
    ------
    NonFiniteError
        If a loss or gradient is NaN or infinite. The iterates before it went to `callback`.
    """
    shape = x0.shape
    start = np.clip(x0.astype(np.float64), DARKEST, BRIGHTEST)
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
    history = [at.loss]
    stopped = ""

    def scaled(x: Array) -> tuple[float, Array]:
        nonlocal evaluations, at
        evaluations += 1
        if evaluations > 1:  # the first call is at the start, which is known
            at = loss_and_gradient(x.reshape(shape))
        gradient = at.gradient.astype(np.float64).ravel() * scale
        if not math.isfinite(at.loss) or not np.isfinite(gradient).all():
            raise NonFiniteError("the loss or its gradient is not finite")
        return at.loss * scale, gradient

    def after_iteration(intermediate_result: OptimizeResult) -> None:
        # The line search ends on the point it accepts, so `at` is the evaluation of this x;
        # x itself is the optimiser's live buffer.
        nonlocal best, stopped
        iterate = Iterate(
            iteration=len(history),
            evaluations=evaluations,
            x=intermediate_result.x.reshape(shape).copy(),
            evaluation=at,
        )
        history.append(at.loss)
        if at.loss < best.evaluation.loss:
            best = iterate
        if callback is not None and callback(iterate):
            stopped = "stopped by the caller"
        elif has_converged(history, tolerance):
            stopped = converged(tolerance)
        if stopped:
            raise StopIteration

    _x, _f, information = fmin_l_bfgs_b(
        scaled,
        start.ravel(),
        # `scipy.optimize.minimize` does the same, but builds and keeps a tuple of two new
        # numbers for each pixel: 100 MB more at 512×512. Here all pixels share one.
        bounds=[(DARKEST, BRIGHTEST)] * start.size,
        m=memory,
        maxiter=iterations,
        maxfun=20 * iterations + 20,
        # Tolerances of 0: the run ends by `iterations` or by `tolerance`, nothing else.
        factr=0.0,
        pgtol=0.0,
        # SciPy's stubs know only the older callback(x) of this function.
        callback=after_iteration,  # type: ignore[arg-type]
    )
    done = len(history) - 1
    if not stopped and done >= iterations:
        stopped = "all iterations done"
    elif not stopped:
        stopped = f"L-BFGS-B found no better image ({str(information['task']).lower()})"
    return Minimum(best=best, iterations=done, evaluations=evaluations, reason=stopped)
