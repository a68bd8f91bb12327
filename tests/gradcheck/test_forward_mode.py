"""The checks of jvps and of Hessian-vector products: right ones pass, wrong ones are named."""

# ruff: noqa: ARG005 - a derivative receives the point even if it does not need it

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from gradcheck.functions import both_modes, cubes, masks, squash
from gramstyle.core import layers
from gramstyle.core.arrays import Array
from gramstyle.errors import OptionError
from gramstyle.gradcheck import (
    Flips,
    GradientCheckError,
    GradientMismatchError,
    check_hvp,
    check_jvp,
)

# The differences of a smooth float64 function, extrapolated.
SMOOTH = 1e-8


def squash_jvp(tangents: tuple[Array, Array], W: Array, x: Array) -> Array:
    tW, tx = tangents
    return (tW @ x + W @ tx) * (1 - np.tanh(W @ x) ** 2)


def cubes_hvp(x: Array, t: Array) -> Array:
    return 6 * x * t


def relu_jvp(tZ: Array, Z: Array) -> Array:
    return layers.relu_jvp(tZ, layers.relu_forward(Z))


def refused_jvp(mode: Any, f: Any, jvp: Any, inputs: Any, **options: Any) -> GradientMismatchError:
    with pytest.raises(GradientMismatchError) as caught:
        check_jvp(f, jvp, inputs, mode=mode, **options)
    return caught.value


def refused_hvp(mode: Any, call: Any, hvp: Any, x: Any, **options: Any) -> GradientMismatchError:
    with pytest.raises(GradientMismatchError) as caught:
        check_hvp(call, hvp, x, mode=mode, **options)
    return caught.value


@both_modes
def test_a_right_jvp_of_several_inputs_passes(mode: Any, W: Array, x: Array) -> None:
    checked = check_jvp(squash, squash_jvp, [W, x], mode=mode)
    n, m = W.size + x.size, 20
    assert checked.compared == {"directional": 2 * m, "full": n * m}[mode]
    assert checked.relative_error < SMOOTH
    calls = {"directional": (2 * 4 + 2, 3), "full": (n * 4 + 2, n + 2)}[mode]
    assert (checked.forwards, checked.backwards) == calls


@both_modes
def test_a_right_hvp_passes(mode: Any) -> None:
    checked = check_hvp(cubes, cubes_hvp, np.linspace(-1, 1, 6), mode=mode)
    assert checked.compared == {"directional": 12, "full": 36}[mode]
    assert checked.relative_error < SMOOTH
    assert checked.backwards == {"directional": 4, "full": 9}[mode]


def test_results_may_be_several_arrays_of_any_size() -> None:
    def f(x: Array) -> tuple[Array, float]:
        return 1e6 * np.sin(x), float(np.sum(np.square(x)))

    def jvp(t: Array, x: Array) -> tuple[Array, float]:
        return 1e6 * np.cos(x) * t, float(2 * x @ t)

    assert check_jvp(f, jvp, [np.array([0.3, 0.4])]).compared == 6


@both_modes
def test_a_wrong_entry_of_a_jvp_is_named(mode: Any, W: Array, x: Array) -> None:
    def wrong(tangents: tuple[Array, Array], W: Array, x: Array) -> Array:
        result = squash_jvp(tangents, W, x)
        result[2, 1] *= 1.001
        return result

    error = refused_jvp(mode, squash, wrong, [W, x], names=["weights", "pixels"])
    assert error.verdict == "wrong jvp"
    assert error.output == "f[2, 1]"
    assert error.got == pytest.approx(1.001 * error.expected, rel=1e-6)
    assert "derivative of f[2, 1]: expected " in str(error)
    assert "⟨" not in str(error)
    assert str(error).isprintable()


def test_the_input_whose_tangent_is_wrong_is_named(W: Array, x: Array) -> None:
    def wrong(tangents: tuple[Array, Array], W: Array, x: Array) -> Array:
        return squash_jvp((2 * tangents[0], tangents[1]), W, x)

    assert refused_jvp("directional", squash, wrong, [W, x], names=["W", "x"]).input == "W"
    assert refused_jvp("full", squash, wrong, [W, x], names=["W", "x"]).input == "W"


@both_modes
def test_a_wrong_entry_of_an_hvp_is_named(mode: Any) -> None:
    def wrong(x: Array, t: Array) -> Array:
        return cubes_hvp(x, t) * np.array([1, 1, 1.001, 1])

    error = refused_hvp(mode, cubes, wrong, np.array([0.4, 0.5, 0.6, 0.7]))
    assert error.verdict == "wrong hvp"
    assert error.output == "gradient[2]"
    assert "wrong hvp: " in str(error)


