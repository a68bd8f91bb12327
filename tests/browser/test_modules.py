"""The other modules of the page under Node.js: scales and sentences."""

from pathlib import Path

import pytest

from gramstyle.run.plan.scales import scales_of
from javascript import evaluate

pytestmark = pytest.mark.browser

SCALES = """
import { scalesOf } from "./scales.js";
result = given.map(({ size, ...options }) => scalesOf(size, options));
"""


def test_the_scales_are_those_of_the_python_package(modules: Path) -> None:
    cases = [
        {"size": size, "iterations": iterations, "first": first, "shorter": shorter}
        for size in range(64, 513, 16)
        for iterations in (1, 10, 15, 100, 300)
        for first in (160, 512)
        for shorter in (size, size // 2, max(16, size // 12))
    ]
    found = evaluate(modules, SCALES, cases)
    for case, scales in zip(cases, found, strict=True):
        truth = scales_of(**case)
        assert [(each["edge"], each["iterations"]) for each in scales] == list(truth), case


SENTENCES = """
import { Problem, sentenceOf } from "./problems.js";
const errors = {
  problem: new Problem("Choose another image."),
  range: new RangeError("Array buffer allocation failed"),
  memory: new Error("WebAssembly.Memory(): could not allocate memory"),
  exception: 123456,
  other: new Error("no such operator"),
};
result = sentenceOf(errors[given]);
"""


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        ("problem", "Choose another image."),
        ("range", "The browser has too little memory for this size; choose a smaller one."),
        ("memory", "The browser has too little memory for this size; choose a smaller one."),
        ("exception", "The browser has too little memory for this size; choose a smaller one."),
        ("other", "The computation failed (no such operator); reload the page, or choose a smaller "
         "size."),
    ],
)  # fmt: skip
def test_an_error_is_one_sentence_with_a_remedy(modules: Path, error: str, sentence: str) -> None:
    assert evaluate(modules, SENTENCES, error) == sentence
