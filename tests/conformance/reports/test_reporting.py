"""The report of a run: where and why a case fails, as text, JSON and JUnit XML."""

import json
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

from conformance_cases import CASES, changed, raising, returning, right
from gramstyle.conformance import Case
from gramstyle.conformance.reports.reporting import as_json, as_junit, notes, summary, table
from gramstyle.conformance.running import Report, check, run
from gramstyle.core.arrays import Array

SMALL = CASES["avg-pooling"]
PASS = ["conv2_1", "pool1", "conv1_1"]

# Control characters, a line separator, characters that XML forbids, and half a surrogate pair.
CONTROLS = "".join(map(chr, (*range(32), *range(127, 160), 0x2028, 0xFFFE, 0xFFFF, 0xD800)))


# Where, and why


@pytest.mark.parametrize("wrong", [PASS, PASS[1:], PASS[2:]], ids=lambda names: names[0])
def test_the_deepest_layer_that_deviates_is_named(wrong: list[str]) -> None:
    def scaled(dF: dict[str, Array]) -> dict[str, Array]:
        return dF | {name: dF[name] * 1.5 for name in wrong}

    result = check(changed(dF=scaled, gradient=lambda g: g * 1.5), SMALL, dtype="float64")
    assert result.where == f"the backward pass deviates first at dF of {wrong[0]}"


@pytest.mark.parametrize(
    ("adapter", "sentence"),
    [
        (changed(loss=lambda loss: 2 * loss), "the loss deviates; every gradient is correct"),
        (
            changed(gradient=lambda g: g[::-1]),
            "dF of conv1_1 is correct; the pass goes wrong between there and the pixels",
        ),
        (
            changed(gradient=lambda g: g[::-1], dF=lambda _: {}),
            "the gradient deviates; return dF to find out at which layer",
        ),
        (right, ""),
    ],
)
def test_the_deviating_quantity_is_named_if_no_layer_deviates(
    adapter: Callable[[Array, Case], Any], sentence: str
) -> None:
    assert check(adapter, SMALL, dtype="float64").where == sentence


def test_where_the_loss_deviates_too_the_forward_pass_is_to_be_checked_first() -> None:
    def tripled(image: Array, case: Case) -> Any:
        loss, gradient, dF = right(image, case)[:3]
        return 3 * loss, 3 * gradient, {name: 3 * each for name, each in dF.items()}

    assert check(tripled, SMALL, dtype="float64").where == (
        "the backward pass deviates first at dF of conv2_1; the loss deviates too: check the "
        "forward pass and the terms first"
    )


def test_a_known_mistake_is_named_for_its_case_and_for_all_cases() -> None:
    def doubled(image: Array, case: Case) -> Any:
        loss, gradient, dF = right(image, case)
        return 2 * loss, 2 * gradient, {name: 2 * d for name, d in dF.items()}

    report = run(doubled, [CASES["content-half"], CASES["convolution"]], dtype="float64")
    assert all("content loss without ½" in result.explanation for result in report.results)
    assert "2 of 2 failed cases" in report.explanation
    assert "content loss without ½" in report.explanation


