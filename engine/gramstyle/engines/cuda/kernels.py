"""The kernels on a GPU, written once for NumPy's and CuPy's arrays.

`DeviceKernels` has the interface of `core.kernels.PlainKernels` and gives the same results to
rounding; read `PlainKernels` first. The differences:

- Derivatives are stored as `forward` stores responses: the channels of a position lie next to each
  other. Arrays still have the shape (N, H, V); responses in any memory order give the same results.
- The backward pass of a convolution is the product of patches with kernels (`products`).
- The first evaluation allocates all large arrays.
"""

from gramstyle.core.arrays import Array, cast, namespace
from gramstyle.core.kernels import Area, Pooling, within
from gramstyle.core.layers import Padding, ring_width
from gramstyle.core.moments import Moments
from gramstyle.engines.cuda.products import (
    Buffers,
    channels_first,
    convolve,
    fold,
    positions_first,
    unpatch,
)
from gramstyle.engines.cuda.steps import steps, windows


class DeviceKernels:
    """The kernels of one objective.

    The kernels own the returned arrays. A returned array stays valid during the next call and may
    be overwritten by the one after it, which is all that a backward pass needs.

    Parameters
    ----------
    buffers
        The arrays of the engine.
    """

    def __init__(self, buffers: Buffers | None = None) -> None:
        self._buffers = Buffers() if buffers is None else buffers
        self._kernels: dict[int, tuple[Array, Array]] = {}
        self._unpooled: Array | None = None

    def gram(self, F: Array, owned: Area | None = None, T: Array | None = None) -> Array:
        """Return the Gram matrix (equation 3), computed in F's float type, as float64."""
        X = self._rows(F, owned)
        if T is not None:
            X = namespace(F).multiply(X, T.reshape(-1, 1), out=self._buffers("product", X.shape, F))
        return cast(X.T @ X, "float64")

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
        """Return dF + weight · equation 6 without its mask, which the next ReLU applies."""
        N, X = F.shape[0], self._rows(F, owned)
        D = cast(weight * (G - A) / (float(N) ** 2 * float(M) ** 2), F.dtype)
        whole = dF is None and owned is None
        gradient = self._buffers("seed" if whole else "product", X.shape, F)
        namespace(F).matmul(X, D.T, out=gradient)
        if T is not None:
            gradient *= (T * T).reshape(-1, 1)  # T∘(D (T∘F)) = T²∘(D F)
        if whole:
            return channels_first(gradient.reshape(*F.shape[1:], N))
        return self._add(dF, F, gradient, owned)

    def add_content_gradient(
        self, dF: Array | None, F: Array, P: Array, weight: float, owned: Area | None = None
    ) -> Array:
        """Return dF + weight · equation 2 without its mask, which the next ReLU applies."""
        dF = self._zeros(F) if dF is None else dF
        here, target, total = map(positions_first, (within(F, owned), P, within(dF, owned)))
        steps(namespace(F)).add_difference(here, target, F.dtype.type(weight), total)
        return dF

    def moments(self, F: Array, owned: Area | None = None, *, pairs: bool = False) -> Moments:
        """Return the moments over the owned positions, in float64."""
        xp, X = namespace(F), self._rows(F, owned)
        count = X.shape[0]
        mean = xp.sum(X, axis=0, dtype=xp.float64) / max(count, 1)
        H = xp.subtract(X, cast(mean, F.dtype), out=self._buffers("product", X.shape, F))
        if pairs:
            return Moments(count, mean, cast(H.T @ H, "float64"))
        squares = xp.multiply(H, H, out=H)
        return Moments(count, mean, xp.sum(squares, axis=0, dtype=xp.float64))

    def add_affine_gradient(
        self, dF: Array | None, F: Array, D: Array, d: Array, owned: Area | None = None
    ) -> Array:
        """Return dF + D F + d without the mask, which the next ReLU applies."""
        xp, X = namespace(F), self._rows(F, owned)
        slope, shift = cast(D, F.dtype), cast(d, F.dtype)
        gradient = self._buffers("product", X.shape, F)
        if slope.ndim == 1:
            xp.multiply(X, slope, out=gradient)
        else:
            xp.matmul(X, slope.T, out=gradient)
        gradient += shift
        return self._add(dF, F, gradient, owned)

    def add_gradient(
        self, dF: Array | None, F: Array, gradient: Array, owned: Area | None = None
    ) -> Array:
        """Return dF + gradient without a mask, which the next ReLU applies."""
        return self._add(dF, F, positions_first(gradient), owned)

    def convolution_backward(
        self, dF: Array, F: Array, W: Array, padding: Padding = "zeros"
    ) -> Array:
        """Return dX (C, H, V): dF (N, H, V) through the ReLU and the convolution."""
        xp, (N, H, V), C, ring = namespace(F), F.shape, W.shape[1], ring_width(padding)
        dZ = self._buffers("dZ", (H, V, N), F)
        steps(xp).mask(positions_first(dF), positions_first(F), dZ)
        dX = self._buffers("dX", (H, V, C), F)
        if _few_channels(W):
            P = self._buffers("products", (H * V, 9 * C), F)
            xp.matmul(dZ.reshape(-1, N), self._kernel(W), out=P)
            unpatch(P, dX, padding)
        elif ring:
            padded = self._buffers("padded", (H + 2, V + 2, C), F)
            convolve(dZ, self._kernel(W), padded, self._buffers, ring=ring)
            fold(padded, dX, padding)
        else:
            convolve(dZ, self._kernel(W), dX, self._buffers)
        return channels_first(dX)

    def pool_backward(self, dY: Array, X: Array, kind: Pooling) -> Array:
        """Return dX (C, H, V): dY (C, H // 2, V // 2) through a 2×2 pooling."""
        # The second of two adjacent poolings must not overwrite the array that it reads.
        second = self._unpooled is not None and dY is self._unpooled
        C, H, V = X.shape
        dX = self._buffers("second pooling" if second else "pooling", (H, V, C), X)
        below, above = windows(dX), positions_first(dY)
        dX[H // 2 * 2 :] = 0
        dX[:, V // 2 * 2 :] = 0
        if kind == "max":
            steps(namespace(X)).unpool(above, *windows(positions_first(X)), *below)
        else:
            steps(namespace(X)).spread(above, *below)
        self._unpooled = channels_first(dX)
        return self._unpooled

    def release(self, F: Array) -> None:
        """Do nothing."""

    def backward_ends(self) -> None:
        """Do nothing."""

    def _rows(self, F: Array, owned: Area | None) -> Array:
        """Return F at the owned positions as (positions, N): a copy unless it is contiguous."""
        here = positions_first(within(F, owned))
        if not here.flags.c_contiguous:
            rows = self._buffers("rows", here.shape, F)
            rows[...] = here
            here = rows
        return here.reshape(-1, F.shape[0])

    def _add(self, dF: Array | None, F: Array, gradient: Array, owned: Area | None) -> Array:
        """Return dF (0 if it is None) plus a gradient (h, v, N), or (h v, N), where it is owned."""
        dF = self._zeros(F) if dF is None else dF
        total = positions_first(within(dF, owned))
        total += gradient.reshape(total.shape)
        return dF

    def _kernel(self, W: Array) -> Array:
        """Return the matrix of the backward pass of a convolution W (N, C, 3, 3).

        (9 N, C): the kernel rotated by 180°, as `products.convolve` takes it; for few channels
        (N, 9 C): the kernel, whose product with dZ are the derivatives by the patches.
        """
        if id(W) not in self._kernels:
            N, C = W.shape[:2]
            if _few_channels(W):
                kernel = W.transpose(0, 2, 3, 1).reshape(N, 9 * C)
            else:
                kernel = W[:, :, ::-1, ::-1].transpose(2, 3, 0, 1).reshape(9 * N, C)
            # Holding W keeps its id unique.
            self._kernels[id(W)] = (W, namespace(W).ascontiguousarray(kernel))
        return self._kernels[id(W)][1]

    def _zeros(self, F: Array) -> Array:
        dF = self._buffers("seed", (*F.shape[1:], F.shape[0]), F)
        dF[...] = 0
        return channels_first(dF)


def _few_channels(W: Array) -> bool:
    """Return whether the derivatives by the patches are smaller than dZ, as in the first layer."""
    N, C = W.shape[:2]
    return bool(9 * C <= N)
