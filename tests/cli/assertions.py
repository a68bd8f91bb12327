"""What the tests of commands check: one line on standard error, and the files of a folder."""

from pathlib import Path

import pytest


def assert_one_line(capsys: pytest.CaptureFixture[str], *words: str) -> None:
    """Check that a command printed one line, an error with these words."""
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("gramstyle: error: ")
    assert said.err.count("\n") == 1
    for word in words:
        assert word in said.err


def files(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}
