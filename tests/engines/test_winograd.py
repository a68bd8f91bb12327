"""Winograd's convolutions, plain and in strips of tiles, are the ones that `layers` writes out."""

import sys
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from gramstyle.analysis.trace import trace
from gramstyle.conformance.adapters import load
from gramstyle.core import layers
from gramstyle.core.arrays import Array
from gramstyle.core.kernels import PlainKernels, Pooling
from gramstyle.core.network import Convolution, Network, Pool
from gramstyle.core.objective import ContentTarget, Objective, Weights, style_targets
from gramstyle.core.preprocessing import Preprocessing
from gramstyle.engines.registry import default_engine, open_engine
from gramstyle.engines.winograd import algorithm, kernels
from gramstyle.engines.winograd import passes as passes
from gramstyle.engines.winograd.kernels import ChannelsLastKernels
from gramstyle.engines.winograd.layout import channels_last, flat, matrix
from gramstyle.engines.winograd.passes import WinogradPasses
from gramstyle.errors import OptionError, RuntimeMissingError
from gramstyle.model import locate_model, read_model

PLAIN = PlainKernels()

# The algorithm is exact: in float64 what remains is rounding, amplified by the matrices' entries
# (at most 100 in all) over a few hundred terms.
FLOAT64 = 1e-12

# float32 against float64: 2^-24 times about 10 for the transforms and √terms for the sums; errors
# of single entries show against the largest one.
FLOAT32 = 2e-5

IDENTITY = Preprocessing(channels="RGB", mean=(0.0, 0.0, 0.0), scale=(1.0, 1.0, 1.0))

sizes = st.tuples(st.integers(1, 14), st.integers(1, 21), st.integers(1, 21))


@pytest.fixture(autouse=True)
def small_strips(monkeypatch: pytest.MonkeyPatch) -> None:
    """Strips so small that even these small arrays are split."""
    monkeypatch.setattr(passes, "TILES", 4)
    monkeypatch.setattr(passes, "POSITIONS", 40)
    monkeypatch.setattr(kernels, "LONGEST", 40)
    monkeypatch.setattr(kernels, "SHORTEST", 8)


def assert_close(found: Array, expected: Array, tolerance: float = FLOAT32) -> None:
    assert found.shape == expected.shape
    scale = max(1.0, float(np.abs(expected).max(initial=0)))
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance * scale)


def random_network(rng: np.random.Generator, plan: Sequence[int | Pooling]) -> Network:
    """A number is a convolution with so many filters, a word a pooling."""
    result: list[Convolution | Pool] = []
    C = 3
    for number, step in enumerate(plan):
        if isinstance(step, int):
            W, b = rng.normal(size=(step, C, 3, 3)) / (3 * C) ** 0.5, rng.normal(size=step) / 4
            result.append(Convolution(f"conv{number}", W, b))
            C = step
        else:
            result.append(Pool(f"pool{number}", step))
    return Network(tuple(result))


def random_objective(
    rng: np.random.Generator, network: Network, style: Sequence[str], content: str, H: int, V: int
) -> tuple[Objective, Array]:
    x, p, a = rng.normal(size=(3, 3, H, V))
    responses = network.forward(p)
    objective = Objective(
        network=network,
        preprocessing=IDENTITY,
        content=ContentTarget(content, responses[content]),
        style=style_targets(network.forward(a), tuple(style)),
        weights=Weights(alpha=1.0, beta=100.0, w=dict.fromkeys(style, 0.5)),
    )
    return objective, x


def in_passes(objective: Objective, threads: int = 2, *, room: int = 100_000) -> Objective:
    network = objective.network.until(objective.layers).astype(np.float32)
    step = ChannelsLastKernels(threads)
    backward_pass = WinogradPasses(network, objective.layers, workers=step.workers)
    # Memory that is not cleared: nothing may be read that has not been written.
    backward_pass._buffers = [np.full(room, np.nan, np.float32) for _ in range(2)]
    return replace(
        objective, forward=backward_pass.forward, kernels=step, backward=backward_pass.backward
    )


