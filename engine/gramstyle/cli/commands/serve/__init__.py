"""`gramstyle serve`: a web page and an HTTP interface for transfers."""

from gramstyle.cli.commands.serve.command import add_parser

__all__ = ["add_parser"]
