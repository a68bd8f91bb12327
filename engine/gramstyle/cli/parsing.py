"""An argument parser with one-line errors."""

import argparse
from typing import Never, TypeAlias


class Parser(argparse.ArgumentParser):
    """A parser that reports an error in one line and refers to the help."""

    def error(self, message: str) -> Never:
        """Print the line and exit with code 2."""
        self.exit(2, f"gramstyle: error: {message}; see: {self.prog} --help\n")


# argparse has no public name for the return type of add_subparsers.
Commands: TypeAlias = "argparse._SubParsersAction[Parser]"
