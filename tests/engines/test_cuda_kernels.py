"""`DeviceKernels` against `PlainKernels`, in NumPy and with their CUDA source compiled as C."""

import ctypes
import itertools
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conftest import tiny_convolutions
from gramstyle.core.arrays import Array
from gramstyle.core.kernels import PlainKernels
from gramstyle.core.network import Convolution, Network, Pool
from gramstyle.engines.cuda import kernels as device_kernels
from gramstyle.engines.cuda.kernels import CUDA_STEPS, DeviceKernels
from gramstyle.model.vgg19 import CAFFE
from objectives import ContentTarget, Weights, composed, style_targets

SHAPES = [(1, 1, 1, 1), (3, 4, 5, 7), (8, 3, 2, 9), (5, 6, 9, 2), (16, 16, 11, 13)]  # N, C, H, V

# In float64: sums of at most 9 · 16 products in another order.
CLOSE = {"rtol": 1e-12, "atol": 1e-12}


@pytest.fixture(params=["numpy", "compiled"])
def kernels(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """Return DeviceKernels with NumPy's steps, and with the CUDA source compiled for the CPU."""
    if request.param == "compiled":
        if shutil.which("cc") is None:
            pytest.skip("there is no C compiler")
        steps = {name: _compiled(name, *step, folder=tmp_path) for name, step in CUDA_STEPS.items()}
        monkeypatch.setattr(device_kernels, "_steps", lambda _xp: device_kernels._Steps(**steps))
    return DeviceKernels()


def _compiled(name: str, read: str, written: str, operation: str, *, folder: Path) -> Any:
    """Return an elementwise kernel as a function of float64 arrays, as CuPy does."""
    inputs = len(read.split(","))
    names = [part.split()[-1] for part in f"{read}, {written}".split(",")]
    text = re.sub(r"\bT\b", "double", operation)
    inside = "".join(f"\n#define {n} (*(double *)(p[{k}] + i * 8))" for k, n in enumerate(names))
    source = folder / f"{name}.c"
    source.write_text(
        f"#include <stdbool.h>{inside}\n"
        f"void run(char **p, long n) {{ for (long i = 0; i < n; i++) {{ {text} }} }}\n"
    )
    library = folder / f"{name}.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-o", library, source], check=True)  # noqa: S607
    function = ctypes.CDLL(str(library)).run

    def kernel(*arguments: Any) -> None:
        shape = arguments[-1].shape
        flat = [
            np.ascontiguousarray(np.broadcast_to(np.asarray(each, np.float64), shape))
            for each in arguments
        ]
        pointers = (ctypes.c_void_p * len(flat))(*(each.ctypes.data for each in flat))
        function(pointers, ctypes.c_long(flat[0].size))
        for each, result in zip(arguments[inputs:], flat[inputs:], strict=True):
            each[...] = result

    return kernel


@pytest.mark.parametrize(("N", "C", "H", "V"), SHAPES)
def test_the_backward_pass_of_a_convolution_equals_the_plain_one(
    kernels: DeviceKernels, rng: np.random.Generator, N: int, C: int, H: int, V: int
) -> None:
    dF, F, W = rng.normal(size=(N, H, V)), rng.normal(size=(N, H, V)), rng.normal(size=(N, C, 3, 3))
    F[0, 0, 0] = 0.0  # the kink
    expected = PlainKernels().convolution_backward(dF, F, W)
    for _ in range(2):  # the second time, all arrays hold the numbers of the first
        np.testing.assert_allclose(kernels.convolution_backward(dF, F, W), expected, **CLOSE)


@pytest.mark.parametrize("padding", ["replicate", "reflect", "circular"])
@pytest.mark.parametrize(("N", "C", "H", "V"), [(3, 2, 2, 5), (8, 4, 7, 6)])
def test_the_backward_pass_of_a_padded_convolution_equals_the_plain_one(
    kernels: DeviceKernels, rng: np.random.Generator, padding: Any, N: int, C: int, H: int, V: int
) -> None:
    dF, F, W = rng.normal(size=(N, H, V)), rng.normal(size=(N, H, V)), rng.normal(size=(N, C, 3, 3))
    expected = PlainKernels().convolution_backward(dF, F, W, padding)
    for _ in range(2):
        found = kernels.convolution_backward(dF, F, W, padding)
        np.testing.assert_allclose(found, expected, **CLOSE)


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


def test_moments_equal_the_plain_ones_in_float64(kernels: DeviceKernels, rng: Any) -> None:
    F = rng.normal(size=(4, 5, 7))
    for owned in (None, (slice(1, 4), slice(0, 6))):
        expected = PlainKernels().moments(F, owned)
        np.testing.assert_allclose(kernels.moments(F, owned), expected, **CLOSE)
        assert kernels.moments(F.astype(np.float32), owned).dtype == np.float64


def test_a_gram_matrix_is_float64(rng: np.random.Generator) -> None:
    F = rng.normal(size=(4, 5, 7)).astype(np.float32)
    G = DeviceKernels().gram(F)
    assert G.dtype == np.float64
    # float32 products, summed over 35 positions.
    np.testing.assert_allclose(G, PlainKernels().gram(F.astype(np.float64)), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("pooling", ["max", "avg"])
def test_a_whole_objective_equals_the_plain_one_at_every_evaluation(
    kernels: DeviceKernels, rng: np.random.Generator, pooling: Any
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
    fast = replace(objective, kernels=kernels)
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
    factors: list[tuple[Array, Array]] = []
    matmul = np.matmul

    def recorded(a: Array, b: Array, out: Array) -> Array:
        factors.append((a, b))
        return matmul(a, b, out=out)

    monkeypatch.setattr(np, "matmul", recorded)
    F, dF = rng.normal(size=(2, 4, 5, 6))
    DeviceKernels().convolution_backward(dF, F, rng.normal(size=(4, 3, 3, 3)))
    assert len(factors) == 9
    for image, kernel in factors:
        assert image.flags.c_contiguous
        assert kernel.flags.c_contiguous
        assert np.may_share_memory(image, factors[4][0])  # the nine are slices of one array


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
