"""Forward mode of every operation: the adjoint of its backward, and what differences say."""

# ruff: noqa: ARG005 - operations of one signature do not need every array

from collections.abc import Callable
from typing import Any

import array_api_strict as strict
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from gramstyle.core import layers
from gramstyle.core.arrays import Array, namespace, on_host
from gramstyle.core.layers import Padding
from gramstyle.core.preprocessing import Preprocessing
from gramstyle.core.protection import Protection, composite_backward, composite_jvp
from gramstyle.gradcheck import check_jvp
from gramstyle.model.preprocessings import CAFFE, TORCHVISION
from second_order import kinks_of, network_of, objective_of

Rng = np.random.Generator

# Sums of fewer than a thousand float64 products, in another order.
ROUNDING = 1e-12

sizes = st.tuples(st.integers(1, 4), st.integers(1, 7), st.integers(1, 7))


def assert_adjoint(tY: Array, dY: Array, tX: Array, dX: Array) -> None:
    """⟨dY, J tX⟩ = ⟨Jᵀ dY, tX⟩."""
    scale = np.linalg.norm(tY) * np.linalg.norm(dY)
    assert np.vdot(dY, tY) == pytest.approx(np.vdot(dX, tX), abs=ROUNDING * max(scale, 1))


@pytest.mark.parametrize("padding", layers.PADDINGS)
@given(sizes, st.integers(1, 4), st.integers(0, 2**32 - 1))
@settings(max_examples=25)
def test_the_jvp_of_a_convolution_is_the_adjoint_of_its_backward(
    padding: Padding, size: tuple[int, int, int], N: int, seed: int
) -> None:
    assume(padding != "reflect" or min(size[1:]) > 1)
    rng = np.random.default_rng(seed)
    W, tX, dZ = (rng.normal(size=s) for s in ((N, size[0], 3, 3), size, (N, *size[1:])))
    tZ = layers.conv2d_jvp(tX, W, padding)
    assert tZ.shape == dZ.shape
    assert_adjoint(tZ, dZ, tX, layers.conv2d_backward(dZ, W, padding))


@pytest.mark.parametrize("padding", layers.PADDINGS)
@given(sizes, st.integers(0, 2**32 - 1))
@settings(max_examples=25)
def test_the_jvp_of_a_padding_is_the_adjoint_of_its_backward(
    padding: Padding, size: tuple[int, int, int], seed: int
) -> None:
    assume(padding != "reflect" or min(size[1:]) > 1)
    rng = np.random.default_rng(seed)
    tX, dY = rng.normal(size=size), rng.normal(size=(size[0], size[1] + 2, size[2] + 2))
    tY = layers.pad_jvp(tX, padding)
    assert_adjoint(tY, dY, tX, layers.pad_backward(dY.copy(), padding))


