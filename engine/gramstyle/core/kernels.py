"""The heavy steps of an evaluation: their interface, and their plain implementation.

A backward pass accumulates derivatives: each method that adds a gradient takes the dF computed so
far (None if there is none yet) and returns the sum, which may use dF's memory.
"""

from typing import Literal, Protocol

from gramstyle.core import guided, layers, losses
from gramstyle.core.arrays import Array, cast, namespace
from gramstyle.core.layers import Padding
from gramstyle.core.moments import Moments, moments

Pooling = Literal["max", "avg"]

# Rows and columns of responses (N, H, V). A kernel that is given an area as `owned` sums and adds
# only there. F, dF and the result have the shape of all responses; a target P and a gradient to add
# have the shape (N, h, v) of the area.
Area = tuple[slice, slice]


class Kernels(Protocol):
    """The steps that an objective and a network call; F and dF are (N, H, V)."""

    def gram(self, F: Array, owned: Area | None = None, T: Array | None = None) -> Array:
        """Return G (N, N), the Gram matrix over the owned positions (equation 3).

        T (h, v), of F's float type, is the guidance at the owned positions; None guides nothing.
        """

    def add_style_gradient(
        self,
        dF: Array | None,
        F: Array,
        G: Array,
        A: Array,
        M: float,
        weight: float,
        owned: Area | None = None,
        T: Array | None = None,
    ) -> Array:
        """Return dF + weight · equation 6 at the owned positions; G and A are (N, N).

        With a guidance T, as for `gram`, M is Σ T² over the whole image (`core.guided`).
        """

    def add_content_gradient(
        self, dF: Array | None, F: Array, P: Array, weight: float, owned: Area | None = None
    ) -> Array:
        """Return dF + weight · equation 2 at the owned positions."""

    def moments(self, F: Array, owned: Area | None = None, *, pairs: bool = False) -> Moments:
        """Return the moments of F over the owned positions; `pairs` as for `moments.moments`."""

    def add_affine_gradient(
        self, dF: Array | None, F: Array, D: Array, d: Array, owned: Area | None = None
    ) -> Array:
        """Return dF + (D F + d, where F > 0, else 0) at the owned positions.

        D (N, N) is a matrix, or (N,) its diagonal; d (N,) is added at each position.
        """

    def add_gradient(
        self, dF: Array | None, F: Array, gradient: Array, owned: Area | None = None
    ) -> Array:
        """Return dF + gradient at the owned positions, for terms without a kernel of their own."""

    def convolution_backward(
        self, dF: Array, F: Array, W: Array, padding: Padding = "zeros"
    ) -> Array:
        """Return dX (C, H, V): dF back through the ReLU, then the convolution W (N, C, 3, 3)."""

    def pool_backward(self, dY: Array, X: Array, kind: Pooling) -> Array:
        """Return dX (C, H, V): dY (C, H // 2, V // 2) back through a 2×2 pooling."""

    def release(self, F: Array) -> None:
        """Release responses that this backward pass will not read again."""

    def backward_ends(self) -> None:
        """End the backward pass; the kernels must not overwrite released responses any more."""


