"""`gramstyle conformance build DIR`."""

import argparse
from pathlib import Path

from gramstyle.cli.parsing import Commands
from gramstyle.cli.speaking import report
from gramstyle.conformance import cases
from gramstyle.conformance.files import write_cases


def add_build(actions: Commands) -> None:
    """Add the command `conformance build`."""
    parser = actions.add_parser(
        "build",
        help="write the cases as files, for other languages",
        description="Write every case as an ONNX model with its inputs and outputs and as arrays "
        "in a .npz file, and one manifest of all cases. The bytes are the same on every machine.",
        epilog="example: gramstyle conformance build vectors",
    )
    parser.set_defaults(run=run_build)
    parser.add_argument("folder", type=Path, metavar="DIR",
        help="the folder to write: new, empty, or with an older set")  # fmt: skip


def run_build(arguments: argparse.Namespace) -> None:
    """Write the set and print its size."""
    written = write_cases(arguments.folder, cases())
    report(
        f"wrote {arguments.folder} ({written.cases} cases, {written.bytes} bytes, "
        f"version {written.version})"
    )
