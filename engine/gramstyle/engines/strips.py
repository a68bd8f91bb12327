"""The kernels in float32 on the CPU: strips that fit the cache, on several threads.

`StripKernels` has the interface of `core.kernels.PlainKernels` and gives the same results to
float32 rounding; read `PlainKernels` first. Only the order of the work differs:

- A strip is a band of rows. One thread computes it, and each matrix product in it uses one BLAS
  thread. NumPy releases the interpreter's lock, so that strips run in parallel.
- The backward pass of a convolution stores the padded band as one run of rows. The nine shifted
  images of `layers.conv2d_backward` are then nine slices of one buffer and need no copy.
- The ReLU mask is applied while the band is copied into that buffer, not in a pass of its own.
- The first evaluation allocates all large arrays, because fresh memory costs page faults.
- Derivatives overwrite responses that the backward pass has released. At 512×512 that saves about
  110 MB of buffers.
"""

from collections.abc import Callable

import numpy as np

from gramstyle.core import layers
from gramstyle.core.arrays import Array
from gramstyle.core.kernels import Area, Pooling, within
from gramstyle.core.layers import Padding
from gramstyle.core.moments import Moments, no_moments
from gramstyle.engines.bands import Guide, area_bands, bands, owned_area
from gramstyle.engines.threads import Workers

# Positions in a strip: large enough for an efficient matrix product, small enough for the cache.
# From 4,096 to 16,384 positions, the time of an evaluation changes by less than 2 %.
POSITIONS = 4096


