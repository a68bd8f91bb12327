"""`gramstyle model compare A B`."""

import argparse
from pathlib import Path

from rich.console import Console
from rich.table import Table

from gramstyle.analysis.compare import Comparison, compare_models
from gramstyle.cli.parsing import Commands
from gramstyle.images import read_image
from gramstyle.model import read_model


def add_parser(actions: Commands) -> None:
    """Describe the command."""
    parser = actions.add_parser(
        "compare",
        help="say whether two files hold the same network",
        description="Compare two of this program's model files layer by layer: ‖B − A‖ / ‖A‖ of "
        "weights, biases and the responses to an image; and of the responses again once every "
        "filter of B has the scale that suits A best, which is 0 where filters were only rescaled.",
        epilog="for weights of another kind, first: gramstyle model export --from SOURCE --to FILE",
    )
    parser.set_defaults(run=run_compare)
    parser.add_argument("a", type=Path, metavar="A", help="a network's file")
    parser.add_argument("b", type=Path, metavar="B", help="another")
    parser.add_argument("--image", type=Path, metavar="FILE",
        help="the image that both look at (default: a drawn one of 256×256 pixels)")  # fmt: skip


def run_compare(arguments: argparse.Namespace) -> None:
    """Print the table and the verdict."""
    image = None if arguments.image is None else read_image(arguments.image)
    comparison = compare_models(read_model(arguments.a), read_model(arguments.b), image)
    console = Console(highlight=False, soft_wrap=True)
    console.print(_table(comparison))
    console.print(comparison.verdict, markup=False)


def _table(comparison: Comparison) -> Table:
    table = Table("layer")
    for title in ("weights", "biases", "responses", "rescaled"):
        table.add_column(title, justify="right")
    for layer in comparison.layers:
        numbers = (layer.weights, layer.biases, layer.responses, layer.directions)
        table.add_row(layer.name, *(f"{number:.1e}" if number else "0" for number in numbers))
    return table
