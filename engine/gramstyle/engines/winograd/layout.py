"""Responses (N, H, V) that lie in memory positions before channels, channels padded to eight.

The padding is there so that eight channels are always one load. It holds zeros, and zero filters
keep it so.
"""

from math import prod

import numpy as np

from gramstyle.core.arrays import Array

# Channels come in multiples of this, the lanes of `lanes`.
WIDTH = 8


def padded(channels: int) -> int:
    """Return how many channels there are in memory."""
    return -(-channels // WIDTH) * WIDTH


def channels_last(shape: tuple[int, int, int], memory: Array | None = None) -> Array:
    """Return an array (N, H, V) with the channels of a pixel side by side.

    Parameters
    ----------
    shape
        N, H, V.
    memory
        A flat float32 array to use the beginning of, contents as they are; else it is allocated,
        with zeros.
    """
    N, H, V = shape
    lying = (H, V, padded(N))
    if memory is None:
        memory = np.zeros(prod(lying), np.float32)
    return memory[: prod(lying)].reshape(lying).transpose(2, 0, 1)[:N]


def flat(F: Array) -> Array:
    """Return all the memory of such an array, padding too, as one row."""
    N, H, V = F.shape
    width = padded(N)
    # A stride along an edge of one pixel means nothing.
    lies = F.strides[0] == F.itemsize and (V == 1 or F.strides[2] == width * F.itemsize)
    if not lies or (H > 1 and F.strides[1] != V * width * F.itemsize):
        raise ValueError("the array does not lie positions before channels")
    return np.lib.stride_tricks.as_strided(F, (H * V * width,), (F.itemsize,))


def rows(F: Array) -> Array:
    """Return all the memory of such an array, padding too, as (H, V, channels)."""
    return flat(F).reshape(*F.shape[1:], padded(len(F)))


def matrix(F: Array) -> Array:
    """Return the same as (positions, channels)."""
    return flat(F).reshape(-1, padded(len(F)))
