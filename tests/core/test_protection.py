"""A protected part: the composite, its derivative, and what the optimiser cannot change."""

import numpy as np
import pytest

from gramstyle.core.arrays import Array
from gramstyle.core.evaluation import Evaluation, LossValues
from gramstyle.core.protection import Protection, composite
from gramstyle.gradcheck import check_gradient

Rng = np.random.Generator


def loss(x: Array) -> Evaluation:
    """Σ x³, whose derivative is 3 x²."""
    return Evaluation.of(LossValues(float(np.sum(x**3)), {}, {}), 3 * x**2)


def images(rng: Rng) -> tuple[Array, Array, Array]:
    z, p = rng.uniform(0.5, 1, (2, 3, 4, 6))
    S = np.clip(np.linspace(1.3, -0.3, 6), 0, 1)[np.newaxis].repeat(4, axis=0)
    return z, p, S


def test_the_image_is_the_photograph_where_it_is_protected_and_z_elsewhere(rng: Rng) -> None:
    z, p, S = images(rng)
    x = composite(z, p, S)
    np.testing.assert_array_equal(x[:, S == 1], p[:, S == 1])
    np.testing.assert_array_equal(x[:, S == 0], z[:, S == 0])
    for c, i, j in np.ndindex(x.shape):
        expected = S[i, j] * p[c, i, j] + (1 - S[i, j]) * z[c, i, j]
        assert x[c, i, j] == pytest.approx(expected, rel=1e-15)  # one rounding


def test_the_gradient_by_z_is_the_derivative(rng: Rng) -> None:
    z, p, S = images(rng)
    evaluate = Protection(p, S).around(loss)

    def both(z: Array) -> tuple[float, Array]:
        evaluation = evaluate(z)
        return evaluation.loss, evaluation.gradient

    check_gradient(both, z, mode="full")
    assert not evaluate(z).gradient[:, S == 1].any()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_float_type_of_z_remains(rng: Rng, dtype: type) -> None:
    z, p, S = images(rng)
    protection = Protection(p.astype(np.float32), S.astype(np.float32))
    z = z.astype(dtype)
    assert protection.image(z).dtype == dtype
    assert protection.around(loss)(z).gradient.dtype == dtype