def distance_to_kink(network: Network, v: Array) -> float:
    """How far the nearest ReLU is from 0, or the two largest of a window from each other."""
    nearest, F = np.inf, v
    for layer in network.layers:
        if isinstance(layer, Convolution):
            Z = layers.conv2d_forward(F, layer.W, layer.b)
            nearest, F = min(nearest, np.abs(Z).min()), layers.relu_forward(Z)
        elif layer.kind == "max":
            window = np.sort([F[index] for index in layers.windows(F)], axis=0)
            gaps = (window[3] - window[2])[window[3] > 0]
            nearest, F = min(nearest, gaps.min(initial=np.inf)), layers.max_pool_forward(F)
        else:
            F = layers.avg_pool_forward(F)
    return float(nearest)


def test_the_matrices_multiply_polynomials_exactly(rng: np.random.Generator) -> None:
    at, g, bt = algorithm.matrices()
    d, kernel = rng.normal(size=6), rng.normal(size=3)
    expected = [d[i : i + 3] @ kernel for i in range(4)]
    np.testing.assert_allclose(at @ ((g @ kernel) * (bt @ d)), expected, rtol=0, atol=1e-14)


@given(sizes, st.integers(1, 9), st.integers(0, 2**32 - 1))
@settings(max_examples=40, deadline=None)
def test_the_plain_algorithm_is_the_convolution_and_its_backward(
    shape: tuple[int, int, int], N: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    X, W, b = rng.normal(size=shape), rng.normal(size=(N, shape[0], 3, 3)), rng.normal(size=N)
    Z = layers.conv2d_forward(X, W, b)
    assert_close(algorithm.conv2d_forward(X, W, b), Z, FLOAT64)
    dZ = rng.normal(size=Z.shape)
    assert_close(algorithm.conv2d_backward(dZ, W), layers.conv2d_backward(dZ, W), FLOAT64)


# What is kept, and where, decides how a strip ends and how a derivative comes in.
PLANS: dict[str, tuple[tuple[int | Pooling, ...], tuple[str, ...], str]] = {
    "as VGG-19 is used": ((8, 8, "max", 16, 16, "max", 24), ("conv0", "conv3", "conv6"), "conv4"),
    "average pooling": ((8, 8, "avg", 16, 16, "avg", 24), ("conv0", "conv3", "conv6"), "conv4"),
    "odd numbers of filters": ((5, 7, "max", 9, 3, "avg", 11), ("conv0", "conv6"), "conv3"),
    "kept above and below a max pooling": ((8, 8, "max", 8), ("conv1", "pool2"), "conv3"),
    "kept above and below an average pooling": ((8, 8, "avg", 8), ("conv1", "pool2"), "conv3"),
    "the first layer is not kept": ((8, 8, 8), ("conv1",), "conv2"),
    "the first layer is pooled": ((8, "max", 8), ("conv2",), "conv2"),
    "the first layer is pooled, odd numbers": ((5, "max", 3), ("conv2",), "conv2"),
    "the first layer is pooled by the mean": ((8, "avg", 8), ("conv0",), "conv2"),
    "the first layer is pooled and not kept": ((8, "avg", 8), ("conv2",), "conv2"),
    "a pooling is the deepest": ((8, 8, "max"), ("pool2",), "conv1"),
    "one layer": ((8,), ("conv0",), "conv0"),
}


@pytest.mark.parametrize("name", PLANS)
@given(
    st.integers(4, 22), st.integers(4, 22), st.integers(0, 2**32 - 1), st.sampled_from([0, 10**5])
)
@settings(max_examples=8, deadline=None)
def test_the_objective_in_passes_is_the_plain_one(
    name: str, H: int, V: int, seed: int, room: int
) -> None:
    plan, style, content = PLANS[name]
    rng = np.random.default_rng(seed)
    network = random_network(rng, plan)
    objective, x = random_objective(rng, network, style, content, H, V)
    assume(distance_to_kink(network, x) > 1e-5)  # or rounding may choose otherwise
    fast = in_passes(objective, room=room)
    expected, found = objective.loss_and_gradient(x), fast.loss_and_gradient(x)
    assert found.loss == pytest.approx(expected.loss, rel=FLOAT32)
    for layer, E in expected.style.items():
        assert found.style[layer] == pytest.approx(E, rel=10 * FLOAT32)
    assert_close(found.gradient, expected.gradient)
    # Nothing of a pass is left over for the next.
    np.testing.assert_array_equal(fast.loss_and_gradient(x).gradient, found.gradient)


@pytest.mark.parametrize("name", PLANS)
def test_responses_from_elsewhere_are_taken_over(name: str, rng: np.random.Generator) -> None:
    plan, style, content = PLANS[name]
    network = random_network(rng, plan).astype(np.float32)
    objective, x = random_objective(rng, network, style, content, 19, 13)
    assert distance_to_kink(network, x) > 1e-6  # or rounding may choose otherwise
    ours = in_passes(objective)
    step = ChannelsLastKernels(2)
    cut = network.until(objective.layers)
    backward_pass = WinogradPasses(cut, objective.layers, workers=step.workers)
    theirs = replace(
        objective,
        forward=lambda v: backward_pass.adopt(cut.forward(v.astype(np.float32))),
        kernels=step,
        backward=backward_pass.backward,
    )
    expected, found = ours.loss_and_gradient(x), theirs.loss_and_gradient(x)
    assert found.loss == pytest.approx(expected.loss, rel=FLOAT32)
    assert_close(found.gradient, expected.gradient)


@pytest.mark.parametrize("elsewhere", [False, True])
def test_of_equal_values_in_a_window_the_first_takes_the_derivative(elsewhere: bool) -> None:
    # Convolutions that copy: what comes in is what is pooled.
    W = np.zeros((8, 3, 3, 3), np.float32)
    W[:3, :, 1, 1] = np.eye(3)
    same = np.zeros((8, 8, 3, 3), np.float32)
    same[:, :, 1, 1] = np.eye(8)
    b = np.zeros(8, np.float32)
    network = Network(
        (Convolution("a", W, b), Convolution("b", same, b), Pool("c", "max"))
    )  # fmt: skip
    backward_pass = WinogradPasses(network, ["c"], workers=ChannelsLastKernels(1).workers)
    v = np.zeros((3, 4, 4), np.float32)
    v[0, :2, :2] = 1.0  # four equal ones
    v[1, 2:, 2:] = [[0.5, 2.0], [2.0, 0.5]]  # two equal ones
    v[2, :2, 2:] = [[0.5, 0.5], [2.0, 2.0]]  # two in one row
    backward_pass.adopt(network.forward(v)) if elsewhere else backward_pass.forward(v)

    def ones(_name: str, _dF: Array | None) -> Array:
        seed = channels_last((8, 2, 2))
        seed[...] = 1.0
        return seed

    expected = np.zeros_like(v)
    expected[0, 0, 0] = expected[1, 2, 3] = expected[2, 1, 2] = 1.0  # and none where all four are 0
    assert_close(backward_pass.backward({}, ones), expected, 1e-6)


def test_the_loss_terms_are_the_plain_ones(rng: np.random.Generator) -> None:
    shape = (13, 9, 11)
    responses, P = np.maximum(rng.normal(size=(2, *shape)), 0).astype(np.float32)
    F, dF = channels_last(shape), channels_last(shape)
    F[...], dF[...] = responses, rng.normal(size=shape)
    step = ChannelsLastKernels(2)
    G = step.gram(F)
    assert_close(G, PLAIN.gram(responses.astype(float)))
    # A Gram matrix is symmetric; this one is far enough away for the seed to be seen.
    noise, M = 1e6 * rng.normal(size=G.shape), shape[1] * shape[2]
    A = G + noise + noise.T
    expected = PLAIN.add_style_gradient(np.array(dF, float), responses.astype(float), G, A, M, 3.0)
    expected = PLAIN.add_content_gradient(expected, responses.astype(float), P, 0.5)
    found = step.add_content_gradient(step.add_style_gradient(dF, F, G, A, M, 3.0), F, P, 0.5)
    assert_close(found, np.where(responses > 0, expected, 0))
    alone = step.add_style_gradient(None, F, G, A, M, 3.0)
    assert_close(alone, PLAIN.add_style_gradient(None, responses.astype(float), G, A, M, 3.0))


def test_the_result_does_not_depend_on_the_number_of_threads(rng: np.random.Generator) -> None:
    plan, style, content = PLANS["as VGG-19 is used"]
    objective, x = random_objective(rng, random_network(rng, plan), style, content, 61, 45)
    one, three = (in_passes(objective, threads).loss_and_gradient(x) for threads in (1, 3))
    assert one.loss == three.loss
    np.testing.assert_array_equal(one.gradient, three.gradient)


def test_a_pass_of_its_own_is_not_taken_apart(rng: np.random.Generator) -> None:
    plan, style, content = PLANS["as VGG-19 is used"]
    objective, x = random_objective(rng, random_network(rng, plan), style, content, 9, 9)
    fast = in_passes(objective)
    with pytest.raises(OptionError, match="cannot be looked into; choose the engine numpy"):
        trace(fast, x)
    with pytest.raises(OptionError, match="cannot be taken apart; choose the engine numpy"):
        fast.alone("conv0")


def test_an_image_of_another_size_and_the_first_again(rng: np.random.Generator) -> None:
    network = random_network(rng, (8, 8, "max", 16))
    backward_pass = WinogradPasses(
        network.astype(np.float32), ["conv3"], workers=ChannelsLastKernels(2).workers
    )
    small, large = rng.normal(size=(3, 9, 7)), rng.normal(size=(3, 18, 30))
    for v in (small, large, small):
        assert_close(backward_pass.forward(v)["conv3"], network.forward(v)["conv3"])


def test_memory_that_lies_otherwise_is_refused(rng: np.random.Generator) -> None:
    F = channels_last((5, 3, 4))
    F[...] = rng.normal(size=F.shape)
    assert matrix(F).shape == (12, 8)
    np.testing.assert_array_equal(flat(F).reshape(3, 4, 8)[:, :, :5].transpose(2, 0, 1), F)
    with pytest.raises(ValueError, match="positions before channels"):
        flat(np.zeros((5, 3, 4), np.float32))


@pytest.fixture
def without_numba(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(sys.modules):
        if "winograd" in name:
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "numba", None)


@pytest.mark.usefixtures("without_numba")
@pytest.mark.real_model
def test_without_numba_the_engine_is_refused_in_one_line() -> None:
    file = read_model(locate_model())
    network = file.network.until(["conv1_1"])
    with pytest.raises(RuntimeMissingError, match=r'pip install "gramstyle\[fast\]"'):
        open_engine("winograd", file, network, ["conv1_1"], pooling="avg", threads=1)


@pytest.mark.usefixtures("without_numba")
def test_without_numba_the_adapter_is_refused_in_one_line() -> None:
    with pytest.raises(OptionError, match=r'needs Numba .* pip install "gramstyle\[fast\]"'):
        load("numpy_winograd")


def test_the_default_engine_is_the_fastest_that_is_installed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert default_engine() == "winograd"
    monkeypatch.setattr("gramstyle.engines.registry.find_spec", lambda _name: None)
    assert default_engine() == "numpy"


@pytest.mark.real_model
@pytest.mark.parametrize("name", ["numpy", "winograd", "hybrid"])
@pytest.mark.parametrize("pooling", ["max", "avg"])
def test_every_engine_gives_the_float64_gradient_on_the_real_network(
    name: str, pooling: Pooling, monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator
) -> None:
    monkeypatch.undo()  # strips as users have them
    style, content = ("conv1_1", "conv2_1", "conv3_1", "conv4_1", "conv5_1"), "conv4_2"
    file = read_model(locate_model())
    kept = (content, *style)
    network = file.network.until(kept).pooled_by(pooling)
    engine = open_engine(name, file, network, kept, pooling=pooling, threads=2)  # type: ignore[arg-type]
    exact = network.astype(np.float64)
    x, p, a = rng.uniform(0, 255, (3, 3, 66, 81))
    preprocess = file.preprocessing.forward
    truth = Objective(
        network=exact,
        preprocessing=file.preprocessing,
        content=ContentTarget(content, exact.forward(preprocess(p))[content]),
        style=style_targets(exact.forward(preprocess(a)), style),
        weights=Weights(alpha=1e-3, beta=1.0, w=dict.fromkeys(style, 0.2)),
    )
    fast = replace(
        truth, network=network, forward=engine.forward, kernels=engine.kernels,
        backward=engine.backward,
    )  # fmt: skip
    expected, found = truth.loss_and_gradient(x), fast.loss_and_gradient(x)
    assert found.loss == pytest.approx(expected.loss, rel=2e-6)
    error = np.linalg.norm(found.gradient - expected.gradient) / np.linalg.norm(expected.gradient)
    # Rounding is 1e-6 of it; the few ReLUs and windows that rounding turns the other way are most.
    assert error < 1e-3
