"""`gramstyle plot RECORD… -o OUT`."""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path

from gramstyle.analysis.plots import FORMATS, load_matplotlib, loss_curves
from gramstyle.cli.parsing import Commands
from gramstyle.cli.speaking import report
from gramstyle.errors import OptionError
from gramstyle.run.records.reading import read_record
from gramstyle.system.files import is_same_file, write_atomically
from gramstyle.system.replaceable import check_file


def add_parser(commands: Commands, summary: str) -> None:
    """Add the command and its options."""
    parser = commands.add_parser(
        "plot",
        help=summary,
        description="Draw the losses of runs over their iterations: the total, and the "
        "contributions of content, style and each style layer, multiplied by their weights, on a "
        "logarithmic scale. The record of a stopped run can be drawn too. Needs "
        "matplotlib.",
        epilog="example: gramstyle plot max.jsonl avg.jsonl -o pooling.svg",
    )
    parser.set_defaults(run=run_command)
    parser.add_argument("records", type=Path, nargs="+", metavar="RECORD",
        help="a file written by --log; several runs are drawn in the same panels")  # fmt: skip
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="OUT",
        help=f"the image file to write: {_suffixes()}")  # fmt: skip
    parser.add_argument("--by", choices=("iterations", "seconds"), default="iterations",
        help="the horizontal axis (default %(default)s)")  # fmt: skip


def run_command(arguments: argparse.Namespace) -> None:
    """Read the records, draw the losses and write the image."""
    output: Path = arguments.output
    suffix = output.suffix.lower()
    if suffix not in FORMATS:
        raise OptionError(f"cannot write {output}: choose a name that ends in {_suffixes()}")
    check_file(output, error=OptionError)
    load_matplotlib()
    runs = {name: read_record(path) for name, path in _names(arguments.records).items()}
    if any(is_same_file(output, path) for path in arguments.records):
        raise OptionError(f"{output} would overwrite a record; choose another name")
    data = loss_curves(runs, by=arguments.by, suffix=suffix)
    write_atomically(output, data, error=OptionError)
    report(f"wrote {output} with {_count(runs)}")


def _suffixes() -> str:
    *others, last = FORMATS
    return f"{', '.join(others)} or {last}"


def _names(paths: Sequence[Path]) -> dict[str, Path]:
    """Return the records by their names in the legend: file names, or paths if two are equal."""
    names = [path.name for path in paths]
    return {
        name if names.count(name) == 1 else str(path): path
        for name, path in zip(names, paths, strict=True)
    }


def _count(runs: Mapping[str, object]) -> str:
    return "1 run" if len(runs) == 1 else f"{len(runs)} runs"
