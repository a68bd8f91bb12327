"""Every operation against a loop that a reader can check by eye, every backward by its adjoint."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from gramstyle.core import layers
from gramstyle.core.arrays import Array
from gramstyle.core.layers import Padding

# Sums of fewer than a thousand float64 products, in another order: a few units in 1e-16 each.
ROUNDING = 1e-12

sizes = st.tuples(st.integers(1, 4), st.integers(1, 7), st.integers(1, 7))


def naive_conv2d(X: Array, W: Array, b: Array) -> Array:
    """The definition, one multiplication at a time."""
    C, H, V = X.shape
    Z = np.zeros((len(W), H, V))
    for n in range(len(W)):
        for y in range(H):
            for x in range(V):
                Z[n, y, x] = b[n]
                for c in range(C):
                    for i in range(3):
                        for j in range(3):
                            row, column = y + i - 1, x + j - 1
                            if 0 <= row < H and 0 <= column < V:
                                Z[n, y, x] += W[n, c, i, j] * X[c, row, column]
    return Z


def naive_pool(X: Array, reduce: Callable[[Array], float]) -> Array:
    C, H, V = X.shape
    Y = np.zeros((C, H // 2, V // 2))
    for c in range(C):
        for y in range(H // 2):
            for x in range(V // 2):
                Y[c, y, x] = reduce(X[c, 2 * y : 2 * y + 2, 2 * x : 2 * x + 2])
    return Y


@given(sizes, st.integers(1, 4), st.integers(0, 2**32 - 1))
@settings(max_examples=25)
def test_convolution_is_the_naive_loop(size: tuple[int, int, int], N: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    X, W, b = rng.normal(size=size), rng.normal(size=(N, size[0], 3, 3)), rng.normal(size=N)
    np.testing.assert_allclose(
        layers.conv2d_forward(X, W, b), naive_conv2d(X, W, b), rtol=0, atol=ROUNDING
    )


# Names of NumPy's modes, an independent statement of what each padding means.
MODES = {"zeros": "constant", "replicate": "edge", "reflect": "reflect", "circular": "wrap"}


def padded_by_numpy(X: Array, padding: Padding) -> Array:
    return np.pad(X, ((0, 0), (1, 1), (1, 1)), mode=MODES[padding])  # type: ignore[call-overload]


@pytest.mark.parametrize("padding", layers.PADDINGS)
@given(sizes, st.integers(0, 2**32 - 1))
@settings(max_examples=25)
def test_each_padding_is_numpy_s_mode_of_that_meaning(
    padding: Padding, size: tuple[int, int, int], seed: int
) -> None:
    assume(padding != "reflect" or min(size[1:]) > 1)
    X = np.random.default_rng(seed).normal(size=size)
    np.testing.assert_array_equal(layers.pad_forward(X, padding), padded_by_numpy(X, padding))


@pytest.mark.parametrize("padding", layers.PADDINGS)
@given(sizes, st.integers(1, 4), st.integers(0, 2**32 - 1))
@settings(max_examples=25)
def test_with_each_padding_the_backward_pass_is_the_adjoint_of_the_naive_forward_pass(
    padding: Padding, size: tuple[int, int, int], N: int, seed: int
) -> None:
    assume(padding != "reflect" or min(size[1:]) > 1)
    rng = np.random.default_rng(seed)
    W, b = rng.normal(size=(N, size[0], 3, 3)), rng.normal(size=N)
    X, dZ = rng.normal(size=size), rng.normal(size=(N, *size[1:]))
    # Inside the padded image, a convolution with zeros around it reads no zeros.
    Z = naive_conv2d(padded_by_numpy(X, padding), W, b)[:, 1:-1, 1:-1]
    np.testing.assert_allclose(layers.conv2d_forward(X, W, b, padding), Z, rtol=0, atol=ROUNDING)
    dX = layers.conv2d_backward(dZ, W, padding)
    assert dX.shape == X.shape
    linear = Z - b[:, None, None]
    assert np.vdot(dZ, linear) == pytest.approx(np.vdot(dX, X), abs=1e3 * ROUNDING)


def test_zeros_have_no_source() -> None:
    with pytest.raises(ValueError, match="takes no values from other positions"):
        layers.ring_sources(4, "zeros")


@given(sizes, st.integers(1, 4), st.integers(0, 2**32 - 1))
@settings(max_examples=25)
def test_convolution_backward_is_the_adjoint_of_its_forward(
    size: tuple[int, int, int], N: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    W = rng.normal(size=(N, size[0], 3, 3))
    X, dZ = rng.normal(size=size), rng.normal(size=(N, *size[1:]))
    Z = naive_conv2d(X, W, np.zeros(N))
    dX = layers.conv2d_backward(dZ, W)
    assert dX.shape == X.shape
    assert np.vdot(dZ, Z) == pytest.approx(np.vdot(dX, X), abs=1e3 * ROUNDING)


def test_convolution_backward_moves_one_derivative_through_the_flipped_kernel() -> None:
    W = np.arange(9.0).reshape(1, 1, 3, 3)
    dZ = np.zeros((1, 5, 5))
    dZ[0, 2, 2] = 1
    # Z[2, 2] reads X[1 + i, 1 + j] with weight W[i, j]: its derivative is the kernel, in place.
    np.testing.assert_array_equal(layers.conv2d_backward(dZ, W)[0, 1:4, 1:4], W[0, 0])


def test_relu_keeps_what_is_positive_and_its_backward_has_derivative_0_at_the_kink() -> None:
    Z = np.array([-2.0, -0.0, 0.0, 3.0])
    F = layers.relu_forward(Z)
    np.testing.assert_array_equal(F, [0, 0, 0, 3])
    np.testing.assert_array_equal(layers.relu_backward(np.ones(4), F), [0, 0, 0, 1])


@given(sizes, st.integers(0, 2**32 - 1))
@settings(max_examples=25)
def test_pooling_is_the_naive_loop_with_odd_edges_left_out(
    size: tuple[int, int, int], seed: int
) -> None:
    X = np.random.default_rng(seed).normal(size=size)
    np.testing.assert_array_equal(layers.max_pool_forward(X), naive_pool(X, np.max))
    np.testing.assert_allclose(
        layers.avg_pool_forward(X), naive_pool(X, np.mean), rtol=0, atol=ROUNDING
    )


@given(sizes, st.integers(0, 2**32 - 1))
@settings(max_examples=25)
def test_average_pooling_backward_is_the_adjoint_of_its_forward(
    size: tuple[int, int, int], seed: int
) -> None:
    rng = np.random.default_rng(seed)
    X = rng.normal(size=size)
    dY = rng.normal(size=(size[0], size[1] // 2, size[2] // 2))
    dX = layers.avg_pool_backward(dY, X)
    assert dX.shape == X.shape
    assert np.vdot(dY, naive_pool(X, np.mean)) == pytest.approx(np.vdot(dX, X), abs=ROUNDING)


@given(sizes, st.integers(0, 2**32 - 1))
@settings(max_examples=25)
def test_max_pooling_backward_gives_each_window_s_derivative_to_its_first_largest(
    size: tuple[int, int, int], seed: int
) -> None:
    rng = np.random.default_rng(seed)
    X = rng.integers(0, 3, size).astype(float)  # three values only: ties in nearly every window
    dY = rng.normal(size=(size[0], size[1] // 2, size[2] // 2))
    expected = np.zeros(size)
    for c, y, x in np.ndindex(dY.shape):
        window = X[c, 2 * y : 2 * y + 2, 2 * x : 2 * x + 2]
        i, j = np.unravel_index(np.argmax(window), (2, 2))  # argmax names the first
        expected[c, 2 * y + i, 2 * x + j] = dY[c, y, x]
    np.testing.assert_array_equal(layers.max_pool_backward(dY, X), expected)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_every_operation_keeps_the_float_type_that_it_is_given(dtype: type) -> None:
    X, W, b = np.ones((2, 4, 4), dtype), np.ones((3, 2, 3, 3), dtype), np.ones(3, dtype)
    dY = np.ones((2, 2, 2), dtype)
    results = (
        layers.conv2d_forward(X, W, b),
        layers.conv2d_backward(np.ones((3, 4, 4), dtype), W),
        layers.relu_forward(X),
        layers.relu_backward(X, X),
        layers.max_pool_forward(X),
        layers.max_pool_backward(dY, X),
        layers.avg_pool_forward(X),
        layers.avg_pool_backward(dY, X),
    )
    assert {result.dtype for result in results} == {np.dtype(dtype)}
