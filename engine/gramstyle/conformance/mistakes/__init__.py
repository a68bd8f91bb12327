"""Known mistakes in implementations of the paper, each made in code that is otherwise correct."""

from collections.abc import Mapping
from types import MappingProxyType

from gramstyle.conformance.mistakes import (
    accumulation,
    content,
    convolution,
    padding,
    pixels,
    pooling,
    regions,
    relu,
    statistics,
    style,
    total_variation,
    weights,
)
from gramstyle.conformance.mistakes.registry import REGISTERED, Mistake

__all__ = ["MISTAKES", "Mistake"]

# Equations 1 to 7, the pixels, the backward pass, the other style losses.
ORDER = (
    content, style, regions, weights, pixels, total_variation, relu, convolution, padding, pooling,
    accumulation, statistics,
)  # fmt: skip

# The mistakes by name, in the order of docs/mistakes.md.
MISTAKES: Mapping[str, Mistake] = MappingProxyType(
    {
        name: mistake
        for module in ORDER
        for name, mistake in REGISTERED.items()
        if mistake.pieces.__module__ == module.__name__
    }
)
