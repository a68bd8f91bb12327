"""The README's promises that a program can check."""

import contextlib
import importlib
import re
import shlex
from pathlib import Path

import pytest

from documented import ROOT, Row, assert_function_exists, assert_test_exists, rows_of, text_of
from gramstyle.cli import _parser

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


def test_every_local_link_and_image_leads_somewhere() -> None:
    for document in (ROOT / "README.md", *(ROOT / "docs").rglob("*.md"), ROOT / "models/README.md"):
        for target in re.findall(r"\]\(([^)#]+)\)", document.read_text(encoding="utf-8")):
            if "://" not in target:
                assert (document.parent / target).exists(), f"{document.name}: {target}"


DOCUMENTS = ("README.md", "models/README.md", *(
    path.relative_to(ROOT).as_posix() for path in sorted((ROOT / "docs").rglob("*.md"))
))  # fmt: skip

# Lines of a shell, and commands in running text, of which some are only named; … stands for more.
LINES = re.compile(r"^(?:\.venv/bin/)?gramstyle (.+)$", re.MULTILINE)
NAMED = re.compile(r"`gramstyle ([^`…|]+)`")


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_command_on_the_pages_is_one_that_the_program_takes(
    document: str, capsys: pytest.CaptureFixture[str]
) -> None:
    text = text_of(document)
    for pattern, excuse in ((LINES, "nothing"), (NAMED, "are required|choice: '[A-Z]+'")):
        for command in pattern.findall(text):
            with contextlib.suppress(SystemExit):
                _parser().parse_args(shlex.split(command, comments=True))
            error = capsys.readouterr().err
            assert not error or re.search(excuse, error), f"gramstyle {command}: {error}"


def test_the_ten_lines_of_python_are_python_and_use_what_exists(tmp_path: Path) -> None:
    code = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert code
    for block in code:
        compile(block, "README.md", "exec")
        for line in re.findall(r"^from gramstyle import (.+)$", block, re.MULTILINE):
            for name in line.split(", "):
                assert hasattr(importlib.import_module("gramstyle"), name)
