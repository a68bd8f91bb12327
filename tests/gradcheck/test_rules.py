"""Functions and arguments that break the rules of the checker, and the messages of mismatches."""

# ruff: noqa: ARG005 - a vjp receives the point even if it does not need it

import copy
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from gradcheck.functions import (
    both_modes,
    cubes,
    refused,
    refused_gradient,
    squash,
    squash_vjp,
)
from gramstyle.core.arrays import Array
from gramstyle.errors import GramstyleError, OptionError
from gramstyle.gradcheck import (
    GradientCheckError,
    GradientMismatchError,
    check_gradient,
    check_vjp,
)

# The error of an extrapolated difference of a smooth function: 1e-12 for a derivative of middle
# size, more where tanh is nearly flat. The checker's default tolerance is 1e-8.
SMOOTH = 1e-9


def good(u: Array, x: Array) -> Array:
    return u * np.cos(x)


@both_modes
@pytest.mark.parametrize(
    ("f", "vjp", "said"),
    [
        (lambda x: np.sin(x).astype("f4"), good, "f's result is float32; expected a float64"),
        (lambda x: np.sin(x) + 0j, good, "f's result is complex128"),
        (lambda x: 3, good, "f's result is int64;"),
        (lambda x: None, good, "f's result is object;"),
        (lambda x: (np.sin(x), "text"), good, "f's result 1 is <U4;"),
        (lambda x: np.sin(x) / 0, good, r"f's result is not finite: 3 of 3 values.*inf at \[0\]"),
        (
            lambda x: np.float64(np.nan),
            good,
            "f's result is not finite: 1 of 1 values, the.*nan; check",
        ),
        (np.sin, lambda u, x: good(u, x).astype("f4"), "vjp's derivative by p is float32"),
        (np.sin, lambda u, x: good(u, x)[:2], r"by p has shape \(2,\); the input has \(3,\)"),
        (np.sin, lambda u, x: good(u, x)[None], r"by p has shape \(1, 3\)"),
        (np.sin, lambda u, x: (x, x), "derivative for each of 1 inputs; found 2"),
        (np.sin, lambda u, x: None, "vjp's derivative by p is object;"),
        (np.sin, lambda u, x: good(u, x) * np.nan, "vjp's derivative by p is not finite: 3 of 3"),
    ],
)
@pytest.mark.filterwarnings("ignore:divide by zero")
def test_an_invalid_result_is_refused(mode: Any, f: Any, vjp: Any, said: str) -> None:
    with pytest.raises(GradientCheckError, match=said) as caught:
        check_vjp(f, vjp, [np.array([0.3, 0.4, 0.5])], mode=mode, names=["p"])
    assert not isinstance(caught.value, GradientMismatchError)


def test_a_vjp_that_forgets_an_input_is_refused(W: Array, x: Array) -> None:
    for vjp, found in (
        (lambda u, W, x: squash_vjp(u, W, x)[:1], "found 1"),
        (lambda u, W, x: squash_vjp(u, W, x)[0], "found 1"),
        (lambda u, W, x: (None, squash_vjp(u, W, x)[1]), "derivative by input 0 is object"),
    ):
        with pytest.raises(GradientCheckError, match=found):
            check_vjp(squash, vjp, [W, x])


@both_modes
@pytest.mark.parametrize(
    "f",
    [lambda x: x[x > 1], lambda x: (x, x) if x[0] > 1 else x, lambda x: (x,) if x[0] > 1 else x],
)
def test_a_result_whose_shape_depends_on_the_point_is_refused(mode: Any, f: Any) -> None:
    with pytest.raises(GradientCheckError, match=r"returns shapes .* at one point and"):
        check_vjp(f, lambda u, x: x, [np.ones(3)], mode=mode)


@both_modes
@pytest.mark.filterwarnings("ignore:invalid value encountered in sqrt")
def test_a_border_of_the_domain_within_a_step_is_reported_as_such(mode: Any) -> None:
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


def test_a_changed_cotangent_is_found_among_several() -> None:
    def vjp(us: tuple[Array, Array], x: Array) -> Array:
        result = us[0] + 2 * us[1]
        us[1][0] = 0
        return result

    with pytest.raises(GradientCheckError, match="vjp changes its cotangents"):
        check_vjp(lambda x: (x, 2 * x), vjp, [np.ones(2)])


