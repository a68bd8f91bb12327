"""The known mistakes, planted: the kit catches and names each, and accuses nothing right."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from types import MappingProxyType

import numpy as np
import pytest

from documented import text_of
from gramstyle.conformance import Answer, Case, cases, comparing, explaining
from gramstyle.conformance.cases import answer
from gramstyle.conformance.comparing import compare
from gramstyle.conformance.explaining import Explanation, explain, explain_all
from gramstyle.conformance.mistakes import MISTAKES, Mistake
from gramstyle.conformance.mistakes.pieces import Pieces
from gramstyle.conformance.mistakes.pixels import TOTAL_VARIATIONS
from gramstyle.core.arrays import Array
from gramstyle.core.conventions import AUTHOR
from gramstyle.core.kernels import PlainKernels
from gramstyle.core.objective import Weights
from gramstyle.engines.strips import StripKernels

CASES = {case.name: case for case in cases()}
SMALL = {name: case for name, case in CASES.items() if case.x.size < 1000}

# What float32's tolerance cannot see: the mistake is float32, or float16 in a sum.
SEEN_IN_FLOAT64_ONLY = {
    "gradient rounded to float32",
    "loss added up in float16",
    "loss added up in float32",
}

PAGE = text_of("docs/mistakes.md")


@cache
def planted(mistake: str, case: str) -> Answer | None:
    return MISTAKES[mistake].plant(CASES[case])


@pytest.fixture(autouse=True)
def _plant_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every explanation plants every mistake: keep the answers."""
    named = {case.name: case for case in CASES.values()}

    def kept(mistake: Mistake, case: Case) -> Answer | None:
        return planted(mistake.name, case.name) if case is named[case.name] else mistake.plant(case)

    monkeypatch.setattr(
        explaining,
        "MISTAKES",
        MappingProxyType(
            {
                name: replace(mistake, plant=lambda case, m=mistake: kept(m, case))
                for name, mistake in MISTAKES.items()
            }
        ),
    )


@dataclass(frozen=True)
class Catch:
    """The first case that shows a mistake, and by how much each quantity deviates there."""

    case: str
    loss: float
    gradient: float
    dF: float


@lru_cache
def catch(mistake: str, dtype: str) -> Catch | None:
    for case in CASES.values():
        found = planted(mistake, case.name)
        if found is not None:
            compared = compare(case, found, dtype)
            if not all(each.passed for each in compared):
                loss, gradient, *dF = (each.relative for each in compared)
                return Catch(case.name, loss, gradient, max(dF))
    return None


def blurred(found: Answer) -> Answer:
    """The same to 1e-13, as from sums in another order."""
    rng = np.random.default_rng(0)

    def blur(array: Array) -> Array:
        return array * (1 + 1e-13 * rng.normal(size=array.shape))

    dF = {name: blur(each) for name, each in found.dF.items()}
    return Answer(found.loss * (1 + 1e-13), blur(found.gradient), dF)


def explanation(case: Case, found: Answer, dtype: str = "float64") -> Explanation:
    result = explain(case, found, dtype)
    assert result is not None
    return result


# The kit bites


@pytest.mark.parametrize("mistake", MISTAKES)
def test_at_least_one_case_catches_the_mistake(mistake: str) -> None:
    assert catch(mistake, "float64") is not None, f"no case catches: {mistake}"
    caught_in_float32 = catch(mistake, "float32") is not None
    assert caught_in_float32 == (mistake not in SEEN_IN_FLOAT64_ONLY)


@pytest.mark.parametrize("mistake", MISTAKES)
def test_the_first_case_that_catches_the_mistake_names_it(mistake: str) -> None:
    caught = catch(mistake, "float64")
    assert caught is not None
    found = planted(mistake, caught.case)
    assert found is not None
    result = explanation(CASES[caught.case], blurred(found))
    assert mistake in result.names
    assert result.closeness < 1e-11


