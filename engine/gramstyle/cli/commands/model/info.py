"""`gramstyle model info`: describe a model file."""

import argparse
from pathlib import Path

from rich.table import Table

from gramstyle.cli.parsing import Commands
from gramstyle.cli.printable import printable
from gramstyle.cli.speaking import Speaker, answer
from gramstyle.core.network import Convolution
from gramstyle.model import Model, load_model, network_name
from gramstyle.model.architecture import architecture_of

# The image size for which `info` lists the shapes of the responses.
SAMPLE_SIZE = 512


def add_parser(actions: Commands) -> None:
    """Add the command `model info`."""
    parser = actions.add_parser(
        "info",
        help="describe a model file",
        description="Print the network, the metadata and the layers of a model file.",
    )
    parser.set_defaults(run=run_info)
    parser.add_argument("model", type=Path, nargs="?", metavar="FILE",
        help="the model file (default: the one that transfer uses)")  # fmt: skip


def run_info(arguments: argparse.Namespace) -> None:
    """Print the metadata and layers of a model file."""
    model = load_model(arguments.model, notify=Speaker().tell)
    answer(_facts(model), _layers(model))


def _facts(model: Model) -> str:
    """Return the file's properties and metadata, one per line."""
    convolutions = [layer for layer in model.network.layers if isinstance(layer, Convolution)]
    facts = {
        "file": str(model.path),
        "size": f"{model.path.stat().st_size / 1e6:.1f} MB",
        "sha256": model.sha256,
        "architecture": architecture_of(convolutions).name,
        **model.metadata,
        "network": network_name(model.network, model.metadata),
    }
    width = max(len(name) for name in facts)
    return "\n".join(f"{name:<{width}}  {value}" for name, value in facts.items())


def _layers(model: Model) -> Table:
    shapes = model.network.shapes(SAMPLE_SIZE, SAMPLE_SIZE)
    table = Table("layer", "weights or kind", f"responses to {SAMPLE_SIZE}×{SAMPLE_SIZE}")
    for layer in model.network.layers:
        if isinstance(layer, Convolution):
            description = "×".join(map(str, layer.W.shape))
        else:
            description = f"{layer.kind} pooling"
        table.add_row(printable(layer.name), description, "×".join(map(str, shapes[layer.name])))
    return table
