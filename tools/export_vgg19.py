"""Build the model file in a checkout: `gramstyle model export` with the same options."""

import sys

from gramstyle.cli import main

if __name__ == "__main__":
    sys.exit(main(["model", "export", *sys.argv[1:]]))
