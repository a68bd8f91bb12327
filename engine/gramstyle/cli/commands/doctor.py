"""`gramstyle doctor`: what is installed, what is broken, and how to repair it.

As `gramstyle.cli.doctor`, this module imports only Python's own library, `gramstyle.errors` and
`gramstyle.system`, so that the command works when a package is missing.
"""

import argparse
import json
import sys
from itertools import groupby
from typing import TYPE_CHECKING

from gramstyle.cli.doctor import Finding, Report, examine
from gramstyle.cli.printable import printable

if TYPE_CHECKING:
    from gramstyle.cli.parsing import Commands


def add_parser(commands: "Commands", summary: str) -> None:
    """Describe the command."""
    parser = commands.add_parser(
        "doctor",
        help=summary,
        description="Check the packages, the engines, the model, the machine and the caches. "
        "Nothing is built, downloaded or changed. The exit code is 1 if something is broken.",
        epilog="example: gramstyle doctor --json",
    )
    parser.set_defaults(run=run_command)
    parser.add_argument("--json", action="store_true", help="print the findings as JSON")


def run_command(arguments: argparse.Namespace) -> int:
    """Print the findings; return 1 if something is broken."""
    from gramstyle.cli.speaking import answer

    report = examine()
    answer(text_of(report, as_json=arguments.json))
    return 1 if report.broken else 0


def run_alone(*, as_json: bool) -> int:
    """Print the findings without the rest of the program; return the exit code."""
    report = examine()
    for line in text_of(report, as_json=as_json).split("\n"):
        print(printable(line))  # noqa: T201
    failure = getattr(sys.stdout, "failure", None)
    if failure is not None:
        return 141 if isinstance(failure, BrokenPipeError) else 2
    return 1 if report.broken else 0


def text_of(report: Report, *, as_json: bool) -> str:
    """Return the findings in lines for a person, or as JSON."""
    if as_json:
        return json.dumps(report.to_json(), indent=2)
    width = max(len(each.name) for each in report.findings)
    lines: list[str] = []
    for section, findings in groupby(report.findings, key=lambda each: each.section):
        lines.append(section)
        for each in findings:
            lines += _lines(each, width)
    count = len(report.broken)
    things = "1 thing is" if count == 1 else f"{count} things are"
    lines += ["", f"{things} broken" if count else "all that a run needs is in order"]
    return "\n".join(lines)


def _lines(finding: Finding, width: int) -> list[str]:
    mark = "" if finding.state == "ok" else f"{finding.state}: "
    lines = [f"  {finding.name:<{width}}  {mark}{finding.value}"]
    if finding.remedy is not None:
        lines.append(f"  {'':<{width}}  → {finding.remedy}")
    return lines
