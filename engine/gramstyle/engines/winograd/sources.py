"""The positions that patches read along one edge, as tables.

Entry k of a table belongs to the position k − 1 of the outputs: tile t has the outputs 4t to 4t + 3
and reads the entries 4t to 4t + 5. An entry is a position of the inputs, or `NOWHERE` for a zero.
"""

import numpy as np

from gramstyle.core import layers
from gramstyle.core.arrays import Array
from gramstyle.core.layers import Padding
from gramstyle.engines.winograd.algorithm import TILE

NOWHERE = -1


def across(length: int) -> int:
    """Return the number of tiles that cover an edge."""
    return -(-length // TILE)


def forward_sources(length: int, padding: Padding) -> Array:
    """Return the table of a forward pass: an edge of so many positions, padded by one."""
    table = _inside(length, length, 0)
    if padding != "zeros":
        table[0], table[length + 1] = layers.ring_sources(length, padding)
    return table


def backward_sources(length: int, padding: Padding) -> Array:
    """Return the table of a backward pass, whose outputs include the padding if it is not zeros."""
    outside = layers.ring_width(padding)
    return _inside(length, length + 2 * outside, outside)


def _inside(length: int, outputs: int, start: int) -> Array:
    """Return the table in which the inputs begin at the output `start`, and the rest is zero."""
    table = np.full(TILE * across(outputs) + 2, NOWHERE)
    table[start + 1 : start + 1 + length] = np.arange(length)
    return table
