"""Parsers for numbers on a command line."""

import argparse
import math


def natural(text: str) -> int:
    """Parse a whole number of at least 0."""
    if not text.isascii() or not text.isdigit():
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 0")
    return int(text)


def positive(text: str) -> int:
    """Parse a whole number of at least 1."""
    if natural(text) == 0:
        raise argparse.ArgumentTypeError("it must be at least 1")
    return int(text)


def from_zero(text: str) -> float:
    """Parse a finite number of at least 0."""
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 <= number < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of at least 0")
    return number


def above_zero(text: str) -> float:
    """Parse a finite number greater than 0."""
    number = from_zero(text)
    if number == 0:
        raise argparse.ArgumentTypeError("it must be greater than 0")
    return number
