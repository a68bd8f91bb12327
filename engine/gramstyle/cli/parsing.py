"""An argument parser with one-line errors that suggest what was meant."""

import argparse
import itertools
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from typing import Any, Never, TypeAlias

from gramstyle.cli.help import Screen, all_options, first_screen
from gramstyle.cli.printable import printable
from gramstyle.cli.streams import check_answered


class Parser(argparse.ArgumentParser):
    """A parser that reports an error in one line and refers to the help of its command."""

    # The options on the first screen of the help; none if it lists them all.
    _screen: Screen | None = None
    # What --help-all says after the options, and whether those of `Options` have its sections.
    _notes = ""
    _of_run = True
    # The option that makes positional arguments optional, and what `nargs` then is, by name.
    _source: tuple[str, Mapping[str, str]] | None = None

    def show_first(self, screen: Screen, *, notes: str = "", of_run: bool = True) -> None:
        """Show these options in the help, and all of them in --help-all, which this adds.

        The notes are in --help-all only. A command whose options are not those of a run has
        `of_run` false: --help-all then shows its own argument groups.
        """
        self._screen, self._notes, self._of_run = screen, notes, of_run
        self.add_argument("--help-all", action=_HelpAll, nargs=0,
            help="show all options and exit")  # fmt: skip

    def optional_with(self, option: str, nargs: Mapping[str, str]) -> None:
        """Make positional arguments optional where an option is given that may name them too.

        They are required otherwise: argparse would else take those after an option for unknown.
        """
        self._source = option, nargs

    def format_help(self) -> str:
        """Return the help: the first screen if there is one, else all options."""
        return super().format_help() if self._screen is None else first_screen(self, self._screen)

    def format_all(self) -> str:
        """Return the help with all options."""
        return all_options(self, self._notes, of_run=self._of_run)

    def parse_known_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: Any = None
    ) -> tuple[argparse.Namespace, list[str]]:
        """Refuse what is unknown here, where the command is known, and not in the main parser.

        Unknown options come first: a mistyped --output is not just an --output that is missing.
        """
        args = sys.argv[1:] if args is None else list(args)
        self._refuse(list(self._unknown_options(args)))
        self._make_optional(args)
        namespace, unknown = super().parse_known_args(args, namespace)
        self._refuse(unknown)
        return namespace, unknown

    def _make_optional(self, args: Sequence[str]) -> None:
        if self._source is None:
            return
        option, nargs = self._source
        before = itertools.takewhile(lambda arg: arg != "--", args)
        if any(self._meant_by(arg.partition("=")[0]) == [option] for arg in before):
            for action in self._actions:
                if action.dest in nargs and not action.option_strings:
                    action.nargs, action.required = nargs[action.dest], False

    def _meant_by(self, name: str) -> list[str]:
        """Return the options that a name may stand for: itself, or those that it abbreviates."""
        known = self._option_names()
        return [name] if name in known else [each for each in known if each.startswith(name)]

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


class _HelpAll(argparse.Action):
    """Prints the help with all options."""

    def __call__(
        self,
        parser: Parser,  # type: ignore[override]
        _namespace: argparse.Namespace,
        _values: object,
        _option: str | None = None,
    ) -> None:
        """Print the help and end the program."""
        parser._print_message(parser.format_all(), sys.stdout)
        parser.exit()


def _suggested(given: str, known: Iterable[str]) -> str:
    """Return a question that names the known word closest to the given one, if one is close."""
    close = get_close_matches(given.partition("=")[0], list(known), n=1)
    return f" Did you mean {close[0]}?" if close else ""


# argparse has no public name for the return type of add_subparsers.
Commands: TypeAlias = "argparse._SubParsersAction[Parser]"
