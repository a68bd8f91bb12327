"""The report as one HTML page: complete, harmless with any text, readable for everybody."""

import math
import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from conformance_cases import CASES, changed, raising, right
from gramstyle.conformance import Case
from gramstyle.conformance.reports.baseline import Changes
from gramstyle.conformance.reports.page import as_html
from gramstyle.conformance.running import Report, run
from gramstyle.core.arrays import Array

HOSTILE = "<script>alert(1)</script>&\"'</style>"
VOID = {"meta", "link", "br"}


class Reader(HTMLParser):
    """The elements of a page, checked for balance, and its text."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture(scope="module")
def mixed() -> Report:
    """A case that passed, one whose gradient is wrong, one with NaN, one that raised."""

    def adapter(image: Array, case: Case) -> Any:
        return {
            "convolution": right,
            "avg-pooling": changed(gradient=lambda g: 2 * g),
            "relu": changed(loss=lambda _: math.nan),
            "max-pooling": raising(ValueError(HOSTILE)),
        }[case.name](image, case)

    names = ("convolution", "avg-pooling", "relu", "max-pooling")
    return run(adapter, [CASES[name] for name in names], dtype="float64", timed=True)


CHANGES = Changes(
    worse={"relu": "passed in the baseline, fails now"},
    better={"convolution": HOSTILE},
    new={"avg-pooling": "FAILED"},
    missing=("objective",),
)


def read(page: bytes) -> Reader:
    reader = Reader()
    reader.feed(page.decode("utf-8"))
    reader.close()
    assert reader.open == []
    return reader


def test_the_page_has_every_case_quantity_verdict_and_change(mixed: Report) -> None:
    page = read(as_html(mixed, subject=f"mine {HOSTILE}", changes=CHANGES))
    for result in mixed.results:
        assert result.case in page.text
        assert result.pins in page.text
        assert result.problem in page.text
        assert result.where in page.text
        assert result.explanation in page.text
    assert "dF of conv2_1" in page.text
    assert "1 of 4 cases passed, 3 failed (float64)" in page.text
    assert "evaluations/s" in page.text
    assert "passed in the baseline, fails now" in page.text
    assert "objective" in page.text
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    links = [attributes["href"] for tag, attributes in page.elements if tag == "a"]
    assert sorted(links) == sorted(f"#{each}" for each in ids)
    assert len(set(ids)) == 4


def test_the_page_loads_nothing_runs_no_script_and_shows_any_text_as_text(mixed: Report) -> None:
    data = as_html(mixed, subject=HOSTILE, changes=CHANGES)
    page = read(data)
    assert {"script", "img", "iframe", "link", "object"}.isdisjoint(t for t, _ in page.elements)
    for _, attributes in page.elements:
        assert not any(name.startswith("on") for name in attributes)
        assert "src" not in attributes
        assert (attributes.get("href") or "#").startswith("#")
    assert b"http:" not in data
    assert b"https:" not in data
    assert b"url(" not in data
    assert data.count(b"<style>") == 1
    assert page.text.count(HOSTILE) >= 3  # the subject, the problem, a change


def test_a_run_without_times_or_a_baseline_has_neither_on_its_page() -> None:
    found = run(right, [CASES["relu"]], dtype="float64")
    page = read(as_html(found, subject="mine"))
    assert "evaluations/s" not in page.text
    assert "baseline" not in page.text
    assert "Failed cases" not in page.text


@pytest.mark.browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_is_accessible_in_light_and_dark(
    scheme: Any, mixed: Report, tmp_path: Path
) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    playwright = pytest.importorskip("playwright.sync_api")
    chromium = shutil.which("chromium") or pytest.skip("there is no Chromium")
    path = tmp_path / "report.html"
    path.write_bytes(as_html(mixed, subject="mine 1.0", changes=CHANGES))
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(
            executable_path=chromium, args=["--no-sandbox", "--disable-gpu", "--disable-quic"]
        )
        # axe is a script of the test, which the page's own policy would refuse.
        context = browser.new_context(color_scheme=scheme, bypass_csp=True)
        page = context.new_page()
        page.goto(path.as_uri())
        found = axe.Axe().run(page)
        wide = page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        browser.close()
    assert found.violations_count == 0, found.generate_report()
    assert wide
