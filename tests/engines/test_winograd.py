"""Winograd's convolutions, in NumPy and in strips of tiles, against those of `core.layers`."""

import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numba
import numpy as np
import pytest
import sympy
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from gramstyle.analysis.trace import trace
from gramstyle.conformance.adapters import load
from gramstyle.core import layers
from gramstyle.core.arrays import Array
from gramstyle.core.kernels import PlainKernels, Pooling
from gramstyle.core.layers import Padding
from gramstyle.core.network import Convolution, Network, Pool
from gramstyle.core.objective import Objective
from gramstyle.core.preprocessing import Preprocessing
from gramstyle.engines.registry import default_engine, open_engine
from gramstyle.engines.threads import Workers
from gramstyle.engines.winograd import (
    algorithm,
    blocks,
    convolution,
    kernel_panels,
    kernels,
    passes,
    products,
    simd,
)
from gramstyle.engines.winograd.kernels import ChannelsLastKernels
from gramstyle.engines.winograd.layout import GAP, channels_last, flat, matrix, padded
from gramstyle.engines.winograd.passes import WinogradPasses
from gramstyle.engines.winograd.simd import WIDTH
from gramstyle.engines.winograd.tiles import patch_transform, tile_transform
from gramstyle.errors import NonFiniteError, OptionError, RuntimeMissingError
from gramstyle.model import locate_model, read_model
from objectives import ContentTarget, Weights, composed, spec_of, style_targets

PLAIN = PlainKernels()

# The algorithm is exact. In float64, only rounding remains: a few hundred terms, amplified by the
# entries of the matrices (at most 100 in all).
FLOAT64 = 1e-12

# float32 against float64, relative to the largest entry: 2^-24 times about 10 for the transforms
# and √terms for the sums.
FLOAT32 = 2e-5

# Where a ReLU or a pooling is closer to its kink than this, rounding may flip its mask: responses
# of 1 to 10 have errors of 1e-5.
KINK = 1e-4

IDENTITY = Preprocessing(channels="RGB", mean=(0.0, 0.0, 0.0), scale=(1.0, 1.0, 1.0))

sizes = st.tuples(st.integers(1, 14), st.integers(1, 21), st.integers(1, 21))


@pytest.fixture(autouse=True)
def small_strips(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make strips so small that even these small arrays are split."""
    monkeypatch.setattr(convolution, "LONGEST", 6)
    monkeypatch.setattr(passes, "POSITIONS", 40)
    monkeypatch.setattr(kernels, "LONGEST", 40)
    monkeypatch.setattr(kernels, "SHORTEST", 8)


@pytest.fixture(autouse=True)
def scratch_of_nan(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fill scratch memory with NaN, which shows if it is read before it is written."""
    scratch = Workers.scratch

    def filled(self: Workers, name: str, shape: tuple[int, ...]) -> Array:
        array = scratch(self, name, shape)
        array[...] = np.nan
        return array

    monkeypatch.setattr(Workers, "scratch", filled)


def assert_close(found: Array, expected: Array, tolerance: float = FLOAT32) -> None:
    assert found.shape == expected.shape
    scale = max(1.0, float(np.abs(expected).max(initial=0)))
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance * scale)


def random_network(rng: np.random.Generator, plan: Sequence[int | Pooling]) -> Network:
    """A number in the plan is a convolution with that many filters, a word is a pooling."""
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
    objective = composed(
        network=network,
        preprocessing=IDENTITY,
        content=ContentTarget(content, responses[content]),
        style=style_targets(network.forward(a), tuple(style)),
        weights=Weights(alpha=1.0, beta=100.0, w=dict.fromkeys(style, 0.5)),
    )
    return objective, x


def in_passes(objective: Objective, threads: int = 2, *, room: int = 100_000) -> Objective:
    network = objective.network.until(objective.layers).astype(np.float32)
    both = WinogradPasses(network, objective.layers, workers=Workers(threads))
    # NaN shows in the results if anything is read that has not been written.
    both.storage.buffers = [np.full(room, np.nan, np.float32) for _ in range(2)]
    return replace(
        objective,
        forward=both.forward,
        kernels=ChannelsLastKernels(threads),
        backward=both.backward,
    )


