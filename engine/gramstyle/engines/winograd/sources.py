"""The positions that patches read along one edge, as tables.

Entry k of a table belongs to the position k − 1 of the outputs: tile t of m outputs has the outputs
mt to mt + m − 1 and reads the entries mt to mt + m + 1. An entry is a position of the inputs, or
`NOWHERE` for a zero.
"""

import numpy as np

from gramstyle.core import layers
from gramstyle.core.arrays import Array
from gramstyle.core.layers import Padding
from gramstyle.engines.winograd.algorithm import OVERLAP

NOWHERE = -1


def across(length: int, tile: int) -> int:
    """Return the number of tiles that cover an edge."""
    return -(-length // tile)


def forward_sources(length: int, padding: Padding, tile: int) -> Array:
    """Return the table of a forward pass: an edge of so many positions, padded by one."""
    table = _inside(length, length, 0, tile)
    if padding != "zeros":
        table[0], table[length + 1] = layers.ring_sources(length, padding)
    return table


def backward_sources(length: int, padding: Padding, tile: int) -> Array:
    """Return the table of a backward pass, whose outputs include the padding if it is not zeros."""
    outside = layers.ring_width(padding)
    return _inside(length, length + 2 * outside, outside, tile)


def _inside(length: int, outputs: int, start: int, tile: int) -> Array:
    """Return the table in which the inputs begin at the output `start`, and the rest is zero."""
    table = np.full(tile * across(outputs, tile) + OVERLAP, NOWHERE)
    table[start + 1 : start + 1 + length] = np.arange(length)
    return table
