"""Warnings of the library become lines of the program; the library itself prints nothing."""

import argparse
import logging
import subprocess
import sys

import pytest

from gramstyle.cli import main
from gramstyle.cli.commands import transfer

LOG = logging.getLogger("gramstyle.somewhere")


@pytest.fixture(autouse=True)
def a_command_that_logs(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(_: argparse.Namespace) -> None:
        LOG.info("chose an engine")
        LOG.warning("%s cannot be cached", "the\x1b[31m model")

    monkeypatch.setattr(transfer, "run_command", run)


def test_a_warning_is_one_line_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["transfer", "a", "b", "-o", "c.png"]) == 0
    assert tuple(capsys.readouterr()) == (
        "",
        "gramstyle: the\\x1b[31m model cannot be cached\n",
    )
    LOG.warning("nothing is shown after the command")
    assert capsys.readouterr().err == ""


def test_quiet_commands_show_no_warnings(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["transfer", "a", "b", "-o", "c.png", "--quiet"]) == 0
    assert tuple(capsys.readouterr()) == ("", "")


def test_a_warning_that_cannot_be_shown_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise BrokenPipeError

    monkeypatch.setattr("gramstyle.cli.progress.Speaker.tell", broken)
    assert main(["transfer", "a", "b", "-o", "c.png"]) == 0


def test_the_library_prints_nothing_unless_the_program_configures_logging() -> None:
    code = (
        "import gramstyle, logging; log = logging.getLogger('gramstyle.x'); log.warning('hidden'); "
        "logging.basicConfig(level='INFO'); log.info('shown')"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    assert (found.stdout, found.stderr) == ("", "INFO:gramstyle.x:shown\n")