class Drifting:
    """A function whose result changes after every few calls."""

    def __init__(self, function: Callable[..., Any], every: int) -> None:
        self.function, self.every, self.calls = function, every, 0

    def __call__(self, *arguments: Array) -> Any:
        self.calls += 1
        return self.function(*arguments) * (1 + 1e-9 * (self.calls // self.every))


@both_modes
@pytest.mark.parametrize("last", [False, True], ids=["every call", "the last call"])
def test_a_function_that_is_not_deterministic_is_refused(mode: Any, last: bool) -> None:
    x, every = np.array([0.3]), {"directional": 10, "full": 6}[mode] if last else 1
    with pytest.raises(GradientCheckError, match=r"f is not deterministic.*differ by up to"):
        check_vjp(Drifting(np.sin, every), good, [x], mode=mode)
    with pytest.raises(GradientCheckError, match="vjp is not deterministic"):
        check_vjp(np.sin, Drifting(good, 3), [x], mode=mode)


def test_noise_is_not_reported_as_a_wrong_gradient(rng: np.random.Generator) -> None:
    with pytest.raises(GradientCheckError, match="f is not deterministic"):
        check_vjp(lambda x: x + rng.normal(), lambda u, x: u, [np.ones(2)], mode="full")


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (1.0, "a pair, or an object with .loss and .gradient; found float"),
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


@pytest.mark.parametrize(
    ("inputs", "said"),
    [
        ([np.ones(2, "f4")], "input 0 is float32; .* differences need float64, so pass x.astype"),
        ([np.ones(2), np.ones(2, int)], "input 1 is int64"),
        ([np.ones(2, complex)], "input 0 is complex128"),
        ([np.ones(2, ">f8").astype(">f8")], "input 0 is >f8"),
        ([1], "input 0 is int64;"),
        ([True], "input 0 is bool"),
        ([None], "input 0 is object"),
        ([np.array([1.0, np.nan])], "input 0 is not finite: 1 of 2 values, the first nan at"),
        ([np.inf], "input 0 is not finite"),
        ([], "at least one array"),
        (np.ones(2), "a list or a tuple"),
    ],
)
def test_inputs_other_than_finite_float64_are_refused(inputs: Any, said: str) -> None:
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
def test_invalid_options_are_refused(options: Any, said: str) -> None:
    with pytest.raises(OptionError, match=said):
        check_vjp(np.sin, good, [np.ones(2)], **options)
    with pytest.raises(OptionError, match=said):
        check_gradient(cubes, np.ones(2), **options)


def test_each_input_has_one_name() -> None:
    with pytest.raises(OptionError, match="there are 1 inputs and 2 names"):
        check_vjp(np.sin, good, [np.ones(2)], names=["a", "b"])


def test_a_mismatch_in_full_mode_is_one_line_with_every_number(W: Array, x: Array) -> None:
    def vjp(dY: Array, W: Array, x: Array) -> tuple[Array, Array]:
        dW, dx = squash_vjp(dY, W, x)
        dx[1, 2] *= 3
        return dW, dx

    error = refused("full", squash, vjp, [W, x], names=["conv1_1", "pixels"], seed=5)
    # Of the four results that depend on this pixel, the one with the largest error.
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


def test_a_mismatch_in_directional_mode_names_the_inner_products_and_direction() -> None:
    # Right in the first direction and wrong in the second.
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
def test_an_entry_of_the_result_is_named_by_its_index(f: Any, output: str) -> None:
    with pytest.raises(GradientMismatchError, match=f"at input 0, {output}"):
        check_vjp(f, lambda u, x: 0 * x, [np.float64(2.0)], mode="full")


def test_a_mismatch_is_an_assertion_error_and_can_be_pickled() -> None:
    error = refused_gradient(lambda x: (cubes(x)[0], x), np.ones(2))
    assert isinstance(error, AssertionError)
    assert isinstance(error, GramstyleError)
    for other in (pickle.loads(pickle.dumps(error)), copy.copy(error)):  # noqa: S301 - our own bytes
        assert str(other) == str(error)
        assert (other.expected, other.input) == (error.expected, "x")
    assert len({error, copy.copy(error)}) == 2


def test_the_relative_error_of_two_zeros_is_0() -> None:
    error = refused_gradient(lambda x: (cubes(x)[0], x), np.ones(2))
    error.got = error.expected = 0.0
    assert error.relative_error == 0
