"""A run of the conformance kit: adapters that pass, and adapters that fail in any way."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from conformance_cases import CASES, changed, raising, returning, right
from gramstyle.conformance import Case
from gramstyle.conformance.real_network import real_case
from gramstyle.conformance.running import check, run
from gramstyle.core.arrays import Array
from gramstyle.errors import OptionError
from gramstyle.model import Model

SMALL = CASES["avg-pooling"]  # conv1_1, pool1, conv2_1


class UnspeakableError(Exception):
    def __str__(self) -> str:
        raise RuntimeError


class Unreadable:
    def __array__(self, *_: Any, **__: Any) -> Array:
        raise ValueError("still on the\ndevice")


# Adapters that pass


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_the_readable_engine_passes_every_case_in_float64(case: Case) -> None:
    result = check(right, case, dtype="float64")
    assert result.passed
    assert [each.quantity for each in result.comparisons] == [
        "loss",
        "gradient",
        *(f"dF of {name}" for name in reversed(case.network.names)),
    ]


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16"])
def test_an_adapter_gets_the_image_in_the_requested_float_type(dtype: str) -> None:
    seen = []

    def adapter(image: Array, case: Case) -> Any:
        seen.append((image.dtype.name, np.array_equal(image, case.x)))
        return right(image, case)

    assert not run(adapter, [SMALL], dtype=dtype).failed
    assert seen == [(dtype, True)]


def test_an_unknown_float_type_is_refused() -> None:
    with pytest.raises(OptionError, match="float64, float32, float16, not 'int8'"):
        check(right, SMALL, dtype="int8")


def test_layers_that_are_missing_from_dF_are_not_compared() -> None:
    result = check(changed(dF=lambda dF: {"pool1": dF["pool1"]}), SMALL, dtype="float64")
    assert result.passed
    assert [each.quantity for each in result.comparisons] == ["loss", "gradient", "dF of pool1"]


def test_a_truth_that_float16_cannot_represent_is_not_compared_in_float16() -> None:
    gradient = np.where(SMALL.truth.gradient > 0, 1e5, 0.0)
    case = replace(SMALL)
    vars(case)["truth"] = replace(SMALL.truth, gradient=gradient)
    for dtype, there in (("float16", False), ("float32", True)):
        quantities = [each.quantity for each in check(right, case, dtype=dtype).comparisons]
        assert ("gradient" in quantities) is there
        assert "dF of conv1_1" in quantities


# The real network


@pytest.mark.parametrize("size", [32, 37])
def test_the_case_of_a_model_file_has_the_objective_of_a_transfer(
    tiny_model: Model, size: int
) -> None:
    case = real_case(tiny_model, size)
    assert case.alpha == 50 / size**2
    assert tuple(case.style) == ("conv1_1", "conv2_1", "conv3_1", "conv4_1", "conv5_1")
    assert case.network.names[-1] == "conv5_1"
    assert case.truth.loss > 0
    assert check(right, case, dtype="float64").passed


def test_the_case_of_a_model_file_refuses_other_sizes(tiny_model: Model) -> None:
    for size in (0, 15, 513):
        with pytest.raises(OptionError, match=f"16 to 512 for the real network, not {size}"):
            real_case(tiny_model, size)
    assert real_case(tiny_model, 16).x.shape == (3, 16, 16)


# Adapters that fail


@pytest.mark.parametrize(
    ("adapter", "sentence"),
    [
        (raising(ValueError("no such\nlayer")), r"raised ValueError: no such\nlayer"),
        (raising(UnspeakableError()), "raised UnspeakableError"),
        (raising(SystemExit(3)), "raised SystemExit: 3"),
        (raising(GeneratorExit()), "raised GeneratorExit"),
        (returning(None), "returned a NoneType; expected loss, gradient, {layer: dF}"),
        (returning((1.0, 2.0)), "returned 2 things; expected loss, gradient, {layer: dF}"),
        (changed(dF=lambda dF: list(dF)), "returned a list as dF"),
        (changed(dF=lambda _: {"conv9_\x1b9": 0.0}), r"returned dF of 'conv9_\x1b9'; expected"),
        (changed(loss=lambda loss: [loss]), "the loss has the shape (1,); expected ()"),
        (changed(loss=lambda _: 3), "the loss has the dtype int64; expected floats"),
        (changed(loss=lambda _: "3.5"), "the loss has the dtype <U3; expected floats"),
        (
            changed(gradient=lambda g: g[None]),
            "the gradient has the shape (1, 3, 8, 10); expected (3, 8, 10)",
        ),
        (changed(gradient=lambda g: g + 0j), "the gradient has the dtype complex128"),
        (changed(gradient=lambda g: g.astype(object)), "the gradient has the dtype object"),
        (changed(gradient=lambda g: g.astype(int)), "the gradient has the dtype int64"),
        (
            changed(gradient=lambda _: [[1.0], [2.0, 3.0]]),
            "the gradient is not an array: ValueError",
        ),
        (
            changed(gradient=lambda _: Unreadable()),
            r"the gradient is not an array: ValueError: still on the\ndevice",
        ),
        (
            changed(dF=lambda dF: dF | {"pool1": dF["conv1_1"]}),
            "dF of pool1 has the shape (4, 8, 10); expected (4, 4, 5)",
        ),
    ],
)
def test_an_answer_that_cannot_be_compared_fails_its_case_only(
    adapter: Callable[[Array, Case], Any], sentence: str
) -> None:
    def once(image: Array, case: Case) -> Any:
        return adapter(image, case) if case.name == SMALL.name else right(image, case)

    failed, passed = run(once, [SMALL, CASES["max-pooling"]], dtype="float64").results
    assert failed.problem.startswith(sentence)
    assert failed.problem.isprintable()
    assert not failed.passed
    assert failed.comparisons == ()
    assert passed.passed


def test_ctrl_c_ends_the_run() -> None:
    with pytest.raises(KeyboardInterrupt):
        run(raising(KeyboardInterrupt()), [SMALL], dtype="float64")


@pytest.mark.parametrize(
    ("name", "mutate"),
    [
        ("the image", lambda image, _: image.fill(0)),
        ("x of the case", lambda _, case: case.x.fill(0)),
        ("the weights of conv2_1", lambda _, case: case.network.layers[2].W.sort()),
        ("the biases of conv1_1", lambda _, case: case.network.layers[0].b.fill(1)),
        ("P", lambda _, case: np.negative(case.content_term.P, case.content_term.P)),
        ("A of conv1_1", lambda _, case: case.style_terms["conv1_1"].A.fill(2)),
        ("T of conv1_1", lambda _, case: case.regions["conv1_1"][0].T.fill(1)),
        ("T of conv2_1 in the style image", lambda _, case: case.guidance["conv2_1"].fill(1)),
        ("the weights of the loss", lambda _, case: case.objective.weights.clear()),
        ("the case", lambda _, case: object.__delattr__(case, "objective")),
        ("x of the case", lambda _, case: object.__setattr__(case, "x", None)),
    ],
)
def test_an_adapter_that_changes_its_input_fails_without_damage(
    name: str, mutate: Callable[[Array, Case], None]
) -> None:
    case = CASES["style-weights" if "loss" in name or "A of" in name else "avg-pooling"]
    case = CASES["style-regions"] if name.startswith("T of") else case

    def adapter(image: Array, case: Case) -> Any:
        answer = right(image, case)
        mutate(image, case)
        return answer

    result = check(adapter, case, dtype="float64")
    assert result.problem == f"changed its input: {name}"
    assert check(right, case, dtype="float64").passed


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_nan_and_infinity_fail(value: float) -> None:
    for adapter, quantity in (
        (changed(loss=lambda _: value), "loss"),
        (changed(gradient=lambda g: g * value), "gradient"),
        (changed(dF=lambda dF: dF | {"pool1": dF["pool1"] * value}), "dF of pool1"),
    ):
        result = check(adapter, SMALL, dtype="float64")
        wrong = [each for each in result.comparisons if not each.passed]
        assert [(each.quantity, each.problem) for each in wrong] == [(quantity, "not finite")]
        assert result.worst == wrong[0]
