"""`gramstyle conformance run`."""

import argparse
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from itertools import combinations
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING, Any

from gramstyle.cli import arguments as add
from gramstyle.cli.commands.conformance.random_cases import (
    add_random,
    check_random,
    draw,
    random_json,
    random_summary,
    save_folder,
    saved,
)
from gramstyle.cli.commands.conformance.subject import (
    Subject,
    add_subject,
    files_of_subject,
    open_subject,
)
from gramstyle.cli.help import Help
from gramstyle.cli.parsing import Commands
from gramstyle.cli.speaking import Speaker, answer
from gramstyle.conformance import Case, cases
from gramstyle.conformance.adapters import NAMES
from gramstyle.conformance.files import read_cases
from gramstyle.conformance.real_network import real_case
from gramstyle.conformance.reports.baseline import (
    Changes,
    changes_since,
    check_shared,
    lines_of,
    read_baseline,
)
from gramstyle.conformance.reports.page import as_html
from gramstyle.conformance.reports.reporting import as_json, as_junit, notes, summary, table
from gramstyle.conformance.running import DTYPES, Report, Result, run
from gramstyle.errors import OptionError
from gramstyle.model import load_model
from gramstyle.system.files import is_same_place, real_path, write_atomically
from gramstyle.system.replaceable import check_file

if TYPE_CHECKING:
    from gramstyle.conformance.drawing import Drawn

# A pass of the real network at this size takes a second or two and fits every framework's memory.
SIZE = 64

NOTES = f"""\
{fill(f"ADAPTER is one of {', '.join(NAMES)};")}
or module:function, a function value_and_grad(image, case) of your own.
PROGRAM is in any language; it reads cases from stdin and writes answers to
stdout by the protocol of docs/conformance-programs.md. No shell is involved.
exit code: 0 every case passed, 1 a case failed, 2 an argument cannot be used;
with --baseline: 0 nothing is worse, 1 a case is worse
"""

# What the first screen of the help of `run` shows.
SCREEN = {
    "the implementation": ["--against", "--command", "--dtype", "--device"],
    "the cases": ["--case", "--set", "--random", "--seed"],
    "the output": ["--json", "--junit", "--html", "--baseline"],
}

EXAMPLES = """\
examples: gramstyle conformance run --against torch
          gramstyle conformance run --command "node my-program.mjs"
          gramstyle conformance run --against torch --random 1000 --seed 7
"""


def add_run(actions: Commands) -> None:
    """Add the command `conformance run`."""
    parser = actions.add_parser(
        "run",
        help="test an implementation on the cases",
        usage='gramstyle conformance run (--against ADAPTER | --command "…") [options]',
        description="Compute the loss and gradients of every case with an implementation, and "
        "compare them with the float64 truth. The exit code is 1 if a case fails.",
        epilog=EXAMPLES,
    )
    parser.set_defaults(run=run_command)
    parser.show_first(SCREEN, notes=NOTES, of_run=False)
    subject = add_subject(parser)
    subject.add_argument("--dtype", choices=DTYPES,
        help="float type (default: float64, or the first one of the implementation)")  # fmt: skip
    subject.add_argument("--time", action="store_true",
        help="also measure the evaluations a second of each case")  # fmt: skip

    which = parser.add_argument_group("the cases")
    which.add_argument("--case", type=add.names, metavar="NAME,…",
        help="only these cases (default: all)")  # fmt: skip
    which.add_argument("--set", type=Path, metavar="DIR",
        help=Help("files that conformance build wrote (default: the built-in cases)",
        short="the cases that conformance build wrote"))  # fmt: skip
    which.add_argument("--real-model", action="store_true",
        help="also test the real network, on noise")  # fmt: skip
    which.add_argument("--size", type=int, metavar="PIXELS",
        help=f"width and height of the real network's images (default {SIZE})")  # fmt: skip
    which.add_argument("--model", type=Path, metavar="FILE",
        help="model file of the real network (default: the one of gramstyle transfer)")  # fmt: skip

    add_random(parser)

    written = parser.add_argument_group("the output")
    written.add_argument("--json", type=Path, metavar="FILE",
        help="also write the report as JSON")  # fmt: skip
    written.add_argument("--junit", type=Path, metavar="FILE",
        help="also write the report as JUnit XML")  # fmt: skip
    written.add_argument("--html", type=Path, metavar="FILE",
        help="also write the report as one web page")  # fmt: skip
    written.add_argument("--baseline", type=Path, metavar="FILE",
        help=Help("compare with an earlier report of --json: only what got worse fails",
        short="an earlier --json report: only what got worse fails"))  # fmt: skip


