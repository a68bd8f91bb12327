"""The README's promises that a program can check."""

import importlib
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")

# | equation | `module.function` | `test_file.py::test_name` |
ROW = re.compile(r"^\|(?P<what>[^|]+)\|(?P<functions>[^|]+)\|(?P<tests>[^|]+)\|$", re.MULTILINE)
ROWS = [row for row in ROW.finditer(README) if "test_" in row["tests"]]


@pytest.mark.parametrize("number", range(1, 8))
def test_every_equation_of_the_paper_has_a_row(number: int) -> None:
    assert any(re.search(rf"\b{number}\b", row["what"]) for row in ROWS)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["what"].strip())
def test_every_function_and_test_in_the_table_exists(row: re.Match[str]) -> None:
    functions = re.findall(r"`([\w.]+)`", row["functions"])
    tests = re.findall(r"`([\w.]+)::(\w+)`", row["tests"])
    assert functions
    assert tests
    for name in functions:
        module, *attributes = name.split(".")
        found: object = importlib.import_module(f"gramstyle.{module}")
        for attribute in attributes:
            found = getattr(found, attribute)
    for file, test in tests:
        assert re.search(
            rf"^def {test}\(", (ROOT / "tests" / file).read_text("utf-8"), re.MULTILINE
        )


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
