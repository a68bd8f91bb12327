"""The command line program `gramstyle`.

This module imports little, so that it can handle Ctrl-C while the others are imported.

Exit codes:

- 0: success;
- 1: cases of a conformance run or jobs of a batch failed, or `gramstyle doctor` found something
  broken;
- 2: input that cannot be used, or output that cannot be written (one line on stderr says what is
  wrong and what to do);
- 70: a bug in gramstyle (a traceback on stderr);
- 129 after SIGHUP, 130 after Ctrl-C, 143 after SIGTERM;
- 141: the program that reads the output has ended.
"""

import sys
from collections.abc import Sequence

from gramstyle.cli.printable import printable
from gramstyle.cli.streams import tolerant_streams
from gramstyle.system.signals import ending_at_once, stop_signals


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program and return its exit code."""
    words = sys.argv[1:] if arguments is None else list(arguments)
    with tolerant_streams(), stop_signals(until_exit=arguments is None):
        try:
            with ending_at_once():
                if words[:1] == ["doctor"] and set(words[1:]) <= {"--json"}:
                    # A package that the program imports may be broken, or crash.
                    from gramstyle.cli.commands.doctor import run_alone

                    return run_alone(as_json="--json" in words)
                from gramstyle.cli.program import parser_for, run_program

                parser = parser_for(words)
            return run_program(parser, words)
        except (ImportError, OSError) as error:  # OSError: a library of the system is missing
            if (getattr(error, "name", None) or "").startswith("gramstyle"):
                raise  # a bug
            problem = printable(" ".join(str(error).split()))
            line = f"gramstyle: error: {problem}; to see what to repair, run: gramstyle doctor"
            print(line, file=sys.stderr)  # noqa: T201
            return 2
