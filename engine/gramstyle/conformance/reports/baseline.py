"""Compare a report with that of an earlier run: only what got worse counts."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from gramstyle.conformance.comparing import Comparison
from gramstyle.conformance.files.schema import check, read_json
from gramstyle.conformance.running import Report, Result
from gramstyle.errors import ModelError, OptionError

SCHEMA_FILE = Path(__file__).with_name("report.schema.json")
LARGEST = 16 * 1024 * 1024
# A quantity that is wrong in both runs is worse if its deviation is so many times that of before:
# less may be rounding.
WORSE = 2.0

# A case of a report in JSON.
Entry = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Changes:
    """How a report differs from a baseline.

    Attributes
    ----------
    worse, better
        By case, what got worse or better, in one sentence.
    new
        The cases that the baseline lacks, with their verdicts.
    missing
        The cases of the baseline that were not run.
    """

    worse: Mapping[str, str]
    better: Mapping[str, str]
    new: Mapping[str, str]
    missing: tuple[str, ...]


def read_baseline(path: Path, *, dtype: str) -> Mapping[str, Entry]:
    """Return the cases of a report that `--json` wrote, by name.

    Raises
    ------
    OptionError
        If it cannot be read, is not such a report, or is of another float type.
    """
    try:
        if path.exists() and not path.is_file():  # a pipe would be waited for
            raise OptionError(f"cannot read the baseline {path}: it is not a file")
        with path.open("rb") as stream:
            data = stream.read(LARGEST + 1)
    except OSError as error:
        raise OptionError(
            f"cannot read the baseline {path}: {error.strerror}; write one with --json"
        ) from None
    try:
        if len(data) > LARGEST:
            raise ModelError(f"expected at most {LARGEST} bytes, found more")
        document = read_json(data)
        check(document, _schema())
        cases = {case["case"]: case for case in document["cases"]}
        if len(cases) < len(document["cases"]):
            raise ModelError("expected every case once, found one twice")
    except ModelError as error:
        raise OptionError(
            f"the baseline {path} is not a report of --json: {error}; write one with --json"
        ) from None
    if document["dtype"] != dtype:
        raise OptionError(
            f"the baseline {path} is of {document['dtype']} and this run of {dtype}; choose "
            "--dtype, or write another baseline with --json"
        )
    return cases


def check_shared(path: Path, baseline: Mapping[str, Entry], names: Sequence[str]) -> None:
    """Raise an error if a baseline has none of the cases of a run.

    Raises
    ------
    OptionError
        Then every case would be new, and none could be worse.
    """
    if names and not any(name in baseline for name in names):
        raise OptionError(
            f"the baseline {path} has none of the cases of this run; write another with --json"
        )


def changes_since(baseline: Mapping[str, Entry], report: Report) -> Changes:
    """Return how the results of a report differ from those of a baseline."""
    worse, better, new = {}, {}, {}
    for result in report.results:
        before = baseline.get(result.case)
        if before is None:
            new[result.case] = "passed" if result.passed else "FAILED"
        elif sentence := next(_worse(before, result), ""):
            worse[result.case] = sentence
        elif sentence := next(_better(before, result), ""):
            better[result.case] = sentence
    ran = {result.case for result in report.results}
    missing = tuple(name for name in baseline if name not in ran)
    return Changes(worse=worse, better=better, new=new, missing=missing)


def lines_of(changes: Changes) -> Iterator[str]:
    """Yield a line for each difference, the worse ones first."""
    for kind, cases in (("worse", changes.worse), ("better", changes.better), ("new", changes.new)):
        for name, sentence in cases.items():
            yield f"{kind}: {name}: {sentence}"
    if changes.missing:
        yield f"not run: {', '.join(changes.missing)}"


def _worse(before: Entry, now: Result) -> Iterator[str]:
    """Yield what got worse, the plainest first."""
    if now.passed:
        return
    if before["passed"]:
        yield "passed in the baseline, fails now"
    if now.problem and not before["problem"]:
        yield "had an answer in the baseline, has none now"
    known = {each["quantity"]: each for each in before["comparisons"]}
    for each in now.comparisons:
        old = known.get(each.quantity)
        if each.passed or old is None:
            continue
        if old["passed"]:
            yield f"{each.quantity} was right in the baseline, is wrong now"
        elif _deviation(each) > WORSE * _deviation_of(old):
            yield f"{each.quantity} deviates by {each.relative:.1e}, {_shown(old)} in the baseline"


def _better(before: Entry, now: Result) -> Iterator[str]:
    """Yield what got better, of a case of which nothing got worse."""
    if before["passed"]:
        return
    if now.passed:
        yield "failed in the baseline, passes now"
    if before["problem"] and not now.problem:
        yield "had no answer in the baseline, has one now"
    known = {each["quantity"]: each for each in before["comparisons"]}
    for each in now.comparisons:
        old = known.get(each.quantity)
        if old is None or old["passed"]:
            continue
        if each.passed:
            yield f"{each.quantity} was wrong in the baseline, is right now"
        elif WORSE * _deviation(each) < _deviation_of(old):
            yield f"{each.quantity} deviates by {each.relative:.1e}, {_shown(old)} in the baseline"


def _deviation(each: Comparison) -> float:
    return float("inf") if each.problem else each.relative


def _deviation_of(old: Entry) -> float:
    """Return the deviation in a report, which has null for a number that is not finite."""
    return float("inf") if old["relative"] is None else float(old["relative"])


def _shown(old: Entry) -> str:
    return "not finite" if old["relative"] is None else f"{old['relative']:.1e}"


@cache
def _schema() -> Any:
    return json.loads(SCHEMA_FILE.read_bytes())