@pytest.mark.parametrize("mistake", MISTAKES)
def test_all_cases_together_name_the_mistake_and_no_other(mistake: str) -> None:
    caught = catch(mistake, "float64")
    assert caught is not None
    among = SMALL if caught.case in SMALL else {caught.case: CASES[caught.case]}
    failed = []
    for name, case in among.items():
        found = planted(mistake, name)
        if found is not None and not all(each.passed for each in compare(case, found, "float64")):
            failed.append((case, blurred(found)))
    said = explain_all(failed, "float64")
    all_ = f"{len(failed)} of {len(failed)} cases that failed"
    pattern = rf"{all_}: matches {re.escape(mistake)} to \de-\d\d"
    assert re.fullmatch(pattern, said), said


def test_with_a_tolerance_of_10_most_mistakes_would_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(comparing, "TOLERANCES", {"float64": 10.0})
    monkeypatch.setattr(explaining, "TOLERANCES", {"float64": 10.0})
    missed = 0
    for mistake in MISTAKES:
        answers = [(case, planted(mistake, name)) for name, case in SMALL.items()]
        deviating = [(case, found) for case, found in answers if found is not None]
        passes = all(q.passed for case, found in deviating for q in compare(case, found, "float64"))
        missed += passes
        if passes:
            assert explain_all(deviating, "float64") == ""
    assert missed > len(MISTAKES) / 2


# What a program derives from a wrong loss is that loss's gradient; other mistakes break the tie.
BY_HAND = {
    "artwork's features in the style gradient",
    "content gradient of the wrong sign",
    "loss added up in float16",
    "loss added up in float32",
    "one of the two terms of the style gradient",
    "image rounded to whole grey levels",
    "style gradient of the wrong sign",
}
DERIVED = [
    mistake
    for mistake, pieces in ((name, each.plant.args[0]) for name, each in MISTAKES.items())
    if mistake not in BY_HAND
    and (
        pieces.__module__.endswith(".losses")
        or f"{mistake}, P and A too" in MISTAKES
        or mistake.endswith("added")
    )
]


@pytest.mark.parametrize("mistake", DERIVED)
def test_a_mistake_that_a_program_derives_has_the_gradient_of_its_own_loss(mistake: str) -> None:
    plant = MISTAKES[mistake].plant
    names = ("style-of-another-size", "content-behind-the-relu", "style-weights", "avg-pooling-odd",
             "preprocessing-torchvision")  # fmt: skip
    case, found = next((CASES[n], a) for n in names if (a := planted(mistake, n)) is not None)
    u, h = np.random.default_rng(4).normal(size=case.x.shape), 1e-5
    more, less = (plant(replace(case, x=case.x + step * u)) for step in (h, -h))
    # Losses that are left out are 0.
    rise = 0.0 if more is None or less is None else (more.loss - less.loss) / (2 * h)
    # A central difference, away from kinks.
    assert np.vdot(found.gradient, u) == pytest.approx(rise, rel=1e-5)


@pytest.mark.parametrize(
    "mistake", [name for name in MISTAKES if f"{name}, P and A too" in MISTAKES]
)
def test_a_mistake_in_p_and_a_too_is_at_rest_on_the_photograph_and_on_the_artwork(
    mistake: str,
) -> None:
    content, style = CASES["content-half"], CASES["style-of-another-size"]
    for case, x in ((content, content.p), (style, style.a)):
        assert x is not None
        pieces = MISTAKES[f"{mistake}, P and A too"].plant.args[0]
        # The rounding of two equal sums, squared.
        assert pieces(replace(case, x=x), own_targets=True).loss() < 1e-25


# Half a mistake, a factor, a weight, two mistakes


def test_a_mistake_in_the_loss_alone_is_said_to_be_there() -> None:
    for name in ("square of the sum for the sum of squares in the style loss", "G divided by N"):
        found = planted(name, "style-quarter")
        truth = CASES["style-quarter"].truth
        assert found is not None
        result = explanation(CASES["style-quarter"], replace(truth, loss=found.loss))
        assert result.names == (f"{name} (in the loss only)",)


def test_a_mistake_in_the_gradient_alone_is_said_to_be_there() -> None:
    for name in ("w_l in the wrong order", "equal w_l"):
        found = planted(name, "style-weights")
        assert found is not None
        right = CASES["style-weights"].truth.loss
        result = explanation(CASES["style-weights"], replace(found, loss=right))
        assert result.names == (f"{name} (in the gradient only)",)


