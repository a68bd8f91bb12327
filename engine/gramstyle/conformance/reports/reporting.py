"""The report of a run as text, as JSON and as JUnit XML."""

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any
from xml.etree import ElementTree

from gramstyle.conformance.comparing import Comparison
from gramstyle.conformance.reports.baseline import Changes
from gramstyle.conformance.running import Report, Result, printable

FORMAT = 1
HEADER = ("case", "quantity", "relative L2", "max abs", "cosine", "ulps", "verdict")
RATE = "evaluations/s"
SUITE = "gramstyle.conformance"


def table(report: Report) -> str:
    """Return a table: the worst quantity of each passed case, all quantities of a failed one."""
    rows = [row for result in report.results for row in _rows(result)]
    rows.insert(0, (*HEADER[:-1], RATE, HEADER[-1]))
    if not is_timed(report):
        rows = [(*row[:-2], row[-1]) for row in rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(_line(row, widths) for row in rows)


def is_timed(report: Report) -> bool:
    """Return whether the evaluations a second were measured."""
    return any(result.rate is not None for result in report.results)


def rate(result: Result) -> str:
    """Return the evaluations a second of a case; "" if they were not measured."""
    return "" if result.rate is None else f"{result.rate:.{0 if result.rate >= 100 else 2}f}"


def verdict(passed: bool) -> str:
    """Return the word for a verdict."""
    return "passed" if passed else "FAILED"


def notes(report: Report) -> Iterator[str]:
    """Yield a block of lines about each failed case: what is wrong, where, and why."""
    for result in report.failed:
        said = (result.problem, result.where, result.explanation)
        lines = [f"{result.case}: {result.pins}", *(f"  {each}" for each in said if each)]
        yield "\n".join(lines)


def summary(report: Report) -> str:
    """Return how many cases passed and failed, in one line."""
    count, failed = len(report.results), len(report.failed)
    return f"{count - failed} of {count} cases passed, {failed} failed ({report.dtype})"


def failure(result: Result) -> str:
    """Return the notes and the table of one failed case."""
    one = Report(dtype="", results=(result,))
    return "\n\n".join([*notes(one), table(one)])


def as_json(
    report: Report,
    *,
    adapter: str,
    changes: Changes | None = None,
    random: Mapping[str, Any] | None = None,
) -> bytes:
    """Return the report as JSON; numbers that are not finite become null.

    Parameters
    ----------
    report
        The report to write.
    adapter
        The name of the adapter that was tested.
    changes
        How the report differs from a baseline, if there is one.
    random
        What was drawn, if the cases are random.
    """
    document: dict[str, Any] = {
        "format": FORMAT,
        "adapter": adapter,
        "dtype": report.dtype,
        "passed": not report.failed,
        "explanation": report.explanation,
        "cases": [
            {
                "case": result.case,
                "pins": result.pins,
                "passed": result.passed,
                "seconds": round(result.seconds, 3),
                "rate": result.rate,
                "problem": result.problem,
                "where": result.where,
                "explanation": result.explanation,
                "comparisons": [_plain(each) for each in result.comparisons],
            }
            for result in report.results
        ],
    }
    if changes is not None:
        document["baseline"] = asdict(changes)
    if random is not None:
        document["random"] = random
    return (json.dumps(document, indent=1, allow_nan=False) + "\n").encode()


def as_junit(report: Report, *, adapter: str) -> bytes:
    """Return the report as JUnit XML with one testcase per case; parameters as for `as_json`."""
    suite = ElementTree.Element(
        "testsuite",
        name=_xml(f"{SUITE} {adapter} {report.dtype}"),
        tests=str(len(report.results)),
        failures=str(len(report.failed)),
        errors="0",
        skipped="0",
        time=f"{sum(result.seconds for result in report.results):.3f}",
    )
    for result in report.results:
        name, took = _xml(result.case), f"{result.seconds:.3f}"
        case = ElementTree.SubElement(suite, "testcase", classname=SUITE, name=name, time=took)
        if not result.passed:
            message = _xml(result.problem or result.where)
            said = ElementTree.SubElement(case, "failure", message=message, type="mismatch")
            said.text = _xml(failure(result))
    root = ElementTree.Element("testsuites")
    root.append(suite)
    ElementTree.indent(root)
    text: bytes = ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)
    return text + b"\n"


def _rows(result: Result) -> Iterator[tuple[str, ...]]:
    worst = result.worst
    if worst is None:
        yield (result.case, "", "", "", "", "", rate(result), verdict(False))
    elif result.passed:
        yield _row(result.case, worst, rate(result))
    else:
        for number, each in enumerate(result.comparisons):
            yield _row(result.case, each, "" if number else rate(result))


def _row(case: str, each: Comparison, evaluations: str) -> tuple[str, ...]:
    return (
        case,
        each.quantity,
        f"{each.relative:.1e}",
        f"{each.largest:.1e}",
        f"{each.cosine:.6f}",
        f"{each.ulps:.3g}",
        evaluations,
        verdict(each.passed) + (f": {each.problem}" if each.problem else ""),
    )


def _line(row: tuple[str, ...], widths: list[int]) -> str:
    """Return a row of the table: words aligned left, numbers aligned right."""
    cells = [
        cell.rjust(width) if 2 <= column < len(row) - 1 else cell.ljust(width)
        for column, (cell, width) in enumerate(zip(row, widths, strict=True))
    ]
    return "  ".join(cells).rstrip()


def _plain(each: Comparison) -> dict[str, Any]:
    return {
        "quantity": each.quantity,
        "relative": _number(each.relative),
        "largest": _number(each.largest),
        "cosine": _number(each.cosine),
        "ulps": _number(each.ulps),
        "tolerance": each.tolerance,
        "passed": each.passed,
        "problem": each.problem,
    }


def _xml(text: str) -> str:
    """Return a text without control characters, which XML cannot contain even as references."""
    return "\n".join(printable(line) for line in text.split("\n"))


def _number(value: float) -> float | None:
    """Return a number, or None where it is not finite: JSON has no such numbers."""
    return value if math.isfinite(value) else None
