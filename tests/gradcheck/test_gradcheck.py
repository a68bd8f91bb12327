"""The gradient checker: it passes what is right, and fails whatever is wrong, saying why."""

# ruff: noqa: ARG005 - a vjp is given the point even where it does not look at it

import copy
import pickle
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gramstyle.core import layers, losses
from gramstyle.core.arrays import Array
from gramstyle.core.conventions import CONVENTIONS
from gramstyle.core.kernels import Pooling
from gramstyle.core.network import Network
from gramstyle.core.objective import ContentTarget, Evaluation, Objective, Weights, style_targets
from gramstyle.core.preprocessing import Preprocessing
from gramstyle.errors import GramstyleError, OptionError
from gramstyle.gradcheck import (
    Flips,
    GradientCheckError,
    GradientMismatchError,
    check_gradient,
    check_vjp,
)
from gramstyle.model import Model

MODES = ("directional", "full")
both_modes = pytest.mark.parametrize("mode", MODES)

# What the extrapolated difference of a smooth function leaves: 1e-12 where it is of middle size,
# more of where tanh hardly moves. The checker's own default is 1e-8.
SMOOTH = 1e-9


def squash(W: Array, x: Array) -> Array:
    return np.tanh(W @ x)


def squash_vjp(dY: Array, W: Array, x: Array) -> tuple[Array, Array]:
    dZ = dY * (1 - np.tanh(W @ x) ** 2)
    return dZ @ x.T, W.T @ dZ


@pytest.fixture
def W(rng: np.random.Generator) -> Array:
    """Small, as weights are."""
    return 1e-2 * rng.normal(size=(4, 3))


@pytest.fixture
def x(rng: np.random.Generator) -> Array:
    """Large, as pixels are."""
    return rng.uniform(0, 255, (3, 5))


def cubes(x: Array) -> tuple[float, Array]:
    return float(np.sum(x**3)), 3 * x**2


def refused(mode: Any, f: Any, vjp: Any, inputs: Any, **options: Any) -> GradientMismatchError:
    """The mismatch that the check must find."""
    with pytest.raises(GradientMismatchError) as caught:
        check_vjp(f, vjp, inputs, mode=mode, **options)
    return caught.value


def refused_gradient(call: Any, x: Any, **options: Any) -> GradientMismatchError:
    with pytest.raises(GradientMismatchError) as caught:
        check_gradient(call, x, **options)
    return caught.value


# What is right passes


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
def test_the_step_follows_the_input_s_own_scale(mode: Any, scale: float) -> None:
    # The same function in other units: one fixed step would be absurd in all but one of them.
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
def test_directional_mode_takes_as_many_calls_whatever_the_size(
    shape: tuple[int, int], directions: int, rng: np.random.Generator
) -> None:
    checked = check_vjp(
        np.sin, lambda u, x: u * np.cos(x), [rng.normal(size=shape)], directions=directions
    )
    assert (checked.forwards, checked.backwards) == (4 * directions + 2, directions + 1)
    assert checked.compared == directions


def test_full_mode_takes_four_calls_an_entry_and_a_vjp_for_each_result(W: Array, x: Array) -> None:
    checked = check_vjp(squash, squash_vjp, [W, x], mode="full")
    assert (checked.forwards, checked.backwards) == (4 * (W.size + x.size) + 2, 4 * 5 + 2)


def test_the_directions_are_the_seed_s_own(rng: np.random.Generator) -> None:
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
    # Two directions are two, and the first does not depend on how many there are.
    assert not np.allclose(one[1] - x, one[5] - x)
    np.testing.assert_array_equal(points(seed=3, directions=1)[:5], one[:5])