def distance_to_kink(network: Network, v: Array) -> float:
    """Return how close a ReLU is to 0, or the two largest entries of a window to each other."""
    nearest, F = np.inf, v
    for layer in network.layers:
        if isinstance(layer, Convolution):
            Z = layers.conv2d_forward(F, layer.W, layer.b, layer.padding)
            nearest, F = min(nearest, np.abs(Z).min()), layers.relu_forward(Z)
        elif layer.kind == "max":
            window = np.sort([F[index] for index in layers.windows(F)], axis=0)
            gaps = (window[3] - window[2])[window[3] > 0]
            nearest, F = min(nearest, gaps.min(initial=np.inf)), layers.max_pool_forward(F)
        else:
            F = layers.avg_pool_forward(F)
    return float(nearest)


@pytest.mark.parametrize("tile", algorithm.TILES)
def test_the_matrices_are_proven_for_every_patch_and_kernel(tile: int) -> None:
    points = [sympy.nsimplify(point, [sympy.sqrt(2)]) for point in algorithm.POINTS[tile]]
    at, g, bt = (sympy.Matrix(rows) for rows in algorithm.exact_matrices(points))
    d, kernel = sympy.Matrix(sympy.symbols(f"d:{tile + 2}")), sympy.Matrix(sympy.symbols("g:3"))
    outputs = at * (g * kernel).multiply_elementwise(bt * d)
    for i, output in enumerate(outputs):
        expected = d[i] * kernel[0] + d[i + 1] * kernel[1] + d[i + 2] * kernel[2]
        assert sympy.expand(output - expected) == 0
    # The engine's matrices are these ones in float64: no entry is above 100 and rounded twice.
    for found, exact in zip(algorithm.matrices(tile), (at, g, bt), strict=True):
        np.testing.assert_allclose(found, np.array(exact.evalf(20), float), rtol=0, atol=1e-13)


@pytest.mark.parametrize("tile", algorithm.TILES)
def test_the_compiled_transforms_are_the_products_with_the_matrices(
    tile: int, rng: np.random.Generator
) -> None:
    at, _, bt = algorithm.matrices(tile)
    edge = tile + 2
    patch, out = patch_transform(tile), tile_transform(tile)

    @numba.njit
    def forward(d: Array, D: Array) -> None:
        patch(d, 0, edge * WIDTH, WIDTH, D, 0, WIDTH)

    @numba.njit
    def back(q: Array, y: Array) -> None:
        out(q, 0, WIDTH, y)

    d = rng.normal(size=(edge, edge, WIDTH)).astype(np.float32)
    D, y = np.full(d.size, np.nan, np.float32), np.full(tile**2 * WIDTH, np.nan, np.float32)
    forward(d.reshape(-1), D)
    back(d.reshape(-1), y)
    assert_close(D.reshape(d.shape), np.einsum("ia,abc,jb->ijc", bt, d, bt))
    assert_close(y.reshape(tile, tile, WIDTH), np.einsum("ia,abc,jb->ijc", at, d, at))


@pytest.mark.parametrize("rows", [1, 5, 6, 13])
@pytest.mark.parametrize(("C", "N"), [(16, 16), (64, 80), (48, 144)])
def test_a_product_with_panels_is_the_matrix_product(
    rows: int, C: int, N: int, rng: np.random.Generator
) -> None:
    U, plane = rng.normal(size=(2, C, N)).astype(np.float32), C * N
    D = np.full((2, rows * C + GAP), np.nan, np.float32)
    D[:, : rows * C] = rng.normal(size=(2, rows * C))
    expected = D[:, : rows * C].reshape(2, rows, C).astype(float) @ U
    for start, width in products.panels(N):
        Q = np.full((2, rows * width + GAP), np.nan, np.float32)
        place = (2, rows, C, start * C, plane, width)
        products.multiply(D.reshape(-1), products.pack(U), *place, Q.reshape(-1))
        found = Q[:, : rows * width].reshape(2, rows, width)
        assert_close(found, expected[:, :, start : start + width])


@pytest.mark.parametrize("tile", algorithm.TILES)
@pytest.mark.parametrize("shape", [(5, 3), (64, 48), (150, 67)])
def test_the_panels_of_kernels_are_the_transformed_kernels(
    tile: int, shape: tuple[int, int], rng: np.random.Generator
) -> None:
    W = rng.normal(size=(*shape, 3, 3)).astype(np.float32)
    N, C = padded(shape[0]), padded(shape[1])
    wide = np.zeros((N, C, 3, 3))
    wide[: shape[0], : shape[1]] = W
    exact = algorithm.transform_kernels(wide, tile)
    kernels, square = kernel_panels.by_taps(W), np.full(9 * WIDTH**2, np.nan, np.float32)
    for transposed, U in ((True, exact), (False, exact.swapaxes(1, 2))):
        planes, inner, columns = U.shape
        found = np.full((planes, inner * columns), np.nan, np.float32)
        for start, width in products.panels(columns):
            at = (start, width, tile, found.reshape(-1), start * inner, inner * columns)
            if transposed:
                kernel_panels.transform_transposed(kernels, columns, inner, *at, square)
            else:
                kernel_panels.transform(kernels, columns, inner, *at)
        # Two transforms of three terms in float32; entries are at most 10.
        assert_close(found.reshape(-1), products.pack(U), 1e-6)


