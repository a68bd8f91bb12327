"""The heavy steps again, in float32 on the CPU: strips that fit the cache, on several threads.

Same interface and same results (to float32 rounding) as `kernels.PlainKernels`, which is what
to read first. What differs is only the order of the work:

- a strip is a band of rows; each is one task, run by one Python thread, and every matrix product
  in it is held to one BLAS thread (NumPy releases the interpreter's lock inside);
- a convolution's backward pads the band flat, row behind row, so that the nine shifted images
  of `layers.conv2d_backward` are nine slices of one buffer and need no copy;
- the ReLU mask is applied while the band is copied into that buffer, not in a pass of its own;
- nothing big is allocated after the first evaluation: fresh memory costs page faults;
- derivatives are written over the responses that the pass has already passed, which nobody reads
  any more: at 512×512 that saves about 110 MB of buffers.

The split into strips depends on the shapes alone, never on the number of threads.
"""

import numpy as np

from gramstyle.core import layers
from gramstyle.core.arrays import Array
from gramstyle.core.kernels import Area, Pooling
from gramstyle.engines.threads import Workers

# Positions in a strip: large enough for an efficient matrix product, small enough for the
# cache. From 4,096 to 16,384 the time of an evaluation changed by less than a fiftieth.
POSITIONS = 4096