@both_modes
@given(
    shapes=st.lists(st.lists(st.integers(0, 3), max_size=3).map(tuple), min_size=1, max_size=3),
    seed=st.integers(0, 2**32 - 1),
)
@settings(max_examples=10, deadline=None)
def test_any_shapes_will_do_0_d_and_empty_ones_too(
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
def test_f_may_use_one_buffer_again_and_again(mode: Any, rng: np.random.Generator) -> None:
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


def test_the_numbers_of_a_loss_are_its_own() -> None:
    points: list[Array] = []

    def wrong(x: Array) -> tuple[float, Array]:
        points.append(x.copy())
        return float(3 * np.sum(x)), np.full_like(x, 6)

    error = refused_gradient(wrong, np.ones(2))
    v = (points[2] - points[0]) / 1e-3  # the second call is for the gradient
    assert error.expected == pytest.approx(3 * np.sum(v))
    assert error.got == pytest.approx(6 * np.sum(v))


# What is wrong fails


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


def test_no_input_is_named_where_only_all_together_are_beyond_what_is_allowed() -> None:
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
        # In each by 0.3, with the signs that make all of it add up in this direction.
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
def test_a_vjp_that_does_not_look_at_its_cotangent_fails(mode: Any) -> None:
    refused(mode, np.sin, lambda u, x: np.cos(x), [np.array([0.3, 0.4])])


@both_modes
@pytest.mark.parametrize("clip", [lambda u: np.maximum(u, 0), np.abs])
def test_a_vjp_that_clips_what_it_is_given_fails(mode: Any, clip: Any) -> None:
    # As deconvolution networks do at a ReLU. One unit vector after the other would not show it.
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
    # Under random signs alone they would in every second direction: +δ here, −δ there.
    c = np.array([1.0, 2.0, 3.0, 4.0])
    exchanged = c[[1, 0, 2, 3]]
    refused_gradient(lambda x: (float(c @ x), exchanged), np.ones(4), seed=seed, directions=1)


def with_one_wrong(A: Array, place: tuple[int, int], by: float) -> Array:
    wrong = A.copy()
    wrong[place] += by
    return wrong


# A 100 × 100 Jacobian of entries near 1 at a point near 1: f is near 10, and full mode allows
# 1e-8 + 300 · 2.2e-16 · 10 / 1e-3 for each entry, less than 2e-8 but for a few.
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
def test_directional_mode_finds_it_if_a_quarter_of_it_is_beyond_what_is_allowed(
    seed: int, rng: np.random.Generator
) -> None:
    A, x = rng.normal(size=(ENTRIES, ENTRIES)), rng.normal(size=ENTRIES)
    place = tuple(int(i) for i in rng.integers(ENTRIES, size=2))
    far = refused("directional", lambda x: A @ x, lambda u, x: 2 * (A.T @ u), [x], seed=seed)
    bound = 4 * far.allowed / np.sqrt(np.mean(x**2))
    wrong = with_one_wrong(A, place, bound)
    refused("directional", lambda x: A @ x, lambda u, x: wrong.T @ u, [x], seed=seed)
    # Nine quarters is the most that it can be multiplied by.
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


def test_the_quotients_of_both_steps_tell_an_unfit_function_from_a_wrong_gradient(
    rng: np.random.Generator,
) -> None:
    x = rng.normal(size=8)

    def low(x: Array) -> Array:
        return np.sin(x.astype(np.float32)).astype(np.float64)

    unfit = refused("directional", low, lambda u, x: u * np.cos(x), [x])
    assert unfit.disagreement > 0.1 * abs(unfit.got - unfit.expected)
    wrong = refused("directional", np.sin, lambda u, x: u * np.sin(x), [x])
    assert wrong.disagreement < 1e-5 * abs(wrong.got - wrong.expected)
    assert f"the quotients of h and h/2 differ by {wrong.disagreement:.1e}" in str(wrong)


# A check that cannot fail proves nothing


@both_modes
@pytest.mark.parametrize("eps", [1.0, 1e-14])
def test_an_absurd_step_fails_what_is_right(mode: Any, eps: float, W: Array, x: Array) -> None:
    error = refused(mode, squash, squash_vjp, [W, x], eps=eps)
    assert error.step == eps
    assert error.disagreement > 10 * error.allowed


def test_the_extrapolation_leaves_an_error_of_order_h_to_the_fourth() -> None:
    # h⁴ / 480 of the fifth derivative, which is the first one for sin.
    x = np.ones(1)
    for h in (0.4, 0.2, 0.1):
        error = refused("full", np.sin, lambda u, x: 0 * u, [x], eps=h)
        assert 1 - error.expected / np.cos(1) == pytest.approx(h**4 / 480, rel=1e-2)
    # A polynomial of degree 4 has none: any step will do.
    check_gradient(lambda x: (float(x[0] ** 4), 4 * x**3), x, mode="full", eps=1.0, rtol=1e-12)


def test_an_entry_that_happens_to_be_small_is_judged_by_what_is_typical() -> None:
    # The extrapolation is off by h⁴ / 4 at both entries of x⁵: beside 5 that is nothing, and at
    # the first the derivative is 0.
    x = np.array([0.0, 1.0])
    check_gradient(
        lambda x: (float(np.sum(x**5)), 5 * x**4), x, mode="full", eps=0.05, atol=0.0, rtol=1e-6
    )


def test_an_entry_that_is_larger_than_typical_is_judged_by_itself() -> None:
    # 0.15 of 1, where the root mean square is about half.
    wrong = np.array([1.15, 0, 0, 0])
    options = {"mode": "full", "atol": 0.0}
    check_gradient(lambda x: (float(x[0]), wrong), np.ones(4), rtol=0.16, **options)  # type: ignore[arg-type]
    refused_gradient(lambda x: (float(x[0]), wrong), np.ones(4), rtol=0.14, **options)


def test_the_largest_errors_are_reported_wherever_they_are() -> None:
    wrong = np.array([1.0, 1.1, 1.0])
    checked = check_gradient(
        lambda x: (float(np.sum(x)), wrong), np.ones(3), mode="full", atol=0.0, rtol=0.2
    )
    typical = np.sqrt(np.mean(wrong**2))
    assert checked.relative_error == pytest.approx(0.1 / typical)
    assert checked.error == pytest.approx(0.1 / typical / 0.2)


@pytest.mark.filterwarnings("ignore:overflow encountered", "ignore:invalid value encountered")
def test_a_difference_that_overflows_is_no_agreement() -> None:
    def cliff(x: Array) -> Array:
        return np.where(x > 1, 1.7e308, -1.7e308)

    assert np.isnan(refused("full", cliff, lambda u, x: 0 * u, [np.ones(1)]).expected)


@both_modes
def test_an_absurd_tolerance_fails_what_is_right(mode: Any, W: Array, x: Array) -> None:
    refused(mode, squash, squash_vjp, [W, x], atol=0.0, rtol=1e-17)


@both_modes
def test_atol_and_rtol_each_do_what_they_say(mode: Any) -> None:
    # f = 3 x at x = 1: J is 3, so an error of 0.3 is a tenth of it.
    x = np.ones(1)

    def wrong(x: Array) -> tuple[float, Array]:
        return float(3 * x[0]), np.array([3.3])

    options = {"mode": mode, "directions": 1}
    for atol, rtol in ((0.5, 0.0), (0.0, 0.2)):
        check_gradient(wrong, x, atol=atol, rtol=rtol, **options)  # type: ignore[arg-type]
    for atol, rtol in ((0.14, 0.0), (0.0, 0.09)):
        refused_gradient(wrong, x, atol=atol, rtol=rtol, **options)


def test_atol_in_full_mode_is_in_units_of_the_derivative() -> None:
    x = np.full(2, 255.0)
    c = np.array([1.0, 2.0])

    def wrong(x: Array) -> tuple[float, Array]:
        return float(c @ x), c + 0.01

    check_gradient(wrong, x, mode="full", atol=0.0101, rtol=0.0)
    error = refused_gradient(wrong, x, mode="full", atol=0.0099, rtol=0.0)
    assert error.allowed == pytest.approx(0.0099)
    assert error.expected == pytest.approx(1)
    assert error.got == pytest.approx(1.01)


def beside(constant: float) -> Callable[[Array], tuple[float, Array]]:
    """A loss whose slope is near 1, beside a constant."""
    return lambda x: (constant + float(np.sin(x[0])), np.cos(x[:1]))


@both_modes
def test_rounding_is_allowed_for_as_far_as_the_derivative_is_still_seen(mode: Any) -> None:
    x = np.array([0.3])
    # Rounding of 1e6 is 1e-10, over the step 1e-7: more than 1e-8 of the slope.
    checked = check_gradient(beside(1e6), x, mode=mode)
    assert checked.relative_error > 1e-10
    with pytest.raises(GradientCheckError, match="rounding hides the derivative by x: it is about"):
        check_gradient(beside(1e9), x, mode=mode)
    # As small as the step is then, nothing could fail.
    with pytest.raises(GradientCheckError, match="rounding hides the derivative"):
        check_gradient(beside(1e6), x, mode=mode, eps=1e-8)
    # Who knows what to allow may say so.
    check_gradient(beside(1e9), x, mode=mode, atol=0.1)
    error = refused_gradient(lambda x: (beside(1e6)(x)[0], 2 * np.cos(x)), x, mode=mode)
    assert error.got == pytest.approx(2 * error.expected, rel=1e-6)


@both_modes
def test_a_derivative_that_is_0_but_for_rounding_passes(
    mode: Any, rng: np.random.Generator
) -> None:
    def unit_length(x: Array) -> tuple[float, Array]:
        y = x / np.linalg.norm(x)
        return 1e6 * float(y @ y), 2e6 * (y - y * (y @ y)) / np.linalg.norm(x)

    x = rng.normal(size=7)
    assert np.any(unit_length(x)[1])
    check_gradient(unit_length, x, mode=mode)


def test_what_is_allowed_for_rounding_stops_growing_with_the_step(W: Array, x: Array) -> None:
    allowed = [
        refused("full", squash, lambda *a: [2 * d for d in squash_vjp(*a)], [W, x], eps=eps).allowed
        for eps in (1e-5, 1e-7, 1e-9)
    ]
    assert allowed[0] < allowed[1] / 10
    assert allowed[1] == pytest.approx(allowed[2], rel=1e-2)


@pytest.mark.parametrize("size", [1e-8, 1e8])
@pytest.mark.parametrize("wrong", [0, 1])
def test_each_result_is_judged_by_its_own_size(
    size: float, wrong: int, rng: np.random.Generator
) -> None:
    x = rng.normal(size=3)

    def f(x: Array) -> tuple[Array, Array]:
        return np.sin(x), size * np.cos(x)

    def vjp(us: tuple[Array, Array], x: Array) -> Array:
        return us[0] * np.cos(x) - us[1] * size * np.sin(x)

    def slightly_wrong(us: tuple[Array, Array], x: Array) -> Array:
        return vjp(us, x) + 1e-6 * us[wrong] * (1, size)[wrong]

    check_vjp(f, vjp, [x], mode="full")
    # The rounding of the large result is more than the error of the small one.
    error = refused("full", f, slightly_wrong, [x])
    assert error.output.startswith(f"f {wrong}")


# Kinks


def relu_vjp(dF: Array, Z: Array) -> Array:
    return layers.relu_backward(dF, layers.relu_forward(Z))


def masks(Z: Array) -> dict[str, Array]:
    return {"relu": Z > 0}


NEAR = np.array([1.0, -1.0, 2e-5, 0.5])  # a step of 1e-3 crosses the third entry's kink
AT = np.array([1.0, -1.0, 0.0, 0.5])


@both_modes
def test_near_a_kink_a_smaller_step_decides_for_the_right_gradient(mode: Any) -> None:
    error = refused(mode, layers.relu_forward, relu_vjp, [NEAR])
    assert error.verdict == "wrong gradient"
    assert "kinks were not watched" in str(error)
    checked = check_vjp(layers.relu_forward, relu_vjp, [NEAR], mode=mode, kinks=masks)
    assert checked.flips == {"relu": Flips(1, 4)}
    assert checked.flips["relu"].share == 0.25
    assert checked.step == 1e-5


@both_modes
def test_near_a_kink_a_smaller_step_decides_against_a_wrong_gradient(mode: Any) -> None:
    def vjp(u: Array, Z: Array) -> Array:
        return relu_vjp(u, Z) * [1, 1, 2, 1]

    error = refused(mode, layers.relu_forward, vjp, [NEAR], kinks=masks)
    assert error.verdict == "wrong gradient"
    assert error.step == 1e-5
    assert error.flips == {"relu": Flips(0, 4)}
    if mode == "full":
        assert error.index == (2,)
        assert error.got == pytest.approx(2 * error.expected)


@both_modes
def test_at_a_kink_no_step_helps_and_the_text_says_so(mode: Any) -> None:
    error = refused(mode, layers.relu_forward, relu_vjp, [AT], kinks=masks)
    assert error.verdict == "crossed a kink"
    assert error.step == pytest.approx(1e-7)
    assert error.flips == {"relu": Flips(1, 4)}
    assert "crossed a kink: 1 of 4 of relu flip; no smaller step without a flip" in str(error)
    assert "not watched" not in str(error)


def test_what_a_relu_gives_at_0_is_not_seen_away_from_0_and_not_decided_at_0() -> None:
    def open_at_0(dF: Array, Z: Array) -> Array:
        return np.where(Z >= 0, dF, 0)

    away = np.array([1.0, -1.0, 0.5])
    for vjp in (relu_vjp, open_at_0):
        check_vjp(layers.relu_forward, vjp, [away], mode="full")
        error = refused("full", layers.relu_forward, vjp, [AT], kinks=masks)
        assert error.verdict == "crossed a kink"
        assert error.expected == pytest.approx(0.5)
    # Only the mean of the two sides is what central differences see.
    check_vjp(
        layers.relu_forward, lambda u, Z: (relu_vjp(u, Z) + open_at_0(u, Z)) / 2, [AT], mode="full"
    )


@both_modes
def test_a_relu_that_takes_f_at_least_0_for_its_mask_fails_wherever_z_is_below_0(mode: Any) -> None:
    # F ≥ 0 always holds.
    def vjp(dF: Array, Z: Array) -> Array:
        return np.where(layers.relu_forward(Z) >= 0, dF, 0)

    error = refused(mode, layers.relu_forward, vjp, [np.array([1.0, -1.0])], kinks=masks)
    assert error.verdict == "wrong gradient"


def places(X: Array) -> dict[str, Array]:
    return {"pool": np.argmax(np.stack([X[w] for w in layers.windows(X)]), axis=0)}


@both_modes
def test_a_tie_of_a_maximum_is_a_kink(mode: Any) -> None:
    X = np.array([[[1.0, 1.0], [0.2, 0.3]]])
    error = refused(
        mode, layers.max_pool_forward, layers.max_pool_backward, [X], kinks=places, seed=1
    )
    assert (error.verdict, error.flips) == ("crossed a kink", {"pool": Flips(1, 1)})


def test_steps_shrink_tenfold_down_to_1e_7() -> None:
    steps: list[float] = []

    def f(Z: Array) -> Array:
        steps.append(float(Z[0]))
        return layers.relu_forward(Z)

    refused("full", f, relu_vjp, [np.zeros(1)], kinks=masks)
    assert steps[1:-1:4] == pytest.approx([1e-3, 1e-4, 1e-5, 1e-6, 1e-7])
    steps.clear()
    refused("full", f, relu_vjp, [np.zeros(1)], kinks=masks, eps=1e-9)
    assert steps[1:-1:4] == pytest.approx([1e-9])


def test_a_choice_that_differs_only_at_the_point_itself_is_a_flip_too() -> None:
    # |x| at 0 with a mask that is the same on both sides.
    error = refused("full", np.abs, lambda u, x: u, [np.zeros(1)], kinks=lambda x: {"zero": x == 0})
    assert error.verdict == "crossed a kink"


def test_steps_do_not_shrink_where_nothing_flips_or_nothing_watches() -> None:
    counted = [0]

    def f(x: Array) -> Array:
        counted[0] += 1
        return np.sin(x)

    x = np.array([0.4])
    for kinks in (None, lambda x: {"none": np.zeros(3, bool)}):
        counted[0] = 0
        refused("full", f, lambda u, x: 2 * u * np.cos(x), [x], kinks=kinks)
        assert counted[0] == 4 + 2


def test_a_text_lists_the_layers_with_the_largest_shares_first() -> None:
    def many(x: Array) -> dict[str, Array]:
        result = {f"layer{n}": np.repeat(x > 0, n) for n in range(1, 6)}
        result["layer5"][1:] = False
        return {**result, "idle": np.zeros(2, int), "empty": np.zeros(0, bool)}

    text = str(refused("full", np.abs, lambda u, x: 3 * u, [np.zeros(1)], kinks=many))
    assert "1 of 1 of layer1, 2 of 2 of layer2, 3 of 3 of layer3 and some of 2 more flip" in text
    assert Flips(0, 0).share == 0


@pytest.mark.parametrize(
    ("kinks", "said"),
    [
        (lambda x: x > 0, "mapping of names to arrays; found ndarray"),
        (lambda x: {"mask": x}, "bool or integers; mask is float64"),
        (lambda x: {"mask": x[x > 0] > 0}, "other names or shapes"),
        (lambda x: {str(x[0]): x > 0}, "other names or shapes"),
    ],
)
def test_choices_that_are_none_are_refused(kinks: Any, said: str) -> None:
    with pytest.raises(GradientCheckError, match=said):
        check_vjp(np.abs, lambda u, x: u * np.sign(x), [np.array([0.0, 1.0])], kinks=kinks)


# Functions that break the rules


def good(u: Array, x: Array) -> Array:
    return u * np.cos(x)


@both_modes
@pytest.mark.parametrize(
    ("f", "vjp", "said"),
    [
        (lambda x: np.sin(x).astype("f4"), good, "f's result is float32; expected a float64"),
        (lambda x: np.sin(x) + 0j, good, "f's result is complex128"),
        (lambda x: 3, good, "f's result is int;"),
        (lambda x: None, good, "f's result is NoneType"),
        (lambda x: (np.sin(x), "text"), good, "f's result 1 is str"),
        (lambda x: np.sin(x) / 0, good, r"f's result is not finite: 3 of 3 values.*inf at \[0\]"),
        (lambda x: np.float64(np.nan), good, "f's result is not finite: 1 of 1 values, the.*nan$"),
        (np.sin, lambda u, x: good(u, x).astype("f4"), "vjp's derivative by p is float32"),
        (np.sin, lambda u, x: good(u, x)[:2], r"by p has shape \(2,\); the input has \(3,\)"),
        (np.sin, lambda u, x: good(u, x)[None], r"by p has shape \(1, 3\)"),
        (np.sin, lambda u, x: (x, x), "derivative for each of 1 inputs; found 2"),
        (np.sin, lambda u, x: None, "vjp's derivative by p is NoneType"),
        (np.sin, lambda u, x: good(u, x) * np.nan, "vjp's derivative by p is not finite: 3 of 3"),
    ],
)
@pytest.mark.filterwarnings("ignore:divide by zero")
def test_a_result_that_is_not_what_it_should_be_is_refused(
    mode: Any, f: Any, vjp: Any, said: str
) -> None:
    with pytest.raises(GradientCheckError, match=said) as caught:
        check_vjp(f, vjp, [np.array([0.3, 0.4, 0.5])], mode=mode, names=["p"])
    assert not isinstance(caught.value, GradientMismatchError)


def test_a_vjp_that_forgets_an_input_is_refused(W: Array, x: Array) -> None:
    for vjp, found in (
        (lambda u, W, x: squash_vjp(u, W, x)[:1], "found 1"),
        (lambda u, W, x: squash_vjp(u, W, x)[0], "found ndarray"),
        (lambda u, W, x: (None, squash_vjp(u, W, x)[1]), "derivative by input 0 is NoneType"),
    ):
        with pytest.raises(GradientCheckError, match=found):
            check_vjp(squash, vjp, [W, x])


@both_modes
@pytest.mark.parametrize(
    "f",
    [lambda x: x[x > 1], lambda x: (x, x) if x[0] > 1 else x, lambda x: (x,) if x[0] > 1 else x],
)
def test_a_result_that_changes_its_shape_from_point_to_point_is_refused(mode: Any, f: Any) -> None:
    with pytest.raises(GradientCheckError, match=r"returns shapes .* at one point and"):
        check_vjp(f, lambda u, x: x, [np.ones(3)], mode=mode)


@both_modes
@pytest.mark.filterwarnings("ignore:invalid value encountered in sqrt")
def test_a_border_of_the_domain_within_a_step_is_told_from_a_bad_point(mode: Any) -> None:
    with pytest.raises(GradientCheckError, match="a step away from the inputs is not finite"):
        check_vjp(np.sqrt, lambda u, x: u / (2 * np.sqrt(x)), [np.array([1.0, 1e-9])], mode=mode)


def change_f(x: Array) -> Array:
    x += 1
    return np.sin(x - 1)


def change_input(u: Array, x: Array) -> Array:
    x *= 2
    return u * np.cos(x / 2)


def change_cotangent(u: Array, x: Array) -> Array:
    u *= np.cos(x)
    return u


def change_mask(x: Array) -> dict[str, Array]:
    x[0] = 0
    return {}


@both_modes
@pytest.mark.parametrize(
    ("f", "vjp", "kinks", "said"),
    [
        (change_f, good, None, "f changes p in place"),
        (np.sin, change_input, None, "vjp changes p in place"),
        (np.sin, change_cotangent, None, "vjp changes its cotangents in place"),
        (np.sin, good, change_mask, "kinks changes p in place"),
    ],
)
def test_a_function_that_changes_its_arguments_is_refused(
    mode: Any, f: Any, vjp: Any, kinks: Any, said: str
) -> None:
    x = np.array([0.3, 0.4])
    with pytest.raises(GradientCheckError, match=said):
        check_vjp(f, vjp, [x], mode=mode, names=["p"], kinks=kinks)
    np.testing.assert_array_equal(x, [0.3, 0.4])


def test_a_changed_cotangent_is_seen_among_several() -> None:
    def vjp(us: tuple[Array, Array], x: Array) -> Array:
        result = us[0] + 2 * us[1]
        us[1][0] = 0
        return result

    with pytest.raises(GradientCheckError, match="vjp changes its cotangents"):
        check_vjp(lambda x: (x, 2 * x), vjp, [np.ones(2)])


class Drifting:
    """Another answer at every so-manieth call."""

    def __init__(self, function: Callable[..., Any], every: int) -> None:
        self.function, self.every, self.calls = function, every, 0

    def __call__(self, *arguments: Array) -> Any:
        self.calls += 1
        return self.function(*arguments) * (1 + 1e-9 * (self.calls // self.every))


@both_modes
@pytest.mark.parametrize("last", [False, True], ids=["every call", "the last call"])
def test_a_function_that_does_not_repeat_itself_is_refused(mode: Any, last: bool) -> None:
    x, every = np.array([0.3]), {"directional": 10, "full": 6}[mode] if last else 1
    with pytest.raises(GradientCheckError, match=r"f is not deterministic.*differ by up to"):
        check_vjp(Drifting(np.sin, every), good, [x], mode=mode)
    with pytest.raises(GradientCheckError, match="vjp is not deterministic"):
        check_vjp(np.sin, Drifting(good, 3), [x], mode=mode)


def test_noise_is_not_called_a_wrong_gradient(rng: np.random.Generator) -> None:
    with pytest.raises(GradientCheckError, match="f is not deterministic"):
        check_vjp(lambda x: x + rng.normal(), lambda u, x: u, [np.ones(2)], mode="full")


@pytest.mark.parametrize("where", ["f", "vjp"])
def test_what_a_function_raises_comes_through(where: str) -> None:
    def bad(*arguments: Array) -> Array:
        raise ZeroDivisionError(where)

    with pytest.raises(ZeroDivisionError, match=where):
        check_vjp(*((bad, good) if where == "f" else (np.sin, bad)), [np.ones(1)])  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (1.0, "a pair, or an object with .loss and .gradient; found float64"),
        ((1.0, np.ones(2), 3), "found tuple"),
        ((np.ones(1), np.ones(2)), r"the loss has shape \(1,\); it must be one number"),
        ((np.float32(1), np.ones(2)), "f's result is float32"),
        ((1.0, np.ones(2, "f4")), "vjp's derivative by x is float32; expected a float64"),
        ((1.0, np.ones(3)), r"by x has shape \(3,\); the input has \(2,\)"),
        ((np.inf, np.ones(2)), "f's result is not finite"),
    ],
)
def test_a_loss_and_gradient_of_another_form_is_refused(answer: Any, said: str) -> None:
    with pytest.raises(GradientCheckError, match=said):
        check_gradient(lambda x: answer, np.ones(2))


# Arguments that make no sense


@pytest.mark.parametrize(
    ("inputs", "said"),
    [
        ([np.ones(2, "f4")], "input 0 is float32; differences need float64: give x.astype"),
        ([np.ones(2), np.ones(2, int)], "input 1 is int64"),
        ([np.ones(2, complex)], "input 0 is complex128"),
        ([np.ones(2, ">f8").astype(">f8")], "input 0 is >f8"),
        ([1], "input 0 is int;"),
        ([True], "input 0 is bool"),
        (["text"], "input 0 is str"),
        ([None], "input 0 is NoneType"),
        ([[1.0, 2.0]], "input 0 is list"),
        ([np.array([1.0, np.nan])], "input 0 is not finite"),
        ([np.inf], "input 0 is not finite"),
        ([], "at least one array"),
        (np.ones(2), "a list or a tuple"),
    ],
)
def test_inputs_that_differences_cannot_be_taken_at_are_refused(inputs: Any, said: str) -> None:
    with pytest.raises(OptionError, match=said):
        check_vjp(np.sin, good, inputs)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"mode": "fast"}, "mode is 'fast'; it must be 'directional' or 'full'"),
        *[({"eps": eps}, "eps is .*; it must be above 0") for eps in (0, -1e-3, np.nan, np.inf)],
        *[({"rtol": rtol}, "rtol is .* below 1") for rtol in (-1e-9, 1.0, np.nan)],
        *[({"atol": atol}, "atol is .* 0 or more") for atol in (-1e-9, np.inf, np.nan)],
        ({"directions": 0}, "directions is 0; it must be 1 or more"),
        ({"seed": -1}, "seed is -1; it must be 0 or more"),
    ],
)
def test_options_that_make_no_sense_are_refused(options: Any, said: str) -> None:
    with pytest.raises(OptionError, match=said):
        check_vjp(np.sin, good, [np.ones(2)], **options)
    with pytest.raises(OptionError, match=said):
        check_gradient(cubes, np.ones(2), **options)