def test_large_cases_are_not_explained(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    doubled = changed(gradient=lambda g: 2 * g)
    pair = [SMALL, CASES["convolution"]]
    monkeypatch.setattr("gramstyle.conformance.running.EXPLAINED", 1)
    report = run(doubled, pair, dtype="float64")
    assert len(report.failed) == 2
    assert {report.explanation, *(result.explanation for result in report.results)} == {""}


def test_a_case_without_an_answer_has_no_explanation() -> None:
    result = check(returning(()), SMALL, dtype="float64")
    assert (result.explanation, result.where, result.worst) == ("", "", None)


# Table, notes, JSON, JUnit XML


@pytest.fixture(scope="module")
def mixed() -> Report:
    """A case that passed, one whose gradient is wrong, one with NaN, one that raised."""

    def adapter(image: Array, case: Case) -> Any:
        doubled = changed(gradient=lambda g: 2 * g)
        return {
            "convolution": right,
            "avg-pooling": doubled,
            "relu": changed(loss=lambda _: math.nan),
            "max-pooling": raising(ValueError(CONTROLS)),
        }[case.name](image, case)

    names = ("convolution", "avg-pooling", "relu", "max-pooling")
    return run(adapter, [CASES[name] for name in names], dtype="float64")


def test_the_table_has_one_line_of_a_passed_case_and_all_of_a_failed_one(
    mixed: Report,
) -> None:
    header, *lines = table(mixed).splitlines()
    assert header.split()[:2] == ["case", "quantity"]
    of = {name: [line for line in lines if line.startswith(f"{name} ")] for name in CASES}
    assert len(of["convolution"]) == 1
    assert of["convolution"][0].endswith("passed")
    assert len(of["avg-pooling"]) == 5
    gradient = next(line for line in of["avg-pooling"] if "gradient" in line)
    # A doubled gradient is off by the truth itself.
    largest = np.abs(CASES["avg-pooling"].truth.gradient).max()
    assert gradient.split()[-5:] == [
        "1.0e+00",
        f"{largest:.1e}",
        "1.000000",
        gradient.split()[-2],
        "FAILED",
    ]
    assert [line.endswith("passed") for line in of["avg-pooling"]].count(True) == 4
    assert of["relu"][0].endswith("FAILED: not finite")
    assert of["max-pooling"][0].split() == ["max-pooling", "FAILED"]
    assert len(lines) == sum(map(len, of.values()))
    assert summary(mixed) == "1 of 4 cases passed, 3 failed (float64)"


def test_the_line_of_a_passed_case_shows_its_worst_quantity() -> None:
    adapter = changed(dF=lambda dF: dF | {"pool1": dF["pool1"] * (1 + 1e-11)})
    report = run(adapter, [SMALL], dtype="float64")
    assert table(report).splitlines()[1].split()[:5] == [
        "avg-pooling", "dF", "of", "pool1", "1.0e-11",
    ]  # fmt: skip


def test_each_failed_case_has_a_note_with_its_convention_and_what_is_wrong(mixed: Report) -> None:
    pooled, relu, raised = notes(mixed)
    assert pooled.startswith("avg-pooling: avg pooling of 2×2 with stride 2\n")
    assert "dF of conv1_1 is correct" in pooled
    assert relu.splitlines() == [
        "relu: no gradient passes where the ReLU is closed",
        "  the loss deviates; every gradient is correct",
    ]
    assert raised.splitlines()[1].startswith(r"  raised ValueError: \x00\x01")
    assert len(raised.splitlines()) == 2


def test_json_contains_the_whole_report_with_null_for_infinite_values(
    mixed: Report,
) -> None:
    def refuse(token: str) -> None:
        raise AssertionError(token)

    data = as_json(mixed, adapter="mine:f")
    document = json.loads(data.decode("utf-8"), parse_constant=refuse)
    assert {k: document[k] for k in ("format", "adapter", "dtype", "passed")} == {
        "format": 1, "adapter": "mine:f", "dtype": "float64", "passed": False,
    }  # fmt: skip
    assert [case["passed"] for case in document["cases"]] == [True, False, False, False]
    for case, result in zip(document["cases"], mixed.results, strict=True):
        assert case["problem"] == result.problem
        assert [each["quantity"] for each in case["comparisons"]] == [
            each.quantity for each in result.comparisons
        ]
    loss = document["cases"][2]["comparisons"][0]
    assert (loss["relative"], loss["passed"], loss["problem"]) == (None, False, "not finite")
    gradient = document["cases"][1]["comparisons"][1]
    assert gradient["relative"] == pytest.approx(1.0, abs=1e-12)
    assert gradient["tolerance"] == 1e-10


def test_junit_xml_is_well_formed_with_any_message_and_counts_correctly(mixed: Report) -> None:
    names = replace(mixed.results[3], case=f"<&\"'>{CONTROLS}")
    odd = replace(mixed, results=(*mixed.results[:3], names))
    suite = ElementTree.fromstring(as_junit(odd, adapter="mine:f"))[0]  # noqa: S314 - our own
    assert (suite.get("tests"), suite.get("failures")) == ("4", "3")
    assert [len(case.findall("failure")) for case in suite] == [0, 1, 1, 1]
    failure = suite[1].find("failure")
    assert failure is not None
    assert failure.text is not None
    assert "avg-pooling  gradient" in failure.text
    assert suite[3].get("name", "").startswith("<&\"'>")
