"""Numbers on a command line."""

import argparse


def natural(text: str) -> int:
    """An argument that counts something."""
    if not text.isascii() or not text.isdigit():
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 0 upwards")
    return int(text)


def positive(text: str) -> int:
    """An argument that there is at least one of."""
    if natural(text) == 0:
        raise argparse.ArgumentTypeError("it must be at least 1")
    return int(text)