def test_each_input_has_one_name() -> None:
    with pytest.raises(OptionError, match="there are 1 inputs and 2 names"):
        check_vjp(np.sin, good, [np.ones(2)], names=["a", "b"])


# What an error says


def test_a_mismatch_in_full_mode_is_one_line_with_every_number(W: Array, x: Array) -> None:
    def vjp(dY: Array, W: Array, x: Array) -> tuple[Array, Array]:
        dW, dx = squash_vjp(dY, W, x)
        dx[1, 2] *= 3
        return dW, dx

    error = refused("full", squash, vjp, [W, x], names=["conv1_1", "pixels"], seed=5)
    # Of the four results that look at this pixel, the one that is furthest off.
    column = (1 - squash(W, x)[:, 2] ** 2) * W[:, 1]
    n = int(np.argmax(abs(column)))
    assert (error.input, error.index, error.output) == ("pixels", (1, 2), f"f[{n}, 2]")
    assert (error.mode, error.seed, error.direction) == ("full", 5, None)
    expected = column[n]
    assert error.expected == pytest.approx(expected, rel=SMOOTH)
    assert error.got == pytest.approx(3 * expected, rel=SMOOTH)
    assert error.relative_error == pytest.approx(2 / 3)
    text = str(error)
    for part in (
        f"wrong gradient: at pixels[1, 2], derivative of f[{n}, 2]",
        f"expected {error.expected:.9g} by differences, got {error.got:.9g}",
        "relative error 6.7e-01",
        f"off by {abs(2 * expected):.1e} where {error.allowed:.1e} is allowed",
        "step 1e-03 of the input's size",
        "mode full, seed 5",
    ):
        assert part in text
    assert text.isprintable()


