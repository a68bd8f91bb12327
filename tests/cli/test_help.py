"""The help: a first screen for newcomers, and all options in their groups."""

import argparse
import re
from dataclasses import fields

import pytest

from gramstyle.cli import main
from gramstyle.cli.program import SECTIONS, command_parser
from gramstyle.run.options import GROUPS, Options

TITLES = ["the content", "the style", "the result", "the run", "the machine"]
LARGE = [
    "transfer", "batch", "reconstruct content", "reconstruct style", "figure reconstructions",
    "figure styles", "figure tradeoff",
]  # fmt: skip


@pytest.fixture(autouse=True)
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")


def help_of(command: str, option: str, capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as stop:
        main([*command.split(), option])
    assert stop.value.code == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("command", ["", *LARGE])
def test_the_first_screen_fits_on_a_terminal(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = help_of(command, "--help", capsys).splitlines()
    assert len(lines) <= 32
    assert max(map(len, lines)) <= 80
    assert len(lines[0]) < 80
    assert lines[1] == ""  # the usage is one line


def test_the_first_screen_of_transfer_has_ten_options(capsys: pytest.CaptureFixture[str]) -> None:
    shown = help_of("transfer", "--help", capsys)
    assert len(re.findall(r"^  (?:-o OUT, )?--[a-z]", shown, re.MULTILINE)) == 10


@pytest.mark.parametrize("command", LARGE)
def test_every_option_is_in_the_whole_help_exactly_once(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    parser: argparse.ArgumentParser = command_parser()
    for word in command.split():
        (commands,) = (a for a in parser._actions if isinstance(a, argparse._SubParsersAction))
        parser = commands.choices[word]
    shown = help_of(command, "--help-all", capsys)
    for action in parser._actions:
        for name in action.option_strings:
            assert len(re.findall(rf"^  (?:\S.*, )?{name}\b(?!-)", shown, re.MULTILINE)) == 1, name


def test_the_whole_help_has_the_options_of_each_group_in_its_section(
    capsys: pytest.CaptureFixture[str],
) -> None:
    sections = re.split(r"^(\S.*):\n(?= )", help_of("transfer", "--help-all", capsys), flags=re.M)
    text_of = dict(zip(sections[1::2], sections[2::2], strict=True))
    assert [title for title in text_of if title in TITLES] == TITLES
    assert list(text_of)[-1] == "files"
    for group, title in zip(GROUPS, TITLES, strict=True):
        for field in fields(group):
            flag = f"--{field.name.replace('_', '-')}"
            for other, text in text_of.items():
                assert other == title or not re.search(rf"^  {flag}\b(?!-)", text, re.MULTILINE)


def test_every_option_of_a_transfer_is_an_option_of_the_command(
    capsys: pytest.CaptureFixture[str],
) -> None:
    shown = help_of("transfer", "--help-all", capsys)
    for field in fields(Options):
        if field.name != "history":  # an option for Python and files only
            assert f"--{field.name.replace('_', '-')}" in shown


def test_every_command_is_in_one_section_of_the_programs_help(
    capsys: pytest.CaptureFixture[str],
) -> None:
    shown = help_of("", "--help", capsys)
    (commands,) = (
        a for a in command_parser()._actions if isinstance(a, argparse._SubParsersAction)
    )
    listed = [name for names in SECTIONS.values() for name in names]
    assert sorted(listed) == sorted(commands.choices)
    for name in listed:
        assert re.search(rf"^  {name} +\S", shown, re.MULTILINE)