def test_one_mistake_in_the_loss_and_another_in_the_gradient_are_both_named() -> None:
    case = "style-weights"
    a, b = planted("G divided by N", case), planted("kernels not flipped on the way down", case)
    assert a is not None
    assert b is not None
    assert explanation(CASES[case], replace(b, loss=a.loss)).names == (
        "G divided by N (in the loss) with kernels not flipped on the way down (in the gradient)",
    )


@pytest.mark.parametrize("weight", [1e-6, 0.3, 50.0])
@pytest.mark.parametrize("what", TOTAL_VARIATIONS)
def test_total_variation_is_known_at_any_weight(what: str, weight: float) -> None:
    case = CASES["relu"]
    value, slope = TOTAL_VARIATIONS[what](case.x)
    only = replace(case.truth, gradient=case.truth.gradient + weight * slope)
    both = replace(only, loss=case.truth.loss + weight * value)
    name = f"total variation ({what})"
    assert explanation(case, only).names == (f"{name} in the gradient but not in the loss",)
    assert explanation(case, both).names == (f"{name} added",)


@pytest.mark.parametrize("what", TOTAL_VARIATIONS)
def test_the_gradient_of_total_variation_is_its_derivative(what: str) -> None:
    x, u = np.random.default_rng(1).uniform(0, 9, (2, 3, 5, 4))
    total_variation, h = TOTAL_VARIATIONS[what], 1e-6
    slope = (total_variation(x + h * u)[0] - total_variation(x - h * u)[0]) / (2 * h)
    # A central difference, away from kinks.
    assert np.vdot(total_variation(x)[1], u) == pytest.approx(slope, rel=1e-7)


def test_an_unknown_factor_is_found() -> None:
    truth = CASES["objective"].truth
    scaled = {name: 0.3 * dF for name, dF in truth.dF.items()}
    for found, said in (
        (replace(truth, gradient=0.3 * truth.gradient), "gradient 0.3 times the truth"),
        (replace(truth, dF=scaled), "dF 0.3 times the truth"),
        (Answer(truth.loss, -0.3 * truth.gradient, {}), "gradient -0.3 times the truth"),
        (
            Answer(0.3 * truth.loss, 0.3 * truth.gradient, scaled),
            "loss, gradient and dF 0.3 times the truth",
        ),
    ):
        assert said in explanation(CASES["objective"], found).names


def test_a_step_in_float32_is_taken_for_one() -> None:
    case = CASES["relu"]
    noise = case.truth.gradient * np.random.default_rng(2).normal(size=case.x.shape)
    found = replace(case.truth, gradient=case.truth.gradient + 3e-8 * noise)
    assert explanation(case, found).names == ("a step computed in float32",)
    larger = replace(case.truth, gradient=case.truth.gradient + 1e-4 * noise)
    assert explain(case, larger, "float64") is None


def test_several_mistakes_behind_several_cases_are_told_apart() -> None:
    failed = []
    for mistake, names in (
        ("kernels not flipped on the way down", ("relu", "convolution", "avg-pooling")),
        ("upper triangle of the Gram matrix", ("style-quarter", "style-weights")),
    ):
        for name in names:
            found = planted(mistake, name)
            assert found is not None
            failed.append((CASES[name], found))
    truth = CASES["content-half"].truth
    failed.append((CASES["content-half"], replace(truth, gradient=np.ones_like(truth.gradient))))
    failed.append((CASES["max-pooling"], CASES["max-pooling"].truth))
    assert re.fullmatch(
        r"3 of 6 cases that failed: matches kernels not flipped on the way down to .*; "
        r"2 of 6 cases that failed: matches upper triangle of the Gram matrix to .*; "
        r"nothing known is like content-half",
        explain_all(failed, "float64"),
    )


# Mistakes made with other code than the kit's own


class WithoutMask(PlainKernels):
    def convolution_backward(self, dF: Array, F: Array, W: Array) -> Array:
        return super().convolution_backward(dF, np.ones_like(F), W)


class DividedTwice(PlainKernels):
    def pool_backward(self, dY: Array, X: Array, kind: str) -> Array:
        return super().pool_backward(dY, X, kind) / (4 if kind == "avg" else 1)


