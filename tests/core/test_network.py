"""The list of layers, forward and reversed."""

import numpy as np
import pytest

from gramstyle.core.arrays import Array
from gramstyle.core.kernels import Pooling
from gramstyle.core.network import Convolution, Network
from gramstyle.errors import ImageError, OptionError
from gramstyle.model import Model

# Central difference along one direction in float64: the step's square against rounding / step.
STEP, DIFFERENCE = 1e-5, 1e-7


def test_the_names_are_vgg_19_s_from_the_image_upwards(tiny_model: Model) -> None:
    names = tiny_model.network.names
    assert names[:6] == ("conv1_1", "conv1_2", "pool1", "conv2_1", "conv2_2", "pool2")
    assert names[-3:] == ("conv5_3", "conv5_4", "pool5")
    assert sum(isinstance(layer, Convolution) for layer in tiny_model.network.layers) == 16


def test_a_network_is_cut_off_above_the_deepest_layer_that_is_needed(tiny_model: Model) -> None:
    assert tiny_model.network.until(["conv4_2", "conv1_1"]).names[-1] == "conv4_2"


def test_an_unknown_layer_is_named_together_with_the_known_ones(tiny_model: Model) -> None:
    with pytest.raises(OptionError, match=r"'conv6_1'.*conv1_1, conv1_2, pool1.*pool5$"):
        tiny_model.network.until(["conv1_1", "conv6_1"])


def test_shapes_are_those_of_the_responses(tiny_model: Model, rng: np.random.Generator) -> None:
    responses = tiny_model.network.forward(rng.normal(size=(3, 37, 50)))
    assert {name: F.shape for name, F in responses.items()} == tiny_model.network.shapes(37, 50)


def test_an_image_too_small_to_pool_is_refused_with_the_smallest_size(tiny_model: Model) -> None:
    until_conv5_1 = tiny_model.network.until(["conv5_1"])
    until_conv5_1.shapes(16, 16)
    with pytest.raises(ImageError, match=r"15×16 pixels is too small.*at least 16 pixels"):
        until_conv5_1.shapes(16, 15)


def test_reflect_needs_two_positions_at_every_convolution(tiny_model: Model) -> None:
    reflecting = tiny_model.network.until(["conv5_1"]).padded_by("reflect")
    reflecting.shapes(32, 32)
    with pytest.raises(ImageError, match=r"31×32 pixels is too small.*at least 32 pixels"):
        reflecting.shapes(32, 31)
    # The result of a pooling needs no second position.
    tiny_model.network.until(["pool5"]).padded_by("reflect").shapes(32, 32)


class Counter:
    """Does arithmetic and counts it."""

    def __init__(self) -> None:
        self.count = 0

    def plus(self, a: float, b: float) -> float:
        self.count += 1
        return a + b

    def times(self, a: float, b: float) -> float:
        self.count += 1
        return a * b

    def over(self, a: float, b: float) -> float:
        self.count += 1
        return a / b


def counted_convolution(X: Array, W: Array, b: Array) -> tuple[Array, int]:
    """The definition of a 3×3 convolution over zero-padded X, one operation at a time."""
    do, padded = Counter(), np.pad(X, ((0, 0), (1, 1), (1, 1)))
    Z = np.zeros((len(W), *X.shape[1:]))
    for n, y, x in np.ndindex(Z.shape):
        total = b[n]
        for c, i, j in np.ndindex(W.shape[1:]):
            total = do.plus(total, do.times(W[n, c, i, j], padded[c, y + i, x + j]))
        Z[n, y, x] = total
    return Z, do.count


