"""`gramstyle serve`, where a first argument can change the time between two checkpoints."""

import sys

from gramstyle import cli
from gramstyle.serve import running

if __name__ == "__main__":
    _, saving, *arguments = sys.argv
    if float(saving):
        # There is no option for it: 10 seconds suit all servers, and none of the short campaigns.
        running.running.__wrapped__.__kwdefaults__["saving"] = float(saving)  # type: ignore[attr-defined]
    sys.exit(cli.main(arguments))
