"""The output of a command: progress and errors on stderr, reports and answers on stdout.

If progress or a report cannot be written, the command continues without it. An answer is what the
user asked for: if it cannot be written, the command fails.
"""

import os
import sys
from typing import TextIO

from rich.console import Console
from rich.table import Table

from gramstyle.cli.printable import printable
from gramstyle.cli.streams import check_answered


class Speaker(Console):
    """The console on stderr where a command shows its progress; prints nothing if quiet."""

    def __init__(self, *, quiet: bool = False) -> None:
        super().__init__(
            stderr=True,
            quiet=quiet,
            emoji=False,
            # Not rich's own rules, which write a bar's control codes into files with FORCE_COLOR.
            force_terminal=_shows_bars(sys.stderr),
            force_interactive=_shows_bars(sys.stderr),
            force_jupyter=False,
        )

    def tell(self, sentence: str) -> None:
        """Print a sentence on stderr, in one line."""
        self.out(printable(sentence), highlight=False)


def report(sentence: str) -> None:
    """Print on stdout what the command has done, in one line."""
    print(printable(sentence))  # noqa: T201


def answer(*blocks: str | Table) -> None:
    """Print what the user asked for on stdout; the texts may have several lines.

    Raises
    ------
    AnswerError
        If it could not be written.
    """
    console = Console(
        highlight=False,
        soft_wrap=True,
        emoji=False,
        markup=False,
        force_terminal=_shows_bars(sys.stdout),
        force_jupyter=False,
    )
    for block in blocks:
        if isinstance(block, Table):
            console.print(block)
        else:
            console.print("\n".join(map(printable, block.split("\n"))))
    check_answered()


def _shows_bars(stream: TextIO) -> bool:
    """Return whether a stream shows bars: a terminal does, but not in the log of a CI service."""
    if os.environ.get("TERM", "").lower() in ("dumb", "unknown") or os.environ.get("CI"):
        return False
    return stream.isatty()
