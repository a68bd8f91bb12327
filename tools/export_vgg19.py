"""Build the network's file from the repository: `gramstyle model export`, with its options."""

import sys

from gramstyle.cli import main

if __name__ == "__main__":
    sys.exit(main(["model", "export", *sys.argv[1:]]))
