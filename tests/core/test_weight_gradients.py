"""The derivatives by weights and biases: a naive loop, differences, and the ordinary pass."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from gramstyle.core import layers
from gramstyle.core.arrays import Array
from gramstyle.core.kernels import PlainKernels
from gramstyle.core.layers import Padding
from gramstyle.core.network import Convolution, Network, WeightGradients
from gramstyle.core.objective import Objective
from gramstyle.engines.strips import StripKernels
from gramstyle.errors import OptionError
from gramstyle.gradcheck import check_vjp
from second_order import kinks_of, network_of, objective_of

Rng = np.random.Generator

# Sums of fewer than a thousand float64 products, in another order.
ROUNDING = 1e-12
# The same in float32.
FLOAT32 = 1e-4

sizes = st.tuples(st.integers(1, 3), st.integers(1, 6), st.integers(1, 6))


def naive_weights(dZ: Array, X: Array, mode: str) -> tuple[Array, Array]:
    """The definition, one multiplication at a time."""
    around = np.pad(X, ((0, 0), (1, 1), (1, 1)), mode=mode)  # type: ignore[call-overload]
    dW, db = np.zeros((len(dZ), len(X), 3, 3)), np.zeros(len(dZ))
    for n, y, x in np.ndindex(dZ.shape):
        db[n] += dZ[n, y, x]
        for c, i, j in np.ndindex(dW.shape[1:]):
            dW[n, c, i, j] += dZ[n, y, x] * around[c, y + i, x + j]
    return dW, db


@pytest.mark.parametrize(
    ("padding", "mode"),
    [("zeros", "constant"), ("replicate", "edge"), ("reflect", "reflect"), ("circular", "wrap")],
)
@given(sizes, st.integers(1, 3), st.integers(0, 2**32 - 1))
@settings(max_examples=20)
def test_the_gradient_of_the_weights_is_the_naive_loop_with_each_padding(
    padding: Padding, mode: str, size: tuple[int, int, int], N: int, seed: int
) -> None:
    assume(padding != "reflect" or min(size[1:]) > 1)
    rng = np.random.default_rng(seed)
    X, dZ = rng.normal(size=size), rng.normal(size=(N, *size[1:]))
    found = layers.conv2d_weights_backward(dZ, X, padding)
    for one, other in zip(found, naive_weights(dZ, X, mode), strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=ROUNDING)


@pytest.mark.parametrize("padding", layers.PADDINGS)
def test_a_convolution_has_the_derivatives_by_input_weights_and_biases(
    padding: Padding, rng: Rng
) -> None:
    def vjp(dZ: Array, X: Array, W: Array, b: Array) -> tuple[Array, ...]:
        dX = layers.conv2d_backward(dZ, W, padding)
        return (dX, *layers.conv2d_weights_backward(dZ, X, padding))

    inputs = [rng.normal(size=(2, 4, 5)), rng.normal(size=(3, 2, 3, 3)), rng.normal(size=3)]
    check_vjp(
        lambda X, W, b: layers.conv2d_forward(X, W, b, padding),
        vjp,
        inputs,
        mode="full",
        names=["X", "W", "b"],
    )


def with_weights(objective: Objective, parameters: tuple[Array, ...]) -> Objective:
    """The objective with other weights and biases, in the order of the layers."""
    left = list(parameters)
    found = tuple(
        replace(layer, W=left.pop(0), b=left.pop(0)) if isinstance(layer, Convolution) else layer
        for layer in objective.network.layers
    )
    return replace(objective, network=Network(found))


@pytest.mark.parametrize("kind", ["all", "regions", "mean-std", "covariance"])
@pytest.mark.parametrize("pooling", ["max", "avg"])
def test_the_weight_gradients_of_an_objective_are_its_derivatives(
    kind: str, pooling: Any, rng: Rng
) -> None:
    objective = objective_of(rng, kind, pooling=pooling, padding="replicate")
    x = rng.uniform(0, 255, (3, 8, 6))
    objective = replace(objective, network=objective.network.until(objective.layers))
    convolutions = [each for each in objective.network.layers if isinstance(each, Convolution)]

    def vjp(one: Array, *parameters: Array) -> list[Array]:
        found = with_weights(objective, parameters).weight_gradients(x)
        pairs = ((found.dW[each.name], found.db[each.name]) for each in convolutions)
        return [one * derivative for pair in pairs for derivative in pair]

    checked = check_vjp(
        lambda *parameters: with_weights(objective, parameters).loss_and_gradient(x).loss,
        vjp,
        [array for each in convolutions for array in (each.W, each.b)],
        kinks=lambda *parameters: kinks_of(with_weights(objective, parameters))(x),
        # Changed weights move every response, so that a step crosses many kinks.
        eps=1e-5,
        rtol=1e-6,
    )
    assert checked.compared == 2


@pytest.mark.parametrize("kernels", [PlainKernels(), StripKernels(1)], ids=["plain", "strips"])
def test_the_pass_is_the_same_to_the_last_bit_whether_it_stores_them_or_not(
    kernels: Any, rng: Rng
) -> None:
    network = network_of(rng, "max").astype(np.float32)
    v = rng.normal(size=(3, 16, 12)).astype(np.float32)
    seed = rng.normal(size=network.shapes(16, 12)["conv2_1"]).astype(np.float32)

    def add_seed(name: str, dF: Array | None) -> Array:
        return seed.copy() if dF is None else dF

    weights = WeightGradients(v)
    plain = network.backward(network.forward(v), add_seed)
    ordinary, asked = (
        network.backward(network.forward(v), add_seed, kernels=kernels, weights=each).copy()
        for each in (None, weights)
    )
    np.testing.assert_array_equal(ordinary, asked)
    np.testing.assert_allclose(asked, plain, rtol=0, atol=FLOAT32 * abs(plain).max())
    assert list(weights.dW) == list(weights.db) == ["conv2_1", "conv1_2", "conv1_1"]
    by_plain = WeightGradients(v)
    network.backward(network.forward(v), add_seed, weights=by_plain)
    for name, dW in by_plain.dW.items():
        np.testing.assert_allclose(weights.dW[name], dW, rtol=0, atol=FLOAT32 * abs(dW).max())


def test_only_layers_in_use_have_weight_gradients(rng: Rng) -> None:
    x = rng.uniform(0, 255, (3, 8, 6))
    found = objective_of(rng, "gram at a pooling").weight_gradients(x)
    assert list(found.dW) == ["conv1_2", "conv1_1"]
    with pytest.raises(OptionError, match="no loss uses a layer of the network"):
        objective_of(rng, "tv").weight_gradients(x)
