"""Mistakes in poolings: divisors, ties and odd sizes.

Those that also change the forward pass are registered twice, as in `convolution`.
"""

import numpy as np

from gramstyle.conformance.mistakes.pieces import Pieces
from gramstyle.conformance.mistakes.registry import mistake
from gramstyle.core import layers
from gramstyle.core.arrays import Array
from gramstyle.core.kernels import Pooling


@mistake(
    "average pooling's gradient divided twice", "Each position gets dY / 16 instead of dY / 4."
)
class _DividedTwice(Pieces):
    def avg_pool_backward(self, dY: Array, X: Array) -> Array:
        return super().avg_pool_backward(dY, X) / 4


@mistake("average pooling's gradient not divided", "Each position gets dY instead of dY / 4.")
class _NotDivided(Pieces):
    def avg_pool_backward(self, dY: Array, X: Array) -> Array:
        return super().avg_pool_backward(dY, X) * 4


@mistake(
    "gradient in the odd row of average pooling",
    "At an odd size the last row or column gets dY / 4 from the nearest window instead of 0.",
)
class _OddRow(Pieces):
    def avg_pool_backward(self, dY: Array, X: Array) -> Array:
        dX = super().avg_pool_backward(dY, X)
        H, V = (size // 2 * 2 for size in X.shape[1:])
        odd = ((0, 0), (0, X.shape[1] - H), (0, X.shape[2] - V))
        return np.pad(dX[:, :H, :V], odd, mode="edge")


@mistake(
    "max pooling's gradient to all positions",
    "Each position of a window gets dY; only the largest should.",
)
class _Unpooled(Pieces):
    def max_pool_backward(self, dY: Array, X: Array) -> Array:
        return 4 * layers.avg_pool_backward(dY, X)


@mistake(
    "max pooling differentiated as average pooling",
    "Each position of a window gets dY / 4; only the largest should get dY.",
)
class _AsAverage(Pieces):
    def max_pool_backward(self, dY: Array, X: Array) -> Array:
        return layers.avg_pool_backward(dY, X)


@mistake(
    "max pooling's gradient to all equal values",
    "Each of several equal largest values in a window gets dY; only the first in reading order "
    "should.",
)
class _TiesToAll(Pieces):
    def max_pool_backward(self, dY: Array, X: Array) -> Array:
        return _to_all(dY, X)


@mistake(
    "max pooling's gradient shared by equal values",
    "Several equal largest values in a window share dY; the first in reading order should get all "
    "of it.",
)
class _TiesShared(Pieces):
    def max_pool_backward(self, dY: Array, X: Array) -> Array:
        largest = _to_all(np.ones_like(dY), X)
        return _to_all(dY / sum(largest[window] for window in layers.windows(X)), X)


@mistake(
    "max pooling's gradient to the last of equal values",
    "The last in reading order of several equal largest values gets dY instead of the first.",
)
class _TiesToTheLast(Pieces):
    def max_pool_backward(self, dY: Array, X: Array) -> Array:
        dX = _to_all(dY, X)
        free = np.ones(dY.shape, bool)
        Y = layers.max_pool_forward(X)
        for window in reversed(layers.windows(X)):
            chosen = free & (X[window] == Y)
            dX[window] = np.where(chosen, dY, 0)
            free &= ~chosen
        return dX


def _to_all(dY: Array, X: Array) -> Array:
    """Return dX where every position that equals the largest of its window gets dY."""
    dX, Y = np.zeros_like(X), layers.max_pool_forward(X)
    for window in layers.windows(X):
        dX[window] = np.where(X[window] == Y, dY, 0)
    return dX


@mistake(
    "the other pooling",
    "Average pooling instead of max pooling or the other way round, forward and backward.",
    in_targets=True,
)
class _OtherPooling(Pieces):
    def pool(self, X: Array, kind: Pooling) -> Array:
        return super().pool(X, "avg" if kind == "max" else "max")

    def pool_backward(self, dY: Array, X: Array, kind: Pooling) -> Array:
        return super().pool_backward(dY, X, "avg" if kind == "max" else "max")


@mistake(
    "first row left out at odd sizes",
    "At an odd size pooling leaves out the first row or column instead of the last.",
    in_targets=True,
)
class _FirstRowLeftOut(Pieces):
    def pool(self, X: Array, kind: Pooling) -> Array:
        return super().pool(X[:, X.shape[1] % 2 :, X.shape[2] % 2 :], kind)

    def pool_backward(self, dY: Array, X: Array, kind: Pooling) -> Array:
        y, x = X.shape[1] % 2, X.shape[2] % 2
        return np.pad(super().pool_backward(dY, X[:, y:, x:], kind), ((0, 0), (y, 0), (x, 0)))
