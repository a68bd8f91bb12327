"""A GPU's two passes against the plain ones, in NumPy and with their CUDA source as C++."""

import itertools
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from conftest import tiny_convolutions
from fake_cuda import COMPILER_IS_MISSING, HostKernel
from gramstyle.core import layers
from gramstyle.core.arrays import Array
from gramstyle.core.kernels import PlainKernels
from gramstyle.core.layers import PADDINGS
from gramstyle.core.network import Convolution, Network, Pool
from gramstyle.engines.cuda import forward, products
from gramstyle.engines.cuda import kernels as device_kernels
from gramstyle.engines.cuda.forward import ForwardPass
from gramstyle.engines.cuda.kernels import DeviceKernels
from gramstyle.engines.cuda.products import Buffers, positions_first
from gramstyle.engines.cuda.steps import CUDA_STEPS, Steps
from gramstyle.model.preprocessings import CAFFE
from objectives import ContentTarget, Weights, composed, style_targets

# N, C, H, V: odd sizes; few and many channels; with and without a multiple of four.
SHAPES = [(1, 1, 1, 1), (3, 4, 5, 7), (8, 3, 2, 9), (5, 6, 9, 2), (16, 16, 11, 13), (30, 3, 6, 7)]

# In float64: sums of at most 9 · 16 products in another order.
CLOSE = {"rtol": 1e-12, "atol": 1e-12}