@given(sizes, st.integers(1, 9), st.sampled_from(algorithm.TILES), st.integers(0, 2**32 - 1))
@settings(max_examples=40)
def test_the_plain_algorithm_is_the_convolution_and_its_backward(
    shape: tuple[int, int, int], N: int, tile: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    X, W, b = rng.normal(size=shape), rng.normal(size=(N, shape[0], 3, 3)), rng.normal(size=N)
    Z = layers.conv2d_forward(X, W, b)
    assert_close(algorithm.conv2d_forward(X, W, b, tile), Z, FLOAT64)
    dZ = rng.normal(size=Z.shape)
    dX = algorithm.conv2d_backward(dZ, W, tile)
    assert_close(dX, layers.conv2d_backward(dZ, W), FLOAT64)


# The layers, the style layers and the content layer. Which layers are returned decides how a strip
# ends and how a derivative enters.
PLANS: dict[str, tuple[tuple[int | Pooling, ...], tuple[str, ...], str]] = {
    "as VGG-19 is used": ((8, 8, "max", 16, 16, "max", 24), ("conv0", "conv3", "conv6"), "conv4"),
    "average pooling": ((8, 8, "avg", 16, 16, "avg", 24), ("conv0", "conv3", "conv6"), "conv4"),
    "odd numbers of filters": ((5, 7, "max", 9, 3, "avg", 11), ("conv0", "conv6"), "conv3"),
    "returned above and below a max pooling": ((8, 8, "max", 8), ("conv1", "pool2"), "conv3"),
    "returned above and below an average pooling": ((8, 8, "avg", 8), ("conv1", "pool2"), "conv3"),
    "the first layer is not returned": ((8, 8, 8), ("conv1",), "conv2"),
    "the first layer is pooled": ((8, "max", 8), ("conv2",), "conv2"),
    "the first layer is pooled, odd numbers": ((5, "max", 3), ("conv2",), "conv2"),
    "the first layer is average pooled": ((8, "avg", 8), ("conv0",), "conv2"),
    "the first layer is pooled and not returned": ((8, "avg", 8), ("conv2",), "conv2"),
    "a pooling is the deepest layer": ((8, 8, "max"), ("pool2",), "conv1"),
    "two registers under a mask": ((8, 16, 16), ("conv0",), "conv2"),
    "wide and narrow panels": ((72, 96, "max", 80), ("conv0", "conv3"), "conv1"),
    "one layer": ((8,), ("conv0",), "conv0"),
}


@pytest.mark.parametrize("name", PLANS)
@given(
    st.integers(4, 22),
    st.integers(4, 22),
    st.integers(0, 2**32 - 1),
    st.sampled_from([0, 10**5]),
    st.sampled_from([0, 16, 256]),
    st.sampled_from([0, 256]),
)
@settings(max_examples=8)
def test_the_objective_in_passes_is_the_plain_one(
    name: str, H: int, V: int, seed: int, room: int, few: int, few_tiles: int
) -> None:
    # The tiles are small, small or large by the number of channels, and large.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(blocks, "FEW_CHANNELS", few)
        patch.setattr(convolution, "FEW_TILES", few_tiles)  # by strips, or by panels
        check_the_objective(name, H, V, seed, room)


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=3)
def test_the_objective_in_passes_is_the_plain_one_in_a_wide_image(seed: int) -> None:
    check_the_objective("as VGG-19 is used", 5, 211, seed, room=10**5)


def check_the_objective(name: str, H: int, V: int, seed: int, room: int) -> None:
    plan, style, content = PLANS[name]
    rng = np.random.default_rng(seed)
    network = random_network(rng, plan)
    objective, x = random_objective(rng, network, style, content, H, V)
    assume(distance_to_kink(network, x) > KINK)
    fast = in_passes(objective, room=room)
    expected, found = objective.loss_and_gradient(x), fast.loss_and_gradient(x)
    assert found.loss == pytest.approx(expected.loss, rel=FLOAT32)
    for layer, E in expected.layers["style"].items():
        assert found.layers["style"][layer] == pytest.approx(E, rel=10 * FLOAT32)
    assert_close(found.gradient, expected.gradient)
    # The first evaluation leaves nothing behind that changes the second.
    np.testing.assert_array_equal(fast.loss_and_gradient(x).gradient, found.gradient)


