"""Functions with right derivatives, and calls of the checker that must fail."""

from typing import Any

import numpy as np
import pytest

from gramstyle.core import layers
from gramstyle.core.arrays import Array
from gramstyle.gradcheck import GradientMismatchError, check_gradient, check_vjp

both_modes = pytest.mark.parametrize("mode", ["directional", "full"])


def squash(W: Array, x: Array) -> Array:
    return np.tanh(W @ x)


def squash_vjp(dY: Array, W: Array, x: Array) -> tuple[Array, Array]:
    dZ = dY * (1 - np.tanh(W @ x) ** 2)
    return dZ @ x.T, W.T @ dZ


def cubes(x: Array) -> tuple[float, Array]:
    return float(np.sum(x**3)), 3 * x**2


def refused(mode: Any, f: Any, vjp: Any, inputs: Any, **options: Any) -> GradientMismatchError:
    """Return the mismatch that the check must find."""
    with pytest.raises(GradientMismatchError) as caught:
        check_vjp(f, vjp, inputs, mode=mode, **options)
    return caught.value


def refused_gradient(call: Any, x: Any, **options: Any) -> GradientMismatchError:
    with pytest.raises(GradientMismatchError) as caught:
        check_gradient(call, x, **options)
    return caught.value


def relu_vjp(dF: Array, Z: Array) -> Array:
    return layers.relu_backward(dF, layers.relu_forward(Z))


def masks(Z: Array) -> dict[str, Array]:
    return {"relu": Z > 0}