def test_a_mismatch_in_directional_mode_names_both_inner_products_and_the_direction() -> None:
    # Right in the first direction, by its cotangent's size; wrong in the second.
    seen: list[Array] = []

    def vjp(u: Array, x: Array) -> Array:
        if not any(np.array_equal(u, each) for each in seen):
            seen.append(u)
        return u * np.cos(x) * (2 if np.array_equal(u, seen[-1]) and len(seen) == 2 else 1)

    error = refused("directional", np.sin, vjp, [np.array([0.3, 0.4])], seed=9)
    assert (error.mode, error.seed, error.direction, error.index) == ("directional", 9, 1, None)
    assert error.output == ""
    text = str(error)
    assert "along direction 1 of input 0: expected ⟨u, Jv⟩ = " in text
    assert f"got ⟨Jᵀu, v⟩ = {error.got:.9g}" in text
    assert "seed 9" in text
    assert text.isprintable()


@pytest.mark.parametrize(
    ("f", "output"),
    [
        (lambda x: float(x), "derivative of f:"),
        (lambda x: (2 * x, x), "derivative of f 0:"),
        (lambda x: (x * np.zeros(2), x * np.array([0.0, 1.0])), r"derivative of f 1\[1\]:"),
    ],
)
def test_an_entry_of_the_result_is_named_by_its_place(f: Any, output: str) -> None:
    with pytest.raises(GradientMismatchError, match=f"at input 0, {output}"):
        check_vjp(f, lambda u, x: 0 * x, [np.float64(2.0)], mode="full")


