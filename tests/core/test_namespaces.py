"""What computes on arrays keeps to the array API standard: strict arrays give NumPy's numbers.

array-api-strict has the standard's functions and nothing else. What runs on it runs on CuPy.
"""

import sys
from types import ModuleType
from typing import Any

import array_api_strict as strict
import numpy as np
import pytest

from conftest import tiny_convolutions
from fake_cuda import fake_cupy
from gramstyle.core import layers, losses
from gramstyle.core.arrays import Array, all_finite, cast, namespace, number, numbers, on_host
from gramstyle.core.evaluation import Evaluation
from gramstyle.core.layers import Padding
from gramstyle.core.network import Convolution, Layer, Network, Pool
from gramstyle.model.preprocessings import CAFFE
from objectives import ContentTarget, Weights, composed, style_targets

IMAGE = (3, 7, 9)  # odd: a row and a column are left out of every window


@pytest.fixture
def pair(rng: np.random.Generator):
    """Return a function that draws an array, as one of NumPy's and as a strict one."""

    def draw(*shape: int) -> tuple[Array, Any]:
        array = rng.standard_normal(shape)
        return array, strict.asarray(array)

    return draw


def assert_same(ours: Any, theirs: Any) -> None:
    """To the last bit: the same operations in the same order."""
    if isinstance(ours, float):
        assert isinstance(theirs, float)
        assert ours == theirs
        return
    assert namespace(theirs) is strict
    np.testing.assert_array_equal(ours, on_host(theirs))


def test_convolutions_are_the_same_on_strict_arrays(pair) -> None:
    (X, X_), (W, W_), (b, b_), (dZ, dZ_) = pair(*IMAGE), pair(4, 3, 3, 3), pair(4), pair(4, 7, 9)
    assert_same(layers.conv2d_forward(X, W, b), layers.conv2d_forward(X_, W_, b_))
    assert_same(layers.conv2d_backward(dZ, W), layers.conv2d_backward(dZ_, W_))


@pytest.mark.parametrize("padding", ["replicate", "reflect", "circular"])
def test_padded_convolutions_are_the_same_on_strict_arrays(pair, padding: Padding) -> None:
    (X, X_), (W, W_), (b, b_), (dZ, dZ_) = pair(*IMAGE), pair(4, 3, 3, 3), pair(4), pair(4, 7, 9)
    assert_same(layers.conv2d_forward(X, W, b, padding), layers.conv2d_forward(X_, W_, b_, padding))
    assert_same(layers.conv2d_backward(dZ, W, padding), layers.conv2d_backward(dZ_, W_, padding))


def test_relus_and_poolings_are_the_same_on_strict_arrays(pair) -> None:
    (X, X_), (dX, dX_), (dY, dY_) = pair(*IMAGE), pair(*IMAGE), pair(3, 3, 4)
    X[0, :2, :2] = 1.0  # a tie of all four
    X_ = strict.asarray(X)
    assert_same(layers.relu_forward(X), layers.relu_forward(X_))
    assert_same(layers.relu_backward(dX, X), layers.relu_backward(dX_, X_))
    assert_same(layers.max_pool_forward(X), layers.max_pool_forward(X_))
    assert_same(layers.max_pool_backward(dY, X), layers.max_pool_backward(dY_, X_))
    assert_same(layers.avg_pool_forward(X), layers.avg_pool_forward(X_))
    assert_same(layers.avg_pool_backward(dY, X), layers.avg_pool_backward(dY_, X_))


def test_losses_and_their_gradients_are_the_same_on_strict_arrays(pair) -> None:
    (F, F_), (P, P_), (A, A_) = pair(4, 20), pair(4, 20), pair(4, 4)
    G, G_ = losses.gram(F), losses.gram(F_)
    assert_same(G, G_)
    assert_same(losses.content_loss(F, P), losses.content_loss(F_, P_))
    assert_same(losses.content_gradient(F, P), losses.content_gradient(F_, P_))
    assert_same(losses.style_loss(G, A, 4, 20), losses.style_loss(G_, A_, 4, 20))
    assert_same(losses.style_gradient(F, G, A, 4, 20), losses.style_gradient(F_, G_, A_, 4, 20))


