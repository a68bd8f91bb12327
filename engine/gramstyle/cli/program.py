"""Parse the arguments, run the command, and report what ended it."""

import sys
import traceback
import warnings
from collections.abc import Mapping, Sequence
from importlib import import_module
from importlib.metadata import version

from gramstyle.cli.help import list_of_commands
from gramstyle.cli.notices import notices
from gramstyle.cli.parsing import Commands, Parser
from gramstyle.cli.printable import printable
from gramstyle.cli.streams import ReaderGoneError
from gramstyle.errors import GramstyleError
from gramstyle.system.signals import exit_code, stop_message

# The commands in the help of the program. The module of a command is imported when it is chosen.
SECTIONS: Mapping[str, Mapping[str, str]] = {
    "render": {
        "transfer": "render a photograph in the style of a painting",
        "texture": "make a texture in the style of a painting, without a photograph",
        "presets": "list the looks that --preset knows",
        "recipe": "print the options of a result, to render it again",
        "batch": "render many images from a file of jobs",
        "resume": "continue a run from its checkpoint",
        "serve": "serve a web page and an HTTP interface for transfers",
    },
    "understand": {
        "reconstruct": "show what a layer represents, as in figure 1 of the paper",
        "trace": "show one backward pass, step by step",
        "plot": "draw the losses of logged runs",
        "figure": "draw the figures of the paper with your own images",
    },
    "this installation": {
        "doctor": "check this installation, and say how to repair it",
        "completion": "print a script that completes arguments in bash, zsh or fish",
    },
    "networks and other implementations": {
        "model": "fetch, convert, describe, compare or normalise a network",
        "objective": "write the loss and its gradient as a graph",
        "conformance": "test another implementation of the loss and its gradient",
    },
}
EXAMPLE = "gramstyle transfer photo.jpg painting.jpg -o result.png"
BUG = "this is a bug in gramstyle, please report it with the lines above"


def run_program(parser: Parser, words: Sequence[str]) -> int:
    """Run the program with these arguments and return its exit code.

    Raises ImportError if a package that the command uses cannot be imported.
    """
    try:
        options = parser.parse_args(words)
        with warnings.catch_warnings(), notices(quiet=getattr(options, "quiet", False)):
            # An overflow ends in a value that is not finite, which is an error of its own.
            warnings.simplefilter("ignore", RuntimeWarning)
            code: int | None = options.run(options)
    except ReaderGoneError:
        return 141  # as other programs, which SIGPIPE ends
    except GramstyleError as error:
        return _fail(str(error), 2)
    except KeyboardInterrupt as stop:
        return _fail(stop_message(stop), exit_code(stop))
    except MemoryError as error:
        return _fail(str(error) or "there is not enough memory; choose a smaller --size", 2)
    except Exception as bug:
        if isinstance(bug, ImportError) and not (bug.name or "").startswith("gramstyle"):
            raise
        for line in "".join(traceback.format_exception(bug)).splitlines():
            print(printable(line), file=sys.stderr)  # noqa: T201
        return _fail(BUG, 70)
    return code or 0


class _Program(Parser):
    def format_help(self) -> str:
        """Return the help, with the commands in sections."""
        return list_of_commands(self, SECTIONS)


def parser_for(words: Sequence[str]) -> Parser:
    """Return a parser for these arguments, which knows the arguments of their command only."""
    return command_parser(next((word for word in words if not word.startswith("-")), ""))


def command_parser(command: str | None = None) -> Parser:
    """Return the parser of all commands, with the arguments of one command or of all."""
    parser = _Program(
        prog="gramstyle",
        usage="gramstyle COMMAND …   (gramstyle COMMAND --help describes a command)",
        description="Render a photograph in the style of a painting (Gatys, Ecker, Bethge 2015).",
        epilog=f"start with: {EXAMPLE}",
    )
    parser.add_argument("--version", action="version", version=f"gramstyle {version('gramstyle')}")
    commands: Commands = parser.add_subparsers(
        title="commands", prog="gramstyle", required=True, metavar="COMMAND", parser_class=Parser
    )
    for section in SECTIONS.values():
        for name, summary in section.items():
            if command in (None, name):
                import_module(f"gramstyle.cli.commands.{name}").add_parser(commands, summary)
            else:
                commands.add_parser(name, help=summary)
    return parser


def _fail(message: str, code: int) -> int:
    line = f"gramstyle: {'error: ' if code == 2 else ''}{printable(message)}"
    print(line, file=sys.stderr)  # noqa: T201
    return code
