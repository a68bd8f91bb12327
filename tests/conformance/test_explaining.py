"""What a wrong answer is explained by, and that no correct answer is accused."""

import re
from dataclasses import replace

import numpy as np
import pytest

from conformance_cases import CASES, planted
from gramstyle.conformance import Answer, Case
from gramstyle.conformance.adapters import numpy_plain, numpy_strips
from gramstyle.conformance.cases import answer
from gramstyle.conformance.comparing import compare
from gramstyle.conformance.explaining import explain, explain_all
from gramstyle.conformance.mistakes.pieces import Pieces
from gramstyle.conformance.mistakes.total_variation import TOTAL_VARIATIONS
from gramstyle.core.arrays import Array
from gramstyle.core.conventions import AUTHOR
from gramstyle.core.kernels import PlainKernels
from gramstyle.core.layers import Padding
from objectives import Weights, recomposed

UNFLIPPED = "kernels not flipped in the backward pass"


def names(case: str | Case, found: Answer, dtype: str = "float64") -> tuple[str, ...]:
    """The names of the explanation; empty if there is none."""
    result = explain(CASES[case] if isinstance(case, str) else case, found, dtype)
    return () if result is None else result.names


def wrong(mistake: str, case: str) -> Answer:
    found = planted(mistake, case)
    assert found is not None
    return found


# Half a mistake, a factor, a weight, two mistakes


@pytest.mark.parametrize(
    "mistake", ["squared sum instead of sum of squares in the style loss", "G divided by N"]
)
def test_a_mistake_in_the_loss_only_is_named_as_such(mistake: str) -> None:
    case = "style-quarter"
    found = replace(CASES[case].truth, loss=wrong(mistake, case).loss)
    assert names(case, found) == (f"{mistake} (in the loss only)",)


@pytest.mark.parametrize("mistake", ["w_l in the wrong order", "equal w_l"])
def test_a_mistake_in_the_gradient_only_is_named_as_such(mistake: str) -> None:
    case = "style-weights"
    found = replace(wrong(mistake, case), loss=CASES[case].truth.loss)
    assert names(case, found) == (f"{mistake} (in the gradient only)",)


def test_one_mistake_in_the_loss_and_another_in_the_gradient_are_both_named() -> None:
    case = "style-weights"
    found = replace(wrong(UNFLIPPED, case), loss=wrong("G divided by N", case).loss)
    both = f"G divided by N (in the loss) with {UNFLIPPED} (in the gradient)"
    assert names(case, found) == (both,)


@pytest.mark.parametrize("weight", [1e-6, 0.3, 50.0])
@pytest.mark.parametrize("summed", TOTAL_VARIATIONS)
def test_total_variation_is_recognised_at_any_weight(summed: str, weight: float) -> None:
    case = CASES["relu"]
    value, slope = TOTAL_VARIATIONS[summed](case.x)
    only = replace(case.truth, gradient=case.truth.gradient + weight * slope)
    both = replace(only, loss=case.truth.loss + weight * value)
    name = f"total variation ({summed})"
    assert names(case, only) == (f"{name} in the gradient but not in the loss",)
    assert names(case, both) == (f"{name} added",)


@pytest.mark.parametrize("summed", TOTAL_VARIATIONS)
def test_the_gradient_of_total_variation_is_its_derivative(summed: str) -> None:
    x, u = np.random.default_rng(1).uniform(0, 9, (2, 3, 5, 4))
    total_variation, h = TOTAL_VARIATIONS[summed], 1e-6
    slope = (total_variation(x + h * u)[0] - total_variation(x - h * u)[0]) / (2 * h)
    # A central difference, away from kinks.
    assert np.vdot(total_variation(x)[1], u) == pytest.approx(slope, rel=1e-7)


def test_an_unknown_factor_is_found() -> None:
    truth = CASES["objective"].truth
    scaled = {name: 0.3 * dF for name, dF in truth.dF.items()}
    for found, name in (
        (replace(truth, gradient=0.3 * truth.gradient), "gradient 0.3 times the truth"),
        (replace(truth, dF=scaled), "dF 0.3 times the truth"),
        (Answer(truth.loss, -0.3 * truth.gradient, {}), "gradient -0.3 times the truth"),
        (
            Answer(0.3 * truth.loss, 0.3 * truth.gradient, scaled),
            "loss, gradient and dF 0.3 times the truth",
        ),
    ):
        assert name in names("objective", found)