@pytest.mark.parametrize("padding", ["replicate", "reflect", "circular"])
@pytest.mark.parametrize("name", PLANS)
@given(st.integers(8, 22), st.integers(8, 22), st.integers(0, 2**32 - 1))
@settings(max_examples=3)
def test_the_objective_in_passes_is_the_plain_one_with_each_padding(
    name: str, padding: Padding, H: int, V: int, seed: int
) -> None:
    plan, style, content = PLANS[name]
    rng = np.random.default_rng(seed)
    network = random_network(rng, plan).padded_by(padding)
    objective, x = random_objective(rng, network, style, content, H, V)
    assume(distance_to_kink(network, x) > KINK)
    fast = in_passes(objective)
    expected, found = objective.loss_and_gradient(x), fast.loss_and_gradient(x)
    assert found.loss == pytest.approx(expected.loss, rel=FLOAT32)
    assert_close(found.gradient, expected.gradient)
    np.testing.assert_array_equal(fast.loss_and_gradient(x).gradient, found.gradient)


@pytest.mark.parametrize("name", PLANS)
def test_responses_of_another_runtime_are_converted(name: str, rng: np.random.Generator) -> None:
    plan, style, content = PLANS[name]
    network = random_network(rng, plan).astype(np.float32)
    objective, x = random_objective(rng, network, style, content, 19, 13)
    assert distance_to_kink(network, x) > 1e-6  # or rounding may flip a mask
    cut = network.until(objective.layers)
    both = WinogradPasses(cut, objective.layers, workers=Workers(2))
    converted = replace(
        objective,
        forward=lambda v: both.convert(cut.forward(v.astype(np.float32))),
        kernels=ChannelsLastKernels(2),
        backward=both.backward,
    )
    expected, found = (each.loss_and_gradient(x) for each in (in_passes(objective), converted))
    assert found.loss == pytest.approx(expected.loss, rel=FLOAT32)
    assert_close(found.gradient, expected.gradient)


@pytest.mark.parametrize("converted", [False, True])
def test_the_first_of_equal_values_in_a_window_takes_the_derivative(converted: bool) -> None:
    # These convolutions copy their input, so the input is what the last layer pools.
    W = np.zeros((8, 3, 3, 3), np.float32)
    W[:3, :, 1, 1] = np.eye(3)
    same = np.zeros((8, 8, 3, 3), np.float32)
    same[:, :, 1, 1] = np.eye(8)
    b = np.zeros(8, np.float32)
    network = Network((Convolution("a", W, b), Convolution("b", same, b), Pool("c", "max")))
    both = WinogradPasses(network, ["c"], workers=Workers(1))
    v = np.zeros((3, 4, 4), np.float32)
    v[0, :2, :2] = 1.0  # four equal values
    v[1, 2:, 2:] = [[0.5, 2.0], [2.0, 0.5]]  # two equal values
    v[2, :2, 2:] = [[0.5, 0.5], [2.0, 2.0]]  # two equal values in one row
    both.convert(network.forward(v)) if converted else both.forward(v)

    def ones(_name: str, _dF: Array | None) -> Array:
        seed = channels_last((8, 2, 2))
        seed[...] = 1.0
        return seed

    # In a window of four zeros, no value takes the derivative.
    expected = np.zeros_like(v)
    expected[0, 0, 0] = expected[1, 2, 3] = expected[2, 1, 2] = 1.0
    assert_close(both.backward({}, ones), expected, 1e-6)


