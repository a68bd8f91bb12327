"""Forward pass and plain kernels with the same result to the last bit on every machine.

The order of summation of a matrix product depends on the processor. Here every product and every
addition is a separate operation on whole arrays, and `math.fsum` rounds long sums once. So a truth
computed here has the same bytes everywhere. This is slow and meant for small cases.
"""

import math

import numpy as np

from gramstyle.core import layers
from gramstyle.core.arrays import Array
from gramstyle.core.kernels import Area, PlainKernels
from gramstyle.core.layers import Padding
from gramstyle.core.moments import Moments
from gramstyle.core.network import Convolution, Network


class OrderedKernels(PlainKernels):
    """`PlainKernels` without matrix products."""

    def gram(self, F: Array, owned: Area | None = None, T: Array | None = None) -> Array:
        """Equation 3: G_ij = Σ_k F_ik F_jk, each sum rounded once."""
        F = F if owned is None else F[:, owned[0], owned[1]]
        F = F if T is None else T * F
        rows = F.reshape(F.shape[0], -1)
        return np.array([[math.fsum(a * b) for b in rows] for a in rows], F.dtype)

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
        """dF + weight · equation 6; a guidance T needs all positions."""
        N = F.shape[0]
        D = (G - A) / (float(N) ** 2 * float(M) ** 2)
        product = np.zeros_like(F)
        for i in range(N):
            for j in range(N):
                product[i] += D[i, j] * (F[j] if T is None else T * F[j])
        product = product if T is None else T * product
        gradient = weight * np.where(F > 0, product, 0)
        if owned is not None:
            here = gradient[:, owned[0], owned[1]]
            gradient = np.zeros_like(F)
            gradient[:, owned[0], owned[1]] = here
        return gradient if dF is None else dF + gradient

    def moments(self, F: Array, owned: Area | None = None, *, pairs: bool = False) -> Moments:
        """Return the moments over the owned positions, each sum rounded once."""
        F = F if owned is None else F[:, owned[0], owned[1]]
        rows = F.reshape(F.shape[0], -1)
        mean = np.array([math.fsum(row) for row in rows]) / rows.shape[1]
        H = rows - mean[:, None]
        products = (
            [[math.fsum(a * b) for b in H] for a in H] if pairs else [math.fsum(a * a) for a in H]
        )
        return Moments(rows.shape[1], mean, np.array(products))

    def add_affine_gradient(
        self, dF: Array | None, F: Array, D: Array, d: Array, owned: Area | None = None
    ) -> Array:
        """Return dF + (D F + d, where F > 0, else 0)."""
        diagonal = np.diag(D) if D.ndim == 1 else D
        here = F if owned is None else F[:, owned[0], owned[1]]
        product = np.repeat(d, here[0].size).reshape(here.shape)
        for i in range(len(d)):
            for j in range(len(d)):
                product[i] += diagonal[i, j] * here[j]
        return self.add_gradient(dF, F, np.where(here > 0, product, 0), owned)

    def convolution_backward(
        self, dF: Array, F: Array, W: Array, padding: Padding = "zeros"
    ) -> Array:
        """Return dX: the backward pass of the ReLU, then of the convolution."""
        dZ, outside = layers.relu_backward(dF, F), layers.ring_width(padding)
        around = np.pad(dZ, ((0, 0), (outside, outside), (outside, outside)))
        rotated = W[:, :, ::-1, ::-1].transpose(1, 0, 2, 3)
        dX = convolve(around, rotated, np.zeros(W.shape[1]))
        return layers.pad_backward(dX, padding) if outside else dX


def forward(network: Network, v: Array) -> dict[str, Array]:
    """Return the responses of every layer, as `Network.forward` does."""
    responses, F = {}, v
    for layer in network.layers:
        if isinstance(layer, Convolution):
            F = layers.relu_forward(convolve(F, layer.W, layer.b, layer.padding))
        elif layer.kind == "max":
            F = layers.max_pool_forward(F)
        else:
            F = layers.avg_pool_forward(F)
        responses[layer.name] = F
    return responses


def convolve(X: Array, W: Array, b: Array, padding: Padding = "zeros") -> Array:
    """Return Z as `layers.conv2d_forward` does, tap by tap."""
    N, C = W.shape[:2]
    _, H, V = X.shape
    padded = layers.pad_forward(X, padding)
    Z = np.repeat(b.astype(X.dtype), H * V).reshape(N, H, V)
    for n in range(N):
        for c in range(C):
            for i in range(3):
                for j in range(3):
                    Z[n] += W[n, c, i, j] * padded[c, i : i + H, j : j + V]
    return Z