def test_a_step_computed_in_float32_is_recognised() -> None:
    case = CASES["relu"]
    noise = case.truth.gradient * np.random.default_rng(2).normal(size=case.x.shape)
    found = replace(case.truth, gradient=case.truth.gradient + 3e-8 * noise)
    assert names(case, found) == ("a step computed in float32",)
    assert names(case, replace(found, gradient=case.truth.gradient + 1e-4 * noise)) == ()


def test_different_mistakes_in_different_cases_are_distinguished() -> None:
    made = {
        "relu": UNFLIPPED,
        "convolution": UNFLIPPED,
        "avg-pooling": UNFLIPPED,
        "style-quarter": "upper triangle of the Gram matrix",
        "style-weights": "upper triangle of the Gram matrix",
    }
    failed = [(CASES[case], wrong(mistake, case)) for case, mistake in made.items()]
    truth = CASES["content-half"].truth
    failed.append((CASES["content-half"], replace(truth, gradient=np.ones_like(truth.gradient))))
    failed.append((CASES["max-pooling"], CASES["max-pooling"].truth))
    assert re.fullmatch(
        rf"3 of 6 failed cases: matches {UNFLIPPED} to .*; "
        r"2 of 6 failed cases: matches upper triangle of the Gram matrix to .*; "
        r"no known mistake matches content-half",
        explain_all(failed, "float64"),
    )


def test_two_mistakes_in_two_cases_get_two_sentences() -> None:
    made = {
        "max-pooling-ties": "max pooling's gradient shared by equal values",
        "relu-at-zero": "half of the ReLU gradient passed at 0",
    }
    failed = [(CASES[case], wrong(mistake, case)) for case, mistake in made.items()]
    sentences = explain_all(failed, "float64").split("; ")
    assert len(sentences) == 2
    for mistake in made.values():
        assert sum(mistake in sentence for sentence in sentences) == 1


# Mistakes made with other code than the kit's own


class WithoutMask(PlainKernels):
    def convolution_backward(
        self, dF: Array, F: Array, W: Array, padding: Padding = "zeros"
    ) -> Array:
        return super().convolution_backward(dF, np.ones_like(F), W, padding)


class DividedTwice(PlainKernels):
    def pool_backward(self, dY: Array, X: Array, kind: str) -> Array:
        return super().pool_backward(dY, X, kind) / (4 if kind == "avg" else 1)


def engine(case: Case, **changes: object) -> Answer:
    """The answer by the objective of the case with changes, instead of by `Pieces`."""
    objective = replace(case.objective, kernels=PlainKernels(), forward=None)
    how = {name: changes.pop(name) for name in ("kernels",) if name in changes}
    objective = replace(objective, **how)  # type: ignore[arg-type]
    return answer(recomposed(objective, **changes) if changes else objective, case.x)


def test_mistakes_in_the_engine_itself_are_named() -> None:
    case = CASES["content-behind-the-relu"]
    w = {layer: term.weight for layer, term in case.style_terms.items()}
    exchanged = Weights(case.beta, case.alpha, w)
    for name_of_case, changes, name in (
        (
            "style-quarter",
            {"kernels": WithoutMask()},
            "ReLU left out for gradients from deeper layers",
        ),
        ("objective", {"kernels": DividedTwice()}, "average pooling's gradient divided twice"),
        ("content-half", {"convention": AUTHOR}, "the other convention's content loss"),
        ("content-behind-the-relu", {"weights": exchanged}, "α and β exchanged"),
    ):
        assert names(name_of_case, engine(CASES[name_of_case], **changes)) == (name,)


def test_a_mistake_in_float32_is_named_too() -> None:
    case = CASES["preprocessing-caffe"]
    found = numpy_strips.in_strips(case.x.astype(np.float32), case, None)
    result = explain(case, replace(found, gradient=found.gradient[::-1]), "float32")
    assert result is not None
    assert result.names == ("gradient left in the order blue, green, red",)
    assert result.closeness < 2e-3


@pytest.mark.parametrize(
    "mistake", ["G divided by N", "style loss left out", "number of pixels as M"]
)
def test_the_closest_of_several_mistakes_within_the_tolerance_is_named(mistake: str) -> None:
    found = wrong(mistake, "content-behind-the-relu")
    rounded = replace(found, gradient=found.gradient.astype(np.float32))
    assert names("content-behind-the-relu", rounded, "float32") == (mistake,)


