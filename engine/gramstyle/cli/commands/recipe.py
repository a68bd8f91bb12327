"""`gramstyle recipe RESULT`."""

import argparse
from pathlib import Path

from gramstyle.cli.parsing import Commands
from gramstyle.cli.speaking import answer, report
from gramstyle.errors import OptionError
from gramstyle.run.recipes import recipe_of
from gramstyle.system.files import is_same_place, write_atomically


def add_parser(commands: Commands, summary: str) -> None:
    """Describe the command."""
    parser = commands.add_parser(
        "recipe",
        help=summary,
        description="Print or write the recipe of an image that gramstyle has rendered: its "
        "options and the names of its images, as a file for gramstyle transfer --recipe.",
        epilog="example: gramstyle recipe result.png -o recipe.toml",
    )
    parser.set_defaults(run=run_command)
    parser.add_argument("result", type=Path, metavar="RESULT",
        help="the image, or the log of its run (--log)")  # fmt: skip
    parser.add_argument("-o", "--output", type=Path, metavar="FILE.toml",
        help="the file to write (default: standard output)")  # fmt: skip


def run_command(arguments: argparse.Namespace) -> None:
    """Print the recipe, or write it to a file."""
    output: Path | None = arguments.output
    text = recipe_of(arguments.result).to_toml()
    if output is None:
        answer(text.removesuffix("\n"))
        return
    if is_same_place(output, arguments.result):
        raise OptionError(f"{output} is the result itself; choose another name for the recipe")
    write_atomically(output, text.encode(), error=OptionError)
    report(f"wrote {output}")
