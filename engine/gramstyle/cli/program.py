"""Parse the arguments, run the command, and report what ended it."""

import sys
import traceback
import warnings
from collections.abc import Sequence
from importlib.metadata import version

from gramstyle.cli import (
    batch,
    completion,
    conformance,
    doctor,
    figure,
    model,
    objective,
    plot,
    presets,
    recipe,
    reconstruct,
    resume,
    texture,
    trace,
    transfer,
)
from gramstyle.cli.help import list_of_commands
from gramstyle.cli.notices import notices
from gramstyle.cli.parsing import Commands, Parser
from gramstyle.cli.printable import printable
from gramstyle.cli.speaking import ReaderGoneError
from gramstyle.errors import GramstyleError
from gramstyle.system.signals import exit_code, stop_message

# The commands in the help of the program.
SECTIONS = {
    "render": ("transfer", "texture", "presets", "recipe", "batch", "resume"),
    "understand": ("reconstruct", "trace", "plot", "figure"),
    "this installation": ("doctor", "completion"),
    "networks and other implementations": ("model", "objective", "conformance"),
}
EXAMPLE = "gramstyle transfer photo.jpg painting.jpg -o result.png"
BUG = "this is a bug in gramstyle, please report it with the lines above"


def run_program(arguments: Sequence[str] | None) -> int:
    """Run the program and return its exit code."""
    try:
        options = command_parser().parse_args(arguments)
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
        for line in "".join(traceback.format_exception(bug)).splitlines():
            print(printable(line), file=sys.stderr)  # noqa: T201
        return _fail(BUG, 70)
    return code or 0


class _Program(Parser):
    def format_help(self) -> str:
        """Return the help, with the commands in sections."""
        return list_of_commands(self, SECTIONS)


def command_parser() -> Parser:
    """Return the parser of all commands."""
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
    transfer.add_parser(commands)
    presets.add_parser(commands)
    recipe.add_parser(commands)
    resume.add_parser(commands)
    texture.add_parser(commands)
    reconstruct.add_parser(commands)
    trace.add_parser(commands)
    plot.add_parser(commands)
    figure.add_parser(commands)
    batch.add_parser(commands)
    model.add_parser(commands)
    objective.add_parser(commands)
    conformance.add_parser(commands)
    doctor.add_parser(commands)
    completion.add_parser(commands, command_parser)
    return parser


def _fail(message: str, code: int) -> int:
    line = f"gramstyle: {'error: ' if code == 2 else ''}{printable(message)}"
    print(line, file=sys.stderr)  # noqa: T201
    return code
