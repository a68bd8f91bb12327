"""The command line program `gramstyle`.

This module imports little, so that it can handle Ctrl-C while the others are imported.

Exit codes:

- 0: success;
- 1: cases of a conformance run or jobs of a batch failed;
- 2: input that cannot be used, or output that cannot be written (one line on stderr says what is
  wrong and what to do);
- 70: a bug in gramstyle (a traceback on stderr);
- 129 after SIGHUP, 130 after Ctrl-C, 143 after SIGTERM;
- 141: the program that reads the output has ended.
"""

from collections.abc import Sequence

from gramstyle.cli.streams import tolerant_streams
from gramstyle.system.signals import ending_at_once, stop_signals


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program and return its exit code."""
    with tolerant_streams(), stop_signals(until_exit=arguments is None):
        with ending_at_once():
            from gramstyle.cli.program import run_program
        return run_program(arguments)