# Correct answers, and answers that no known mistake gives


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_correct_answers_by_other_code_pass_and_are_not_explained(case: Case) -> None:
    x = case.x.astype(np.float32)
    for dtype, found in (
        ("float64", Pieces(case).answer()),
        ("float64", engine(case)),
        ("float32", numpy_plain.plainly(x, case, np.asarray)),
        ("float32", numpy_strips.in_strips(x, case, None)),
    ):
        assert [each for each in compare(case, found, dtype) if not each.passed] == []
        assert explain(case, found, dtype) is None
        assert explain_all([(case, found)], dtype) == ""


@pytest.mark.parametrize("amount", [1e-3, 0.5, 100.0])
@pytest.mark.parametrize(
    "name", ["relu", "max-pooling", "content-behind-the-relu", "style-weights"]
)
def test_a_random_deviation_is_not_explained(name: str, amount: float) -> None:
    rng = np.random.default_rng(3)
    case = CASES[name]

    def disturbed(part: Array) -> Array:
        return part + amount * np.max(np.abs(part)) * rng.normal(size=part.shape)

    truth = case.truth
    loss, gradient = truth.loss * (1 + amount * 0.7), disturbed(truth.gradient)
    dF = {layer: disturbed(each) for layer, each in truth.dF.items()}
    everywhere = Answer(loss, gradient, dF)
    for found in (
        replace(truth, loss=loss),
        replace(truth, gradient=gradient),
        replace(truth, dF=dF),
        everywhere,
    ):
        assert explain(case, found, "float64") is None
    assert explain_all([(case, everywhere)], "float64") == f"no known mistake matches {name}"


def test_a_mistake_with_another_deviation_is_not_named() -> None:
    found = wrong(UNFLIPPED, "relu")
    assert names("relu", replace(found, gradient=found.gradient * 1.2)) == ()


def test_a_small_mistake_does_not_explain_a_deviation_that_is_mostly_something_else() -> None:
    case = CASES["content-behind-the-relu"]
    found = wrong("content overwrites style at one layer", case.name)
    noise = np.random.default_rng(5).normal(size=case.x.shape)
    small = found.gradient - case.truth.gradient
    noise -= small * np.vdot(small, noise) / np.vdot(small, small)
    noise *= 0.1999 * np.linalg.norm(case.truth.gradient) / np.linalg.norm(noise)
    # Within float16's tolerance of the mistake, beyond it of the truth.
    disturbed = replace(found, gradient=found.gradient + noise)
    assert not all(each.passed for each in compare(case, disturbed, "float16"))
    assert names(case, disturbed, "float16") == ()


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("of_dF", [False, True], ids=["gradient", "gradient and dF"])
@pytest.mark.parametrize("case", ["relu", "style-weights", "max-pooling"])
def test_numbers_in_the_byte_order_of_another_machine_are_named(
    case: str, of_dF: bool, dtype: str
) -> None:
    def swapped(array: Array) -> Array:
        with np.errstate(invalid="ignore"):  # some are no number
            return array.astype(dtype).byteswap().astype(np.float64)

    truth = CASES[case].truth
    dF = {name: swapped(each) for name, each in truth.dF.items()} if of_dF else truth.dF
    found = replace(truth, gradient=swapped(truth.gradient), dF=dF)
    name = "the bytes of each number in the reverse order, big-endian"
    assert names(case, found, dtype) == (name,)
    assert explain_all([(CASES[case], found)], dtype).startswith(
        f"1 of 1 failed cases: matches {name}"
    )


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_nan_and_infinity_are_not_explained(bad: float) -> None:
    case = CASES["relu"]
    gradient = np.where(case.x > 0, bad, case.truth.gradient)
    for changes in ({"loss": bad}, {"gradient": gradient}, {"loss": bad, "gradient": gradient}):
        assert names(case, replace(case.truth, **changes)) == ()


def test_a_quantity_that_the_float_type_cannot_represent_does_not_deviate() -> None:
    case = CASES["preprocessing-caffe"]
    assert case.truth.loss > float(np.finfo(np.float16).max)
    overflowed = replace(case.truth, loss=np.inf)
    assert all(each.passed for each in compare(case, overflowed, "float16"))
    assert names(case, overflowed, "float16") == ()
    reversed_ = replace(overflowed, gradient=overflowed.gradient[::-1])
    assert names(case, reversed_, "float16") == ("gradient left in the order blue, green, red",)
