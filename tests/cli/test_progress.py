"""Progress on terminals of all kinds, in files, and in the logs of CI services."""

import re
from collections.abc import Callable

import pytest

Run = Callable[..., int]


@pytest.mark.parametrize(
    "variables",
    [
        {"FORCE_COLOR": "1"},
        {"TTY_COMPATIBLE": "1", "TTY_INTERACTIVE": "1"},
        {"NO_COLOR": "1"},
        {"GITHUB_ACTIONS": "true", "CI": "true"},
        {"TERM": "dumb"},
    ],
    ids=lambda variables: next(iter(variables)),
)
def test_without_a_terminal_progress_is_plain_lines_whatever_the_environment_says(
    transfer: Run,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    variables: dict[str, str],
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert transfer() == 0
    out, err = capsys.readouterr()
    assert [line.split()[1] for line in err.splitlines()] == ["1/3", "3/3"]
    assert "\x1b" not in out + err


@pytest.mark.parametrize("variable", [("TERM", "dumb"), ("CI", "true")])
def test_a_terminal_that_shows_no_bar_gets_plain_lines(
    transfer: Run,
    terminal: None,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    variable: tuple[str, str],
) -> None:
    monkeypatch.setenv(*variable)
    assert transfer() == 0
    err = capsys.readouterr().err
    assert [line.split()[1] for line in err.splitlines()] == ["1/3", "3/3"]
    assert "\x1b" not in err


@pytest.mark.parametrize("colour", [True, False])
def test_a_terminal_shows_a_bar_with_the_time_left_and_colours_unless_they_are_unwanted(
    transfer: Run,
    terminal: None,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    colour: bool,
) -> None:
    if not colour:
        monkeypatch.setenv("NO_COLOR", "1")
    assert transfer() == 0
    err = capsys.readouterr().err
    assert re.search(r"3/3.* s each  0:00:0\d left", err)
    assert bool(re.search(r"\x1b\[[0-9;]*3[0-9]", err)) is colour
