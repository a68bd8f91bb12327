"""The checks in forward mode: of a function's jvp, and of a loss's Hessian-vector product.

Both compare with the same differences as the checks in reverse mode (`gradcheck.checks`).
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from gramstyle.core.arrays import Array
from gramstyle.gradcheck.calls import (
    Calls,
    Function,
    Jvp,
    Kinks,
    both_of,
    checked_inputs,
    names_of,
)
from gramstyle.gradcheck.forward_mode import check
from gramstyle.gradcheck.report import Checked, GradientCheckError, Mode
from gramstyle.gradcheck.settings import STEP, TOLERANCE, Settings


def check_jvp(
    f: Function,
    jvp: Jvp,
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
    """Check a function's forward mode (its Jacobian-vector product) against differences.

    Parameters
    ----------
    f : callable
        ``f(*inputs)`` returns a float64 array or number, or a tuple of them.
    jvp : callable
        ``jvp(tangents, *inputs)`` returns J · tangents in the form of f's result. The tangents are
        a tuple of one array for each input, in the input's shape (or, for a single input, the
        array alone).
    inputs : sequence of ndarray of float64
        The point at which to check; arrays of any shape. The check does not modify them.
    mode : {"directional", "full"}, optional
        "directional" compares every entry of J v for random v over all inputs. It calls f
        4 · `directions` + 2 times and jvp `directions` + 1 times, whatever the size; a mismatch
        takes more calls, to find the input at fault. "full" compares every entry of J. It calls f
        4 times for each entry of the inputs and twice more, jvp once for each and twice more, and
        stores J.
    directions, eps, seed, kinks, names
        As in `check_vjp`.
    atol : float, optional
        The absolute tolerance: in full mode in units of ∂f/∂x, in directional mode in units of J v.
        The default is a bound on rounding, 300 · 2.2e-16 · |f| / h, for each entry of f, as in
        `check_vjp`.
    rtol : float, optional
        The relative tolerance, 0 ≤ `rtol` < 1, added to `atol`. It is relative to the expected
        number or to the typical size of such numbers, whichever is larger: in full mode as in
        `check_vjp`, in directional mode the root mean square of J v over one array of f's result.

    Returns
    -------
    Checked
        The numbers of a check that passed.

    Raises
    ------
    GradientMismatchError
        If the two sides differ: a wrong jvp, or a kink that no smaller step avoids.
    GradientCheckError
        As in `check_vjp`; or if jvp is not linear in its tangents (full mode; directional mode
        finds a mismatch).
    OptionError
        If an argument is invalid.

    See Also
    --------
    check_vjp : The check of the reverse mode.
    check_hvp : The check of the second derivatives of a loss.

    Examples
    --------
    >>> import numpy as np
    >>> from gramstyle import check_jvp
    >>> rng = np.random.default_rng(0)
    >>> W, x = rng.normal(size=(4, 3)), rng.normal(size=3)
    >>> checked = check_jvp(lambda W, x: W @ x, lambda t, W, x: t[0] @ x + W @ t[1], [W, x])
    >>> checked.compared, checked.relative_error < 1e-9  # four entries along two directions
    (8, True)
    """
    points = checked_inputs(inputs)
    settings = Settings(mode, directions, eps, atol, rtol, seed)
    calls = Calls(f, jvp, kinks, names_of(points, names), points, called=("f", "jvp"))
    return check(calls, settings)


def check_hvp(
    loss_and_gradient: Callable[[Array], Any],
    hvp: Callable[[Array, Array], Array],
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
    """Check a loss's Hessian-vector product against differences of its gradient.

    It also checks that the Hessian H is symmetric: ⟨u, H v⟩ = ⟨v, H u⟩ for random u and v. It does
    not check the gradient itself; `check_gradient` does.

    Parameters
    ----------
    loss_and_gradient : callable
        As in `check_gradient`.
    hvp : callable
        ``hvp(x, t)`` returns H t, float64 in the shape of x, such as
        `gramstyle.core.objective.Objective.hvp`.
    x : ndarray of float64
        The point at which to check; an array of any shape.
    mode, directions, eps, atol, rtol, seed, kinks
        As in `check_jvp`. In messages, the gradient takes the place of f and hvp that of jvp. The
        product takes one more call of hvp.

    Returns
    -------
    Checked
        The numbers of a check that passed; `forwards` counts gradients.

    Raises
    ------
    GradientMismatchError, OptionError
        As in `check_jvp`.
    GradientCheckError
        As in `check_jvp`; or if H is not symmetric.

    See Also
    --------
    check_gradient : The check of the gradient.

    Examples
    --------
    >>> import numpy as np
    >>> from gramstyle import check_hvp
    >>> x = np.linspace(-1, 1, 5)
    >>> cubes = lambda x: (float(np.sum(x**3)), 3 * x**2)
    >>> checked = check_hvp(cubes, lambda x, t: 6 * x * t, x, mode="full")
    >>> checked.compared
    25
    """
    settings = Settings(mode, directions, eps, atol, rtol, seed)
    calls = Calls(
        lambda at: _gradient(loss_and_gradient(at), at),
        lambda t, at: hvp(at, t),
        kinks,
        ("x",),
        checked_inputs([x]),
        called=("gradient", "hvp"),
    )
    return check(calls, settings, symmetric=True)


def _gradient(evaluation: Any, x: Array) -> Any:
    gradient = both_of(evaluation)[1]
    if np.shape(gradient) != x.shape:
        raise GradientCheckError(f"gradient has shape {np.shape(gradient)}; x has {x.shape}")
    return gradient
