"""The checks in reverse mode: of a function's vjp, and of a loss returned with its gradient.

Both compare with Richardson-extrapolated central differences, (4 D(h/2) − D(h)) / 3, of float64
functions. docs/derivations.md derives them in "How each derivative is checked".
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from gramstyle.core.arrays import Array
from gramstyle.gradcheck.calls import (
    Calls,
    Function,
    Kinks,
    Vjp,
    both_of,
    checked_inputs,
    names_of,
)
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
    """Check a function's backward (its vector-Jacobian product) against differences of its forward.

    Parameters
    ----------
    f : callable
        ``f(*inputs)`` returns a float64 array or number, or a tuple of them.
    vjp : callable
        ``vjp(cotangents, *inputs)`` returns Jᵀ · cotangents: a list or tuple of one derivative
        for each input, in the input's shape (or, for a single input, the array alone). The
        cotangents have the form of f's result: an array, or a tuple of arrays.
    inputs : sequence of ndarray of float64
        The point at which to check; arrays of any shape. The check does not modify them.
    mode : {"directional", "full"}, optional
        "directional" compares ⟨u, J v⟩ with ⟨Jᵀ u, v⟩ for random v over all inputs and random u
        over all results. It calls f 4 · `directions` + 2 times and vjp `directions` + 1 times,
        whatever the size; a mismatch takes 4 more calls of f for each input, to find the input at
        fault. "full" compares every entry of J. It calls f 4 times for each entry of the inputs
        and twice more, vjp once for each entry of the result and twice more, and stores J.
    directions : int, optional
        The number of independent pairs u, v in directional mode.
    eps : float, optional
        The step h relative to each input's size, which is its root mean square (1 if that is 0):
        pixels near 128 move by 0.128, weights near 0.01 by 1e-5. In a random direction, an entry
        moves by 0.5 to 1.5 times that.
    atol : float, optional
        The absolute tolerance: in full mode in units of ∂f/∂x, in directional mode in units of
        ⟨u, J v⟩. The default is a bound on rounding, 300 · 2.2e-16 · |f| / h, where in
        directional mode |f| is the length of u ∘ f; below h = 1e-7 it is constant. If that is
        more than a hundredth of the derivative, the check raises an error instead of passing: f
        is too large, or the step too small, for a difference to show anything.
    rtol : float, optional
        The relative tolerance, 0 ≤ `rtol` < 1, added to `atol`. It is relative to the expected
        number or to the typical size of such numbers, whichever is larger: in full mode the root
        mean square of the derivatives of one result by all of that input, in directional mode the
        length of (Jᵀ u) ∘ v.
    seed : int, optional
        The seed of the random directions.
    kinks : callable, optional
        ``kinks(*inputs)`` returns, by name, arrays of the discrete choices that f makes (bool or
        int): masks of ReLUs, places of maxima. Choices that differ between the points of a
        difference are counted. A mismatch across such a kink is checked again with steps eps / 10,
        eps / 100, … down to 1e-7, until no choice differs or the two sides agree.
    names : sequence of str, optional
        The names of the inputs in messages.

    Returns
    -------
    Checked
        The numbers of a check that passed.

    Raises
    ------
    GradientMismatchError
        If the two sides differ: a wrong gradient, or a kink that no smaller step avoids.
    GradientCheckError
        If a function returns a wrong shape, number or type, NaN or infinity; changes its
        arguments in place; or returns something else when it is called again. If vjp is not
        linear in its cotangents (full mode; directional mode finds a mismatch). If rounding hides
        the derivative.
    OptionError
        If an argument is invalid.

    See Also
    --------
    check_gradient : The same check of a loss that is returned with its gradient.
    check_jvp : The check of a function's forward mode.

    Examples
    --------
    >>> import numpy as np
    >>> from gramstyle import check_vjp
    >>> rng = np.random.default_rng(0)
    >>> W, x = rng.normal(size=(4, 3)), rng.normal(size=3)
    >>> checked = check_vjp(lambda W, x: W @ x, lambda u, W, x: (np.outer(u, x), W.T @ u), [W, x])
    >>> checked.compared, checked.relative_error < 1e-9
    (2, True)
    """
    points = checked_inputs(inputs)
    settings = Settings(mode, directions, eps, atol, rtol, seed)
    return check(Calls(f, vjp, kinks, names_of(points, names), points), settings)


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
    """Check the gradient of a loss against differences of the loss.

    Parameters
    ----------
    loss_and_gradient : callable
        ``loss_and_gradient(x)`` returns the loss, one float64 number, and its gradient, float64
        in the shape of x: as a pair, or as an object with `.loss` and `.gradient`, such as
        `gramstyle.core.evaluation.Evaluation`.
    x : ndarray of float64
        The point at which to check; an array of any shape.
    mode, directions, eps, atol, rtol, seed, kinks
        As in `check_vjp`. In messages, f is the loss and vjp is its gradient; u is 1.

    Returns
    -------
    Checked
        The numbers of a check that passed.

    Raises
    ------
    GradientMismatchError, GradientCheckError, OptionError
        As in `check_vjp`.

    See Also
    --------
    check_vjp : The check of any function and its vector-Jacobian product.
    check_hvp : The check of a loss's Hessian-vector product.

    Examples
    --------
    >>> import numpy as np
    >>> from gramstyle import check_gradient
    >>> x = np.linspace(-1, 1, 5)
    >>> checked = check_gradient(lambda x: (float(np.sum(x**3)), 3 * x**2), x, mode="full")
    >>> checked.compared
    5
    """
    settings = Settings(mode, directions, eps, atol, rtol, seed, cotangent="one")
    calls = Calls(
        lambda at: _loss(loss_and_gradient(at)),
        lambda _one, at: both_of(loss_and_gradient(at))[1],
        kinks,
        ("x",),
        checked_inputs([x]),
    )
    return check(calls, settings)


def _loss(evaluation: Any) -> Any:
    loss, _ = both_of(evaluation)
    if np.shape(loss):
        raise GradientCheckError(f"the loss has shape {np.shape(loss)}; it must be one number")
    return loss
