"""`StripKernels` against `PlainKernels`, and which memory they write to."""

import threading
from math import prod

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from gramstyle.core.arrays import Array
from gramstyle.core.kernels import PlainKernels, Pooling
from gramstyle.core.layers import Padding
from gramstyle.engines import onnx_session, strips
from gramstyle.engines.strips import StripKernels
from workers import PATIENCE

PLAIN = PlainKernels()

# float32 sums of at most a few thousand terms against float64, relative to the largest entry: 2^-24
# times about √terms.
FLOAT32 = 2e-5

shapes = st.tuples(st.integers(1, 20), st.integers(1, 40), st.integers(1, 40))


def random_responses(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    return np.maximum(rng.normal(size=shape), 0).astype(np.float32)


def assert_close(found: Array, expected: Array) -> None:
    assert found.shape == expected.shape
    scale = max(1.0, float(np.abs(expected).max(initial=0)))
    np.testing.assert_allclose(found, expected, rtol=0, atol=FLOAT32 * scale)


@pytest.fixture(autouse=True)
def small_strips(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make strips so small that even these small arrays are split."""
    monkeypatch.setattr(strips, "POSITIONS", 64)


@given(shapes, st.integers(1, 20), st.integers(0, 2**32 - 1))
@settings(max_examples=40)
def test_convolution_in_strips_is_the_plain_one(
    shape: tuple[int, int, int], C: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    dF, F = rng.normal(size=shape).astype(np.float32), random_responses(rng, shape)
    W = rng.normal(size=(shape[0], C, 3, 3)).astype(np.float32)
    expected = PLAIN.convolution_backward(dF.astype(float), F, W.astype(float))
    assert_close(StripKernels(2).convolution_backward(dF, F, W), expected)


@pytest.mark.parametrize("padding", ["replicate", "reflect", "circular"])
@given(shapes, st.integers(1, 20), st.integers(0, 2**32 - 1))
@settings(max_examples=20)
def test_a_padded_convolution_in_strips_is_the_plain_one(
    padding: Padding, shape: tuple[int, int, int], C: int, seed: int
) -> None:
    assume(padding != "reflect" or min(shape[1:]) > 1)
    rng = np.random.default_rng(seed)
    dF, F = rng.normal(size=shape).astype(np.float32), random_responses(rng, shape)
    W = rng.normal(size=(shape[0], C, 3, 3)).astype(np.float32)
    expected = PLAIN.convolution_backward(dF.astype(float), F, W.astype(float), padding)
    assert_close(StripKernels(2).convolution_backward(dF, F, W, padding), expected)


@given(shapes, st.sampled_from(["max", "avg"]), st.integers(0, 2**32 - 1))
@settings(max_examples=40)
def test_pooling_in_strips_is_the_plain_one_ties_and_odd_edges_included(
    shape: tuple[int, int, int], kind: Pooling, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    X = rng.integers(0, 3, shape).astype(np.float32)
    dY = rng.normal(size=(shape[0], shape[1] // 2, shape[2] // 2)).astype(np.float32)
    assert_close(StripKernels(2).pool_backward(dY, X, kind), PLAIN.pool_backward(dY, X, kind))


@given(shapes, st.booleans(), st.integers(0, 2**32 - 1))
@settings(max_examples=40)
def test_seeds_in_strips_are_the_plain_ones_once_the_relu_is_crossed(
    shape: tuple[int, int, int], first: bool, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    N, M = shape[0], shape[1] * shape[2]
    F, P = random_responses(rng, shape), random_responses(rng, shape)
    dF = None if first else rng.normal(size=shape).astype(np.float32)
    fast, matrix = StripKernels(2), P.reshape(N, -1)
    A = (matrix @ matrix.T).astype(float)
    G = fast.gram(F)
    assert_close(G, PLAIN.gram(F.astype(float)))

    def masked(total: Array) -> Array:
        return np.where(F > 0, total, 0)

    expected = PLAIN.add_style_gradient(dF, F.astype(float), G, A, M, 3.0)
    found = fast.add_style_gradient(None if first else np.copy(dF), F, G, A, M, 3.0)
    assert_close(masked(found), masked(expected))
    expected = PLAIN.add_content_gradient(dF, F.astype(float), P, 0.5)
    found = fast.add_content_gradient(None if first else np.copy(dF), F, P, 0.5)
    assert_close(masked(found), masked(expected))
    for pairs in (False, True):
        expected, found = PLAIN.moments(F.astype(float), pairs=pairs), fast.moments(F, pairs=pairs)
        assert found.count == M
        assert_close(found.mean, expected.mean)
        assert_close(found.products, expected.products)
    for D in (A, A[0]):
        expected = PLAIN.add_affine_gradient(dF, F.astype(float), D, A[-1])
        found = fast.add_affine_gradient(None if first else np.copy(dF), F, D, A[-1])
        assert_close(masked(found), masked(expected))


def test_the_result_does_not_depend_on_the_number_of_threads(rng: np.random.Generator) -> None:
    shape = (32, 41, 37)
    dF, F = rng.normal(size=shape).astype(np.float32), random_responses(rng, shape)
    W = rng.normal(size=(32, 24, 3, 3)).astype(np.float32)
    one, three = StripKernels(1), StripKernels(3)
    np.testing.assert_array_equal(one.gram(F), three.gram(F))
    np.testing.assert_array_equal(
        one.convolution_backward(dF, F, W), three.convolution_backward(dF, F, W)
    )


def test_a_result_never_overwrites_the_array_that_it_is_computed_from(
    rng: np.random.Generator,
) -> None:
    kernels = StripKernels(2)
    F = random_responses(rng, (17, 8, 8))
    W = rng.normal(size=(17, 17, 3, 3)).astype(np.float32)
    first = kernels.convolution_backward(F, F, W)
    before = first.copy()
    second = kernels.convolution_backward(first, F, W)
    assert not np.shares_memory(first, second)
    np.testing.assert_array_equal(first, before)


def test_a_second_evaluation_allocates_no_result_buffer(rng: np.random.Generator) -> None:
    kernels = StripKernels(2)
    F = random_responses(rng, (17, 8, 8))
    W = rng.normal(size=(17, 17, 3, 3)).astype(np.float32)
    before = [kernels.convolution_backward(F, F, W).ctypes.data for _ in range(2)]
    after = [kernels.convolution_backward(F, F, W).ctypes.data for _ in range(2)]
    assert before == after


def consecutive(*shapes: tuple[int, ...]) -> list[Array]:
    """Return arrays that follow each other in one block of memory, as a session's responses do."""
    memory = np.zeros(sum(map(prod, shapes)), np.float32)
    return list(onnx_session.consecutive(memory, dict(enumerate(shapes))).values())


def test_derivatives_overwrite_released_responses_and_no_others(
    rng: np.random.Generator,
) -> None:
    live, near, far = consecutive((17, 8, 8), (17, 8, 8), (17, 8, 8))
    W = rng.normal(size=(17, 17, 3, 3)).astype(np.float32)
    for F in (live, near, far):
        F[...] = random_responses(rng, F.shape)
    before = live.copy()
    expected = PLAIN.convolution_backward(PLAIN.convolution_backward(far, near, W), live, W)
    kernels = StripKernels(2)
    kernels.release(far)
    dF = kernels.convolution_backward(far.copy(), near, W)
    assert np.shares_memory(dF, far)
    kernels.release(near)
    dX = kernels.convolution_backward(dF, live, W)
    assert np.shares_memory(dX, near)
    assert not np.shares_memory(dX, dF)
    np.testing.assert_array_equal(live, before)
    assert_close(dX, expected)


def test_after_the_backward_pass_no_responses_are_overwritten(rng: np.random.Generator) -> None:
    (F,) = consecutive((17, 8, 8))
    kernels = StripKernels(2)
    kernels.release(F)
    kernels.backward_ends()
    W = np.ones((17, 17, 3, 3), np.float32)
    assert not np.shares_memory(kernels.convolution_backward(F, F, W), F)


def test_released_responses_that_are_not_adjacent_are_never_joined() -> None:
    first, live, last = consecutive((4, 4, 4), (4, 4, 4), (4, 4, 4))
    kernels = StripKernels(2)
    kernels.release(last)
    kernels.release(first)
    dX = kernels.pool_backward(
        np.ones((8, 2, 2), np.float32), np.ones((8, 4, 4), np.float32), "avg"
    )
    assert not np.shares_memory(dX, live)


def test_an_error_in_a_strip_reaches_the_caller(rng: np.random.Generator) -> None:
    F = random_responses(rng, (4, 8, 8))
    with pytest.raises(ValueError, match="matmul"):
        StripKernels(2).convolution_backward(F, F, np.zeros((5, 20, 3, 3), np.float32))


def test_the_threads_end_when_the_kernels_are_deleted(rng: np.random.Generator) -> None:
    others = set(threading.enumerate())  # such as those of kernels in a fixture
    kernels = StripKernels(2)
    kernels.gram(random_responses(rng, (4, 16, 16)))
    workers = set(threading.enumerate()) - others
    assert workers
    del kernels
    for worker in workers:
        worker.join(PATIENCE)
        assert not worker.is_alive()


@given(shapes, st.booleans(), st.integers(0, 2**32 - 1))
@settings(max_examples=40)
def test_guided_gram_matrices_in_strips_are_the_plain_ones(
    shape: tuple[int, int, int], whole: bool, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    N, H, V = shape
    owned = None if whole else (slice(H // 3, H), slice(V // 4, max(V // 4, V - 1)))
    F, fast = random_responses(rng, shape), StripKernels(2)
    here = F if owned is None else F[:, owned[0], owned[1]]
    T = rng.uniform(0, 1, here.shape[1:]).astype(np.float32)
    G = fast.gram(F, owned, T)
    assert_close(G, PLAIN.gram(F.astype(float), owned, T.astype(float)))
    A, how = rng.uniform(0, 1, (N, N)), (H * V / 3, 3.0, owned, T)
    expected = PLAIN.add_style_gradient(None, F.astype(float), G, A + A.T, *how)
    found = fast.add_style_gradient(None, F, G, A + A.T, *how)
    assert_close(np.where(F > 0, found, 0), np.where(F > 0, expected, 0))
