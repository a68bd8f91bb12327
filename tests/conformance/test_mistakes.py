"""The kit catches and names every known mistake, and docs/mistakes.md describes each."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import pytest

from conformance_cases import CASES, planted
from documented import text_of
from gramstyle.conformance import Answer, comparing, explaining
from gramstyle.conformance.comparing import compare
from gramstyle.conformance.explaining import explain, explain_all
from gramstyle.conformance.mistakes import MISTAKES, Mistake
from gramstyle.core.arrays import Array

SMALL = {name: case for name, case in CASES.items() if case.x.size < 1000}

# Within the tolerance of float32: these mistakes are float32 itself, or a sum in float16.
SEEN_IN_FLOAT64_ONLY = {
    "gradient rounded to float32",
    "loss summed in float16",
    "loss summed in float32",
    "ε beside the root of the deviation",
}

PAGE = text_of("docs/mistakes.md")


@dataclass(frozen=True)
class Catch:
    """The first case that shows a mistake, and the deviation of each quantity there."""

    case: str
    loss: float
    gradient: float
    dF: float


@lru_cache
def catch(mistake: str, dtype: str = "float64") -> Catch | None:
    for case in CASES.values():
        found = planted(mistake, case.name)
        if found is not None:
            compared = compare(case, found, dtype)
            if not all(each.passed for each in compared):
                loss, gradient, *dF = (each.relative for each in compared)
                return Catch(case.name, loss, gradient, max(dF))
    return None


def blurred(found: Answer) -> Answer:
    """The same answer to 1e-13, as with another order of summation."""
    rng = np.random.default_rng(0)

    def blur(array: Array) -> Array:
        return array * (1 + 1e-13 * rng.normal(size=array.shape))

    dF = {name: blur(each) for name, each in found.dF.items()}
    return Answer(found.loss * (1 + 1e-13), blur(found.gradient), dF)


# Caught and named


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_case_catches_the_mistake_and_names_it(mistake: str) -> None:
    caught = catch(mistake)
    assert caught is not None, f"no case catches: {mistake}"
    caught_in_float32 = catch(mistake, "float32") is not None
    assert caught_in_float32 == (mistake not in SEEN_IN_FLOAT64_ONLY)
    found = planted(mistake, caught.case)
    assert found is not None
    result = explain(CASES[caught.case], blurred(found), "float64")
    assert result is not None
    assert mistake in result.names
    # The answer is blurred by 1e-13, and sums of both signs magnify it.
    assert result.closeness < 1e-11


@pytest.mark.parametrize("mistake", MISTAKES)
def test_all_cases_together_name_the_mistake_and_no_other(mistake: str) -> None:
    caught = catch(mistake)
    assert caught is not None
    among = SMALL if caught.case in SMALL else {caught.case: CASES[caught.case]}
    failed = []
    for name, case in among.items():
        found = planted(mistake, name)
        if found is not None and not all(each.passed for each in compare(case, found, "float64")):
            failed.append((case, blurred(found)))
    text = explain_all(failed, "float64")
    all_ = f"{len(failed)} of {len(failed)} failed cases"
    assert re.fullmatch(rf"{all_}: matches {re.escape(mistake)} to \de-\d\d", text), text


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


# Automatic differentiation of a wrong loss gives the gradient of that loss. The other mistakes
# change one of the two only.
IN_ONE_ONLY = {
    "style image's responses in the style gradient",
    "content gradient with the wrong sign",
    "loss summed in float16",
    "loss summed in float32",
    "one of the two terms of the style gradient",
    "image rounded to whole grey levels",
    "style gradient with the wrong sign",
    "guidance once instead of twice in the style gradient",
    "guidance left out of the style gradient",
    "derivative of the root missing in the gradient of the deviation",
    "deviation as if the mean were constant",
    "gradient of the covariance without the means subtracted",
}
IN_BOTH = [
    name
    for name, mistake in MISTAKES.items()
    if name not in IN_ONE_ONLY
    and (
        mistake.pieces.__module__.endswith(
            (".content", ".style", ".regions", ".weights", ".statistics")
        )
        or f"{name}, P and A too" in MISTAKES
        or name.endswith("added")
    )
]


@pytest.mark.parametrize("mistake", IN_BOTH)
def test_a_mistake_in_loss_and_gradient_has_the_gradient_of_its_own_loss(mistake: str) -> None:
    plant = MISTAKES[mistake].plant
    names = ("style-of-another-size", "content-behind-the-relu", "style-weights", "avg-pooling-odd",
             "preprocessing-torchvision", "style-regions", "padding-replicate", "padding-reflect",
             "padding-circular", "style-mean-std", "style-covariance")  # fmt: skip
    case, found = next((CASES[n], a) for n in names if (a := planted(mistake, n)) is not None)
    u, h = np.random.default_rng(4).normal(size=case.x.shape), 1e-5
    more, less = (plant(replace(case, x=case.x + step * u)) for step in (h, -h))
    # A loss that is left out is 0.
    rise = 0.0 if more is None or less is None else (more.loss - less.loss) / (2 * h)
    # A central difference, away from kinks.
    assert np.vdot(found.gradient, u) == pytest.approx(rise, rel=1e-5)


@pytest.mark.parametrize(
    "mistake",
    [mistake for mistake in MISTAKES.values() if mistake.own_targets],
    ids=lambda mistake: mistake.name,
)
def test_a_mistake_in_p_and_a_too_has_no_loss_at_the_content_and_style_images(
    mistake: Mistake,
) -> None:
    content, style = CASES["content-half"], CASES["style-of-another-size"]
    for case, x in ((content, content.p), (style, style.a)):
        assert x is not None
        # The rounding of two equal sums, squared.
        assert mistake.pieces(replace(case, x=x), own_targets=True).loss() < 1e-25


# The page


def row(mistake: Mistake) -> str:
    caught = catch(mistake.name)
    assert caught is not None
    deviations = (caught.loss, caught.gradient, caught.dF)
    cells = ("0" if each < 1e-13 else f"{each:.2g}" for each in deviations)
    return f"| {mistake.name} | {mistake.sentence} | {caught.case} | {' | '.join(cells)} |"


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
    # Deviations of the size of rounding differ between machines.
    return a == pytest.approx(b, rel=0.06) if b > 1e-3 else b / 10 <= a <= b * 10


def test_the_page_describes_each_mistake_and_gives_its_deviations() -> None:
    for name, mistake in MISTAKES.items():
        expected, found = (text.split(" | ") for text in (row(mistake), rows()[name]))
        assert found[:3] == expected[:3]
        assert all(map(agree, found[3:], expected[3:])), f"{rows()[name]} should be {row(mistake)}"


def test_the_readme_gives_the_number_of_known_mistakes() -> None:
    pattern = rf"\b{len(MISTAKES)}\s+\[known mistakes\]\(docs/mistakes.md\)"
    assert re.search(pattern, text_of("README.md"))
