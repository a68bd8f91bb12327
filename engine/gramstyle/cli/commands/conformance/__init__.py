"""`gramstyle conformance`: test an implementation on the cases, or write the cases as files."""

from gramstyle.cli.commands.conformance.build import add_build
from gramstyle.cli.commands.conformance.run import add_run
from gramstyle.cli.parsing import Commands


def add_parser(commands: Commands, summary: str) -> None:
    """Add the command `conformance`."""
    parser = commands.add_parser("conformance", help=summary)
    actions = parser.add_subparsers(title="actions", required=True, metavar="ACTION")
    add_run(actions)
    add_build(actions)