def test_an_hvp_of_a_wrong_gradient_is_not_symmetric() -> None:
    A = np.array([[1.0, 2.0], [0.0, 1.0]])  # A x is no gradient
    with pytest.raises(GradientCheckError, match=r"not symmetric: .* check the gradient"):
        check_hvp(lambda x: (0.0, A @ x), lambda x, t: A @ t, np.array([0.3, 0.4]))


@both_modes
def test_near_a_kink_a_smaller_step_decides(mode: Any) -> None:
    near = np.array([1.0, -1.0, 2e-5, 0.5])  # a step of 1e-3 crosses the third entry's kink
    assert refused_jvp(mode, layers.relu_forward, relu_jvp, [near]).verdict == "wrong jvp"
    checked = check_jvp(layers.relu_forward, relu_jvp, [near], mode=mode, kinks=masks)
    assert checked.flips == {"relu": Flips(1, 4)}
    assert checked.step == 1e-5
    error = refused_jvp(
        mode, layers.relu_forward, lambda t, Z: 2 * relu_jvp(t, Z), [near], kinks=masks
    )
    assert error.verdict == "wrong jvp"


@both_modes
def test_at_a_kink_the_verdict_is_the_kink(mode: Any) -> None:
    at = np.array([1.0, -1.0, 0.0, 0.5])
    error = refused_jvp(mode, layers.relu_forward, relu_jvp, [at], kinks=masks)
    assert error.verdict == "crossed a kink"

    def squares(Z: Array) -> tuple[float, Array]:
        F = layers.relu_forward(Z)
        return float(F @ F) / 2, F

    error = refused_hvp(mode, squares, lambda Z, t: relu_jvp(t, Z), at, kinks=masks)
    assert error.verdict == "crossed a kink"
    assert error.flips == {"relu": Flips(1, 4)}


def test_a_jvp_that_clips_is_not_linear() -> None:
    with pytest.raises(GradientCheckError, match="jvp is not linear in its tangents"):
        check_jvp(lambda x: 2 * x, lambda t, x: 2 * np.maximum(t, 0), [np.ones(3)], mode="full")
    refused_jvp("directional", lambda x: 2 * x, lambda t, x: 2 * np.maximum(t, 0), [np.ones(3)])


def changing(t: Array, x: Array) -> Array:
    t *= 2
    return t


@pytest.mark.parametrize(
    ("jvp", "said"),
    [
        (lambda t, x: t.astype("f4"), "jvp's result is float32"),
        (lambda t, x: t[:1], r"jvp returns shapes \[\(1,\)\]; f returns \[\(2,\)\]"),
        (lambda t, x: (t, t), r"jvp returns shapes \[\(2,\), \(2,\)\]; f returns"),
        (lambda t, x: t * np.nan, "jvp's result is not finite"),
        (changing, "jvp changes its tangents in place"),
        (lambda t, x: np.multiply(x, 0, out=x), "jvp changes input 0 in place"),
    ],
)
def test_a_jvp_that_breaks_a_rule_is_refused(jvp: Callable[..., Any], said: str) -> None:
    with pytest.raises(GradientCheckError, match=said):
        check_jvp(lambda x: 2 * x, jvp, [np.ones(2)])


def test_an_hvp_that_is_not_deterministic_is_refused(rng: np.random.Generator) -> None:
    with pytest.raises(GradientCheckError, match="hvp is not deterministic"):
        check_hvp(cubes, lambda x, t: cubes_hvp(x, t) * rng.uniform(1, 2), np.ones(2))


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda x: 1.0, "a pair, or an object with .loss and .gradient; found float"),
        (lambda x: (1.0, np.ones(3)), r"gradient has shape \(3,\); x has \(2,\)"),
        (lambda x: (1.0, np.ones(2, "f4")), "gradient's result is float32"),
    ],
)
def test_a_gradient_of_another_form_is_refused(call: Any, said: str) -> None:
    with pytest.raises(GradientCheckError, match=said):
        check_hvp(call, cubes_hvp, np.ones(2))


def test_invalid_arguments_are_refused() -> None:
    with pytest.raises(OptionError, match="mode is 'fast'"):
        check_jvp(np.sin, relu_jvp, [np.ones(2)], mode="fast")  # type: ignore[arg-type]
    with pytest.raises(OptionError, match="there are 1 inputs and 2 names"):
        check_jvp(np.sin, relu_jvp, [np.ones(2)], names=["a", "b"])
    with pytest.raises(OptionError, match="input 0 is float32"):
        check_hvp(cubes, cubes_hvp, np.ones(2, "f4"))
