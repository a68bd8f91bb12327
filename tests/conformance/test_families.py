"""Mistakes whose value is in no list: the kit fits the value, names it, and accuses no other."""

import re
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from tools.mistake_families import draw, outcome

from conformance_cases import CASES
from documented import text_of
from gramstyle.conformance import Answer, Case
from gramstyle.conformance.cases import answer
from gramstyle.conformance.explaining import explain
from gramstyle.conformance.mistakes.families import FAMILIES, Family, Member
from gramstyle.conformance.mistakes.families.poolings import GEOMETRIES
from gramstyle.conformance.running import run
from gramstyle.core import layers
from gramstyle.core.arrays import Array
from gramstyle.core.kernels import PlainKernels, Pooling
from gramstyle.core.network import Convolution

BY_NAME = {family.name: family for family in FAMILIES}

# A few cases that together show every family.
FEW = [
    CASES[name]
    for name in (
        "relu",
        "avg-pooling-odd",
        "max-pooling",
        "style-of-another-size",
        "content-behind-the-relu",
        "style-weights",
        "total-variation",
        "padding-replicate",
    )
]

PAGE = text_of("docs/mistakes.md")

of_families = pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
in_the_loss = pytest.mark.parametrize(
    "family", [each for each in FAMILIES if each.in_loss], ids=lambda family: family.name
)


def member(name: str, value: float, place: str = "") -> Member:
    return Member(BY_NAME[name], value, place)


def planted(wrong: Member, case: str) -> Answer:
    found = wrong.plant(CASES[case])
    assert found is not None
    return found


def sentence(case: str, found: Answer, dtype: str = "float64") -> str:
    result = explain(CASES[case], found, dtype)
    return "" if result is None else result.sentence


# Caught and named


@of_families
def test_a_random_mistake_of_the_family_is_caught_and_named_with_its_value(family: Family) -> None:
    rng = np.random.default_rng(sum(family.name.encode()))
    tried = outcome(draw(family, FEW, rng), FEW, rng)
    assert tried.caught
    assert tried.named, f"{tried.member.name('float64')}: {tried.said}"


def test_a_value_is_named_as_people_write_it() -> None:
    found = planted(member("leaky ReLU with slope …", 0.013), "relu")
    assert re.fullmatch(r"matches leaky ReLU with slope 0\.013 to \de-1\d", sentence("relu", found))


def test_in_float32_a_value_is_named_with_three_digits() -> None:
    found = planted(member("leaky ReLU with slope …", 0.213), "content-half")
    rounded = replace(found, gradient=found.gradient.astype(np.float32))
    assert "leaky ReLU with slope 0.213 to" in sentence("content-half", rounded, "float32")


def test_a_gradient_that_is_stopped_at_a_layer_is_named_with_the_layer() -> None:
    family = BY_NAME["gradient multiplied by … below …"]
    found = planted(Member(family, 0.375, "conv3_1"), "objective")
    case = CASES["objective"]
    # A fit takes long in a case of this size; what was fitted to a smaller case is recognised.
    suspects = {"before": Member(family, 0.375, "conv3_1")}
    result = explain(case, found, "float64", suspects)
    assert result is not None
    assert result.names == ("before",)


def test_a_run_names_in_large_cases_what_it_fitted_to_small_ones() -> None:
    wrong = member("softplus with β = …", 2.5)

    def adapter(image: Array, case: Case) -> tuple[float, Array, dict[str, Array]]:
        found = wrong.plant(case)
        assert found is not None
        return found.loss, found.gradient, dict(found.dF)

    report = run(adapter, [CASES["relu"], CASES["objective"]], dtype="float64")
    said = "matches softplus with β = 2.5 to"
    assert [each.explanation[: len(said)] for each in report.results] == [said, said]
    assert report.explanation.startswith(f"2 of 2 failed cases: {said}")


# Mistakes made with other code than the kit's own


class DividedBy(PlainKernels):
    def pool_backward(self, dY: Array, X: Array, kind: Pooling) -> Array:
        return super().pool_backward(dY, X, kind) / 3.7


def test_mistakes_in_the_engine_itself_are_named_with_their_values() -> None:
    case = CASES["content-half"]
    scaled = answer(replace(case.objective, kernels=DividedBy(), forward=None), case.x)
    assert f"gradient multiplied by {1 / 3.7:.10g} at each pooling" in sentence(case.name, scaled)

    padded = padded_with(-1.75, case)
    assert "convolutions padded with −1.75 to" in sentence(case.name, padded)


def padded_with(value: float, case: Case) -> Answer:
    def forward(v: Array) -> dict[str, Array]:
        responses, F = {}, v
        for layer in case.layers:
            if isinstance(layer, Convolution):
                padded = np.pad(F, ((0, 0), (1, 1), (1, 1)), constant_values=value)
                windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), (1, 2))
                Z = np.einsum("ncij,cyxij->nyx", layer.W, windows) + layer.b[:, None, None]
                F = np.maximum(Z, 0)
            else:
                F = layers.avg_pool_forward(F)
            responses[layer.name] = F
        return responses

    found = answer(replace(case.objective, kernels=PlainKernels(), forward=forward), case.x)
    # Where only the wrong F is 0, the engine's dF has the mask of equation 2 already.
    return replace(found, dF={})