def test_the_loss_terms_equal_the_plain_ones(rng: np.random.Generator) -> None:
    shape = (13, 9, 11)
    responses, P = np.maximum(rng.normal(size=(2, *shape)), 0).astype(np.float32)
    F, dF = channels_last(shape), channels_last(shape)
    F[...], dF[...] = responses, rng.normal(size=shape)
    step = ChannelsLastKernels(2)
    G = step.gram(F)
    assert_close(G, PLAIN.gram(responses.astype(float)))
    # A is symmetric, and so far from G that its derivative is not lost beside dF.
    noise, M = 1e6 * rng.normal(size=G.shape), shape[1] * shape[2]
    A = G + noise + noise.T
    expected = PLAIN.add_style_gradient(np.array(dF, float), responses.astype(float), G, A, M, 3.0)
    expected = PLAIN.add_content_gradient(expected, responses.astype(float), P, 0.5)
    found = step.add_content_gradient(step.add_style_gradient(dF, F, G, A, M, 3.0), F, P, 0.5)
    assert_close(found, np.where(responses > 0, expected, 0))
    alone = step.add_style_gradient(None, F, G, A, M, 3.0)
    assert_close(alone, PLAIN.add_style_gradient(None, responses.astype(float), G, A, M, 3.0))
    for pairs in (False, True):
        sums, plain = (
            step.moments(F, pairs=pairs),
            PLAIN.moments(responses.astype(float), pairs=pairs),
        )
        assert sums.count == M
        assert_close(sums.mean, plain.mean)
        assert_close(sums.products, plain.products)
    for D in (noise, noise[0]):  # not symmetric
        expected = PLAIN.add_affine_gradient(None, responses.astype(float), D, noise[1])
        assert_close(step.add_affine_gradient(None, F, D, noise[1]), expected)


@pytest.mark.parametrize("owned", [None, (slice(2, 9), slice(0, 7)), (slice(4, 5), slice(3, 11))])
def test_guided_gram_matrices_equal_the_plain_ones(rng: np.random.Generator, owned: Any) -> None:
    shape = (13, 9, 11)
    responses, F = np.maximum(rng.normal(size=shape), 0).astype(np.float32), channels_last(shape)
    F[...] = responses
    here = responses if owned is None else responses[:, owned[0], owned[1]]
    T, step = rng.uniform(0, 1, here.shape[1:]).astype(np.float32), ChannelsLastKernels(2)
    G, wide = step.gram(F, owned, T), responses.astype(float)
    assert_close(G, PLAIN.gram(wide, owned, T.astype(float)))
    noise = rng.normal(size=G.shape)
    how = (G, noise + noise.T, 31.5, 3.0, owned, T)
    found = step.add_style_gradient(None, F, *how)
    assert_close(found, PLAIN.add_style_gradient(None, wide, *how))


def test_the_result_does_not_depend_on_the_number_of_threads(rng: np.random.Generator) -> None:
    plan, style, content = PLANS["as VGG-19 is used"]
    objective, x = random_objective(rng, random_network(rng, plan), style, content, 61, 45)
    one, three = (in_passes(objective, threads).loss_and_gradient(x) for threads in (1, 3))
    assert one.loss == three.loss
    np.testing.assert_array_equal(one.gradient, three.gradient)


# A processor with registers of eight floats, whatever this one has.
EIGHT_FLOATS = {"NUMBA_CPU_NAME": "haswell", "NUMBA_CPU_FEATURES": "+avx,+avx2,+fma"}


def gradient_of(name: str) -> Array:
    """Return the gradient of a plan, for random images."""
    plan, style, content = PLANS[name]
    rng = np.random.default_rng(7)
    objective, x = random_objective(rng, random_network(rng, plan), style, content, 21, 33)
    return in_passes(objective).loss_and_gradient(x).gradient


@pytest.mark.skipif(
    "+fma" not in simd.features(),
    reason="it compares two kinds of registers of processors by Intel",
)
def test_the_result_does_not_depend_on_the_width_of_registers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()  # strips of the usual size, as in the other process
    names = ("as VGG-19 is used", "average pooling", "wide and narrow panels")
    program = (
        "import numpy as np, sys; from test_winograd import gradient_of;"
        f"np.savez(sys.argv[1], *(gradient_of(name) for name in {names}))"
    )
    folders = (Path(__file__).parent, Path(__file__).parent.parent)
    environment = {**os.environ, **EIGHT_FLOATS, "PYTHONPATH": os.pathsep.join(map(str, folders))}
    file = tmp_path / "gradients.npz"
    subprocess.run([sys.executable, "-c", program, str(file)], env=environment, check=True)
    with np.load(file) as found:
        for name, gradient in zip(names, found.values(), strict=True):
            np.testing.assert_array_equal(gradient, gradient_of(name))


@pytest.mark.parametrize("damaged", ["pixel", "conv0", "conv3", "conv6"])
def test_what_is_not_finite_is_seen_in_the_loss(damaged: str, rng: np.random.Generator) -> None:
    plan, style, content = PLANS["as VGG-19 is used"]
    objective, x = random_objective(rng, random_network(rng, plan), style, content, 21, 19)
    if damaged == "pixel":
        x[1, 3, 4] = np.nan
    for layer in objective.network.layers:
        if layer.name == damaged:
            assert isinstance(layer, Convolution)
            layer.b[2] = np.nan
    with pytest.raises(NonFiniteError, match="responses of layer conv"):
        in_passes(objective).loss_and_gradient(x)