def test_a_mismatch_is_an_assertion_and_an_error_of_ours_and_can_be_sent_elsewhere() -> None:
    error = refused_gradient(lambda x: (cubes(x)[0], x), np.ones(2))
    assert isinstance(error, AssertionError)
    assert isinstance(error, GramstyleError)
    for other in (pickle.loads(pickle.dumps(error)), copy.copy(error)):  # noqa: S301 - our own bytes
        assert str(other) == str(error)
        assert (other.expected, other.input) == (error.expected, "x")
    assert len({error, copy.copy(error)}) == 2


def test_two_numbers_of_0_have_no_relative_error() -> None:
    error = refused_gradient(lambda x: (cubes(x)[0], x), np.ones(2))
    error.got = error.expected = 0.0
    assert error.relative_error == 0


# The engine passes


@both_modes
def test_convolution_is_right_by_its_input(mode: Any, rng: np.random.Generator) -> None:
    X, W, b = (
        rng.uniform(0, 255, (2, 4, 5)),
        0.01 * rng.normal(size=(3, 2, 3, 3)),
        rng.normal(size=3),
    )
    check_vjp(
        lambda X: layers.conv2d_forward(X, W, b),
        lambda dZ, X: layers.conv2d_backward(dZ, W),
        [X],
        mode=mode,
    )
    # Not turned by 180 degrees, as a forward convolution would have it.
    refused(
        mode,
        lambda X: layers.conv2d_forward(X, W, b),
        lambda dZ, X: layers.conv2d_backward(dZ, W[:, :, ::-1, ::-1]),
        [X],
    )


