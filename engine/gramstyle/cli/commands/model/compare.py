"""`gramstyle model compare A B`: compare two model files layer by layer."""

import argparse
from pathlib import Path

from rich.table import Table

from gramstyle.analysis.compare import Comparison, compare_models
from gramstyle.cli.parsing import Commands
from gramstyle.cli.printable import printable
from gramstyle.cli.speaking import answer
from gramstyle.images import read_image
from gramstyle.model import read_model


def add_parser(actions: Commands) -> None:
    """Add the action."""
    parser = actions.add_parser(
        "compare",
        help="tell whether two model files contain the same network",
        description="Compare two model files layer by layer: ‖B − A‖ / ‖A‖ of weights, biases and "
        "responses to an image. The last column compares the responses after the best rescaling "
        "of each filter of B; it is 0 if the filters were only rescaled.",
        epilog="convert other weights first: gramstyle model export --from SOURCE --to FILE",
    )
    parser.set_defaults(run=run_compare)
    parser.add_argument("a", type=Path, metavar="A", help="a model file")
    parser.add_argument("b", type=Path, metavar="B", help="another model file")
    parser.add_argument("--image", type=Path, metavar="FILE",
        help="the image to run both on (default: a random one of 256×256 pixels)")  # fmt: skip


def run_compare(arguments: argparse.Namespace) -> None:
    """Print the table of differences and the verdict."""
    image = None if arguments.image is None else read_image(arguments.image)
    comparison = compare_models(read_model(arguments.a), read_model(arguments.b), image)
    answer(_table(comparison), comparison.verdict)


def _table(comparison: Comparison) -> Table:
    table = Table("layer")
    for title in ("weights", "biases", "responses", "rescaled"):
        table.add_column(title, justify="right")
    for layer in comparison.layers:
        numbers = (layer.weights, layer.biases, layer.responses, layer.directions)
        table.add_row(
            printable(layer.name), *(f"{number:.1e}" if number else "0" for number in numbers)
        )
    return table