def test_a_whole_objective_is_the_same_on_strict_arrays(rng: np.random.Generator) -> None:
    image = rng.uniform(0, 255, (3, 12, 10))
    found = [_evaluated(xp, image) for xp in (np, strict)]
    assert (found[0].loss, found[0].terms["content"]) == (found[1].loss, found[1].terms["content"])
    assert found[0].layers["style"] == found[1].layers["style"]
    assert_same(found[0].gradient, found[1].gradient)


def _evaluated(xp: Any, image: Array) -> Evaluation:
    """Evaluate an objective whose every array is of one namespace."""
    layers: list[Layer] = [
        Convolution(each.name, *(xp.asarray(p.astype(np.float64)) for p in (each.W, each.b)))
        for each in tiny_convolutions()[:4]
    ]
    layers[2:2] = [Pool("pool1", "max")]
    layers[5:] = [Pool("pool2", "avg")]
    network = Network(tuple(layers))
    x = xp.asarray(image)
    artwork = network.forward(CAFFE.forward(xp.flip(x, axis=1)))
    style = style_targets(artwork, ("conv1_1", "conv2_1"))
    photograph = network.forward(CAFFE.forward(xp.flip(x, axis=2)))
    objective = composed(
        network=network,
        preprocessing=CAFFE,
        content=ContentTarget("pool2", photograph["pool2"]),
        style=style,
        weights=Weights(alpha=1.0, beta=100.0, w={"conv1_1": 0.5, "conv2_1": 0.5}),
    )
    return objective.loss_and_gradient(x)


def test_an_array_tells_its_namespace() -> None:
    assert namespace(np.zeros(2)) is np
    assert namespace(np.float32(2)) is np
    assert namespace(strict.zeros(2)) is strict


def test_cupy_s_arrays_are_known_without_importing_it(monkeypatch: pytest.MonkeyPatch) -> None:
    class DeviceArray:
        """One of CuPy's: no `__array_namespace__`, and no way to NumPy but the one below."""

    fake = ModuleType("cupy")
    fake.__dict__.update(ndarray=DeviceArray, asnumpy=lambda _: np.ones(3))
    array: Any = DeviceArray()
    monkeypatch.delitem(sys.modules, "cupy", raising=False)
    assert namespace(array) is np
    monkeypatch.setitem(sys.modules, "cupy", fake)
    assert namespace(array) is fake
    np.testing.assert_array_equal(on_host(array), np.ones(3))


def test_numbers_of_a_device_stay_there_until_all_are_copied_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "cupy", cupy := fake_cupy())
    sums = [number(cupy.sum(cupy.asarray(np.full(3, each)))) for each in (1.0, 2.0)]
    together = [sums[0], 0.5, 0.1 * sums[1] + 1.0]
    assert cupy.transfers == 0
    assert numbers(together) == [3.0, 0.5, 0.1 * 6.0 + 1.0]
    assert cupy.transfers == 1
    assert {type(each) for each in numbers(together)} == {float}


def test_numbers_of_the_host_are_floats_at_once() -> None:
    found = number(np.sum(np.ones(3)))
    assert type(found) is float
    assert numbers([found, 0.5]) == [3.0, 0.5]


def test_whether_all_numbers_are_finite_takes_one_copy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cupy", cupy := fake_cupy())
    good, bad = cupy.asarray(np.ones(3)), cupy.asarray(np.array([1.0, np.inf]))
    for values, expected in (
        ((), True),
        ((1.0, np.ones(2), good, good), True),
        ((1.0, good, bad), False),
        ((np.nan, good), False),
        ((np.array([np.nan]),), False),
    ):
        before = cupy.transfers
        assert all_finite(values) is expected
        assert cupy.transfers <= before + 1


@pytest.mark.parametrize("xp", [np, strict])
def test_a_cast_changes_the_type_and_copies_only_if_it_must(xp: Any) -> None:
    array = xp.ones(3, dtype=xp.float32)
    assert cast(array, "float64").dtype == xp.float64
    assert cast(array, xp.float64).dtype == xp.float64
    assert cast(array, "float32") is array