@both_modes
def test_relu_and_both_poolings_are_right(mode: Any, rng: np.random.Generator) -> None:
    X = rng.normal(size=(2, 5, 4))
    check_vjp(layers.relu_forward, relu_vjp, [X], mode=mode, kinks=masks)
    check_vjp(layers.max_pool_forward, layers.max_pool_backward, [X], mode=mode, kinks=places)
    check_vjp(layers.avg_pool_forward, layers.avg_pool_backward, [X], mode=mode)


N, M = 4, 6


@both_modes
def test_the_losses_are_right_in_z(mode: Any, rng: np.random.Generator) -> None:
    Z, P = rng.normal(loc=0.4, size=(2, N, M))
    A = losses.gram(layers.relu_forward(P))

    def content(Z: Array) -> tuple[float, Array]:
        F = layers.relu_forward(Z)
        return losses.content_loss(F, P), losses.content_gradient(F, P)

    def style(Z: Array) -> tuple[float, Array]:
        F = layers.relu_forward(Z)
        G = losses.gram(F)
        return losses.style_loss(G, A, N, M), losses.style_gradient(F, G, A, N, M)

    for loss in (content, style):
        check_gradient(loss, Z, mode=mode, kinks=masks)
        # In F the mask of equations 2 and 6 is not to be seen.
        for factor in (0.5, 2.0, 4.0):
            refused_gradient(lambda Z, f=factor, g=loss: (g(Z)[0], f * g(Z)[1]), Z, mode=mode)  # type: ignore[misc]


