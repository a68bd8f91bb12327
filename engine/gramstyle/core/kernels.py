"""The heavy steps of one evaluation behind one interface, and their plain form.

A backward pass accumulates: each method below that adds a gradient takes the dF gathered so
far (None where nothing has been) and returns the sum, in place where it can.
"""

from typing import Literal, Protocol

from gramstyle.core import layers, losses
from gramstyle.core.arrays import Array, namespace

Pooling = Literal["max", "avg"]

# Rows and columns of responses (N, H, V). Where a method below takes one as `owned`, the loss term
# counts there only; the derivative still has the shape of the responses, and nothing is added to it
# elsewhere. Targets P have the shape of the area.
Area = tuple[slice, slice]


class Kernels(Protocol):
    """What an objective and a network ask for; F and dF are (N, H, V) throughout."""

    def gram(self, F: Array, owned: Area | None = None) -> Array:
        """Equation 3 over all owned positions: F (N, H, V) → G (N, N)."""

    def add_style_gradient(
        self,
        dF: Array | None,
        F: Array,
        G: Array,
        A: Array,
        M: int,
        weight: float,
        owned: Area | None = None,
    ) -> Array:
        """dF + weight · equation 6."""

    def add_content_gradient(
        self, dF: Array | None, F: Array, P: Array, weight: float, owned: Area | None = None
    ) -> Array:
        """dF + weight · equation 2."""

    def convolution_backward(self, dF: Array, F: Array, W: Array) -> Array:
        """Through the ReLU, then through the convolution: dF, F (N, H, V) → dX (C, H, V)."""

    def pool_backward(self, dY: Array, X: Array, kind: Pooling) -> Array:
        """Through a 2×2 pooling: dY (C, H // 2, V // 2), X (C, H, V) → dX (C, H, V)."""

    def release(self, F: Array) -> None:
        """Take note that nobody will read these responses any more in this pass."""

    def backward_ends(self) -> None:
        """Take note that all responses belong to their owner again."""


class PlainKernels:
    """Every step exactly as `layers` and `losses` write it; any float type, any namespace."""

    def gram(self, F: Array, owned: Area | None = None) -> Array:
        """Equation 3 over all owned positions."""
        return losses.gram(_matrix(_within(F, owned)))

    def add_style_gradient(
        self,
        dF: Array | None,
        F: Array,
        G: Array,
        A: Array,
        M: int,
        weight: float,
        owned: Area | None = None,
    ) -> Array:
        """dF + weight · equation 6."""
        here = _within(F, owned)
        gradient = losses.style_gradient(_matrix(here), G, A, F.shape[0], M)
        return _sum(dF, F, weight * namespace(F).reshape(gradient, here.shape), owned)

    def add_content_gradient(
        self, dF: Array | None, F: Array, P: Array, weight: float, owned: Area | None = None
    ) -> Array:
        """dF + weight · equation 2."""
        return _sum(dF, F, weight * losses.content_gradient(_within(F, owned), P), owned)

    def convolution_backward(self, dF: Array, F: Array, W: Array) -> Array:
        """Through the ReLU, then through the convolution."""
        dZ = layers.relu_backward(dF, F)
        return layers.conv2d_backward(dZ, W)

    def pool_backward(self, dY: Array, X: Array, kind: Pooling) -> Array:
        """Through a 2×2 pooling."""
        backward = layers.max_pool_backward if kind == "max" else layers.avg_pool_backward
        return backward(dY, X)

    def release(self, F: Array) -> None:
        """Do nothing."""

    def backward_ends(self) -> None:
        """Do nothing."""


def _matrix(F: Array) -> Array:
    """Return F (N, H, V) as the paper's matrix (N, M)."""
    matrix: Array = namespace(F).reshape(F, (F.shape[0], -1))
    return matrix


def _within(F: Array, owned: Area | None) -> Array:
    return F if owned is None else F[:, owned[0], owned[1]]


def _sum(dF: Array | None, F: Array, gradient: Array, owned: Area | None) -> Array:
    """Return dF, 0 where it is None, plus a gradient that covers the owned positions."""
    if owned is None:
        return gradient if dF is None else dF + gradient
    total: Array = namespace(F).zeros_like(F) if dF is None else 1 * dF
    total[:, owned[0], owned[1]] += gradient
    return total
