"""The step from pixels to the network's input, with its inverse, its backward and its jvp."""

from dataclasses import dataclass
from typing import Literal

from gramstyle.core.arrays import Array, namespace


@dataclass(frozen=True)
class Preprocessing:
    """The step before a network's first layer, as its authors defined it.

    Parameters
    ----------
    channels
        "BGR" or "RGB": the order in which the network expects the colours.
    mean
        The mean to subtract from each channel, in the network's order, on the scale 0..255.
    scale
        The factor of the difference, in the network's order.

    Examples
    --------
    >>> import numpy as np
    >>> from gramstyle.core.preprocessing import Preprocessing
    >>> caffe = Preprocessing("BGR", mean=(103.939, 116.779, 123.68), scale=(1.0, 1.0, 1.0))
    >>> red = np.array([255.0, 0.0, 0.0]).reshape(3, 1, 1)
    >>> caffe.forward(red).ravel()
    array([-103.939, -116.779,  131.32 ])
    >>> caffe.inverse(caffe.forward(red)).ravel()
    array([255.,   0.,   0.])
    """

    channels: Literal["BGR", "RGB"]
    mean: tuple[float, float, float]
    scale: tuple[float, float, float]

    def forward(self, x: Array) -> Array:
        """v = scale · (x − mean): pixels x (3, H, V), RGB, 0..255, to the network's input."""
        mean, scale = self._columns(x)
        return (self._reorder(x) - mean) * scale

    def backward(self, dv: Array) -> Array:
        """dx = scale · dv, the channels put back in the order red, green, blue."""
        _, scale = self._columns(dv)
        # Put back in order before the product, whose result is contiguous.
        return self._reorder(dv) * self._reorder(scale)

    def jvp(self, tx: Array) -> Array:
        """tv = scale · tx, the channels in the network's order."""
        _, scale = self._columns(tx)
        return self._reorder(tx) * scale

    def inverse(self, v: Array) -> Array:
        """x = v / scale + mean: the network's input back to pixels."""
        mean, scale = self._columns(v)
        return self._reorder(v / scale + mean)

    def _reorder(self, image: Array) -> Array:
        # Reversing three channels is its own inverse.
        return image[::-1, ...] if self.channels == "BGR" else image

    def _columns(self, like: Array) -> tuple[Array, Array]:
        xp = namespace(like)
        mean = xp.reshape(xp.asarray(self.mean, dtype=like.dtype), (3, 1, 1))
        scale = xp.reshape(xp.asarray(self.scale, dtype=like.dtype), (3, 1, 1))
        return mean, scale
