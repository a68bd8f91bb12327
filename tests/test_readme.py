"""The README's promises that a program can check."""

import importlib
import re
from pathlib import Path

import pytest

from documented import ROOT, Row, assert_function_exists, assert_test_exists, rows_of, text_of

README = text_of("README.md")
ROWS = rows_of(README)


@pytest.mark.parametrize("number", range(1, 8))
def test_every_equation_of_the_paper_has_a_row(number: int) -> None:
    assert any(re.search(rf"\b{number}\b", row.what) for row in ROWS)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.what)
def test_every_function_and_test_in_the_table_exists(row: Row) -> None:
    assert row.functions
    assert row.tests
    for name in row.functions:
        assert_function_exists(name)
    for name in row.tests:
        assert_test_exists(name)


def test_every_local_link_and_picture_leads_somewhere() -> None:
    for document in (ROOT / "README.md", *(ROOT / "docs").rglob("*.md"), ROOT / "models/README.md"):
        for target in re.findall(r"\]\(([^)#]+)\)", document.read_text(encoding="utf-8")):
            if "://" not in target:
                assert (document.parent / target).exists(), f"{document.name}: {target}"


def test_the_ten_lines_of_python_are_python_and_use_what_exists(tmp_path: Path) -> None:
    code = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert code
    for block in code:
        compile(block, "README.md", "exec")
        for line in re.findall(r"^from gramstyle import (.+)$", block, re.MULTILINE):
            for name in line.split(", "):
                assert hasattr(importlib.import_module("gramstyle"), name)
