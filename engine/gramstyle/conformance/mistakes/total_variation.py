"""Mistakes about total variation: added where the objective has none, or incomplete."""

from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np

from gramstyle.conformance.mistakes.pieces import Pieces
from gramstyle.conformance.mistakes.registry import mistake
from gramstyle.core.arrays import Array

# The weight of the registered mistakes; `explain` recognises total variation of any weight.
WEIGHT = 0.01


def squared_differences(x: Array) -> tuple[float, Array]:
    """Return Σ (differences of neighbours)² and its gradient."""
    value, gradient = 0.0, np.zeros_like(x)
    for axis in (1, 2):
        d = np.diff(x, axis=axis)
        value += float(np.sum(d**2))
        gradient += _diff_backward(2 * d, axis)
    return value, gradient


def absolute_differences(x: Array) -> tuple[float, Array]:
    """Return Σ |differences of neighbours| and its gradient."""
    value, gradient = 0.0, np.zeros_like(x)
    for axis in (1, 2):
        d = np.diff(x, axis=axis)
        value += float(np.sum(np.abs(d)))
        gradient += _diff_backward(np.sign(d), axis)
    return value, gradient


def powers_of_differences(x: Array) -> tuple[float, Array]:
    """Return Σ (squared difference down + squared difference right)^1.25 and its gradient."""
    down, right = np.diff(x, axis=1)[:, :, :-1], np.diff(x, axis=2)[:, :-1]
    squares = down**2 + right**2
    slope = 2.5 * squares**0.25
    gradient = np.zeros_like(x)
    gradient[:, :, :-1] += _diff_backward(slope * down, 1)
    gradient[:, :-1] += _diff_backward(slope * right, 2)
    return float(np.sum(squares**1.25)), gradient


def _diff_backward(slope: Array, axis: int) -> Array:
    """Return the backward pass of np.diff."""
    around = [(1, 1) if each == axis else (0, 0) for each in range(3)]
    return -np.diff(np.pad(slope, around), axis=axis)


# The variants by what they sum.
TOTAL_VARIATIONS: Mapping[str, Callable[[Array], tuple[float, Array]]] = MappingProxyType(
    {
        "squares": squared_differences,
        "absolute values": absolute_differences,
        "1.25th powers": powers_of_differences,
    }
)


def _register() -> None:
    """Register two mistakes for each variant."""
    for summed, total_variation in TOTAL_VARIATIONS.items():

        class OnlyInGradient(Pieces):
            variation = staticmethod(total_variation)

            def finish(self, gradient: Array) -> Array:
                return gradient + WEIGHT * self.variation(self.x)[1]

        class InBoth(OnlyInGradient):
            def loss(self) -> float:
                return super().loss() + WEIGHT * self.variation(self.x)[0]

        mistake(
            f"total variation ({summed}) in the gradient but not in the loss",
            f"A multiple of the gradient of Σ {summed} of neighbours' differences is added to the "
            "gradient but not to the loss.",
        )(OnlyInGradient)
        mistake(
            f"total variation ({summed}) added",
            f"A multiple of Σ {summed} of neighbours' differences and its gradient are added; the "
            "objective has no such term.",
        )(InBoth)


_register()


class _OneDirection(Pieces):
    """A total variation that lacks the differences along one axis."""

    missing: int

    def possible(self) -> bool:
        return bool(self.tv)

    def loss(self) -> float:
        return super().loss() - self.tv * float(np.sum(self.differences**2))

    def finish(self, gradient: Array) -> Array:
        return gradient - self.tv * _diff_backward(2 * self.differences, self.missing)

    @property
    def differences(self) -> Array:
        """The differences of neighbours that are left out."""
        return np.diff(self.x, axis=self.missing)


@mistake(
    "total variation without the differences between rows",
    "Only neighbours in the same row are compared, forward and backward.",
)
class _InRowsOnly(_OneDirection):
    missing = 1


@mistake(
    "total variation without the differences between columns",
    "Only neighbours in the same column are compared, forward and backward.",
)
class _InColumnsOnly(_OneDirection):
    missing = 2
