"""Equations 1 to 7 against sums written out term by term, gradients against differences."""

from collections.abc import Callable

import numpy as np
import pytest

from gramstyle.core import losses
from gramstyle.core.arrays import Array

N, M = 4, 6

# Float64 sums of some hundred terms in another order.
ROUNDING = 1e-12

# A central difference of a polynomial of degree 4 with step 1e-4: its own error is of the order
# of the step squared, 1e-8, times derivatives of order 1.
STEP, DIFFERENCE = 1e-4, 1e-6


@pytest.fixture
def F(rng: np.random.Generator) -> Array:
    """Responses with about a third of exact zeros, as behind a ReLU."""
    return np.maximum(rng.normal(loc=0.4, size=(N, M)), 0)


@pytest.fixture
def P(rng: np.random.Generator) -> Array:
    return np.maximum(rng.normal(loc=0.4, size=(N, M)), 0)


@pytest.fixture
def A(P: Array) -> Array:
    return P @ P.T


def central_differences(loss: Callable[[Array], float], F: Array) -> Array:
    gradient = np.zeros_like(F)
    for at in np.ndindex(F.shape):
        step = np.zeros_like(F)
        step[at] = STEP
        gradient[at] = (loss(F + step) - loss(F - step)) / (2 * STEP)
    return gradient


def test_equation_1_is_half_the_sum_of_squared_differences(F: Array, P: Array) -> None:
    expected = 0.5 * sum((F[i, j] - P[i, j]) ** 2 for i in range(N) for j in range(M))
    assert losses.content_loss(F, P) == pytest.approx(expected, abs=ROUNDING)


def test_equation_2_is_the_derivative_of_equation_1_where_the_relu_is_open(
    F: Array, P: Array
) -> None:
    expected = central_differences(lambda Y: losses.content_loss(Y, P), F)
    expected[F == 0] = 0
    np.testing.assert_allclose(losses.content_gradient(F, P), expected, rtol=0, atol=DIFFERENCE)


def test_equation_3_sums_products_of_responses_over_positions(F: Array) -> None:
    G = losses.gram(F)
    for i, j in np.ndindex(N, N):
        assert G[i, j] == pytest.approx(sum(F[i, k] * F[j, k] for k in range(M)), abs=ROUNDING)


def test_equation_4_divides_by_four_times_n_squared_times_m_squared(F: Array, A: Array) -> None:
    G = F @ F.T
    total = sum((G[i, j] - A[i, j]) ** 2 for i in range(N) for j in range(N))
    expected = total / (4 * N * N * M * M)
    assert losses.style_loss(G, A, N, M) == pytest.approx(expected, abs=ROUNDING)


def test_equation_5_weighs_the_layers() -> None:
    E = {"conv1_1": 2.0, "conv2_1": 3.0, "conv3_1": 100.0}
    w = {"conv1_1": 0.25, "conv2_1": 0.5}
    assert losses.total_style_loss(E, w) == 0.25 * 2.0 + 0.5 * 3.0


def test_equation_6_is_the_derivative_of_equation_4_where_the_relu_is_open(
    F: Array, A: Array
) -> None:
    expected = central_differences(lambda Y: losses.style_loss(Y @ Y.T, A, N, M), F)
    expected[F == 0] = 0
    found = losses.style_gradient(F, F @ F.T, A, N, M)
    np.testing.assert_allclose(found, expected, rtol=0, atol=DIFFERENCE)


def test_equation_6_reads_m_from_its_argument_not_from_the_responses(F: Array, A: Array) -> None:
    G = F @ F.T
    whole = losses.style_gradient(F, G, A, N, M)
    piece = losses.style_gradient(F[:, 2:5], G, A, N, M)
    np.testing.assert_allclose(piece, whole[:, 2:5], rtol=0, atol=ROUNDING)


def test_equation_7_adds_the_two_losses_with_their_weights() -> None:
    assert losses.total_loss(3.0, 5.0, alpha=0.5, beta=7.0) == 0.5 * 3.0 + 7.0 * 5.0


def test_losses_of_float32_responses_are_summed_in_float64() -> None:
    # 2^25 equal squares: a running float32 sum would stop growing at 2^24.
    F = np.ones((1, 2**25), np.float32)
    assert losses.content_loss(F, np.zeros_like(F)) == 2**24
