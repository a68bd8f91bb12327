"""`gramstyle serve`, where the first arguments can change times that have no options."""

import sys

from gramstyle import cli
from gramstyle.serve import local_worker, running

if __name__ == "__main__":
    _, saving, grace, *arguments = sys.argv
    if float(saving):
        running.running.__wrapped__.__kwdefaults__["saving"] = float(saving)  # type: ignore[attr-defined]
    if float(grace):
        local_worker._GRACE = float(grace)
    sys.exit(cli.main(arguments))
