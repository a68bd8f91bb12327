"""The checker passes right derivatives and fails wrong ones."""

# ruff: noqa: ARG005 - a vjp receives the point even if it does not need it

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gradcheck.functions import both_modes, cubes, refused, refused_gradient, squash, squash_vjp
from gramstyle.core.arrays import Array
from gramstyle.gradcheck import GradientCheckError, check_gradient, check_vjp

# The error of an extrapolated difference of a smooth function: 1e-12 for a derivative of middle
# size, more where tanh is nearly flat. The checker's default tolerance is 1e-8.
SMOOTH = 1e-9


@both_modes
def test_a_right_vjp_passes_with_inputs_of_any_size(mode: Any, W: Array, x: Array) -> None:
    checked = check_vjp(squash, squash_vjp, [W, x], mode=mode)
    assert checked.mode == mode
    assert checked.compared == {"directional": 2, "full": (4 * 3 + 3 * 5) * 4 * 5}[mode]
    assert 0 < checked.relative_error < SMOOTH
    assert checked.error < 1
    assert checked.step == 1e-3
    assert checked.flips == {}


@both_modes
@pytest.mark.parametrize("scale", [1e-200, 1e-2, 1.0, 255.0, 1e200])
def test_the_step_is_relative_to_the_size_of_each_input(mode: Any, scale: float) -> None:
    # The same function in other units: a fixed step would be absurd in all but one of them.
    x = scale * np.array([0.3, -0.7, 0.2])
    check_vjp(
        lambda x: np.sin(x / scale), lambda u, x: u * np.cos(x / scale) / scale, [x], mode=mode
    )


def test_an_entry_moves_by_half_to_one_and_a_half_of_eps_times_the_root_mean_square() -> None:
    x, seen = np.array([3.0, -4.0, 5.0, 0.0]), []

    def f(x: Array) -> float:
        seen.append(x.copy())
        return float(np.sum(x))

    check_vjp(f, lambda u, x: u * np.ones_like(x), [x], eps=0.01, directions=1)
    moved = np.abs(seen[1] - x) / (0.01 * np.sqrt(np.mean(x**2)))
    assert moved.min() >= 0.5
    assert moved.max() <= 1.5
    assert len(set(moved)) == 4
    np.testing.assert_allclose(seen[2] - x, x - seen[1], atol=1e-14)
    np.testing.assert_allclose(seen[3] - x, (seen[1] - x) / 2, atol=1e-14)


@pytest.mark.parametrize("shape", [(2, 3), (20, 30)])
@pytest.mark.parametrize("directions", [1, 2, 5])
def test_directional_mode_takes_the_same_number_of_calls_at_any_size(
    shape: tuple[int, int], directions: int, rng: np.random.Generator
) -> None:
    checked = check_vjp(
        np.sin, lambda u, x: u * np.cos(x), [rng.normal(size=shape)], directions=directions
    )
    assert (checked.forwards, checked.backwards) == (4 * directions + 2, directions + 1)
    assert checked.compared == directions


def test_full_mode_calls_f_four_times_an_entry_and_vjp_once_a_result(W: Array, x: Array) -> None:
    checked = check_vjp(squash, squash_vjp, [W, x], mode="full")
    assert (checked.forwards, checked.backwards) == (4 * (W.size + x.size) + 2, 4 * 5 + 2)


def test_the_seed_determines_the_directions(rng: np.random.Generator) -> None:
    x = rng.normal(size=6)

    def points(**options: Any) -> list[Array]:
        seen: list[Array] = []

        def f(x: Array) -> float:
            seen.append(x.copy())
            return float(np.sum(x))

        check_vjp(f, lambda u, x: u * np.ones_like(x), [x], **options)
        return seen

    one, again, other = points(seed=3), points(seed=3), points(seed=4)
    np.testing.assert_array_equal(one, again)
    assert not np.array_equal(one[1], other[1])
    # Two directions differ, and the first does not depend on their number.
    assert not np.allclose(one[1] - x, one[5] - x)
    np.testing.assert_array_equal(points(seed=3, directions=1)[:5], one[:5])


@both_modes
@given(
    shapes=st.lists(st.lists(st.integers(0, 3), max_size=3).map(tuple), min_size=1, max_size=3),
    seed=st.integers(0, 2**32 - 1),
)
@settings(max_examples=10)
def test_inputs_may_have_any_shape_including_0_d_and_empty(
    mode: Any, shapes: list[tuple[int, ...]], seed: int
) -> None:
    inputs = [np.random.default_rng(seed).uniform(0.5, 2, shape) for shape in shapes]

    def f(*xs: Array) -> tuple[Array, ...]:
        # Each result is an input's square times the sum of all.
        return tuple(x**2 * sum(np.sum(y) for y in xs) for x in xs)

    def vjp(us: tuple[Array, ...], *xs: Array) -> tuple[Array, ...]:
        total = sum(np.sum(y) for y in xs)
        across = sum(np.sum(u * x**2) for u, x in zip(us, xs, strict=True))
        return tuple(2 * u * x * total + across for u, x in zip(us, xs, strict=True))

    checked = check_vjp(f, vjp, inputs, mode=mode)
    assert checked.step == 1e-3
    entries = sum(x.size for x in inputs)
    assert checked.compared == (2 if mode == "directional" else entries**2)
    if entries:
        halved = refused(mode, f, lambda us, *xs: tuple(d / 2 for d in vjp(us, *xs)), inputs)
        assert halved.got == pytest.approx(halved.expected / 2)


