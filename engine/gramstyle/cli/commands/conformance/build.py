"""`gramstyle conformance build DIR`."""

import argparse
from pathlib import Path

from gramstyle.cli.parsing import Commands
from gramstyle.cli.speaking import report
from gramstyle.conformance import cases
from gramstyle.conformance.files import write_cases, write_graphs
from gramstyle.errors import OptionError
from gramstyle.system.files import real_path


def add_build(actions: Commands) -> None:
    """Add the command `conformance build`."""
    parser = actions.add_parser(
        "build",
        help="write the cases as files, for other languages",
        description="Write every case as an ONNX model with its inputs and outputs and as arrays "
        "in a .npz file, and one manifest of all cases; with --onnx, every case as an ONNX model "
        "that computes the gradient. The bytes of a set are the same on every machine.",
        epilog="examples: gramstyle conformance build vectors; "
        "gramstyle conformance build --onnx graphs",
    )
    parser.set_defaults(run=run_build)
    parser.add_argument("folder", type=Path, nargs="?", metavar="DIR",
        help="the folder for the set: new, empty, or with an older set")  # fmt: skip
    parser.add_argument("--onnx", type=Path, metavar="DIR",
        help="the folder for the graphs of the gradient, with the true loss, gradient and "
        "derivative at each layer, in the layout of ONNX's backend tests")  # fmt: skip


def run_build(arguments: argparse.Namespace) -> None:
    """Write what was asked for, and print its size."""
    folder, graphs = arguments.folder, arguments.onnx
    if folder is None and graphs is None:
        raise OptionError("name the folder to write, or --onnx DIR")
    if folder is not None and graphs is not None:
        one, other = real_path(folder), real_path(graphs)
        if one.is_relative_to(other) or other.is_relative_to(one):
            raise OptionError(
                "the set and --onnx need a folder each, neither in the other; choose another name"
            )
    every = cases()
    if folder is not None:
        written = write_cases(folder, every)
        report(
            f"wrote {folder} ({written.cases} cases, {written.bytes} bytes, "
            f"version {written.version})"
        )
    if graphs is not None:
        size = write_graphs(graphs, every)
        report(f"wrote {graphs} ({len(every)} graphs, {size} bytes)")
