"""A command line that cannot be parsed: one line that suggests what was meant."""

import pytest

from gramstyle.cli import main


def error_of(arguments: str, capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as stop:
        main(arguments.split())
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith("gramstyle: error: ")
    assert error.count("\n") == 1
    return error


@pytest.mark.parametrize(
    ("arguments", "meant", "command"),
    [
        ("transfer a b -o c --itertions 3", "--iterations", "gramstyle transfer"),
        ("transfer a b -o c --itertions=3", "--iterations", "gramstyle transfer"),
        ("transfer a b --ouput c", "--output", "gramstyle transfer"),
        ("transfer a b -o c --engine wingrad", "winograd", "gramstyle transfer"),
        ("reconstruct style a --layer-s x -o c", "--layers", "gramstyle reconstruct style"),
        ("tranfer a b", "transfer", "gramstyle"),
        ("--verison", "--version", "gramstyle"),
        ("model fech", "fetch", "gramstyle model"),
        ("model fetch kera", "keras", "gramstyle model fetch"),
    ],
)
def test_the_closest_known_word_is_suggested_with_the_help_of_the_command(
    arguments: str, meant: str, command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    error = error_of(arguments, capsys)
    assert error.endswith(f" Did you mean {meant}? See: {command} --help\n")


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ("transfer a b -o d c", "'c'"),
        ("transfer a b -o c --xyzzy", "'--xyzzy'"),
        ("transfer a b", "-o/--output"),
        ("transfer a b -o c --size big", "'big'"),
    ],
)
def test_nothing_is_suggested_where_nothing_is_close(
    arguments: str, word: str, capsys: pytest.CaptureFixture[str]
) -> None:
    error = error_of(arguments, capsys)
    assert word in error
    assert "Did you mean" not in error
    assert error.endswith(". See: gramstyle transfer --help\n")


def test_control_codes_in_an_argument_are_shown_as_text(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert "\x1b" not in error_of("transfer a b -o c --\x1b[2J", capsys)


def test_an_abbreviated_option_and_a_file_after_two_dashes_are_still_understood(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["transfer", "-o", "c.png", "--iter", "3", "--", "--a.png", "b.png"]) == 2
    assert "'--a.png': there is no such file" in capsys.readouterr().err