@both_modes
def test_a_loss_may_be_a_float_and_the_cotangent_is_then_0_d(mode: Any, x: Array) -> None:
    def vjp(u: Array, x: Array) -> Array:
        assert u.shape == ()
        return u * 3 * x**2

    check_vjp(lambda x: cubes(x)[0], vjp, [x], mode=mode)


@both_modes
def test_f_and_vjp_may_reuse_one_buffer_for_their_results(
    mode: Any, rng: np.random.Generator
) -> None:
    x = rng.normal(size=5)
    result, gradient = np.zeros(5), np.zeros(5)

    def vjp(u: Array, x: Array) -> Array:
        return np.multiply(2 * u, x, out=gradient)

    check_vjp(lambda x: np.multiply(x, x, out=result), vjp, [x], mode=mode)


@both_modes
def test_zero_derivatives_pass_and_invented_ones_do_not(mode: Any, x: Array) -> None:
    check_vjp(lambda x: np.full(2, 1e6), lambda u, x: 0 * x, [x], mode=mode)
    invented = refused(mode, lambda x: np.full(2, 7.0), lambda u, x: 0 * x + 1, [x])
    assert invented.expected == pytest.approx(0, abs=1e-9)


@dataclass(frozen=True)
class Pair:
    loss: float
    gradient: Array


@both_modes
@pytest.mark.parametrize("form", [tuple, list, lambda pair: Pair(*pair)])
def test_a_loss_and_its_gradient_come_as_a_pair_or_by_name(mode: Any, form: Any, x: Array) -> None:
    checked = check_gradient(lambda x: form(cubes(x)), x, mode=mode)
    assert checked.compared == {"directional": 2, "full": x.size}[mode]


def test_a_loss_is_reported_in_its_own_units() -> None:
    points: list[Array] = []

    def wrong(x: Array) -> tuple[float, Array]:
        points.append(x.copy())
        return float(3 * np.sum(x)), np.full_like(x, 6)

    error = refused_gradient(wrong, np.ones(2))
    v = (points[2] - points[0]) / 1e-3  # the second call computes the gradient
    assert error.expected == pytest.approx(3 * np.sum(v))
    assert error.got == pytest.approx(6 * np.sum(v))


@both_modes
@pytest.mark.parametrize("factor", [0.5, 2.0, 4.0, -1.0, 0.0, 1 + 1e-6])
@pytest.mark.parametrize("wrong", [0, 1], ids=["W", "x"])
def test_a_wrong_factor_or_sign_fails_and_is_named(
    mode: Any, factor: float, wrong: int, W: Array, x: Array
) -> None:
    def vjp(dY: Array, W: Array, x: Array) -> list[Array]:
        result = list(squash_vjp(dY, W, x))
        result[wrong] = factor * result[wrong]
        return result

    error = refused(mode, squash, vjp, [W, x], names=["W", "x"])
    assert error.verdict == "wrong gradient"
    assert error.input == ("W", "x")[wrong]
    assert error.got == pytest.approx(factor * error.expected, rel=1e-8)
    assert error.step == 1e-3
    assert error.disagreement < 1e-4 * abs(error.expected)


def test_no_input_is_named_if_only_all_together_exceed_the_tolerance() -> None:
    points: list[Array] = []
    us: list[Array] = []

    def f(*xs: Array) -> float:
        points.append(np.concatenate(xs))
        return float(np.sum(points[-1]))

    def right(u: Array, *xs: Array) -> list[Array]:
        us.append(u)
        return [u * np.ones(1) for _ in xs]

    inputs = [np.ones(1) for _ in range(4)]
    check_vjp(f, right, inputs, directions=1)
    v = (points[1] - points[0]) / 1e-3

    def wrong(u: Array, *xs: Array) -> list[Array]:
        # Each is wrong by 0.3, with signs that add up in this direction.
        return [np.array([u * (1 + 0.3 * np.sign(each))]) for each in v]

    errors = abs(0.3 * us[0] * v)
    between = (errors.max() + errors.sum()) / 2
    error = refused("directional", f, wrong, inputs, directions=1, atol=between, rtol=0.0)
    assert error.input is None
    assert "direction 0 of all inputs together" in str(error)
    assert abs(error.got - error.expected) == pytest.approx(errors.sum())


@both_modes
def test_a_transposed_jacobian_fails(mode: Any, rng: np.random.Generator) -> None:
    A, x = rng.normal(size=(6, 6)), rng.normal(size=6)
    check_vjp(lambda x: A @ x, lambda u, x: A.T @ u, [x], mode=mode)
    refused(mode, lambda x: A @ x, lambda u, x: A @ u, [x])


