"""The help: a first screen for newcomers, and all options in their groups."""

import argparse
import re
from collections.abc import Iterator
from dataclasses import fields

import pytest

from gramstyle.cli import main
from gramstyle.cli.program import SECTIONS, command_parser
from gramstyle.run.options import GROUPS, Options

TITLES = ["the content", "the style", "the result", "the run", "the machine"]
LARGE = [
    "transfer", "texture", "batch", "resume", "serve", "reconstruct content", "reconstruct style",
    "trace", "figure reconstructions", "figure styles", "figure tradeoff", "model export",
    "model fetch", "objective export", "conformance run",
]  # fmt: skip


@pytest.fixture(autouse=True)
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")


def help_of(command: str, option: str, capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as stop:
        main([*command.split(), option])
    assert stop.value.code == 0
    return capsys.readouterr().out


def parser_of(command: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = command_parser()
    for word in command.split():
        (commands,) = (a for a in parser._actions if isinstance(a, argparse._SubParsersAction))
        parser = commands.choices[word]
    return parser


def all_commands(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    """Yield a parser and those of its commands."""
    yield parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                yield from all_commands(command)


COMMANDS = [
    parser.prog.removeprefix("gramstyle").strip() for parser in all_commands(command_parser())
]


@pytest.mark.parametrize("command", COMMANDS)
def test_the_first_screen_fits_on_a_terminal(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = help_of(command, "--help", capsys).splitlines()
    assert len(lines) <= 32
    assert max(map(len, lines)) <= 80


@pytest.mark.parametrize("command", ["", *LARGE])
def test_the_usage_of_a_command_with_many_options_is_one_line(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert help_of(command, "--help", capsys).splitlines()[1] == ""


@pytest.mark.parametrize("command", LARGE)
def test_the_first_screen_names_the_other_options_and_shows_an_example(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    shown = help_of(command, "--help", capsys)
    assert shown.endswith(f"\ngramstyle {command} --help-all lists all options\n")
    assert re.search(
        rf"^(example: |examples: | {{2,10}})gramstyle {command}\b", shown, re.MULTILINE
    )


@pytest.mark.parametrize("command", LARGE)
def test_the_first_screen_shows_fewer_options_than_the_whole_help(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    listed = [
        set(re.findall(r"^  (?:-o(?: \w+)?, )?(--[a-z-]+)", help_of(command, option, capsys), re.M))
        for option in ("--help", "--help-all")
    ]
    assert listed[0] < listed[1]


def test_the_first_screen_of_transfer_has_ten_options(capsys: pytest.CaptureFixture[str]) -> None:
    shown = help_of("transfer", "--help", capsys)
    assert len(re.findall(r"^  (?:-o(?: OUT)?, )?--[a-z]", shown, re.MULTILINE)) == 10


@pytest.mark.parametrize("command", LARGE)
def test_every_option_is_in_the_whole_help_exactly_once(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    shown = help_of(command, "--help-all", capsys)
    for action in parser_of(command)._actions:
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


@pytest.mark.parametrize(
    ("command", "title", "flags"),
    [
        ("conformance run", "the cases", ["--case", "--size", "--model"]),
        ("conformance run", "random cases, in place of the others", ["--random", "--seed"]),
        ("texture", "the result", ["--size", "--tileable", "--tv"]),
        ("resume", "the machine", ["--threads", "--memory", "--model"]),
    ],
)
def test_the_whole_help_has_options_in_the_section_of_what_they_choose(
    command: str, title: str, flags: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    # --size of a conformance run is not the size of a result, although it has the same name.
    sections = re.split(r"^(\S.*):\n(?= )", help_of(command, "--help-all", capsys), flags=re.M)
    text = dict(zip(sections[1::2], sections[2::2], strict=True))[title]
    for flag in flags:
        assert re.search(rf"^  {flag}\b(?!-)", text, re.MULTILINE), flag


@pytest.mark.parametrize(
    ("command", "note"),
    [
        ("conformance run", "ADAPTER is one of numpy_plain"),
        ("conformance run", "exit code: 0 every case passed"),
        ("model export", "SOURCE is one of"),
        ("model fetch", "VGG-19 of torchvision (IMAGENET1K_V1)"),
    ],
)
def test_the_notes_of_a_command_are_in_its_whole_help_only(
    command: str, note: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert note in help_of(command, "--help-all", capsys)
    assert note not in help_of(command, "--help", capsys)


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
