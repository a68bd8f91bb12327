"""Two checks of a derivative: of a function's vjp, and of a loss that comes with its gradient.

Both compare with Richardson-extrapolated central differences, (4 D(h/2) − D(h)) / 3, of float64
functions. How that is derived: docs/derivations.md, "How each derivative is checked".
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from gramstyle.core.arrays import Array
from gramstyle.errors import OptionError
from gramstyle.gradcheck.calls import Calls, Function, Kinks, Vjp, kind_of, taken
from gramstyle.gradcheck.directions import check
from gramstyle.gradcheck.report import Checked, GradientCheckError, Mode
from gramstyle.gradcheck.settings import STEP, TOLERANCE, Settings


def check_vjp(
    f: Function,
    vjp: Vjp,
    inputs: Sequence[Array],
    *,
    mode: Mode = "directional",
    directions: int = 2,
    eps: float = STEP,
    atol: float | None = None,
    rtol: float = TOLERANCE,
    seed: int = 0,
    kinks: Kinks | None = None,
    names: Sequence[str] | None = None,
) -> Checked:
    """Check a function's backward against differences of its forward.

    Parameters
    ----------
    f
        ``f(*inputs)`` returns a float64 array or number, or a tuple of them.
    vjp
        ``vjp(cotangents, *inputs)`` returns Jᵀ · cotangents: one derivative for each input, in
        its shape (or, for a single input, that array alone). The cotangents are shaped as f's
        result: an array, or a tuple of them.
    inputs
        The point: float64 arrays of any shape, none of them changed.
    mode
        "directional" compares ⟨u, J v⟩ with ⟨Jᵀ u, v⟩ for random v over all inputs and random u
        over all results: 4 · `directions` + 2 calls of f and `directions` + 1 of vjp, whatever
        the size. (A mismatch costs 4 more of f for each input, to say in which it lies.)
        "full" compares every entry of J: 4 calls of f for each entry of the inputs and 2 more,
        one of vjp for each entry of the result and 2 more, and all of J in memory.
    directions
        How many independent pairs u, v directional mode takes.
    eps
        The step h relative to each input's size, its root mean square (1 where that is 0): pixels
        of 128 then move by 0.128 and weights of 0.01 by 1e-5. In a direction, an entry moves by
        half to one and a half of that.
    atol
        What is allowed whatever the numbers' sizes: in full mode in units of ∂f/∂x, otherwise
        in those of ⟨u, J v⟩. By default what rounding can do: 300 · 2.2e-16 · |f| / h, in
        directional mode with the length of u ∘ f for |f|. It grows no further below h = 1e-7, and
        where it is more than a hundredth of the derivative, that is an error: f is too large,
        or the step too small, for its difference to tell.
    rtol
        What is allowed besides, relative to the expected number or to the typical size of such
        numbers, whichever is larger: in full mode the root mean square of the derivatives of one
        result by all of that input, in directional mode the length of (Jᵀ u) ∘ v. Less than 1:
        more would allow zeros.
    seed
        Of the directions.
    kinks
        ``kinks(*inputs)`` returns the discrete choices that f makes there, bool or integers by
        name: masks of ReLUs, places of maxima. Choices that differ between the points of a
        difference are counted. A mismatch where any does is looked at again with steps of
        eps / 10, eps / 100, … down to 1e-7, until none does or the two sides agree.
    names
        What to call the inputs in messages.

    Returns
    -------
    Checked

    Raises
    ------
    GradientMismatchError
        If the two sides differ: a wrong gradient, or a kink that no smaller step avoids.
    GradientCheckError
        If a function returns what it should not (shape, number, type, NaN or infinity), changes
        what it is given, or returns something else when called again; if a vjp is not linear in
        its cotangents (full mode; directional mode sees a mismatch); if rounding hides the
        derivative.
    OptionError
        If an argument makes no sense.
    """
    given = taken(inputs)
    called = tuple(names) if names is not None else tuple(f"input {i}" for i in range(len(given)))
    if len(called) != len(given):
        raise OptionError(f"there are {len(given)} inputs and {len(called)} names")
    settings = Settings(mode, directions, eps, atol, rtol, seed)
    return check(Calls(f, vjp, kinks, called, given), settings)


def check_gradient(
    loss_and_gradient: Callable[[Array], Any],
    x: Array,
    *,
    mode: Mode = "directional",
    directions: int = 2,
    eps: float = STEP,
    atol: float | None = None,
    rtol: float = TOLERANCE,
    seed: int = 0,
    kinks: Kinks | None = None,
) -> Checked:
    """Check a loss's gradient against differences of the loss.

    Parameters
    ----------
    loss_and_gradient
        Returns a loss and its gradient at x: a pair, or an object with `.loss` and `.gradient`
        such as `gramstyle.core.objective.Evaluation`. The loss is one float64 number.
    x
        The point, a float64 array of any shape.
    mode, directions, eps, atol, rtol, seed, kinks
        As in `check_vjp`. In messages f is the loss and vjp its gradient; u is 1.

    Returns
    -------
    Checked

    Raises
    ------
    GradientMismatchError, GradientCheckError, OptionError
        As in `check_vjp`.
    """
    settings = Settings(mode, directions, eps, atol, rtol, seed, cotangent="one")
    calls = Calls(
        lambda at: _loss(loss_and_gradient(at)),
        lambda _one, at: _loss_and_gradient(loss_and_gradient(at))[1],
        kinks,
        ("x",),
        taken([x]),
    )
    return check(calls, settings)


def _loss(evaluation: Any) -> Any:
    loss, _ = _loss_and_gradient(evaluation)
    if np.shape(loss):
        raise GradientCheckError(f"the loss has shape {np.shape(loss)}; it must be one number")
    return loss


def _loss_and_gradient(evaluation: Any) -> tuple[Any, Any]:
    if hasattr(evaluation, "loss") and hasattr(evaluation, "gradient"):
        return evaluation.loss, evaluation.gradient
    if isinstance(evaluation, tuple | list) and len(evaluation) == 2:
        return evaluation[0], evaluation[1]
    raise GradientCheckError(
        "loss_and_gradient must return a pair, or an object with .loss and .gradient; found "
        f"{kind_of(evaluation)}"
    )