@both_modes
@pytest.mark.parametrize("channels", ["BGR", "RGB"])
def test_preprocessing_is_right(mode: Any, channels: Any, rng: np.random.Generator) -> None:
    preprocessing = Preprocessing(channels, (103.9, 116.8, 123.7), (1.0, 0.5, 0.25))
    check_vjp(
        preprocessing.forward,
        lambda dv, x: preprocessing.backward(dv),
        [rng.uniform(0, 255, (3, 2, 4))],
        mode=mode,
    )


def small(model: Model, pooling: Pooling) -> Network:
    return model.network.until(["conv2_1"]).pooled_by(pooling).astype(np.float64)


@both_modes
@pytest.mark.parametrize("pooling", ["max", "avg"])
def test_the_backward_pass_is_right_with_seeds_at_every_layer(
    mode: Any, pooling: Pooling, tiny_model: Model, rng: np.random.Generator
) -> None:
    network = small(tiny_model, pooling)

    def f(v: Array) -> tuple[Array, ...]:
        return tuple(network.forward(v).values())

    def vjp(seeds: tuple[Array, ...], v: Array) -> Array:
        by_name = dict(zip(network.names, seeds, strict=True))
        return network.backward(
            network.forward(v),
            lambda name, dF: by_name[name] if dF is None else by_name[name] + dF,
        )

    checked = check_vjp(
        f,
        vjp,
        [rng.normal(scale=3, size=(3, 2, 2))],
        mode=mode,
        kinks=lambda v: network.choices(network.forward(v)),
    )
    assert set(checked.flips) == {
        layer for layer in network.names if pooling == "max" or layer[0] == "c"
    }


