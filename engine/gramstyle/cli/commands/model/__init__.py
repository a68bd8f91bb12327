"""`gramstyle model`: fetch, export, describe, compare and normalise networks."""

from gramstyle.cli.commands.model import compare, export, fetch, info, normalise
from gramstyle.cli.parsing import Commands


def add_parser(commands: Commands, summary: str) -> None:
    """Add the command and its actions."""
    parser = commands.add_parser("model", help=summary)
    actions = parser.add_subparsers(title="actions", required=True, metavar="ACTION")
    for action in (export, info, compare, normalise, fetch):
        action.add_parser(actions)
