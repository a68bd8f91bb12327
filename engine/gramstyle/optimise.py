"""L-BFGS-B over the pixels. The only module that knows SciPy's optimiser."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

import numpy as np
from scipy.optimize import OptimizeResult, fmin_l_bfgs_b

from gramstyle.arrays import Array
from gramstyle.errors import NonFiniteError

# A pixel's range. Differs from Gatys et al. (2015), whose pixels are free: the optimiser never
# leaves it, so every iterate is a picture and none needs clipping.
DARKEST, BRIGHTEST = 0.0, 255.0

# How many iterations back the loss is compared with when asking whether it still falls.
WINDOW = 10


class HasLossAndGradient(Protocol):
    """What the optimiser reads of an evaluation."""

    @property
    def loss(self) -> float:
        """The value to make small."""

    @property
    def gradient(self) -> Array:
        """Its derivative by x, in x's shape."""


E = TypeVar("E", bound=HasLossAndGradient)


@dataclass(frozen=True)
class Iterate(Generic[E]):
    """Where the optimiser stands: x is a copy in the shape of the start, float64, in 0..255."""

    iteration: int
    evaluations: int
    x: Array
    evaluation: E


@dataclass(frozen=True)
class Minimum(Generic[E]):
    """The best iterate of a run, how far the run went, and why it ended there."""

    best: Iterate[E]
    iterations: int
    evaluations: int
    reason: str


def minimise(
    loss_and_gradient: Callable[[Array], E],
    x0: Array,
    *,
    iterations: int,
    tolerance: float,
    memory: int,
    callback: Callable[[Iterate[E]], bool | None] | None = None,
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
        How many iterations at the most.
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
        elif _has_converged(history, tolerance):
            stopped = f"the loss fell by less than {tolerance:g} of itself in {WINDOW} iterations"
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
        stopped = f"L-BFGS-B found no better picture ({str(information['task']).lower()})"
    return Minimum(best=best, iterations=done, evaluations=evaluations, reason=stopped)


def _has_converged(history: list[float], tolerance: float) -> bool:
    if len(history) <= WINDOW:
        return False
    return history[-1 - WINDOW] - history[-1] < tolerance * abs(history[-1])