class StripKernels:
    """The steps of one evaluation in strips; lives as long as the objective that uses it.

    An array that a method returns is valid until the next but one call, in memory of responses
    that were `release` or in one of two buffers. A backward pass needs no more.

    Parameters
    ----------
    threads
        How many strips are worked on at once.
    """

    def __init__(self, threads: int) -> None:
        self.workers = Workers(threads)
        self._buffers = [np.empty(0, np.float32), np.empty(0, np.float32)]
        self._free = np.empty(0, np.float32)  # one stretch of passed responses

    def gram(self, F: Array, owned: Area | None = None) -> Array:
        """Equation 3, strip by strip: a Gram matrix is a sum over positions. Float64 result."""
        G = np.zeros((F.shape[0], F.shape[0]), np.float64)

        # NumPy sees that the second factor is the first one transposed and does half the work.
        def strip(here: Area) -> Array:
            X = self._gathered(F, here)
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
        M: int,
        weight: float,
        owned: Area | None = None,
    ) -> Array:
        """dF + weight · equation 6, whose mask is left to the ReLU that the pass crosses next."""
        N = F.shape[0]
        D = (weight * (G - A) / (float(N) ** 2 * float(M) ** 2)).astype(np.float32)
        out = self._accumulator(dF, F.shape, owned)

        def strip(here: Area) -> None:
            X = self._gathered(F, here)
            seed = np.matmul(D, X, out=self.workers.scratch("gemm", X.shape))
            there = out[:, here[0], here[1]]
            if dF is None:
                there[...] = seed.reshape(there.shape)
            else:
                there += seed.reshape(there.shape)

        self.workers.run(strip, _strips(F.shape, owned))
        return out

    def add_content_gradient(
        self, dF: Array | None, F: Array, P: Array, weight: float, owned: Area | None = None
    ) -> Array:
        """dF + weight · equation 2, whose mask is left to the ReLU that the pass crosses next."""
        out = self._accumulator(dF, F.shape, owned)
        into, of = _within(out, owned), _within(F, owned)

        def strip(rows: slice) -> None:
            here = into[:, rows]
            difference = np.subtract(
                of[:, rows], P[:, rows], out=self.workers.scratch("gemm", here.shape)
            )
            difference *= np.float32(weight)
            if dF is None:
                here[...] = difference
            else:
                here += difference

        self.workers.run(strip, _bands(*of.shape[1:]))
        return out

    def convolution_backward(self, dF: Array, F: Array, W: Array) -> Array:
        """Through the ReLU, then through the convolution: dF, F (N, H, V) → dX (C, H, V)."""
        dX = self._result((W.shape[1], *F.shape[1:]), besides=dF)
        # Few input channels make nine thin products: there one product with all nine
        # kernels, shifted afterwards, is twice as fast.
        strip = self._scattered_strip if W.shape[1] < 16 else self._gathered_strip
        self.workers.run(lambda rows: strip(dF, F, W, dX, rows), _bands(*F.shape[1:]))
        return dX

    def pool_backward(self, dY: Array, X: Array, kind: Pooling) -> Array:
        """Through a 2×2 pooling, some channels at a time."""
        dX = self._result(X.shape, besides=dY)
        backward = _max_pool_backward if kind == "max" else _avg_pool_backward
        # Small images several at a time, or the interpreter would be most of the cost.
        some = max(1, 16 * POSITIONS // (X.shape[1] * X.shape[2]))
        channels = [slice(c, c + some) for c in range(0, X.shape[0], some)]
        self.workers.run(lambda s: backward(dY[s], X[s], dX[s]), channels)
        return dX

    def release(self, F: Array) -> None:
        """Add the memory of these responses to the free stretch, or begin another with it."""
        memory = F.base
        if not isinstance(memory, np.ndarray) or memory.ndim != 1 or not F.flags.c_contiguous:
            return
        if memory.dtype != np.float32 or not F.flags.writeable:
            return
        start = (F.ctypes.data - memory.ctypes.data) // memory.itemsize
        adjacent = self._free.base is memory and _end(F) == self._free.ctypes.data
        size = F.size + (self._free.size if adjacent else 0)
        self._free = memory[start : start + size]

    def backward_ends(self) -> None:
        """Give the responses back."""
        self._free = np.empty(0, np.float32)

    def _gathered_strip(self, dF: Array, F: Array, W: Array, dX: Array, rows: slice) -> None:
        """dX[rows] = Σ over the nine taps of (flipped kernel) · (padded dZ, shifted)."""
        C, _, V = dX.shape
        padded = self._masked_band(dF, F, rows)
        n, line = rows.stop - rows.start, V + 2
        total = self.workers.scratch("sum", (C, n * line))
        product = self.workers.scratch("gemm", (C, n * line))
        for tap in range(9):
            i, j = divmod(tap, 3)
            shifted = padded[:, i * line + j : i * line + j + n * line]
            np.matmul(W[:, :, 2 - i, 2 - j].T, shifted, out=product if tap else total)
            if tap:
                total += product
        # Each line ends in two positions that belong to no column.
        dX[:, rows] = total.reshape(C, n, line)[:, :, :V]

    def _scattered_strip(self, dF: Array, F: Array, W: Array, dX: Array, rows: slice) -> None:
        """Write the same sum, products first: (all nine kernels) · (padded dZ), then shifted."""
        C, _, V = dX.shape
        padded = self._masked_band(dF, F, rows)
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

    def _masked_band(self, dF: Array, F: Array, rows: slice) -> Array:
        """dZ = dF where F > 0, on these rows and one more each side, zero-padded, flat."""
        N, H, V = F.shape
        n, line = rows.stop - rows.start, V + 2
        # The last shifted slice reaches two positions beyond the last line.
        padded = self.workers.scratch("padded", (N, (n + 2) * line + 2))
        padded[:, (n + 2) * line :] = 0
        lines = padded[:, : (n + 2) * line].reshape(N, n + 2, line)
        lines[:, :, 0] = lines[:, :, V + 1] = 0
        first, last = max(rows.start - 1, 0), min(rows.stop + 1, H)
        top, bottom = first - rows.start + 1, last - rows.start + 1
        lines[:, :top] = lines[:, bottom:] = 0
        # A product with 0 or 1 costs a sixth of a choice by the mask, whose branches mispredict.
        open_ = F[:, first:last] > 0
        np.multiply(dF[:, first:last], open_, out=lines[:, top:bottom, 1 : V + 1])
        return padded

    def _gathered(self, F: Array, here: Area) -> Array:
        """Return these positions as the paper's matrix (N, M); copied where they lie apart."""
        part = F[:, here[0], here[1]]
        apart = part.shape[1] > 1 and part.shape[2] != F.shape[2]
        if apart:
            copied = self.workers.scratch("gathered", part.shape)
            copied[...] = part
            part = copied
        return part.reshape(len(F), -1)

    def _accumulator(
        self, dF: Array | None, shape: tuple[int, ...], owned: Area | None = None
    ) -> Array:
        """Return what a gradient is added to; without a dF, 0 where nothing will be written."""
        if dF is not None:
            return dF
        out = self._result(shape, besides=None)
        if owned is not None:
            out[...] = 0
        return out

    def _result(self, shape: tuple[int, ...], *, besides: Array | None) -> Array:
        """Return an array to write to that does not touch `besides`, its contents undefined."""
        size = int(np.prod(shape))
        if size <= self._free.size:
            for place in (self._free[self._free.size - size :], self._free[:size]):
                if besides is None or not np.may_share_memory(place, besides):
                    return place.reshape(shape)
        self._buffers.reverse()
        if besides is not None and np.may_share_memory(self._buffers[0], besides):
            self._buffers.reverse()
        if self._buffers[0].size < size:
            self._buffers[0] = np.empty(size, np.float32)
        return self._buffers[0][:size].reshape(shape)


def _end(F: Array) -> int:
    return int(F.ctypes.data) + F.nbytes


def _max_pool_backward(dY: Array, X: Array, dX: Array) -> None:
    """Write `layers.max_pool_backward` to dX, the choices as products with 0 or 1."""
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


def _within(F: Array, owned: Area | None) -> Array:
    return F if owned is None else F[:, owned[0], owned[1]]


def _strips(shape: tuple[int, ...], owned: Area | None) -> list[Area]:
    """Split the owned positions of responses (N, H, V) into bands of about POSITIONS."""
    rows, columns = (slice(0, shape[1]), slice(0, shape[2])) if owned is None else owned
    width = columns.stop - columns.start
    some = max(1, POSITIONS // max(width, 1))
    return [
        (slice(y, min(y + some, rows.stop)), columns)
        for y in range(rows.start, rows.stop if width else rows.start, some)
    ]


def _bands(height: int, width: int) -> list[slice]:
    """Split an image's rows into bands of about POSITIONS positions, eight at least."""
    rows = max(1, min(POSITIONS // (width + 2), -(-height // 8)))
    return [slice(start, min(start + rows, height)) for start in range(0, height, rows)]
