"""argparse, with complaints of one line."""

import argparse
from typing import Never, TypeAlias


class Parser(argparse.ArgumentParser):
    """A parser that says what is wrong in one line and where to read more."""

    def error(self, message: str) -> Never:
        """Print the line and exit with 2."""
        self.exit(2, f"gramstyle: error: {message}; see: {self.prog} --help\n")


# argparse has no public name for what add_subparsers returns.
Commands: TypeAlias = "argparse._SubParsersAction[Parser]"
