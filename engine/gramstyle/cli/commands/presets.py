"""`gramstyle presets`."""

import argparse
from typing import Any

from rich.table import Table

from gramstyle.cli.parsing import Commands
from gramstyle.cli.speaking import answer
from gramstyle.run.presets import PRESETS


def add_parser(commands: Commands, summary: str) -> None:
    """Describe the command."""
    parser = commands.add_parser(
        "presets",
        help=summary,
        description="List the presets with the options that they stand for. An option that is "
        "given takes precedence over the preset.",
        epilog="example: gramstyle transfer photo.jpg painting.jpg -o result.png --preset "
        f"{next(iter(PRESETS))}",
    )
    parser.set_defaults(run=run_command)


def run_command(_arguments: argparse.Namespace) -> None:
    """Print the table of presets."""
    table = Table("preset", "what it does", "the options that it stands for")
    for each in PRESETS.values():
        words = [f"--{name.replace('_', '-')} {_text(v)}" for name, v in each.values.items()]
        table.add_row(each.name, each.description, "\n".join(words))
    answer(table)


def _text(value: Any) -> str:
    if isinstance(value, tuple):
        return ",".join(map(_text, value))
    return f"{value:g}" if isinstance(value, float) else str(value)
