"""Test every installed implementation on the conformance cases; write the page.

python -m tools.findings [--command "node plain.mjs" …] -o docs/findings.md
"""

import argparse
import math
import warnings
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from gramstyle.conformance import Case, cases
from gramstyle.conformance.adapters import NAMES, dtypes_of, load, version_of
from gramstyle.conformance.comparing import Adapter
from gramstyle.conformance.programs import running_program
from gramstyle.conformance.real_network import real_case
from gramstyle.conformance.running import Report, Result, check, run
from gramstyle.errors import OptionError, RuntimeMissingError
from gramstyle.model import load_model

# A GPU computes these.
ELSEWHERE = ("cupy", "cupy_engine")

HEAD = """\
# Findings

Implementations of the loss and its gradient, tested on all {count} cases of the
[conformance kit](conformance.md), with gramstyle {version}. `python -m tools.findings` writes this
page with the implementations that are installed. The page on
[conformance](conformance.md#where-frameworks-differ) explains the kinks, where frameworks choose
different subgradients.

## Every implementation

The largest deviation is the largest relative L2 of a quantity in a case that passed. The tolerances
are 1e-10 in float64, 2e-3 in float32 and 0.2 in float16. The last column is the largest relative L2
on VGG-19 itself with {size}×{size} pixels of noise.

| implementation | version | float type | passed | largest deviation | in case | VGG-19 |
|---|---|---|---:|---:|---|---:|
"""
SIZE = 64
PATIENCE = 600.0  # seconds for a case; a program without a framework takes minutes for VGG-19


@dataclass(frozen=True)
class Subject:
    """An implementation: its name, its version, the float types in which it computes."""

    name: str
    version: str
    adapter: Adapter
    dtypes: tuple[str, ...]


def main() -> None:
    parser = argparse.ArgumentParser(description="Write the page of findings.")
    parser.add_argument("--command", action="append", default=[], metavar='"PROGRAM ARGS"')
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="PAGE.md")
    arguments = parser.parse_args()
    with ExitStack() as stack, warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # numbers beyond float16 are findings
        subjects = list(installed())
        for command in arguments.command:
            program = stack.enter_context(running_program(command, timeout=PATIENCE))
            said = program.hello
            subjects.append(Subject(said.name, said.version, program, said.dtypes))
        text = page(subjects, cases(), real_case(load_model(), SIZE))
    arguments.output.write_text(text, "utf-8")
    print(f"wrote {arguments.output}")


def installed() -> Iterator[Subject]:
    """Yield the adapters whose packages are installed."""
    for name in NAMES:
        if name in ELSEWHERE:
            continue
        try:
            yield Subject(name, version_of(name), load(name), dtypes_of(name))
        except (OptionError, RuntimeMissingError) as error:
            print(f"left out: {error}")


def page(subjects: Sequence[Subject], every: Sequence[Case], real: Case) -> str:
    """Return the page in Markdown; `real` is the case of VGG-19."""
    rows, differences = [], []
    for subject in subjects:
        for dtype in subject.dtypes:
            print(f"{subject.name} in {dtype}", flush=True)
            report = run(subject.adapter, every, dtype=dtype)
            on_real = check(subject.adapter, real, dtype=dtype)
            rows.append(row(subject, report, on_real))
            failed = [*report.failed, *([] if on_real.passed else [on_real])]
            differences += [difference(subject, dtype, result) for result in failed]
    head = HEAD.format(count=len(every), version=version("gramstyle"), size=SIZE)
    text = head + "\n".join(rows) + "\n\n## Where they differ\n\n"
    if not differences:
        return f"{text}Nowhere.\n"
    table = "| implementation | float type | case | relative L2 | what |\n|---|---|---|---:|---|\n"
    return text + table + "\n".join(differences) + "\n"


def row(subject: Subject, report: Report, on_real: Result) -> str:
    """Return a row about all cases of an implementation in a float type."""
    passed = [result for result in report.results if result.passed]
    largest = max(passed, key=deviation, default=None)
    worst = ("", "") if largest is None else (f"{deviation(largest):.1e}", f"`{largest.case}`")
    count = f"{len(passed)} of {len(report.results)}"
    return cells(subject.name, subject.version, report.dtype, count, *worst, apart(on_real))


def difference(subject: Subject, dtype: str, result: Result) -> str:
    """Return a row about a case that failed."""
    problem = result.problem.split("\\n")[0]  # a framework's message may have many lines
    what = problem or "; ".join(filter(None, (result.where, result.explanation)))
    return cells(subject.name, dtype, f"`{result.case}`", apart(result), what)


def apart(result: Result) -> str:
    """Return the largest relative deviation of a case as text."""
    if result.problem:
        return "no answer"
    return f"{deviation(result):.1e}" if math.isfinite(deviation(result)) else "not finite"


def deviation(result: Result) -> float:
    """Return the largest relative deviation of a case."""
    return math.nan if result.worst is None else result.worst.relative


def cells(*texts: str) -> str:
    return "| " + " | ".join(text.replace("|", "\\|") for text in texts) + " |"


if __name__ == "__main__":
    main()
