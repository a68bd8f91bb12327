"""Families of mistakes, whose parameters are fitted to an answer."""

from gramstyle.conformance.mistakes.families import (
    activations,
    loss_functions,
    paddings,
    pixels,
    poolings,
    responses,
    scaled,
)
from gramstyle.conformance.mistakes.families.family import REGISTERED, Family, Member

__all__ = ["FAMILIES", "Family", "Member"]

# From the terms back to the pixels.
ORDER = (responses, loss_functions, scaled, activations, poolings, paddings, pixels)

# All families, in the order of docs/mistakes.md.
FAMILIES: tuple[Family, ...] = tuple(
    family
    for module in ORDER
    for family in REGISTERED
    if family.pieces.__module__ == module.__name__
)