def test_a_constant_in_the_padding_is_named_also_where_the_image_is_0() -> None:
    # The kit's rounding differs from the program's, and no ReLU may depend on it. If the weights of
    # the case cancelled out at the border, several of these values would not be named.
    case = CASES["relu-at-zero"]
    for value in np.random.default_rng(5).uniform(-5, 5, 20):
        suspects = {"the constant": member("convolutions padded with …", value)}
        found = explain(case, padded_with(value, case), "float64", suspects)
        assert found is not None, value
        assert found.names == ("the constant",)


# The mistakes themselves


@in_the_loss
def test_a_family_that_changes_the_loss_has_the_gradient_of_its_own_loss(family: Family) -> None:
    rng = np.random.default_rng(len(family.name))
    wrong, case, found = next(
        (wrong, case, found)
        for wrong in (draw(family, FEW, rng) for _ in range(20))
        for case in FEW
        if (found := wrong.plant(case)) and abs(found.loss / case.truth.loss - 1) > 1e-9
    )
    u, h = rng.normal(size=case.x.shape), 1e-6
    more, less = (wrong.plant(replace(case, x=case.x + step * u)) for step in (h, -h))
    assert more is not None
    assert less is not None
    # A central difference, away from kinks.
    rise = (more.loss - less.loss) / (2 * h)
    assert np.vdot(found.gradient, u) == pytest.approx(rise, rel=1e-4)


@pytest.mark.parametrize(
    "family", [each for each in FAMILIES if not each.in_loss], ids=lambda family: family.name
)
def test_a_family_in_the_backward_pass_keeps_the_loss(family: Family) -> None:
    wrong = draw(family, FEW, np.random.default_rng(0))
    for case in FEW:
        found = wrong.plant(case)
        # The same sums, perhaps in another order.
        assert found is None or found.loss == pytest.approx(case.truth.loss, rel=1e-13)


@pytest.mark.parametrize(
    "family", [each for each in FAMILIES if each.own_targets], ids=lambda family: family.name
)
def test_a_family_that_computes_p_and_a_too_has_no_loss_at_the_content_and_style_images(
    family: Family,
) -> None:
    wrong = draw(family, FEW, np.random.default_rng(1))
    content, style = CASES["content-half"], CASES["style-of-another-size"]
    for case, x in ((content, content.p), (style, style.a)):
        assert x is not None
        found = wrong.plant(replace(case, x=x))
        # The rounding of two equal sums, squared.
        assert found is None or found.loss < 1e-20


@pytest.mark.parametrize("place", GEOMETRIES)
def test_a_pooling_of_another_geometry_reads_the_windows_that_its_name_says(place: str) -> None:
    k, first = GEOMETRIES[place]
    pieces = BY_NAME["pooling windows of …"].pieces(CASES["avg-pooling"], 0.0, place)
    X = np.random.default_rng(2).uniform(1, 9, (2, 7, 6))
    largest, mean = pieces.pool(X, "max"), pieces.pool(X, "avg")
    for i, j in product(range(3), range(3)):
        y, x = 2 * i + first, 2 * j + first
        window = X[:, max(y, 0) : y + k, max(x, 0) : x + k]
        assert np.array_equal(largest[:, i, j], window.max(axis=(1, 2)))
        assert mean[:, i, j] == pytest.approx(window.mean(axis=(1, 2)))


# Answers that no family gives


def test_a_wrong_loss_alone_names_no_family() -> None:
    for name in ("relu", "style-weights", "content-behind-the-relu"):
        found = planted(member("leaky ReLU with slope …", 0.013), name)
        assert sentence(name, replace(CASES[name].truth, loss=found.loss)) == ""


def test_a_fitted_mistake_with_another_deviation_is_not_named() -> None:
    found = planted(member("leaky ReLU with slope …", 0.2), "relu")
    assert sentence("relu", replace(found, gradient=found.gradient[:, ::-1])) == ""


# The page


def test_the_page_has_every_family_and_its_counts_add_up() -> None:
    pattern = r"^\| ([^|]+) \| ([^|]+) \| (\d+) \| (\d+) \| (\d+) \|$"
    rows = re.findall(pattern, PAGE, re.MULTILINE)
    assert [row[:2] for row in rows] == [(each.name, each.sentence) for each in FAMILIES]
    drawn, caught, named = (sum(int(row[column]) for row in rows) for column in (2, 3, 4))
    assert f"**{len(rows)} families: of {drawn} mistakes drawn" in PAGE
    assert f"{caught} are caught and {named} named**" in PAGE
