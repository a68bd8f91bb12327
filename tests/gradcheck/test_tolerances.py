"""The steps and tolerances of the checker: a check that cannot fail proves nothing."""

# ruff: noqa: ARG005 - a vjp receives the point even if it does not need it

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from gradcheck.functions import both_modes, refused, refused_gradient, squash, squash_vjp
from gramstyle.core.arrays import Array
from gramstyle.gradcheck import GradientCheckError, check_gradient, check_vjp


def test_the_two_quotients_distinguish_a_rough_function_from_a_wrong_gradient(
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


@both_modes
@pytest.mark.parametrize("eps", [1.0, 1e-14])
def test_an_absurd_step_fails_a_right_gradient(mode: Any, eps: float, W: Array, x: Array) -> None:
    error = refused(mode, squash, squash_vjp, [W, x], eps=eps)
    assert error.step == eps
    assert error.disagreement > 10 * error.allowed


def test_the_extrapolation_leaves_an_error_of_order_h_to_the_fourth() -> None:
    # The error is h⁴ / 480 of the fifth derivative, which for sin is the first one.
    x = np.ones(1)
    for h in (0.4, 0.2, 0.1):
        error = refused("full", np.sin, lambda u, x: 0 * u, [x], eps=h)
        assert 1 - error.expected / np.cos(1) == pytest.approx(h**4 / 480, rel=1e-2)
    # For a polynomial of degree 4 the error is 0 with any step.
    check_gradient(lambda x: (float(x[0] ** 4), 4 * x**3), x, mode="full", eps=1.0, rtol=1e-12)


def test_a_small_entry_is_compared_relative_to_the_typical_size() -> None:
    # The extrapolation is off by h⁴ / 4 at both entries of x⁵. That is little compared with the
    # second derivative, 5, but not with the first, 0.
    x = np.array([0.0, 1.0])
    check_gradient(
        lambda x: (float(np.sum(x**5)), 5 * x**4), x, mode="full", eps=0.05, atol=0.0, rtol=1e-6
    )


def test_a_large_entry_is_compared_relative_to_itself() -> None:
    # 0.15 of 1, where the root mean square is about half.
    wrong = np.array([1.15, 0, 0, 0])
    options = {"mode": "full", "atol": 0.0}
    check_gradient(lambda x: (float(x[0]), wrong), np.ones(4), rtol=0.16, **options)  # type: ignore[arg-type]
    refused_gradient(lambda x: (float(x[0]), wrong), np.ones(4), rtol=0.14, **options)


def test_the_largest_errors_are_reported() -> None:
    wrong = np.array([1.0, 1.1, 1.0])
    checked = check_gradient(
        lambda x: (float(np.sum(x)), wrong), np.ones(3), mode="full", atol=0.0, rtol=0.2
    )
    typical = np.sqrt(np.mean(wrong**2))
    assert checked.relative_error == pytest.approx(0.1 / typical)
    assert checked.error == pytest.approx(0.1 / typical / 0.2)


@pytest.mark.filterwarnings("ignore:overflow encountered", "ignore:invalid value encountered")
def test_a_difference_that_overflows_is_a_mismatch() -> None:
    def cliff(x: Array) -> Array:
        return np.where(x > 1, 1.7e308, -1.7e308)

    assert np.isnan(refused("full", cliff, lambda u, x: 0 * u, [np.ones(1)]).expected)


@both_modes
def test_an_absurd_tolerance_fails_a_right_gradient(mode: Any, W: Array, x: Array) -> None:
    refused(mode, squash, squash_vjp, [W, x], atol=0.0, rtol=1e-17)


@both_modes
def test_atol_and_rtol_bound_the_error_as_documented(mode: Any) -> None:
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


def plus_constant(constant: float) -> Callable[[Array], tuple[float, Array]]:
    """A loss with a slope near 1 plus a constant."""
    return lambda x: (constant + float(np.sin(x[0])), np.cos(x[:1]))


@both_modes
def test_rounding_is_tolerated_until_it_hides_the_derivative(mode: Any) -> None:
    x = np.array([0.3])
    # Rounding of 1e6, 1e-10, divided by the step is more than 1e-8 of the slope.
    checked = check_gradient(plus_constant(1e6), x, mode=mode)
    assert checked.relative_error > 1e-10
    with pytest.raises(GradientCheckError, match="rounding hides the derivative by x: it is about"):
        check_gradient(plus_constant(1e9), x, mode=mode)
    # With so small a step nothing could fail.
    with pytest.raises(GradientCheckError, match="rounding hides the derivative"):
        check_gradient(plus_constant(1e6), x, mode=mode, eps=1e-8)
    # The caller may set the tolerance.
    check_gradient(plus_constant(1e9), x, mode=mode, atol=0.1)
    error = refused_gradient(lambda x: (plus_constant(1e6)(x)[0], 2 * np.cos(x)), x, mode=mode)
    assert error.got == pytest.approx(2 * error.expected, rel=1e-6)


@both_modes
def test_a_derivative_that_is_0_except_for_rounding_passes(
    mode: Any, rng: np.random.Generator
) -> None:
    def unit_length(x: Array) -> tuple[float, Array]:
        y = x / np.linalg.norm(x)
        return 1e6 * float(y @ y), 2e6 * (y - y * (y @ y)) / np.linalg.norm(x)

    x = rng.normal(size=7)
    assert np.any(unit_length(x)[1])
    check_gradient(unit_length, x, mode=mode)


def test_the_tolerance_for_rounding_is_constant_below_the_smallest_step(W: Array, x: Array) -> None:
    allowed = [
        refused("full", squash, lambda *a: [2 * d for d in squash_vjp(*a)], [W, x], eps=eps).allowed
        for eps in (1e-5, 1e-7, 1e-9)
    ]
    assert allowed[0] < allowed[1] / 10
    assert allowed[1] == pytest.approx(allowed[2], rel=1e-2)


@pytest.mark.parametrize("size", [1e-8, 1e8])
@pytest.mark.parametrize("wrong", [0, 1])
def test_each_result_is_compared_relative_to_its_own_size(
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
    # The rounding of the large result is larger than the error of the small one.
    error = refused("full", f, slightly_wrong, [x])
    assert error.output.startswith(f"f {wrong}")
