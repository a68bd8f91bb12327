"""A baseline: what got worse, better, is new or was not run."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from conformance_cases import CASES, changed, raising, right
from conformance_sets import change
from gramstyle.conformance.comparing import Adapter
from gramstyle.conformance.files.schema import check
from gramstyle.conformance.reports.baseline import (
    SCHEMA_FILE,
    Changes,
    changes_since,
    check_shared,
    lines_of,
    read_baseline,
)
from gramstyle.conformance.reports.reporting import as_json
from gramstyle.conformance.running import Report, run
from gramstyle.errors import OptionError

CASE = CASES["avg-pooling"]


def report(adapter: Adapter, *names: str) -> Report:
    return run(adapter, [CASES[name] for name in names or ("avg-pooling",)], dtype="float64")


def scaled(factor: float) -> Adapter:
    return changed(gradient=lambda g: factor * g)


def written(found: Report, path: Path) -> Path:
    path.write_bytes(as_json(found, adapter="mine:f"))
    return path


def compared(before: Report, now: Report, folder: Path) -> Changes:
    return changes_since(
        read_baseline(written(before, folder / "baseline.json"), dtype="float64"), now
    )


@pytest.mark.parametrize(
    ("before", "now", "kind", "sentence"),
    [
        (right, right, "", ""),
        (scaled(2), scaled(2), "", ""),
        (scaled(2), scaled(2.5), "", ""),  # less than twice the deviation
        (right, scaled(2), "worse", "passed in the baseline, fails now"),
        (right, raising(ValueError()), "worse", "passed in the baseline, fails now"),
        (scaled(2), raising(ValueError()), "worse", "had an answer in the baseline, has none now"),
        (scaled(2), changed(loss=lambda loss: 2 * loss, gradient=lambda g: 2 * g), "worse",
         "loss was right in the baseline, is wrong now"),
        (scaled(2), scaled(4), "worse", "gradient deviates by 3.0e+00, 1.0e+00 in the baseline"),
        (scaled(2), scaled(float("nan")), "worse", "gradient deviates by nan, 1.0e+00"),
        (scaled(2), right, "better", "failed in the baseline, passes now"),
        (raising(ValueError()), scaled(2), "better", "had no answer in the baseline, has one now"),
        (scaled(4), scaled(2), "better", "gradient deviates by 1.0e+00, 3.0e+00 in the baseline"),
        (scaled(float("nan")), scaled(2), "better",
         "gradient deviates by 1.0e+00, not finite in the baseline"),
    ],
)  # fmt: skip
def test_a_case_is_worse_or_better_than_in_the_baseline(
    before: Adapter, now: Adapter, kind: str, sentence: str, tmp_path: Path
) -> None:
    found = compared(report(before), report(now), tmp_path)
    assert bool(found.worse) == (kind == "worse")
    assert bool(found.better) == (kind == "better")
    assert sentence in (*found.worse.values(), *found.better.values(), "")[0]
    assert (found.new, found.missing) == ({}, ())


def test_new_cases_and_those_that_were_not_run_are_named(tmp_path: Path) -> None:
    before = report(right, "relu", "convolution")
    found = compared(before, report(scaled(2), "convolution", "avg-pooling"), tmp_path)
    assert found.new == {"avg-pooling": "FAILED"}
    assert found.missing == ("relu",)
    assert list(lines_of(found)) == [
        "worse: convolution: passed in the baseline, fails now",
        "new: avg-pooling: FAILED",
        "not run: relu",
    ]


def test_a_report_follows_its_schema_and_contains_the_changes(tmp_path: Path) -> None:
    schema = json.loads(SCHEMA_FILE.read_text("utf-8"))
    for adapter in (right, scaled(2), scaled(float("nan")), raising(ValueError("why"))):
        now = report(adapter)
        found = compared(report(right), now, tmp_path)
        document = json.loads(as_json(now, adapter="mine:f", changes=found))
        check(document, schema)
        assert document["baseline"]["worse"] == dict(found.worse)
        again = read_baseline(written(now, tmp_path / "again.json"), dtype="float64")
        assert list(again) == ["avg-pooling"]


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (change("format", to=2), "expected 1 at the document.format"),
        (change("cases", to=...), "expected cases"),
        (change("cases", 0, "passed", to=1), "JSON type boolean"),
        (change("cases", 0, "comparisons", 0, "relative", to="0"), "JSON type number"),
        (change("cases", 0, "comparisons", 0, "relative", to=10**400), "number from -1.79"),
        (lambda document: document["cases"].append(document["cases"][0]), "found one twice"),
        (change("dtype", to="float32"), "is of float32 and this run of float64"),
    ],
)
def test_a_file_that_is_not_such_a_report_is_refused(
    edit: Callable[[dict[str, Any]], None], words: str, tmp_path: Path
) -> None:
    path = written(report(right), tmp_path / "baseline.json")
    document = json.loads(path.read_text("utf-8"))
    edit(document)
    path.write_text(json.dumps(document), "utf-8")
    with pytest.raises(OptionError) as caught:
        read_baseline(path, dtype="float64")
    assert words in str(caught.value)
    assert str(path) in str(caught.value)


def test_a_baseline_that_shares_no_case_with_the_run_is_refused(tmp_path: Path) -> None:
    path = written(report(right), tmp_path / "baseline.json")
    baseline = read_baseline(path, dtype="float64")
    check_shared(path, baseline, ["relu", "avg-pooling"])
    for names in (["relu"], ["relu", "objective"]):
        with pytest.raises(OptionError, match="has none of the cases of this run"):
            check_shared(path, baseline, names)


@pytest.mark.parametrize("data", [b"", b"<html>", b"\xff\xfe", b"[" * 100_000])
def test_a_baseline_that_is_not_json_is_refused(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "b.json").write_bytes(data)
    with pytest.raises(OptionError, match="is not a report of --json"):
        read_baseline(tmp_path / "b.json", dtype="float64")
    with pytest.raises(OptionError, match="cannot read the baseline"):
        read_baseline(tmp_path, dtype="float64")
