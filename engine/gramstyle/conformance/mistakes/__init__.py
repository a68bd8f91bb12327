"""Known mistakes in implementations of the paper, each planted in code that is otherwise right."""

from collections.abc import Mapping
from types import MappingProxyType

from gramstyle.conformance.mistakes import backward as sweep
from gramstyle.conformance.mistakes import losses, pixels
from gramstyle.conformance.mistakes.pieces import REGISTERED, Mistake

__all__ = ["MISTAKES", "Mistake", "losses", "pixels", "sweep"]

# By name.
MISTAKES: Mapping[str, Mistake] = MappingProxyType(REGISTERED)