@both_modes
def test_derivatives_in_the_wrong_order_fail(mode: Any, rng: np.random.Generator) -> None:
    a, b = rng.normal(size=(2, 4))
    check_vjp(np.multiply, lambda u, a, b: (u * b, u * a), [a, b], mode=mode)
    refused(mode, np.multiply, lambda u, a, b: (u * a, u * b), [a, b])


@both_modes
def test_a_gradient_of_another_loss_fails(mode: Any, x: Array) -> None:
    refused_gradient(lambda x: (cubes(x)[0], 2 * x), x, mode=mode)


@both_modes
def test_a_vjp_that_ignores_its_cotangent_fails(mode: Any) -> None:
    refused(mode, np.sin, lambda u, x: np.cos(x), [np.array([0.3, 0.4])])


@both_modes
@pytest.mark.parametrize("clip", [lambda u: np.maximum(u, 0), np.abs])
def test_a_vjp_that_clips_its_cotangent_fails(mode: Any, clip: Any) -> None:
    # As deconvolution networks do at a ReLU. Unit vectors alone would not show it.
    x = np.linspace(0.1, 0.9, 9)
    with pytest.raises(GradientCheckError) as caught:
        check_vjp(np.sin, lambda u, x: clip(u) * np.cos(x), [x], mode=mode)
    assert ("not linear" in str(caught.value)) == (mode == "full")


@both_modes
def test_results_in_the_wrong_order_fail(mode: Any, rng: np.random.Generator) -> None:
    x = rng.normal(size=3)

    def f(x: Array) -> tuple[Array, Array]:
        return np.sin(x), np.cos(x)

    check_vjp(f, lambda us, x: us[0] * np.cos(x) - us[1] * np.sin(x), [x], mode=mode)
    refused(mode, f, lambda us, x: us[1] * np.cos(x) - us[0] * np.sin(x), [x])


@pytest.mark.parametrize("seed", range(20))
def test_two_entries_that_were_exchanged_do_not_cancel(seed: int) -> None:
    # With random signs alone they would cancel in every second direction: +δ here, −δ there.
    c = np.array([1.0, 2.0, 3.0, 4.0])
    exchanged = c[[1, 0, 2, 3]]
    refused_gradient(lambda x: (float(c @ x), exchanged), np.ones(4), seed=seed, directions=1)


def with_one_wrong(A: Array, place: tuple[int, int], by: float) -> Array:
    wrong = A.copy()
    wrong[place] += by
    return wrong


# A 100 × 100 Jacobian of entries near 1 at a point near 1: f is near 10, and full mode allows
# 1e-8 + 300 · 2.2e-16 · 10 / 1e-3 for each entry, which is less than 2e-8 for nearly all.
ENTRIES = 100


def test_full_mode_finds_one_slightly_wrong_entry_among_ten_thousand(
    rng: np.random.Generator,
) -> None:
    A, x = rng.normal(size=(ENTRIES, ENTRIES)), rng.normal(size=ENTRIES)
    assert check_vjp(lambda x: A @ x, lambda u, x: A.T @ u, [x], mode="full").compared == 10_000
    wrong = with_one_wrong(A, (17, 83), 1e-7)
    error = refused("full", lambda x: A @ x, lambda u, x: wrong.T @ u, [x])
    assert (error.index, error.output) == ((83,), "f[17]")
    assert error.got - error.expected == pytest.approx(1e-7, rel=0.1)


@pytest.mark.parametrize("seed", range(10))
def test_directional_mode_finds_one_wrong_entry_of_four_times_the_tolerance(
    seed: int, rng: np.random.Generator
) -> None:
    A, x = rng.normal(size=(ENTRIES, ENTRIES)), rng.normal(size=ENTRIES)
    place = tuple(int(i) for i in rng.integers(ENTRIES, size=2))
    far = refused("directional", lambda x: A @ x, lambda u, x: 2 * (A.T @ u), [x], seed=seed)
    bound = 4 * far.allowed / np.sqrt(np.mean(x**2))
    wrong = with_one_wrong(A, place, bound)
    refused("directional", lambda x: A @ x, lambda u, x: wrong.T @ u, [x], seed=seed)
    # A direction multiplies it by nine quarters at most.
    wrong = with_one_wrong(A, place, bound / 4 / 2.25 / 3)
    check_vjp(lambda x: A @ x, lambda u, x: wrong.T @ u, [x], seed=seed)


@both_modes
def test_float32_in_disguise_fails_forward_and_backward(
    mode: Any, rng: np.random.Generator
) -> None:
    x = rng.normal(size=8)

    def low(x: Array) -> Array:
        return np.sin(x.astype(np.float32)).astype(np.float64)

    def low_vjp(u: Array, x: Array) -> Array:
        return (u.astype(np.float32) * np.cos(x.astype(np.float32))).astype(np.float64)

    refused(mode, low, lambda u, x: u * np.cos(x), [x])
    refused(mode, np.sin, low_vjp, [x])