def counted_mean(X: Array) -> tuple[Array, int]:
    """The mean of each 2×2 window, one operation at a time."""
    do, Y = Counter(), np.zeros((len(X), X.shape[1] // 2, X.shape[2] // 2))
    for c, y, x in np.ndindex(Y.shape):
        a, b, d, e = X[c, 2 * y : 2 * y + 2, 2 * x : 2 * x + 2].ravel()
        Y[c, y, x] = do.over(do.plus(do.plus(do.plus(a, b), d), e), 4)
    return Y, do.count


def counted_mean_backward(dY: Array) -> int:
    """How many divisions give each position of each window its quarter."""
    do = Counter()
    for c, y, x in np.ndindex(dY.shape):
        for _position in range(4):
            do.over(dY[c, y, x], 4)
    return do.count


def test_operations_are_those_that_a_naive_loop_counts_in_either_direction(
    tiny_model: Model, rng: np.random.Generator
) -> None:
    network = tiny_model.network.until(["conv2_1"]).pooled_by("avg").astype(np.float64)
    v = rng.normal(size=(3, 5, 6))
    responses = network.forward(v)
    forward, backward, F = {}, {}, v
    for layer in network.layers:
        if isinstance(layer, Convolution):
            Z, forward[layer.name] = counted_convolution(F, layer.W, layer.b)
            flipped = layer.W[:, :, ::-1, ::-1].transpose(1, 0, 2, 3)
            _, backward[layer.name] = counted_convolution(Z, flipped, np.zeros(len(F)))
            F = np.maximum(Z, 0)
        else:
            F, forward[layer.name] = counted_mean(F)
            backward[layer.name] = counted_mean_backward(F)
        # The loop did the layer's work; a few units of float64 rounding in sums of 50 terms.
        np.testing.assert_allclose(F, responses[layer.name], rtol=0, atol=1e-12)
    assert network.operations(5, 6) == forward == backward
    assert set(forward) == {"conv1_1", "conv1_2", "pool1", "conv2_1"}


def test_a_max_pooling_takes_no_arithmetic(tiny_model: Model) -> None:
    network = tiny_model.network.pooled_by("max")
    operations = network.operations(32, 48)
    assert {name for name, count in operations.items() if count == 0} == {
        "pool1",
        "pool2",
        "pool3",
        "pool4",
        "pool5",
    }


def test_responses_are_never_negative_and_some_are_zero(
    tiny_model: Model, rng: np.random.Generator
) -> None:
    for F in tiny_model.network.forward(rng.normal(size=(3, 32, 32))).values():
        assert F.min() >= 0
    assert (F == 0).any()


@pytest.mark.parametrize("kind", ["max", "avg"])
@pytest.mark.parametrize("size", [(16, 16), (35, 22)])
def test_the_backward_pass_is_the_derivative_of_the_forward_pass(
    tiny_model: Model, rng: np.random.Generator, kind: Pooling, size: tuple[int, int]
) -> None:
    network = tiny_model.network.until(["conv5_1"]).pooled_by(kind).astype(np.float64)
    v, u = rng.normal(scale=3, size=(2, 3, *size))
    responses = network.forward(v)
    seeds = {
        name: rng.normal(size=responses[name].shape) for name in ("conv1_1", "pool2", "conv5_1")
    }

    def add_seed(name: str, dF: Array | None) -> Array:
        seed = seeds.get(name, np.zeros(responses[name].shape))
        return seed if dF is None else dF + seed

    def loss(at: Array) -> float:
        there = network.forward(at)
        return sum(float(np.vdot(seed, there[name])) for name, seed in seeds.items())

    difference = (loss(v + STEP * u) - loss(v - STEP * u)) / (2 * STEP)
    gradient = network.backward(responses, add_seed)
    assert gradient.shape == v.shape
    assert np.vdot(gradient, u) == pytest.approx(difference, rel=DIFFERENCE)


def test_choices_are_open_relus_and_the_first_largest_of_each_window(
    tiny_model: Model, rng: np.random.Generator
) -> None:
    network = tiny_model.network.until(["conv2_1"]).pooled_by("max").astype(np.float64)
    responses = network.forward(rng.normal(size=(3, 5, 6)))
    # A window of equal values, as behind a closed ReLU: the first counts.
    responses["conv1_2"][1, :2, :2] = 0
    choices = network.choices(responses)
    assert list(choices) == ["conv1_1", "conv1_2", "pool1", "conv2_1"]
    for name in ("conv1_1", "conv1_2", "conv2_1"):
        assert choices[name].dtype == bool
        assert 0 < choices[name].mean() < 1
        for at in np.ndindex(responses[name].shape):
            assert choices[name][at] == (responses[name][at] > 0)
    F = responses["conv1_2"]
    assert choices["pool1"].shape == (len(F), 2, 3)
    for c, y, x in np.ndindex(choices["pool1"].shape):
        window = F[c, 2 * y : 2 * y + 2, 2 * x : 2 * x + 2].ravel().tolist()
        assert choices["pool1"][c, y, x] == window.index(max(window))
    assert choices["pool1"][1, 0, 0] == 0


def test_an_average_pooling_chooses_nothing(tiny_model: Model, rng: np.random.Generator) -> None:
    network = tiny_model.network.until(["conv2_1"]).pooled_by("avg").astype(np.float64)
    assert "pool1" not in network.choices(network.forward(rng.normal(size=(3, 4, 4))))


def test_where_no_choice_changes_the_responses_are_affine(
    tiny_model: Model, rng: np.random.Generator
) -> None:
    network = tiny_model.network.until(["conv3_1"]).pooled_by("max").astype(np.float64)
    v, u = rng.normal(scale=3, size=(2, 3, 9, 8))

    def at(t: float) -> tuple[dict[str, Array], dict[str, Array]]:
        responses = network.forward(v + t * u)
        return responses, network.choices(responses)

    def same(t: float) -> bool:
        (_, one), (_, other) = at(t), at(-t)
        return all(np.array_equal(one[name], other[name]) for name in one)

    # Some step is small enough, some is not.
    assert same(1e-6)
    assert not same(1.0)
    (plus, _), (middle, _), (minus, _) = at(1e-6), at(0.0), at(-1e-6)
    for name, F in middle.items():
        # The second difference is 0 but for the rounding of values near 10.
        np.testing.assert_allclose(plus[name] + minus[name], 2 * F, rtol=0, atol=1e-12)


def test_another_pooling_changes_the_pools_and_nothing_else(tiny_model: Model) -> None:
    network = tiny_model.network
    averaged = network.pooled_by("avg")
    changed = [
        before.name
        for before, after in zip(network.layers, averaged.layers, strict=True)
        if before is not after
    ]
    assert changed == ["pool1", "pool2", "pool3", "pool4", "pool5"]


def test_weights_can_be_had_in_float64(tiny_model: Model) -> None:
    network: Network = tiny_model.network.astype(np.float64)
    assert network.forward(np.zeros((3, 32, 32)))["pool5"].dtype == np.float64
