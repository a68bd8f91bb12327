"""Poolings of another geometry, and poolings other than the largest or the mean."""

from collections.abc import Iterator, Sequence

import numpy as np

from gramstyle.conformance.cases import Case
from gramstyle.conformance.mistakes.families.family import FamilyPieces, Values, family
from gramstyle.core.arrays import Array
from gramstyle.core.kernels import Pooling
from gramstyle.core.network import Pool

# How far windows may reach beyond an edge.
AROUND = 6

# The edge of a window and the position of its first row; 2 and 0 are correct.
GEOMETRIES = {
    f"{k}×{k} positions from {first}".replace("-", "−"): (k, first)
    for k, first in [
        (1, 0), (1, 1), (2, -1), (2, 1), (3, -1), (3, 0), (3, 1), (4, -1), (4, 0), (5, -2),
    ]
}  # fmt: skip
CEILED = {place: geometry for place, geometry in GEOMETRIES.items() if geometry[1] <= 0}
CEILED |= {"2×2 positions from 0": (2, 0)}


class _Windows(FamilyPieces):
    """Pieces whose poolings have stride 2, but other windows."""

    geometries = GEOMETRIES
    # Whether a size is rounded up, and whether a mean counts the positions outside the image.
    ceil, outside = False, False

    @classmethod
    def places(cls, case: Case) -> Sequence[str]:
        kinds = {layer.kind for layer in case.layers if isinstance(layer, Pool)}
        return tuple(cls.geometries) if ("avg" in kinds if cls.outside else kinds) else ()

    def taps(self, size: tuple[int, int]) -> Iterator[tuple[slice, slice]]:
        """Yield the positions of each entry of the windows in an image with `AROUND` around it."""
        k, first = self.geometries[self.place]
        rows, columns = ((each + self.ceil) // 2 for each in size)
        begin = AROUND + first
        for i in range(begin, begin + k):
            for j in range(begin, begin + k):
                yield slice(i, i + 2 * rows, 2), slice(j, j + 2 * columns, 2)

    def entries(self, X: Array, fill: float) -> Array:
        """Return the entries of all windows, (k², C, h, v), in reading order."""
        around = ((0, 0), (AROUND, AROUND), (AROUND, AROUND))
        padded = np.pad(X, around, constant_values=fill)
        _, H, V = X.shape
        return np.stack([padded[:, i, j] for i, j in self.taps((H, V))])

    def counts(self, X: Array) -> Array:
        """Return what the sum of each window is divided by."""
        inside = self.entries(np.ones_like(X[:1]), 1.0 if self.outside else 0.0)
        counts: Array = inside.sum(axis=0)
        return counts

    def pool(self, X: Array, kind: Pooling) -> Array:
        if kind == "max":
            largest: Array = self.entries(X, -np.inf).max(axis=0)
            return largest
        mean: Array = self.entries(X, 0.0).sum(axis=0) / self.counts(X)
        return mean

    def pool_backward(self, dY: Array, X: Array, kind: Pooling) -> Array:
        C, H, V = X.shape
        dX = np.zeros((C, H + 2 * AROUND, V + 2 * AROUND))
        # The first of equal largest values gets dY.
        first = self.entries(X, -np.inf).argmax(axis=0) if kind == "max" else None
        shared = dY if kind == "max" else dY / self.counts(X)
        for number, (i, j) in enumerate(self.taps((H, V))):
            dX[:, i, j] += shared if first is None else np.where(first == number, dY, 0)
        return dX[:, AROUND:-AROUND, AROUND:-AROUND]


@family(
    "pooling windows of {place}",
    "Windows of another size or from another first position, with stride 2, instead of 2×2 "
    "from 0: overlapping windows, subsampling (1×1), or an offset. A mean counts the positions "
    "inside the image.",
    in_targets=True,
)
class _Geometry(_Windows):
    pass


@family(
    "pooling windows of {place}, padding counted",
    "As above, but a mean divides by all positions of a window, also those outside the image.",
    in_targets=True,
)
class _GeometryCounted(_Windows):
    outside = True


@family(
    "pooling windows of {place} in ceil mode",
    "An odd size is rounded up instead of down, with windows of 2×2 or others.",
    in_targets=True,
)
class _Ceil(_Windows):
    geometries = CEILED
    ceil = True

    def possible(self) -> bool:
        # The targets and the guidance of the case have the sizes of the case's own layers.
        shapes = {name: F.shape for name, F in self.image.F.items()}
        right = self.network.shapes(*self.x.shape[1:])
        fixed = set(self.guided)
        if self.content_layer and not self.own_targets:
            fixed.add(self.content_layer)
        return all(shapes[name] == tuple(right[name]) for name in fixed)


@family(
    "pooling by the mean power {value}",
    "(mean Xᵖ)^(1/p) of each window instead of its mean or its largest entry.",
    Values(1.1, 12),
    in_targets=True,
)
class _Power(FamilyPieces):
    def pool(self, X: Array, kind: Pooling) -> Array:  # noqa: ARG002
        mean: Array = super().pool(np.abs(X) ** self.value, "avg") ** (1 / self.value)
        return mean

    def pool_backward(self, dY: Array, X: Array, kind: Pooling) -> Array:
        Y = self.pool(X, kind)
        outer = np.divide(dY, Y ** (self.value - 1), out=np.zeros_like(Y), where=Y > 0)
        # Powers of an X of 0 are infinite below p = 1.
        inner = np.power(X, self.value - 1, out=np.zeros_like(X), where=X > 0)
        return self.avg_pool_backward(outer, X) * inner


@family(
    "pooling mixed with {value} of the other",
    "A share s of average pooling and 1 − s of max pooling, or the other way round.",
    Values(0.02, 0.98, linear=True),
    in_targets=True,
)
class _Mixed(FamilyPieces):
    def pool(self, X: Array, kind: Pooling) -> Array:
        other: Pooling = "avg" if kind == "max" else "max"
        return (1 - self.value) * super().pool(X, kind) + self.value * super().pool(X, other)

    def pool_backward(self, dY: Array, X: Array, kind: Pooling) -> Array:
        other: Pooling = "avg" if kind == "max" else "max"
        own, more = super().pool_backward(dY, X, kind), super().pool_backward(dY, X, other)
        return (1 - self.value) * own + self.value * more


@family(
    "pooling multiplied by {value}",
    "Each pooling multiplies its result, as a sum in place of a mean does with 4.",
    Values(0.1, 10),
    in_targets=True,
)
class _Scaled(FamilyPieces):
    def pool(self, X: Array, kind: Pooling) -> Array:
        return self.value * super().pool(X, kind)

    def pool_backward(self, dY: Array, X: Array, kind: Pooling) -> Array:
        return self.value * super().pool_backward(dY, X, kind)