class PlainKernels:
    """Kernels that call `layers` and `losses`, in any float type and array namespace."""

    def gram(self, F: Array, owned: Area | None = None, T: Array | None = None) -> Array:
        """Return the Gram matrix (N, N) over the owned positions (equation 3)."""
        here = matrix(within(F, owned))
        return losses.gram(here) if T is None else guided.guided_gram(here, _flat(T))

    def add_style_gradient(
        self,
        dF: Array | None,
        F: Array,
        G: Array,
        A: Array,
        M: float,
        weight: float,
        owned: Area | None = None,
        T: Array | None = None,
    ) -> Array:
        """Return dF + weight · equation 6."""
        here, N = within(F, owned), F.shape[0]
        if T is None:
            gradient = losses.style_gradient(matrix(here), G, A, N, M)
        else:
            gradient = guided.guided_style_gradient(matrix(here), _flat(T), G, A, N, M)
        return _sum(dF, F, weight * namespace(F).reshape(gradient, here.shape), owned)

    def add_content_gradient(
        self, dF: Array | None, F: Array, P: Array, weight: float, owned: Area | None = None
    ) -> Array:
        """Return dF + weight · equation 2."""
        return _sum(dF, F, weight * losses.content_gradient(within(F, owned), P), owned)

    def moments(self, F: Array, owned: Area | None = None, *, pairs: bool = False) -> Moments:
        """Return the moments of F over the owned positions."""
        return moments(matrix(within(F, owned)), pairs=pairs)

    def add_affine_gradient(
        self, dF: Array | None, F: Array, D: Array, d: Array, owned: Area | None = None
    ) -> Array:
        """Return dF + (D F + d, where F > 0, else 0)."""
        here = within(F, owned)
        return _sum(dF, F, affine(here, cast(D, F.dtype), cast(d, F.dtype)), owned)

    def add_gradient(
        self, dF: Array | None, F: Array, gradient: Array, owned: Area | None = None
    ) -> Array:
        """Return dF + gradient at the owned positions."""
        return _sum(dF, F, gradient, owned)

    def convolution_backward(
        self, dF: Array, F: Array, W: Array, padding: Padding = "zeros"
    ) -> Array:
        """Return dX (C, H, V): dF back through the ReLU, then the convolution."""
        dZ = layers.relu_backward(dF, F)
        return layers.conv2d_backward(dZ, W, padding)

    def pool_backward(self, dY: Array, X: Array, kind: Pooling) -> Array:
        """Return dX (C, H, V): dY back through a 2×2 pooling."""
        backward = layers.max_pool_backward if kind == "max" else layers.avg_pool_backward
        return backward(dY, X)

    def release(self, F: Array) -> None:
        """Do nothing."""

    def backward_ends(self) -> None:
        """Do nothing."""


def affine(F: Array, D: Array, d: Array) -> Array:
    """Return D F + d where F > 0, else 0; F is (N, H, V), D (N, N) or (N,), d (N,)."""
    xp = namespace(F)
    product = D[:, None, None] * F if D.ndim == 1 else xp.tensordot(D, F, axes=1)
    result: Array = xp.where(F > 0, product + d[:, None, None], 0)
    return result


def affine_jvp(tF: Array, F: Array, D: Array, tD: Array, td: Array) -> Array:
    """Return the tangent of `affine`, in F's float type: D tF + tD F + td where F > 0, else 0."""
    D, tD, td = (cast(each, F.dtype) for each in (D, tD, td))
    xp = namespace(F)
    if D.ndim == 1:
        product = D[:, None, None] * tF + tD[:, None, None] * F
    else:
        product = xp.tensordot(D, tF, axes=1) + xp.tensordot(tD, F, axes=1)
    result: Array = xp.where(F > 0, product + td[:, None, None], 0)
    return result


def matrix(F: Array) -> Array:
    """Return F (N, H, V) as the paper's matrix (N, M)."""
    result: Array = namespace(F).reshape(F, (F.shape[0], -1))
    return result


def within(F: Array, area: Area | None) -> Array:
    """Return F (N, H, V) in an area; all of F if the area is None."""
    return F if area is None else F[:, area[0], area[1]]


def _flat(T: Array) -> Array:
    """Return a guidance (h, v) as (M,)."""
    result: Array = namespace(T).reshape(T, (-1,))
    return result


def _sum(dF: Array | None, F: Array, gradient: Array, owned: Area | None) -> Array:
    """Return dF (0 if it is None) plus a gradient at the owned positions."""
    if owned is None:
        return gradient if dF is None else dF + gradient
    total: Array = namespace(F).zeros_like(F) if dF is None else 1 * dF
    total[:, owned[0], owned[1]] += gradient
    return total
