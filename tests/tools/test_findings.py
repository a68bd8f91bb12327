"""The page of findings: a row for each implementation and float type, and what failed."""

import pytest
from tools.findings import Subject, installed, page

from conformance_cases import CASES, changed, raising, right

FEW = [CASES["relu"], CASES["convolution"]]


def test_the_page_has_a_row_for_each_float_type_and_each_case_that_failed() -> None:
    doubled = changed(gradient=lambda g: 2 * g)
    text = page(
        [
            Subject("mine", "1.0", right, ("float64", "float32")),
            Subject("yours", "2", doubled, ("float64",)),
            Subject("theirs", "", raising(ValueError("a | b")), ("float64",)),
        ],
        FEW,
        CASES["avg-pooling"],
    )
    assert "tested on all 2 cases" in text
    assert "| mine | 1.0 | float64 | 2 of 2 | 0.0e+00 | `relu` | 0.0e+00 |" in text
    assert "| mine | 1.0 | float32 | 2 of 2 |" in text
    assert "| yours | 2 | float64 | 0 of 2 |  |  | 1.0e+00 |" in text
    assert "| theirs |  | float64 | 0 of 2 |  |  | no answer |" in text
    assert "| yours | float64 | `avg-pooling` | 1.0e+00 |" in text
    (row,) = [line for line in text.splitlines() if line.startswith("| yours | float64 | `relu`")]
    assert "| 1.0e+00 |" in row
    assert "gradient 2 times the truth" in row
    assert "| theirs | float64 | `relu` | no answer | raised ValueError: a \\| b |" in text
    assert "mine | float64 | `" not in text


def test_a_page_without_differences_says_so() -> None:
    assert page([Subject("mine", "1", right, ("float64",))], FEW, FEW[0]).endswith("Nowhere.\n")


def test_the_installed_adapters_are_found_and_the_others_left_out(
    capsys: pytest.CaptureFixture[str],
) -> None:
    names = {subject.name for subject in installed()}
    assert {"numpy_plain", "onnx_graph"} <= names
    assert "cupy" not in names
    left_out = capsys.readouterr().out
    assert all(line.startswith("left out: ") for line in left_out.splitlines())
