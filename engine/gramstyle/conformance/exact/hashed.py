"""Numbers that come from a hash of a name.

They are therefore the same on every machine and never change; those of a random generator might.
They are multiples of 1/256, or of 1/128 to 1/8 where they are large, so that float16 and float32
represent them exactly.
"""

import hashlib

import numpy as np

from gramstyle.core.arrays import Array
from gramstyle.core.network import Convolution


class Numbers:
    """An endless stream of numbers determined by a name."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._drawn = 0

    def uniform(self, low: float, high: float, *shape: int) -> Array:
        """Return float64 numbers between two bounds, each exact in float16."""
        size = int(np.prod(shape))
        self._drawn += 1
        seed = f"{self._name}/{self._drawn}".encode()
        words = np.frombuffer(hashlib.shake_256(seed).digest(4 * size), "<u4")
        unit = 256
        while max(abs(low), abs(high)) * unit > 2048:
            unit //= 2
        steps = words.astype(np.int64) % (round((high - low) * unit) + 1)
        return low + steps.reshape(shape) / unit

    def convolution(self, name: str, C: int, N: int, *, bias: float = 0.0) -> Convolution:
        """Return a convolution that keeps the magnitude of its input."""
        spread = max(round(256 * np.sqrt(2 / (9 * C)) * np.sqrt(3)), 1) / 256
        W = self.uniform(-spread, spread, N, C, 3, 3)
        return Convolution(name, W, self.uniform(bias - 0.25, bias + 0.25, N))