@pytest.fixture(params=["numpy", "compiled"])
def few(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Buffers:
    """Return buffers for strips of few rows; the CUDA source is compiled for the processor."""
    if request.param == "compiled":
        if COMPILER_IS_MISSING:
            pytest.skip("there is no C++ compiler")
        sources = {
            name: HostKernel(*source, f"gramstyle_{name}") for name, source in CUDA_STEPS.items()
        }
        for module in (products, forward, device_kernels):
            monkeypatch.setattr(module, "steps", lambda _xp: Steps(**sources))
    return NanBuffers(entries=700)


class NanBuffers(Buffers):
    """Buffers that are full of NaN each time they are asked for."""

    def __call__(self, name: str, shape: tuple[int, ...], like: Array) -> Array:
        array = super().__call__(name, shape, like)
        array[...] = np.nan
        return array


@pytest.fixture
def kernels(few: Buffers) -> DeviceKernels:
    return DeviceKernels(few)


@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize(("N", "C", "H", "V"), SHAPES)
def test_both_passes_of_a_convolution_equal_the_plain_ones(
    kernels: DeviceKernels,
    few: Buffers,
    rng: np.random.Generator,
    padding: Any,
    N: int,
    C: int,
    H: int,
    V: int,
) -> None:
    if padding == "reflect" and min(H, V) < 2:
        pytest.skip("there is no second position to repeat")
    W, X = rng.normal(size=(N, C, 3, 3)), rng.normal(size=(C, H, V))
    Z = np.empty((H, V, N))
    products.convolve(positions_first(X).copy(), forward.taps_of(W), Z, few, padding)
    expected = layers.conv2d_forward(X, W, np.zeros(N), padding)
    np.testing.assert_allclose(Z.transpose(2, 0, 1), expected, **CLOSE)
    dF, F = rng.normal(size=(2, N, H, V))
    F[0, 0, 0] = 0.0  # the kink
    expected = PlainKernels().convolution_backward(dF, F, W, padding)
    for _ in range(2):
        found = kernels.convolution_backward(dF, F, W, padding)
        np.testing.assert_allclose(found, expected, **CLOSE)


@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize("kind", ["max", "avg"])
@pytest.mark.parametrize(("H", "V"), [(37, 45), (40, 33)])
def test_the_forward_pass_equals_the_plain_one_at_every_call(
    few: Buffers, rng: np.random.Generator, kind: Any, padding: Any, H: int, V: int
) -> None:
    network = _tiny_network(kind).padded_by(padding)
    run = ForwardPass(network, few)
    for v in rng.normal(size=(2, 3, H, V)):
        found = run(v)
        for name, F in network.forward(v).items():
            np.testing.assert_allclose(found[name], F, **CLOSE, err_msg=name)


def test_the_forward_pass_computes_in_the_float_type_of_the_weights(few: Buffers, rng: Any) -> None:
    network, v = _tiny_network("max"), rng.normal(size=(3, 37, 45))
    found = ForwardPass(network.astype(np.float32), few)(v)
    for name, F in network.forward(v).items():
        assert found[name].dtype == np.float32
        # float32 sums of at most 9 · 8 products in 14 layers, beside entries of the size of 1.
        np.testing.assert_allclose(found[name], F, rtol=1e-4, atol=1e-5, err_msg=name)


def test_not_a_number_passes_through_the_forward_pass(few: Buffers, rng: Any) -> None:
    for kind in ("max", "avg"):
        v = rng.normal(size=(3, 8, 8))
        v[0, 3, 3] = np.nan
        network = _tiny_network(kind).until(["conv3_1"])
        for name, F in ForwardPass(network, few)(v).items():
            assert np.isnan(F).any(), name


@pytest.mark.parametrize("kind", ["max", "avg"])
@pytest.mark.parametrize(("C", "H", "V"), [(1, 2, 2), (4, 5, 7), (3, 8, 6), (2, 3, 2)])
def test_the_backward_pass_of_a_pooling_equals_the_plain_one(
    kernels: DeviceKernels, rng: np.random.Generator, kind: Any, C: int, H: int, V: int
) -> None:
    X, dY = rng.normal(size=(C, H, V)), rng.normal(size=(C, H // 2, V // 2))
    expected = PlainKernels().pool_backward(dY, X, kind)
    for _ in range(2):
        np.testing.assert_array_equal(kernels.pool_backward(dY, X, kind), expected)


def test_the_first_of_equal_values_in_a_window_takes_the_derivative(kernels: DeviceKernels) -> None:
    windows = np.array(list(itertools.product([0.0, 1.0], repeat=4)))
    X = windows.reshape(-1, 2, 2)
    dY = np.arange(1.0, 1 + len(X)).reshape(-1, 1, 1)
    expected = PlainKernels().pool_backward(dY, X, "max")
    np.testing.assert_array_equal(kernels.pool_backward(dY, X, "max"), expected)


def test_the_second_of_two_poolings_does_not_overwrite_what_it_reads(
    kernels: DeviceKernels, rng: np.random.Generator
) -> None:
    X, Y, dZ = (rng.normal(size=(2, n, n)) for n in (8, 4, 2))
    plain = PlainKernels()
    expected = plain.pool_backward(plain.pool_backward(dZ, Y, "max"), X, "max")
    kernels.pool_backward(Y, X, "max")  # the array of the larger pooling exists from here on
    found = kernels.pool_backward(kernels.pool_backward(dZ, Y, "max"), X, "max")
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("first", [True, False])
def test_added_gradients_equal_the_plain_ones_but_for_the_mask(
    kernels: DeviceKernels, rng: np.random.Generator, first: bool
) -> None:
    F, P, G, A = (rng.normal(size=s) for s in ((4, 5, 7), (4, 5, 7), (4, 4), (4, 4)))
    F = np.abs(F)  # the mask of equations 2 and 6, which is left out here, is 1 for positive F
    for name, arguments in (
        ("add_style_gradient", (F, G + G.T, A + A.T, 35, 3.0)),
        ("add_content_gradient", (F, P, 0.5)),
        ("add_affine_gradient", (F, G, A[0])),
        ("add_affine_gradient", (F, G[0], A[0])),
        ("add_gradient", (F, P)),
    ):
        dF = None if first else rng.normal(size=F.shape)
        expected = getattr(PlainKernels(), name)(None if first else dF.copy(), *arguments)
        np.testing.assert_allclose(getattr(kernels, name)(dF, *arguments), expected, **CLOSE)


@pytest.mark.parametrize("owned", [None, (slice(1, 4), slice(2, 7))])
@pytest.mark.parametrize("first", [True, False])
def test_guided_gram_matrices_equal_the_plain_ones(
    kernels: DeviceKernels, rng: np.random.Generator, first: bool, owned: Any
) -> None:
    F, A = np.abs(rng.normal(size=(4, 5, 7))), rng.normal(size=(4, 4))
    here = F if owned is None else F[:, owned[0], owned[1]]
    T, plain = rng.uniform(0, 1, here.shape[1:]), PlainKernels()
    G = kernels.gram(F, owned, T)
    np.testing.assert_allclose(G, plain.gram(F, owned, T), **CLOSE)
    dF = None if first else rng.normal(size=F.shape)
    how = (F, G, A + A.T, 9.5, 3.0, owned, T)
    expected = plain.add_style_gradient(None if first else dF.copy(), *how)
    np.testing.assert_allclose(kernels.add_style_gradient(dF, *how), expected, **CLOSE)


@pytest.mark.parametrize("pairs", [False, True])
def test_moments_equal_the_plain_ones_in_float64(
    kernels: DeviceKernels, rng: Any, pairs: bool
) -> None:
    F = rng.normal(size=(4, 5, 7))
    for owned in (None, (slice(1, 4), slice(0, 6))):
        expected = PlainKernels().moments(F, owned, pairs=pairs)
        found = kernels.moments(F, owned, pairs=pairs)
        assert found.count == expected.count
        np.testing.assert_allclose(found.mean, expected.mean, **CLOSE)
        np.testing.assert_allclose(found.products, expected.products, **CLOSE)
        single = kernels.moments(F.astype(np.float32), owned, pairs=pairs)
        assert single.mean.dtype == single.products.dtype == np.float64


def test_a_gram_matrix_is_float64(rng: np.random.Generator) -> None:
    F = rng.normal(size=(4, 5, 7)).astype(np.float32)
    G = DeviceKernels().gram(F)
    assert G.dtype == np.float64
    # float32 products, summed over 35 positions.
    np.testing.assert_allclose(G, PlainKernels().gram(F.astype(np.float64)), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("pooling", ["max", "avg"])
def test_a_whole_objective_equals_the_plain_one_at_every_evaluation(
    kernels: DeviceKernels, few: Buffers, rng: np.random.Generator, pooling: Any
) -> None:
    network = _tiny_network(pooling)
    images = rng.uniform(0, 255, (4, 3, 37, 45))
    responses = [network.forward(CAFFE.forward(p)) for p in images[:2]]
    names = ("conv1_1", "conv2_1", "conv3_1")
    objective = composed(
        network=network,
        preprocessing=CAFFE,
        content=ContentTarget("conv2_2", responses[0]["conv2_2"]),
        style=style_targets(responses[1], names),
        weights=Weights(alpha=1.0, beta=100.0, w=dict.fromkeys(names, 1 / 3)),
    )
    fast = replace(objective, kernels=kernels, forward=ForwardPass(network, few))
    for x in images[2:]:  # for the second, all arrays hold the numbers of the first
        expected, found = objective.loss_and_gradient(x), fast.loss_and_gradient(x)
        scale = np.abs(expected.gradient).max()
        assert found.loss == pytest.approx(expected.loss, rel=1e-12)
        np.testing.assert_allclose(found.gradient / scale, expected.gradient / scale, atol=1e-12)


def test_the_second_evaluation_returns_the_arrays_of_the_first(rng: np.random.Generator) -> None:
    kernels, W = DeviceKernels(), rng.normal(size=(4, 3, 3, 3))
    F, dF = rng.normal(size=(2, 4, 30, 40))

    def addresses() -> list[int]:
        dX = kernels.convolution_backward(dF, F, W)
        return [dX.ctypes.data, kernels.pool_backward(dF[:, :15, :20], F, "max").ctypes.data]

    assert addresses() == addresses()


def test_cublas_gets_contiguous_matrices(
    monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator
) -> None:
    """CuPy passes a contiguous matrix to cuBLAS as it is, and any other one as a copy."""
    calls: list[tuple[Array, ...]] = []
    matmul = np.matmul

    def recorded(a: Array, b: Array, out: Array) -> Array:
        calls.append((a, b, out))
        return matmul(a, b, out=out)

    monkeypatch.setattr(np, "matmul", recorded)
    network, buffers = _tiny_network("max").until(["conv2_1"]), Buffers(entries=700)
    F = ForwardPass(network, buffers)(rng.normal(size=(3, 11, 13)))
    kernels = DeviceKernels(buffers)
    for N, C in ((5, 4), (40, 3)):
        W, dF = rng.normal(size=(N, C, 3, 3)), rng.normal(size=(N, 5, 6))
        kernels.convolution_backward(dF, dF, W)
    kernels.add_style_gradient(None, F["conv2_1"], np.eye(5), np.eye(5), 3, 1.0)
    assert len(calls) > 7
    for a, b, out in calls:
        assert a.flags.c_contiguous
        assert b.flags.c_contiguous or b.flags.f_contiguous
        assert out.flags.c_contiguous
        assert not np.may_share_memory(out, a)


def _tiny_network(pooling: Any) -> Network:
    layers: list[Any] = []
    for convolution in tiny_convolutions():
        block = int(convolution.name[4])
        if layers and int(layers[-1].name[4]) != block:
            layers.append(Pool(f"pool{block - 1}", pooling))
        layers.append(
            Convolution(convolution.name, convolution.W.astype("f8"), convolution.b.astype("f8"))
        )
    return Network(tuple(layers))