def objective_of(
    network: Network, model: Model, convention: str | None, p: Array, a: Array
) -> Objective:
    preprocess = model.preprocessing.forward
    style = ("conv1_1", "conv2_1")
    return Objective(
        network=network,
        preprocessing=model.preprocessing,
        content=ContentTarget("conv1_2", network.forward(preprocess(p))["conv1_2"]),
        style=style_targets(network.forward(preprocess(a)), style),
        weights=Weights(alpha=0.7, beta=300.0, w=dict(zip(style, (0.3, 0.7), strict=True))),
        convention=CONVENTIONS[convention],
    )


@pytest.mark.parametrize("pooling", ["max", "avg"])
@pytest.mark.parametrize(
    ("mode", "convention"),
    [("directional", "paper"), ("directional", "author"), ("full", "author")],
)
def test_the_objective_s_gradient_is_right(
    mode: Any, pooling: Pooling, convention: str, tiny_model: Model, rng: np.random.Generator
) -> None:
    network = small(tiny_model, pooling)
    size = (3, 2, 2) if mode == "full" else (3, 33, 26)
    x, p, a = rng.uniform(0, 255, (3, *size))
    objective = objective_of(network, tiny_model, convention, p, a)

    def kinks(x: Array) -> Mapping[str, Array]:
        return network.choices(network.forward(tiny_model.preprocessing.forward(x)))

    checked = check_gradient(objective.loss_and_gradient, x, mode=mode, kinks=kinks)
    assert checked.compared == {"directional": 2, "full": x.size}[mode]
    if mode == "directional":
        # Some thousand masks: some flipped at first, and smaller steps decided.
        assert checked.step < 1e-3
        assert any(flip.count for flip in checked.flips.values())


@both_modes
def test_an_objective_that_is_wrong_in_one_layer_fails(
    mode: Any, tiny_model: Model, rng: np.random.Generator
) -> None:
    # Equation 6 with the M of the layer above: a sixteenth of conv1_1's share, as in a mistaken
    # loop over the layers.
    network = small(tiny_model, "max")
    x, p, a = rng.uniform(0, 255, (3, 3, 2, 2))
    right = objective_of(network, tiny_model, None, p, a)
    alone = right.alone("conv1_1")

    def wrong(x: Array) -> Evaluation:
        evaluation = right.loss_and_gradient(x)
        share = alone.loss_and_gradient(x).gradient
        evaluation.gradient[...] -= share * 15 / 16
        return evaluation

    error = refused_gradient(
        wrong,
        x,
        mode=mode,
        kinks=lambda x: network.choices(network.forward(tiny_model.preprocessing.forward(x))),
    )
    assert error.verdict == "wrong gradient"
