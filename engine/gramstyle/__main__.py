"""`python -m gramstyle`, the same as the program `gramstyle`."""

import sys

from gramstyle.cli import main

sys.exit(main())
