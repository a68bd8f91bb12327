"""`gramstyle doctor`: its lines, its JSON and its exit code."""

import json

import pytest

from gramstyle.cli import main
from gramstyle.cli.commands import doctor
from gramstyle.cli.doctor import Finding, Report

FINE = Finding("packages", "numpy", "2.4")
NOTE = Finding("extras", "fast", "not installed", "note", "to add it: pip install numba")
BROKEN = Finding("packages", "scipy", "not installed\x1b[2J", "broken", "pip install scipy")


@pytest.fixture(params=[(FINE, NOTE), (FINE, BROKEN, NOTE)], ids=["fine", "broken"])
def report(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Report:
    found = Report(request.param)
    monkeypatch.setattr(doctor, "examine", lambda: found)
    return found


def test_the_findings_are_printed_with_their_remedies(
    report: Report, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["doctor"]) == (1 if report.broken else 0)
    out = capsys.readouterr().out
    assert "  fast   note: not installed\n         → to add it: pip install numba\n" in out
    assert ("broken: not installed\\x1b[2J" in out) == bool(report.broken)
    end = "1 thing is broken\n" if report.broken else "all that a run needs is in order\n"
    assert out.endswith(end)


def test_the_findings_are_printed_as_json(
    report: Report, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["doctor", "--json"]) == (1 if report.broken else 0)
    said = json.loads(capsys.readouterr().out)
    assert said["healthy"] is not bool(report.broken)
    assert tuple(Finding(**each) for each in said["findings"]) == report.findings
