"""Responses (N, H, V) stored channels last, with the channels padded to a multiple of 16.

Because of the padding, a register always loads channels of one pixel, whether it has eight floats
or sixteen. The padding holds zeros, and filters of zeros keep it so.
"""

from math import prod

import numpy as np

from gramstyle.core.arrays import Array

# The multiple to which channels are padded: the floats of the largest register.
CHANNELS = 16

# The floats between two planes of transformed tiles. Without them, a tile's entries of all planes
# would often fall into one set of the cache and displace each other.
GAP = 16


def padded(channels: int) -> int:
    """Return the number of channels in memory, padding included."""
    return -(-channels // CHANNELS) * CHANNELS


def channels_last(shape: tuple[int, int, int], memory: Array | None = None) -> Array:
    """Return an array (N, H, V) that stores the channels of a pixel next to each other.

    Parameters
    ----------
    shape
        N, H, V.
    memory
        A flat float32 array. The result uses its beginning, with the contents unchanged. By
        default, an array of zeros is allocated.
    """
    N, H, V = shape
    stored = (H, V, padded(N))
    if memory is None:
        memory = np.zeros(prod(stored), np.float32)
    return memory[: prod(stored)].reshape(stored).transpose(2, 0, 1)[:N]


def flat(F: Array) -> Array:
    """Return the memory of such an array, padding included, as one dimension.

    Raises
    ------
    ValueError
        If the array is not stored channels last.
    """
    N, H, V = F.shape
    width = padded(N)
    # The stride along an edge of one pixel has no meaning.
    adjacent = F.strides[0] == F.itemsize and (V == 1 or F.strides[2] == width * F.itemsize)
    if not adjacent or (H > 1 and F.strides[1] != V * width * F.itemsize):
        raise ValueError("the array is not stored channels last")
    return np.lib.stride_tricks.as_strided(F, (H * V * width,), (F.itemsize,))


def rows(F: Array) -> Array:
    """Return the memory of such an array, padding included, as (H, V, channels)."""
    return flat(F).reshape(*F.shape[1:], padded(len(F)))


def matrix(F: Array) -> Array:
    """Return the memory of such an array, padding included, as (positions, channels)."""
    return flat(F).reshape(-1, padded(len(F)))
