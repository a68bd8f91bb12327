"""Known mistakes in implementations of the paper, each planted in code that is otherwise right."""

from collections.abc import Mapping
from types import MappingProxyType

from gramstyle.conformance.mistakes import backward, losses, pixels
from gramstyle.conformance.mistakes.pieces import REGISTERED, Mistake

__all__ = ["MISTAKES", "Mistake", "backward", "losses", "pixels"]

# By name.
MISTAKES: Mapping[str, Mistake] = MappingProxyType(REGISTERED)