def test_winograd_passes_cannot_be_traced_or_split_into_terms(rng: np.random.Generator) -> None:
    plan, style, content = PLANS["as VGG-19 is used"]
    objective, x = random_objective(rng, random_network(rng, plan), style, content, 9, 9)
    fast = in_passes(objective)
    with pytest.raises(OptionError, match="cannot be traced; choose the engine numpy"):
        trace(fast, x)
    with pytest.raises(OptionError, match="cannot separate the terms; choose the engine numpy"):
        fast.alone("style", "conv0")


def test_the_image_size_may_change_and_change_back(rng: np.random.Generator) -> None:
    network = random_network(rng, (8, 8, "max", 16))
    both = WinogradPasses(network.astype(np.float32), ["conv3"], workers=Workers(2))
    small, large = rng.normal(size=(3, 9, 7)), rng.normal(size=(3, 18, 30))
    for v in (small, large, small):
        assert_close(both.forward(v)["conv3"], network.forward(v)["conv3"])


def test_an_array_that_is_not_stored_channels_last_is_refused(rng: np.random.Generator) -> None:
    F = channels_last((5, 3, 4))
    F[...] = rng.normal(size=F.shape)
    assert matrix(F).shape == (12, 16)
    np.testing.assert_array_equal(flat(F).reshape(3, 4, 16)[:, :, :5].transpose(2, 0, 1), F)
    with pytest.raises(ValueError, match="not stored channels last"):
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
    spec = spec_of(file, engine="winograd", style={"conv1_1": 1.0}, threads=1)
    with pytest.raises(RuntimeMissingError, match=r'pip install "numba>='):
        open_engine(spec, file)


@pytest.mark.usefixtures("without_numba")
def test_without_numba_the_adapter_is_refused_in_one_line() -> None:
    with pytest.raises(OptionError, match=r'needs Numba .* pip install "numba>='):
        load("numpy_winograd")


def test_the_default_engine_is_the_fastest_that_is_installed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert default_engine() == "winograd"
    monkeypatch.setattr("gramstyle.engines.registry.find_spec", lambda _name: None)
    assert default_engine() == "numpy"


@pytest.mark.real_model
@pytest.mark.parametrize("name", ["numpy", "winograd", "hybrid"])
@pytest.mark.parametrize(
    ("pooling", "padding"), [("max", "zeros"), ("avg", "zeros"), ("avg", "reflect")]
)
def test_every_engine_gives_the_float64_gradient_on_the_real_network(
    name: str,
    pooling: Pooling,
    padding: Padding,
    monkeypatch: pytest.MonkeyPatch,
    rng: np.random.Generator,
) -> None:
    monkeypatch.undo()  # strips of the usual size
    style, content = ("conv1_1", "conv2_1", "conv3_1", "conv4_1", "conv5_1"), "conv4_2"
    file = read_model(locate_model())
    w = dict.fromkeys(style, 0.2)
    spec = spec_of(
        file, engine=name, content=content, style=w, pooling=pooling, padding=padding, threads=2
    )
    network, engine = spec.network(file), open_engine(spec, file)
    exact = network.astype(np.float64)
    x, p, a = rng.uniform(0, 255, (3, 3, 66, 81))
    preprocess = file.preprocessing.forward
    truth = composed(
        network=exact,
        preprocessing=file.preprocessing,
        content=ContentTarget(content, exact.forward(preprocess(p))[content]),
        style=style_targets(exact.forward(preprocess(a)), style),
        weights=Weights(alpha=1e-3, beta=1.0, w=w),
    )
    fast = replace(
        truth, network=network, forward=engine.forward, kernels=engine.kernels,
        backward=engine.backward,
    )  # fmt: skip
    expected, found = truth.loss_and_gradient(x), fast.loss_and_gradient(x)
    # Responses of the deepest layers have errors of 2e-6, which squares double.
    assert found.loss == pytest.approx(expected.loss, rel=1e-5)
    error = np.linalg.norm(found.gradient - expected.gradient) / np.linalg.norm(expected.gradient)
    # Rounding alone is 1e-6. The few ReLUs and windows that rounding flips are most of the error.
    assert error < 1e-3