def elsewhere(case: Case, **changes: object) -> Answer:
    """The case's objective with changes, by `Objective` and not by `Pieces`."""
    kernels = {"kernels": PlainKernels(), "forward": None}
    return answer(replace(case.objective, **(kernels | changes)), case.x)


def test_mistakes_planted_in_the_engine_itself_are_named() -> None:
    weights = CASES["content-behind-the-relu"].objective.weights
    exchanged = Weights(weights.beta, weights.alpha, weights.w)
    for case, changes, name in (
        ("style-quarter", {"kernels": WithoutMask()}, "ReLU left out for gradients from above"),
        ("objective", {"kernels": DividedTwice()}, "average pooling divided twice on the way down"),
        ("content-half", {"convention": AUTHOR}, "the other convention's content loss"),
        ("content-behind-the-relu", {"weights": exchanged}, "α and β exchanged"),
    ):
        assert explanation(CASES[case], elsewhere(CASES[case], **changes)).names == (name,)


def in_float32(case: Case, *, strips: bool) -> Answer:
    """The case in float32, with matrix products."""
    objective = case.objective
    content = objective.content
    if content is not None:
        content = replace(content, P=content.P.astype(np.float32))
    kernels = StripKernels(1) if strips else PlainKernels()
    float32 = replace(
        objective,
        network=objective.network.astype(np.float32),
        content=content,
        forward=None,
        kernels=kernels,
    )
    return answer(float32, case.x.astype(np.float32))


def test_a_mistake_in_float32_is_named_too() -> None:
    case = CASES["preprocessing-caffe"]
    right = in_float32(case, strips=True)
    wrong = replace(right, gradient=right.gradient[::-1])
    result = explanation(case, wrong, "float32")
    assert result.names == ("gradient left in the order blue, green, red",)
    assert result.closeness < 2e-3


def test_of_mistakes_within_the_tolerance_the_closest_is_named() -> None:
    case = CASES["content-behind-the-relu"]
    for name in ("G divided by N", "style loss left out", "M of the image's pixels"):
        found = planted(name, case.name)
        assert found is not None
        rounded = replace(found, gradient=found.gradient.astype(np.float32))
        assert explanation(case, rounded, "float32").names == (name,)


# Nothing right is accused


@pytest.mark.parametrize("name", CASES)
def test_right_answers_by_other_means_pass_and_are_not_explained(name: str) -> None:
    case = CASES[name]
    for dtype, found in (
        ("float64", Pieces(case).answer()),
        ("float64", elsewhere(case)),
        ("float32", in_float32(case, strips=False)),
        ("float32", in_float32(case, strips=True)),
    ):
        assert [each for each in compare(case, found, dtype) if not each.passed] == []
        assert explain(case, found, dtype) is None
        assert explain_all([(case, found)], dtype) == ""


@pytest.mark.parametrize("amount", [1e-3, 0.5, 100.0])
@pytest.mark.parametrize(
    "name", ["relu", "max-pooling", "content-behind-the-relu", "style-weights"]
)
def test_an_answer_that_is_wrong_at_random_is_not_explained(name: str, amount: float) -> None:
    rng = np.random.default_rng(3)
    case = CASES[name]

    def disturbed(part: Array) -> Array:
        return part + amount * np.max(np.abs(part)) * rng.normal(size=part.shape)

    truth = case.truth
    loss, gradient = truth.loss * (1 + amount * 0.7), disturbed(truth.gradient)
    dF = {layer: disturbed(each) for layer, each in truth.dF.items()}
    for found in (
        replace(truth, loss=loss),
        replace(truth, gradient=gradient),
        replace(truth, dF=dF),
        Answer(loss, gradient, dF),
    ):
        assert explain(case, found, "float64") is None
    said = explain_all([(case, Answer(loss, gradient, dF))], "float64")
    assert said == f"nothing known is like {name}"


def test_a_mistake_beside_another_deviation_is_not_blamed_for_it() -> None:
    found = planted("kernels not flipped on the way down", "relu")
    assert found is not None
    case = CASES["relu"]
    assert explain(case, replace(found, gradient=found.gradient * 1.2), "float64") is None


