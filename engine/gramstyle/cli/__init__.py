"""The command line program `gramstyle`.

Exit codes: 0 for success; 1 if cases of a conformance run or jobs of a batch failed; 2 for input
that cannot be used (one line on stderr says what is wrong and what to do); 130 after Ctrl-C, 143
after SIGTERM.
"""

import signal
import sys
import warnings
from collections.abc import Sequence
from importlib.metadata import version
from types import FrameType
from typing import Never

from gramstyle.cli import (
    batch,
    conformance,
    figure,
    model,
    objective,
    plot,
    reconstruct,
    resume,
    trace,
    transfer,
)
from gramstyle.cli.notices import notices
from gramstyle.cli.parsing import Commands, Parser
from gramstyle.cli.printable import printable
from gramstyle.errors import GramstyleError

EXAMPLE = "gramstyle transfer photo.jpg painting.jpg -o result.png"


class _Terminated(KeyboardInterrupt):
    """SIGTERM, handled like Ctrl-C."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program and return its exit code."""
    signal.signal(signal.SIGTERM, _terminate)
    options = _parser().parse_args(arguments)
    try:
        with warnings.catch_warnings(), notices(quiet=getattr(options, "quiet", False)):
            # An overflow ends in a value that is not finite, which is an error of its own.
            warnings.simplefilter("ignore", RuntimeWarning)
            code: int | None = options.run(options)
    except GramstyleError as error:
        return _fail(str(error), 2)
    except _Terminated as stop:
        return _fail(str(stop) or "terminated", 143)
    except KeyboardInterrupt as stop:
        return _fail(str(stop) or "stopped by Ctrl-C", 130)
    except MemoryError:
        return _fail("there is not enough memory; choose a smaller --size", 2)
    return code or 0


def _parser() -> Parser:
    parser = Parser(
        prog="gramstyle",
        description="Render a photograph in the style of a painting "
        "(Gatys, Ecker, Bethge 2015), without a deep-learning framework.",
        epilog=f"example: {EXAMPLE}",
    )
    parser.add_argument("--version", action="version", version=f"gramstyle {version('gramstyle')}")
    commands: Commands = parser.add_subparsers(
        title="commands", required=True, metavar="COMMAND", parser_class=Parser
    )
    transfer.add_parser(commands)
    resume.add_parser(commands)
    reconstruct.add_parser(commands)
    trace.add_parser(commands)
    plot.add_parser(commands)
    figure.add_parser(commands)
    batch.add_parser(commands)
    model.add_parser(commands)
    objective.add_parser(commands)
    conformance.add_parser(commands)
    return parser


def _terminate(_number: int, _frame: FrameType | None) -> Never:
    raise _Terminated


def _fail(message: str, code: int) -> int:
    line = f"gramstyle: {'error: ' if code == 2 else ''}{printable(message)}"
    print(line, file=sys.stderr)  # noqa: T201
    return code