def run_command(arguments: argparse.Namespace) -> int:
    """Run the cases, write and print the report; return the exit code."""
    _check_files(arguments)
    with open_subject(arguments) as subject:
        dtype = subject.dtype(arguments.dtype)
        baseline = None
        if arguments.baseline is not None:
            baseline = read_baseline(arguments.baseline, dtype=dtype)
        say = Speaker()
        if arguments.random is not None:
            with say.status("drawing") as status:
                drawn = draw(arguments, subject.adapter, dtype, status)
            return _finish_random(drawn, subject, arguments)
        chosen = _cases(arguments)
        if baseline is not None:
            check_shared(arguments.baseline, baseline, [case.name for case in chosen])
        with say.status("computing"):
            report = run(
                subject.adapter,
                chosen,
                dtype=dtype,
                timed=arguments.time,
                callback=lambda result: _show(say, result),
            )
    changes = None if baseline is None else changes_since(baseline, report)
    _write(report, subject, changes, arguments)
    _print(report, subject, changes)
    if changes is not None:
        return 1 if changes.worse else 0
    return 1 if report.failed else 0


def _finish_random(drawn: "Drawn", subject: Subject, arguments: argparse.Namespace) -> int:
    """Write and print what random cases found; return the exit code."""
    report, again = drawn.report, saved(drawn, arguments)
    _write(report, subject, None, arguments, random=random_json(drawn, arguments))
    blocks = [table(report), *notes(report), *([again] if again else []), _versions(subject)]
    answer("\n\n".join(blocks), random_summary(drawn))
    return 0 if drawn.smallest is None else 1


def _write(
    report: Report,
    subject: Subject,
    changes: Changes | None,
    arguments: argparse.Namespace,
    *,
    random: Mapping[str, Any] | None = None,
) -> None:
    """Write the report as the files that were asked for."""
    if arguments.json is not None:
        data = as_json(report, adapter=subject.name, changes=changes, random=random)
        write_atomically(arguments.json, data, error=OptionError)
    if arguments.junit is not None:
        data = as_junit(report, adapter=subject.name)
        write_atomically(arguments.junit, data, error=OptionError)
    if arguments.html is not None:
        data = as_html(report, subject=_versions(subject), changes=changes)
        write_atomically(arguments.html, data, error=OptionError)


def _check_files(arguments: argparse.Namespace) -> None:
    """Raise an error before the run if a report could not be written after it."""
    check_random(arguments)
    if not arguments.real_model and (arguments.size or arguments.model):
        raise OptionError("--size and --model are for the real network; add --real-model")
    reports = (arguments.json, arguments.junit, arguments.html)
    targets = [path for path in reports if path is not None]
    for path in targets:
        check_file(path, error=OptionError)
        if path.exists() and not path.is_file():
            raise OptionError(f"cannot write {path}: it exists and is not a file")
    read = (arguments.model, arguments.baseline)
    used = [path for path in (*targets, *read) if path is not None]
    if any(is_same_place(a, b) for a, b in combinations(used, 2)):
        raise OptionError(
            "--json, --junit, --html, --baseline and --model name one file twice; choose another "
            "name"
        )
    folders = [] if arguments.set is None else [arguments.set]
    if arguments.random is not None:
        folders.append(save_folder(arguments))
    for path in targets:
        if any(is_same_place(path, each) for each in files_of_subject(arguments)):
            raise OptionError(
                f"the report {path} would replace the implementation to test; choose another name"
            )
        if any(real_path(path).is_relative_to(real_path(folder)) for folder in folders):
            raise OptionError(
                f"the report {path} is in the folder of the cases; choose another folder"
            )


def _cases(arguments: argparse.Namespace) -> Sequence[Case]:
    every = list(cases() if arguments.set is None else read_cases(arguments.set))
    if arguments.real_model:
        model = load_model(arguments.model, notify=Speaker().tell)
        every.append(real_case(model, SIZE if arguments.size is None else arguments.size))
    if arguments.case is None:
        return every
    known = {case.name: case for case in every}
    for name in arguments.case:
        if name not in known:
            raise OptionError(f"there is no case {name!r}; the cases are {', '.join(known)}")
    if not arguments.case:
        raise OptionError("--case names no case")
    return [known[name] for name in known if name in arguments.case]


def _show(say: Speaker, result: Result) -> None:
    """Print the verdict of a case as soon as it is done, on a terminal."""
    if say.is_terminal:
        verdict = "passed" if result.passed else "FAILED"
        say.tell(f"{result.case}: {verdict} ({result.seconds:.1f} s)")


def _print(report: Report, subject: Subject, changes: Changes | None) -> None:
    blocks = [table(report), *notes(report)]
    if report.explanation:
        blocks.append(report.explanation)
    blocks.append(_versions(subject))
    if changes is not None:
        blocks.append("\n".join(["since the baseline:", *lines_of(changes)]))
        counts = f"{len(changes.worse)} worse, {len(changes.better)} better, {len(changes.new)} new"
        answer("\n\n".join(blocks), f"{summary(report)}; since the baseline {counts}")
        return
    answer("\n\n".join(blocks), summary(report))


def _versions(subject: Subject) -> str:
    return f"{subject.described}, gramstyle {version('gramstyle')}"