def test_a_small_mistake_is_not_blamed_for_a_deviation_that_is_mostly_something_else() -> None:
    case = CASES["content-behind-the-relu"]
    found = planted("content over style at one layer", case.name)
    assert found is not None
    noise = np.random.default_rng(5).normal(size=case.x.shape)
    small = found.gradient - case.truth.gradient
    noise -= small * np.vdot(small, noise) / np.vdot(small, small)
    noise *= 0.1999 * np.linalg.norm(case.truth.gradient) / np.linalg.norm(noise)
    # Within float16's tolerance of the mistake, beyond it of the truth.
    disturbed = replace(found, gradient=found.gradient + noise)
    assert not all(each.passed for each in compare(case, disturbed, "float16"))
    assert explain(case, disturbed, "float16") is None


def test_nan_and_infinity_are_not_explained() -> None:
    case = CASES["relu"]
    for bad in (np.nan, np.inf):
        gradient = np.where(case.x > 0, bad, case.truth.gradient)
        assert explain(case, replace(case.truth, loss=bad), "float64") is None
        assert explain(case, replace(case.truth, gradient=gradient), "float64") is None
        assert explain(case, replace(case.truth, loss=bad, gradient=gradient), "float64") is None


def test_what_a_float_type_cannot_hold_is_no_deviation() -> None:
    case = CASES["preprocessing-caffe"]
    assert case.truth.loss > float(np.finfo(np.float16).max)
    overflowed = replace(case.truth, loss=np.inf)
    assert all(each.passed for each in compare(case, overflowed, "float16"))
    assert explain(case, overflowed, "float16") is None
    wrong = replace(overflowed, gradient=overflowed.gradient[::-1])
    said = explanation(case, wrong, "float16")
    assert said.names == ("gradient left in the order blue, green, red",)


# The page


def relative(deviation: float) -> str:
    return "0" if deviation < 1e-13 else f"{deviation:.2g}"


def row(mistake: Mistake) -> str:
    caught = catch(mistake.name, "float64")
    assert caught is not None
    far = " | ".join(relative(each) for each in (caught.loss, caught.gradient, caught.dF))
    return f"| {mistake.name} | {mistake.sentence} | {caught.case} | {far} |"


def rows() -> Mapping[str, str]:
    found = re.findall(r"^(\| ([^|]+) \|(?:[^|]+\|){5})$", PAGE, re.MULTILINE)
    return {name: line for line, name in found if name in MISTAKES}


def test_the_page_has_every_mistake_in_order_and_counts_them() -> None:
    assert list(rows()) == list(MISTAKES)
    count, subtle = len(MISTAKES), len(SEEN_IN_FLOAT64_ONLY)
    assert f"**Caught and named: {count} of {count}** in float64" in PAGE
    assert f"In float32 {count - subtle} of {count} are caught" in PAGE


def agree(printed: str, measured: str) -> bool:
    a, b = float(printed.strip("| ")), float(measured.strip("| "))
    # Rounding's own size differs between machines.
    return a == pytest.approx(b, rel=0.06) if b > 1e-3 else b / 10 <= a <= b * 10


def test_the_page_says_of_each_mistake_what_it_is_and_how_it_shows() -> None:
    for name, mistake in MISTAKES.items():
        expected, found = (text.split(" | ") for text in (row(mistake), rows()[name]))
        assert found[:3] == expected[:3]
        assert all(map(agree, found[3:], expected[3:])), f"{rows()[name]} should be {row(mistake)}"


def test_two_mistakes_in_two_cases_are_two_accounts() -> None:
    made = {
        "max-pooling-ties": "max pooling's gradient shared by those that are equal",
        "relu-at-zero": "half of the ReLU gradient passed at 0",
    }
    failed = []
    for case, mistake in made.items():
        answered = planted(mistake, case)
        assert answered is not None
        failed.append((CASES[case], answered))
    accounts = explain_all(failed, "float64").split("; ")
    assert len(accounts) == 2
    for mistake in made.values():
        assert sum(mistake in account for account in accounts) == 1


def test_the_readme_says_how_many_mistakes_are_known() -> None:
    assert f"of\n{len(MISTAKES)} [known mistakes](docs/mistakes.md)" in text_of("README.md")
