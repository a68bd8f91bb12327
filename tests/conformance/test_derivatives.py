"""Further derivatives of a case: their truth, and answers that have some of them."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from conformance_cases import CASES, apart, right
from conformance_sets import arrays_of, refused, store
from gramstyle.conformance import Case
from gramstyle.conformance.adapters import load
from gramstyle.conformance.cases import answer
from gramstyle.conformance.derivatives import direction_of
from gramstyle.conformance.running import check, run
from gramstyle.core.arrays import Array

SMALL = CASES["avg-pooling"]  # conv1_1, pool1, conv2_1
plain = load("numpy_plain")

# Another order of summation in float64.
ORDER = 1e-12
# Differences of gradients in float64, extrapolated with a step that crosses no kink; db of a late
# layer of the large cases is a sum of terms that cancel.
DIFFERENCE = 1e-6
# Some layers have sums of terms that cancel.
CANCELLED = 1e-10
# At these kinks the derivative of the gradient depends on the side.
KINKS = ("relu-at-zero", "max-pooling-ties")


def further(**parts: Any) -> Callable[[Array, Case], Any]:
    """An adapter that returns some of the correct derivatives, changed by functions."""

    def adapter(image: Array, case: Case) -> Any:
        *answer, more = plain(image, case)
        return (*answer, {name: change(more[name]) for name, change in parts.items()})

    return adapter


def same(value: Any) -> Any:
    return value


# The truth


@pytest.mark.parametrize("name", CASES)
def test_the_jvp_is_the_product_of_gradient_and_direction(name: str) -> None:
    case = CASES[name]
    product = np.vdot(case.truth.gradient, case.direction)
    scale = np.linalg.norm(case.truth.gradient * case.direction)
    assert case.derivatives.jvp == pytest.approx(product, abs=ORDER * scale)


@pytest.mark.parametrize("name", [name for name in CASES if name not in KINKS])
def test_the_hvp_is_the_difference_of_gradients_along_the_direction(name: str) -> None:
    case, h = CASES[name], 1e-5

    def difference(h: float) -> Array:
        ahead, behind = (case.x + s * h * case.direction for s in (1, -1))
        gradients = [answer(case.objective, x).gradient for x in (ahead, behind)]
        return (gradients[0] - gradients[1]) / (2 * h)

    assert case.derivatives.hvp is not None
    extrapolated = (4 * difference(h / 2) - difference(h)) / 3
    assert apart(extrapolated, case.derivatives.hvp) < DIFFERENCE


@pytest.mark.parametrize("name", CASES)
def test_the_gradient_of_the_biases_is_the_sum_of_dZ(name: str) -> None:
    case = CASES[name]
    convolutions = [layer.name for layer in case.layers if hasattr(layer, "W")]
    assert list(case.derivatives.dW) == list(case.derivatives.db) == convolutions[::-1]
    for layer in convolutions:
        dZ = np.where(case.responses[layer] > 0, case.truth.dF[layer], 0)
        assert apart(case.derivatives.db[layer], dZ.sum(axis=(1, 2))) < CANCELLED


def test_the_direction_follows_from_the_name() -> None:
    one, other = direction_of("relu", (3, 6, 7)), direction_of("convolution", (3, 6, 7))
    np.testing.assert_array_equal(one, CASES["relu"].direction)
    assert np.any(one != other)
    assert abs(one).max() <= 1
    np.testing.assert_array_equal(one.astype(np.float16), one)


# Answers


@pytest.mark.parametrize("name", CASES)
def test_the_readable_engine_has_every_derivative_in_float64(name: str) -> None:
    result = check(plain, CASES[name], dtype="float64")
    assert result.passed, result
    named = [each.quantity for each in result.comparisons]
    assert set(CASES[name].derivatives.quantities()) <= set(named)


def test_in_float32_too() -> None:
    assert not run(plain, CASES.values(), dtype="float32").failed


@pytest.mark.parametrize(
    ("parts", "compared"),
    [
        ({}, []),
        ({"jvp": same}, ["jvp"]),
        ({"hvp": same}, ["hvp"]),
        ({"dW": lambda dW: {"conv2_1": dW["conv2_1"]}}, ["dW of conv2_1"]),
        ({"db": same, "jvp": lambda _: None}, ["db of conv2_1", "db of conv1_1"]),
    ],
)
def test_what_an_answer_leaves_out_is_not_judged(parts: Any, compared: list[str]) -> None:
    result = check(further(**parts), SMALL, dtype="float64")
    assert result.passed
    assert [each.quantity for each in result.comparisons[5:]] == compared


def test_an_answer_of_three_parts_needs_no_truth_of_the_others() -> None:
    case = replace(SMALL)
    assert check(right, case, dtype="float64").passed
    assert check(lambda *a: (*right(*a), None), case, dtype="float64").passed
    assert "derivatives" not in vars(case)


@pytest.mark.parametrize(
    ("parts", "wrong"),
    [
        ({"jvp": lambda jvp: 2 * jvp}, "jvp"),
        ({"hvp": lambda hvp: hvp[:, ::-1]}, "hvp"),
        ({"dW": lambda dW: {n: each[..., ::-1, ::-1] for n, each in dW.items()}}, "dW of conv2_1"),
        ({"db": lambda db: {n: 0 * each for n, each in db.items()}}, "db of conv2_1"),
        ({"hvp": lambda hvp: hvp * np.nan}, "hvp"),
    ],
)
def test_a_wrong_derivative_fails_and_is_named(parts: Any, wrong: str) -> None:
    result = check(further(**parts), SMALL, dtype="float64")
    assert not result.passed
    assert result.where == f"loss and gradient are correct; {wrong} deviates"


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        ([1.0], "returned a list as further derivatives; expected a dictionary with any of dW"),
        ({"hessian": 1.0}, "returned 'hessian'; expected a dictionary with any of dW, db, jvp"),
        ({"dW": [1.0]}, "returned a list as dW; expected a dictionary"),
        ({"db": {"pool1": 1.0}}, "returned db of 'pool1'; expected layers of conv2_1, conv1_1"),
        ({"db": {"conv1_1": np.ones(3)}}, "db of conv1_1 has the shape (3,); expected (4,)"),
        ({"jvp": np.ones(1)}, "jvp has the shape (1,); expected ()"),
        ({"jvp": 3}, "jvp has the dtype int64; expected floats"),
        ({"hvp": np.ones((3, 8, 9))}, "hvp has the shape (3, 8, 9); expected (3, 8, 10)"),
    ],
)
def test_derivatives_that_cannot_be_compared_fail_the_case(more: Any, sentence: str) -> None:
    result = check(lambda *a: (*right(*a), more), SMALL, dtype="float64")
    assert result.problem.startswith(sentence)
    assert result.comparisons == ()


def test_a_direction_other_than_that_of_the_name_is_refused(small_set: Any) -> None:
    arrays = arrays_of(small_set, "relu")
    arrays["tx"][0, 0, 0] += 0.5
    store(small_set, "relu", arrays)
    refused(small_set, "expected the direction that follows from the name")
