"""An argument parser with one-line errors that suggest what was meant."""

import argparse
import sys
from collections.abc import Iterable, Iterator, Sequence
from difflib import get_close_matches
from typing import Any, Never, TypeAlias

from gramstyle.cli.printable import printable
from gramstyle.cli.speaking import check_answered


class Parser(argparse.ArgumentParser):
    """A parser that reports an error in one line and refers to the help of its command."""

    def parse_known_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: Any = None
    ) -> tuple[argparse.Namespace, list[str]]:
        """Refuse what is unknown here, where the command is known, and not in the main parser.

        Unknown options come first: a mistyped --output is not just an --output that is missing.
        """
        args = sys.argv[1:] if args is None else list(args)
        self._refuse(list(self._unknown_options(args)))
        namespace, unknown = super().parse_known_args(args, namespace)
        self._refuse(unknown)
        return namespace, unknown

    def _unknown_options(self, args: Sequence[str]) -> Iterator[str]:
        """Yield the options before a command or `--` that are neither known nor abbreviations."""
        known = self._option_names()
        for arg in args:
            if arg == "--" or (self._subparsers is not None and not arg.startswith("-")):
                return
            name = arg.partition("=")[0]
            is_option = arg.startswith("--") and " " not in name
            if is_option and not any(option.startswith(name) for option in known):
                yield arg

    def _option_names(self) -> list[str]:
        return [name for action in self._actions for name in action.option_strings]

    def _refuse(self, unknown: Sequence[str]) -> None:
        if unknown:
            suggestion = _suggested(unknown[0], self._option_names())
            self.error(f"there is no argument {unknown[0]!r} here.{suggestion}")

    def error(self, message: str) -> Never:
        """Print the line and exit with code 2."""
        end = "" if message.endswith((".", "?")) else "."
        self.exit(2, f"gramstyle: error: {printable(message)}{end} See: {self.prog} --help\n")

    def exit(self, status: int = 0, message: str | None = None) -> Never:
        """Exit; raise AnswerError if the help was asked for and could not be written."""
        if status == 0:
            check_answered()
        super().exit(status, message)

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        """Check that a value is one of the choices of an argument."""
        try:
            super()._check_value(action, value)
        except argparse.ArgumentError as error:
            error.message += f".{_suggested(str(value), map(str, action.choices or ()))}"
            raise


def _suggested(given: str, known: Iterable[str]) -> str:
    """Return a question that names the known word closest to the given one, if one is close."""
    close = get_close_matches(given.partition("=")[0], list(known), n=1)
    return f" Did you mean {close[0]}?" if close else ""


# argparse has no public name for the return type of add_subparsers.
Commands: TypeAlias = "argparse._SubParsersAction[Parser]"
