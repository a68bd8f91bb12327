"""The step from pixels to the network's input."""

import numpy as np
import pytest

from gramstyle.core.preprocessing import Preprocessing

# A handful of float64 operations.
ROUNDING = 1e-12

CONVENTIONS = [
    Preprocessing("BGR", (103.939, 116.779, 123.68), (1.0, 1.0, 1.0)),
    Preprocessing("RGB", (123.675, 116.28, 103.53), (1 / 58.395, 1 / 57.12, 1 / 57.375)),
]


def test_caffe_s_convention_puts_blue_first_and_subtracts_its_mean() -> None:
    x = np.array([10.0, 20.0, 30.0]).reshape(3, 1, 1)  # red, green, blue
    v = CONVENTIONS[0].forward(x)
    np.testing.assert_allclose(v.ravel(), [30 - 103.939, 20 - 116.779, 10 - 123.68], atol=ROUNDING)


@pytest.mark.parametrize("convention", CONVENTIONS, ids=lambda c: c.channels)
def test_the_inverse_gives_the_pixels_back(
    convention: Preprocessing, rng: np.random.Generator
) -> None:
    x = rng.uniform(0, 255, (3, 4, 5))
    np.testing.assert_allclose(
        convention.inverse(convention.forward(x)), x, rtol=0, atol=1e3 * ROUNDING
    )


@pytest.mark.parametrize("convention", CONVENTIONS, ids=lambda c: c.channels)
def test_the_backward_is_the_adjoint_of_the_forward_s_linear_part(
    convention: Preprocessing, rng: np.random.Generator
) -> None:
    u, dv = rng.normal(size=(2, 3, 4, 5))
    linear = convention.forward(u) - convention.forward(np.zeros_like(u))
    assert np.vdot(dv, linear) == pytest.approx(
        np.vdot(convention.backward(dv), u), abs=1e3 * ROUNDING
    )


def test_the_float_type_is_kept() -> None:
    x = np.zeros((3, 2, 2), np.float32)
    convention = CONVENTIONS[1]
    assert convention.forward(x).dtype == np.float32
    assert convention.backward(x).dtype == np.float32