class StripKernels:
    """The kernels of one objective, computed strip by strip.

    A returned array is part of released responses or of one of two buffers. It stays valid during
    the next call and may be overwritten by the one after it, which is all that a backward pass
    needs.

    Parameters
    ----------
    threads
        The number of strips that are computed in parallel.
    """

    def __init__(self, threads: int) -> None:
        self.workers = Workers(threads)
        self._buffers = [np.empty(0, np.float32), np.empty(0, np.float32)]
        self._free = np.empty(0, np.float32)  # contiguous released responses

    def gram(self, F: Array, owned: Area | None = None, T: Array | None = None) -> Array:
        """Return the Gram matrix (equation 3) in float64, summed over strips."""
        G = np.zeros((F.shape[0], F.shape[0]), np.float64)
        guide = None if T is None else Guide.of(T, owned)

        # NumPy detects that the second factor is the first one transposed and does half the work.
        def strip(here: Area) -> Array:
            X = self._gathered(F, here)
            if guide is not None:
                X = np.multiply(X, guide.at(here), out=self.workers.scratch("guided", X.shape))
            return X @ X.T

        for part in self.workers.map(strip, _strips(F.shape, owned)):
            G += part
        return G

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
        N = F.shape[0]
        D = (weight * (G - A) / (float(N) ** 2 * float(M) ** 2)).astype(np.float32)
        square = None if T is None else Guide.of(T * T, owned)  # T∘(D (T∘F)) = T²∘(D F)

        def seed(here: Area) -> Array:
            X = self._gathered(F, here)
            result = np.matmul(D, X, out=self.workers.scratch("gemm", X.shape))
            if square is not None:
                result *= square.at(here)
            return result

        return self._plus_seeds(dF, F, owned, seed)

    def add_content_gradient(
        self, dF: Array | None, F: Array, P: Array, weight: float, owned: Area | None = None
    ) -> Array:
        """Return dF + weight · equation 2 without its mask, which the next ReLU applies."""
        out = self._accumulator(dF, F.shape, owned)
        total, responses = within(out, owned), within(F, owned)

        def strip(rows: slice) -> None:
            here = total[:, rows]
            difference = np.subtract(
                responses[:, rows], P[:, rows], out=self.workers.scratch("gemm", here.shape)
            )
            difference *= np.float32(weight)
            if dF is None:
                here[...] = difference
            else:
                here += difference

        self.workers.run(strip, _bands(*responses.shape[1:]))
        return out

    def moments(self, F: Array, owned: Area | None = None, *, pairs: bool = False) -> Moments:
        """Return the moments over the owned positions in float64, added up over strips."""

        def strip(here: Area) -> Moments:
            X = self._gathered(F, here)
            mean = X.mean(axis=1, dtype=np.float64)
            centre = mean.astype(np.float32)[:, None]
            H = np.subtract(X, centre, out=self.workers.scratch("gemm", X.shape))
            products = H @ H.T if pairs else np.square(H, out=H).sum(axis=1, dtype=np.float64)
            return Moments(X.shape[1], mean, products.astype(np.float64, copy=False))

        parts = self.workers.map(strip, _strips(F.shape, owned))
        return sum(parts, start=no_moments(len(F), pairs=pairs))

    def add_affine_gradient(
        self, dF: Array | None, F: Array, D: Array, d: Array, owned: Area | None = None
    ) -> Array:
        """Return dF + D F + d without the mask, which the next ReLU applies."""
        slope, shift = D.astype(np.float32), d.astype(np.float32)[:, None]

        def seed(here: Area) -> Array:
            X = self._gathered(F, here)
            result = self.workers.scratch("gemm", X.shape)
            if slope.ndim == 1:
                np.multiply(slope[:, None], X, out=result)
            else:
                np.matmul(slope, X, out=result)
            result += shift
            return result

        return self._plus_seeds(dF, F, owned, seed)

    def add_gradient(
        self, dF: Array | None, F: Array, gradient: Array, owned: Area | None = None
    ) -> Array:
        """Return dF + gradient without a mask, which the next ReLU applies."""
        out = self._accumulator(dF, F.shape, owned)
        there = within(out, owned)
        there[...] = gradient if dF is None else there + gradient
        return out

    def convolution_backward(
        self, dF: Array, F: Array, W: Array, padding: Padding = "zeros"
    ) -> Array:
        """Return dX (C, H, V): dF (N, H, V) back through the ReLU and the convolution."""
        ring = layers.ring_width(padding)
        H, V = F.shape[1] + 2 * ring, F.shape[2] + 2 * ring
        dX = self._result((W.shape[1], H, V), apart_from=dF)
        # With few input channels, nine products would be thin. One product with all nine kernels,
        # shifted afterwards, is twice as fast.
        strip = self._scattered_strip if W.shape[1] < 16 else self._gathered_strip
        self.workers.run(lambda rows: strip(dF, F, W, dX, rows), _bands(H, V))
        return layers.pad_backward(dX, padding) if ring else dX

    def pool_backward(self, dY: Array, X: Array, kind: Pooling) -> Array:
        """Return dX (C, H, V): dY (C, H // 2, V // 2) back through a 2×2 pooling."""
        dX = self._result(X.shape, apart_from=dY)
        backward = _max_pool_backward if kind == "max" else _avg_pool_backward
        # Small channels are processed several at a time, to save time in the interpreter.
        count = max(1, 16 * POSITIONS // (X.shape[1] * X.shape[2]))
        channels = bands(slice(0, X.shape[0]), count)
        self.workers.run(lambda s: backward(dY[s], X[s], dX[s]), channels)
        return dX

    def release(self, F: Array) -> None:
        """Let later derivatives overwrite these responses, together with adjacent released ones."""
        memory = F.base
        if not isinstance(memory, np.ndarray) or memory.ndim != 1 or not F.flags.c_contiguous:
            return
        if memory.dtype != np.float32 or not F.flags.writeable:
            return
        start = (F.ctypes.data - memory.ctypes.data) // memory.itemsize
        adjacent = self._free.base is memory and F.ctypes.data + F.nbytes == self._free.ctypes.data
        size = F.size + (self._free.size if adjacent else 0)
        self._free = memory[start : start + size]

    def backward_ends(self) -> None:
        """Stop overwriting responses."""
        self._free = np.empty(0, np.float32)

    def _gathered_strip(self, dF: Array, F: Array, W: Array, dX: Array, rows: slice) -> None:
        """Write dX[rows] = Σ over the nine taps of (flipped kernel) · (padded dZ, shifted)."""
        C, _, V = dX.shape
        padded = self._masked_band(dF, F, rows, V)
        n, line = rows.stop - rows.start, V + 2
        total = self.workers.scratch("sum", (C, n * line))
        product = self.workers.scratch("gemm", (C, n * line))
        for tap in range(9):
            i, j = divmod(tap, 3)
            shifted = padded[:, i * line + j : i * line + j + n * line]
            np.matmul(W[:, :, 2 - i, 2 - j].T, shifted, out=product if tap else total)
            if tap:
                total += product
        # The last two positions of each line are padding.
        dX[:, rows] = total.reshape(C, n, line)[:, :, :V]

    def _scattered_strip(self, dF: Array, F: Array, W: Array, dX: Array, rows: slice) -> None:
        """Write the same sum by one product, (all nine kernels) · (padded dZ), then shifted."""
        C, _, V = dX.shape
        padded = self._masked_band(dF, F, rows, V)
        n, line = rows.stop - rows.start, V + 2
        kernels = W.transpose(2, 3, 1, 0).reshape(9 * C, W.shape[0])
        band = padded[:, : (n + 2) * line]
        product = self.workers.scratch("gemm", (9 * C, band.shape[1]))
        product = np.matmul(kernels, band, out=product).reshape(3, 3, C, n + 2, line)
        total = dX[:, rows]
        total[...] = 0
        for i in range(3):
            for j in range(3):
                total += product[2 - i, 2 - j, :, i : i + n, j : j + V]

    def _masked_band(self, dF: Array, F: Array, rows: slice, width: int) -> Array:
        """Return dZ = dF where F > 0 for these rows and one row on each side, zero-padded, flat.

        If dX is wider than F, it begins one row and one column before F: `rows` are those of dX,
        and `width` is dX's.
        """
        N, H, V = F.shape
        outside = (width - V) // 2
        n, line, left = rows.stop - rows.start, width + 2, 1 + outside
        # The last shifted slice extends two positions beyond the last line.
        padded = self.workers.scratch("padded", (N, (n + 2) * line + 2))
        padded[:, (n + 2) * line :] = 0
        lines = padded[:, : (n + 2) * line].reshape(N, n + 2, line)
        lines[:, :, :left] = lines[:, :, V + left :] = 0
        first, last = max(rows.start - left, 0), min(rows.stop - outside + 1, H)
        top, bottom = first - rows.start + left, last - rows.start + left
        lines[:, :top] = lines[:, bottom:] = 0
        # A product with 0 or 1 takes a sixth of the time of a selection, whose branches mispredict.
        mask = F[:, first:last] > 0
        np.multiply(dF[:, first:last], mask, out=lines[:, top:bottom, left : V + left])
        return padded

    def _gathered(self, F: Array, here: Area) -> Array:
        """Return these positions as the paper's matrix (N, M); a copy if they are not adjacent."""
        part = F[:, here[0], here[1]]
        if part.shape[1] > 1 and part.shape[2] != F.shape[2]:
            copied = self.workers.scratch("gathered", part.shape)
            copied[...] = part
            part = copied
        return part.reshape(len(F), -1)

    def _plus_seeds(
        self, dF: Array | None, F: Array, owned: Area | None, seed: Callable[[Area], Array]
    ) -> Array:
        """Return dF + seed(strip) (N, positions of the strip) at every owned strip."""
        out = self._accumulator(dF, F.shape, owned)

        def strip(here: Area) -> None:
            target = out[:, here[0], here[1]]
            found = seed(here).reshape(target.shape)
            if dF is None:
                target[...] = found
            else:
                target += found

        self.workers.run(strip, _strips(F.shape, owned))
        return out

    def _accumulator(self, dF: Array | None, shape: tuple[int, ...], owned: Area | None) -> Array:
        """Return the array to which a gradient is added: dF, or a new one, 0 where not owned."""
        if dF is not None:
            return dF
        out = self._result(shape, apart_from=None)
        if owned is not None:
            out[...] = 0
        return out

    def _result(self, shape: tuple[int, ...], *, apart_from: Array | None) -> Array:
        """Return an array that shares no memory with `apart_from`, its contents undefined."""
        size = int(np.prod(shape))
        if size <= self._free.size:
            for place in (self._free[self._free.size - size :], self._free[:size]):
                if apart_from is None or not np.may_share_memory(place, apart_from):
                    return place.reshape(shape)
        self._buffers.reverse()
        if apart_from is not None and np.may_share_memory(self._buffers[0], apart_from):
            self._buffers.reverse()
        if self._buffers[0].size < size:
            self._buffers[0] = np.empty(size, np.float32)
        return self._buffers[0][:size].reshape(shape)


def _max_pool_backward(dY: Array, X: Array, dX: Array) -> None:
    """Write `layers.max_pool_backward` to dX, with products by 0 or 1 instead of selections."""
    windows = layers.windows(X)
    Y = np.maximum(
        np.maximum(X[windows[0]], X[windows[1]]), np.maximum(X[windows[2]], X[windows[3]])
    )
    free = np.ones(Y.shape, bool)
    dX[..., Y.shape[-2] * 2 :, :] = 0
    dX[..., Y.shape[-1] * 2 :] = 0
    for window in windows:
        chosen = X[window] == Y
        chosen &= free
        free ^= chosen
        np.multiply(dY, chosen, out=dX[window])


def _avg_pool_backward(dY: Array, X: Array, dX: Array) -> None:
    """Write `layers.avg_pool_backward` to dX."""
    quarter = dY * np.float32(0.25)
    dX[..., quarter.shape[-2] * 2 :, :] = 0
    dX[..., quarter.shape[-1] * 2 :] = 0
    for window in layers.windows(X):
        dX[window] = quarter


def _strips(shape: tuple[int, ...], owned: Area | None) -> list[Area]:
    """Split the owned positions of responses (N, H, V) into strips of about POSITIONS."""
    return area_bands(owned_area(shape, owned), POSITIONS)


def _bands(height: int, width: int) -> list[slice]:
    """Split an image's rows into at least eight bands of up to about POSITIONS positions."""
    return bands(slice(0, height), max(1, min(POSITIONS // (width + 2), -(-height // 8))))