@given(sizes, st.integers(0, 2**32 - 1))
@settings(max_examples=25)
def test_the_jvps_of_relus_and_poolings_are_the_adjoints_of_their_backwards_also_at_kinks(
    size: tuple[int, int, int], seed: int
) -> None:
    rng = np.random.default_rng(seed)
    X = rng.integers(-1, 2, size).astype(float)  # three values only: kinks nearly everywhere
    tX, dF = rng.normal(size=(2, *size))
    F = layers.relu_forward(X)
    assert_adjoint(layers.relu_jvp(tX, F), dF, tX, layers.relu_backward(dF, F))
    dY = rng.normal(size=(size[0], size[1] // 2, size[2] // 2))
    assert_adjoint(layers.max_pool_jvp(tX, X), dY, tX, layers.max_pool_backward(dY, X))
    assert_adjoint(layers.avg_pool_jvp(tX), dY, tX, layers.avg_pool_backward(dY, X))


@pytest.mark.parametrize(
    ("f", "jvp"),
    [
        (lambda X: layers.pad_forward(X, "reflect"), lambda t, X: layers.pad_jvp(t, "reflect")),
        (layers.relu_forward, lambda t, X: layers.relu_jvp(t, layers.relu_forward(X))),
        (layers.max_pool_forward, layers.max_pool_jvp),
        (layers.avg_pool_forward, lambda t, X: layers.avg_pool_jvp(t)),
        (CAFFE.forward, lambda t, X: CAFFE.jvp(t)),
        (TORCHVISION.forward, lambda t, X: TORCHVISION.jvp(t)),
    ],
    ids=["padding", "relu", "max", "avg", "caffe", "torchvision"],
)
def test_each_jvp_is_the_derivative_of_its_forward(
    f: Callable[[Array], Array], jvp: Callable[[Array, Array], Array], rng: Rng
) -> None:
    # Well apart, so that no step of a thousandth crosses a kink.
    X = rng.permutation(np.arange(-36.0, 39.0)).reshape(3, 5, 5) + 0.5
    check_jvp(f, jvp, [X], mode="full")


@pytest.mark.parametrize("padding", layers.PADDINGS)
def test_a_convolution_is_bilinear_so_its_forward_is_also_its_jvp_by_the_weights(
    padding: Padding, rng: Rng
) -> None:
    def jvp(t: tuple[Array, ...], X: Array, W: Array, b: Array) -> Array:
        tX, tW, tb = t
        return layers.conv2d_jvp(tX, W, padding) + layers.conv2d_forward(X, tW, tb, padding)

    inputs = [rng.normal(size=(2, 4, 5)), rng.normal(size=(3, 2, 3, 3)), rng.normal(size=3)]
    check_jvp(lambda X, W, b: layers.conv2d_forward(X, W, b, padding), jvp, inputs, mode="full")


@pytest.mark.parametrize("preprocessing", [CAFFE, TORCHVISION])
def test_the_jvp_of_the_preprocessing_is_the_adjoint_of_its_backward(
    preprocessing: Preprocessing, rng: Rng
) -> None:
    tx, dv = rng.normal(size=(2, 3, 4, 5))
    assert_adjoint(preprocessing.jvp(tx), dv, tx, preprocessing.backward(dv))


def test_the_jvp_of_the_composite_is_the_adjoint_of_its_backward(rng: Rng) -> None:
    tz, dx, S = rng.normal(size=(3, 4, 5)), rng.normal(size=(3, 4, 5)), rng.uniform(size=(4, 5))
    assert_adjoint(composite_jvp(tz, S), dx, tz, composite_backward(dx, S))


@pytest.mark.parametrize("pooling", ["max", "avg"])
@pytest.mark.parametrize("padding", ["zeros", "circular"])
def test_the_jvp_of_the_network_is_the_derivative_of_every_layer(
    pooling: Any, padding: Padding, rng: Rng
) -> None:
    network = network_of(rng, pooling, padding)
    checked = check_jvp(
        lambda v: tuple(network.forward(v).values()),
        lambda tv, v: tuple(network.jvp(network.forward(v), tv).values()),
        [rng.normal(scale=9, size=(3, 6, 6))],
        kinks=lambda v: network.choices(network.forward(v)),
    )
    assert checked.compared == 2 * sum(np.prod(s) for s in network.shapes(6, 6).values())


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_every_jvp_keeps_the_float_type_that_it_is_given(dtype: type) -> None:
    X, W = np.ones((3, 4, 4), dtype), np.ones((3, 3, 3, 3), dtype)
    results = (
        layers.conv2d_jvp(X, W),
        *layers.conv2d_weights_backward(X, X),
        layers.pad_jvp(X, "replicate"),
        layers.relu_jvp(X, X),
        layers.max_pool_jvp(X, X),
        layers.avg_pool_jvp(X),
        CAFFE.jvp(X),
        composite_jvp(X, np.ones((4, 4))),
    )
    assert {result.dtype for result in results} == {np.dtype(dtype)}


@pytest.mark.parametrize("padding", ["zeros", "reflect"])
def test_strict_arrays_give_the_same_numbers(padding: Padding, rng: Rng) -> None:
    X, F, dZ = rng.normal(size=(3, 3, 5, 7))
    W = rng.normal(size=(4, 3, 3, 3))
    X[0, :2, :2] = 1.0  # a tie of all four
    for operation in (
        lambda X, F, W, _: layers.conv2d_jvp(X, W, padding),
        lambda X, F, W, _: layers.relu_jvp(X, F),
        lambda X, F, W, _: layers.max_pool_jvp(F, X),
        lambda X, F, W, _: layers.avg_pool_jvp(X),
        lambda X, F, W, _: CAFFE.jvp(X),
        lambda X, F, W, dZ: layers.conv2d_weights_backward(dZ, X, padding)[0],
        lambda X, F, W, dZ: layers.conv2d_weights_backward(dZ, X, padding)[1],
    ):
        expected = operation(X, F, W, dZ)
        found = operation(*(strict.asarray(each) for each in (X, F, W, dZ)))
        assert namespace(found) is strict
        # The order of the sums may differ.
        np.testing.assert_allclose(on_host(found), expected, rtol=ROUNDING, atol=ROUNDING)


def test_a_protected_part_has_the_derivatives_of_the_composite(rng: Rng) -> None:
    objective = objective_of(rng)
    z, p, tz = rng.uniform(0, 255, (3, 3, 8, 6))
    S = np.clip(np.linspace(1.3, -0.3, 6), 0, 1)[np.newaxis].repeat(8, axis=0)
    protection = Protection(p, S)
    evaluate = protection.around(objective.loss_and_gradient)
    jvp = protection.around_jvp(objective.jvp)
    kinks = kinks_of(objective)
    checked = check_jvp(
        lambda z: evaluate(z).loss,
        lambda t, z: np.float64(jvp(z, t).loss),
        [z],
        kinks=lambda z: kinks(protection.image(z)),
    )
    assert checked.compared == 2
    assert jvp(z, tz).loss == pytest.approx(np.vdot(evaluate(z).gradient, tz), rel=ROUNDING)
