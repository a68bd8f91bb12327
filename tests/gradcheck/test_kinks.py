"""Differences across the kinks of ReLUs and maxima."""

# ruff: noqa: ARG005 - a vjp receives the point even if it does not need it

from typing import Any

import numpy as np
import pytest

from gradcheck.functions import both_modes, masks, refused, relu_vjp
from gramstyle.core import layers
from gramstyle.core.arrays import Array
from gramstyle.gradcheck import Flips, GradientCheckError, check_vjp

NEAR = np.array([1.0, -1.0, 2e-5, 0.5])  # a step of 1e-3 crosses the third entry's kink


AT = np.array([1.0, -1.0, 0.0, 0.5])


@both_modes
def test_near_a_kink_a_smaller_step_confirms_a_right_gradient(mode: Any) -> None:
    error = refused(mode, layers.relu_forward, relu_vjp, [NEAR])
    assert error.verdict == "wrong gradient"
    assert "kinks were not checked" in str(error)
    checked = check_vjp(layers.relu_forward, relu_vjp, [NEAR], mode=mode, kinks=masks)
    assert checked.flips == {"relu": Flips(1, 4)}
    assert checked.flips["relu"].share == 0.25
    assert checked.step == 1e-5


@both_modes
def test_near_a_kink_a_smaller_step_refutes_a_wrong_gradient(mode: Any) -> None:
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
def test_at_a_kink_no_step_helps_and_the_message_says_so(mode: Any) -> None:
    error = refused(mode, layers.relu_forward, relu_vjp, [AT], kinks=masks)
    assert error.verdict == "crossed a kink"
    assert error.step == pytest.approx(1e-7)
    assert error.flips == {"relu": Flips(1, 4)}
    assert "crossed a kink: 1 of 4 of relu flip; no smaller step without a flip" in str(error)
    assert "not checked" not in str(error)


def test_the_derivative_of_a_relu_at_0_is_never_judged() -> None:
    def open_at_0(dF: Array, Z: Array) -> Array:
        return np.where(Z >= 0, dF, 0)

    away = np.array([1.0, -1.0, 0.5])
    for vjp in (relu_vjp, open_at_0):
        check_vjp(layers.relu_forward, vjp, [away], mode="full")
        error = refused("full", layers.relu_forward, vjp, [AT], kinks=masks)
        assert error.verdict == "crossed a kink"
        assert error.expected == pytest.approx(0.5)
    # Central differences measure the mean of the two sides.
    check_vjp(
        layers.relu_forward, lambda u, Z: (relu_vjp(u, Z) + open_at_0(u, Z)) / 2, [AT], mode="full"
    )


@both_modes
def test_a_relu_with_the_mask_f_at_least_0_fails_where_z_is_negative(mode: Any) -> None:
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


def test_a_choice_that_differs_only_at_the_point_itself_is_a_flip() -> None:
    # |x| at 0 with a mask that is the same on both sides.
    error = refused("full", np.abs, lambda u, x: u, [np.zeros(1)], kinks=lambda x: {"zero": x == 0})
    assert error.verdict == "crossed a kink"


def test_steps_do_not_shrink_without_a_flip_or_without_kinks() -> None:
    counted = [0]

    def f(x: Array) -> Array:
        counted[0] += 1
        return np.sin(x)

    x = np.array([0.4])
    for kinks in (None, lambda x: {"none": np.zeros(3, bool)}):
        counted[0] = 0
        refused("full", f, lambda u, x: 2 * u * np.cos(x), [x], kinks=kinks)
        assert counted[0] == 4 + 2


def test_a_message_lists_the_layers_with_the_largest_fractions_first() -> None:
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
def test_invalid_choices_are_refused(kinks: Any, said: str) -> None:
    with pytest.raises(GradientCheckError, match=said):
        check_vjp(np.abs, lambda u, x: u * np.sign(x), [np.array([0.0, 1.0])], kinks=kinks)
