"""The loss terms on responses that lie in memory positions before channels."""

from collections.abc import Callable

import numpy as np

from gramstyle.core.arrays import Array
from gramstyle.core.kernels import Area
from gramstyle.engines.strips import StripKernels
from gramstyle.engines.winograd import transforms as tiles
from gramstyle.engines.winograd.layout import channels_last, flat, rows

# Positions in a strip, at most and at least: small strips cost as much to hand out as to work on,
# and of a small image there must be some for every thread.
LONGEST, SHORTEST = 8192, 512


class ChannelsLastKernels(StripKernels):
    """`StripKernels` for arrays (N, H, V) as `memory.channels_last` makes them.

    Its own steps of a pass are inherited and are slow on such arrays: `WinogradPasses.backward`
    does them instead. A derivative that is returned here has been masked: it is 0 where F is, which
    the ReLU below would make it anyway.
    """

    def gram(self, F: Array, owned: Area | None = None) -> Array:
        """Equation 3, strip by strip: a Gram matrix is a sum over positions. Float64 result."""
        N, X = len(F), rows(F)
        G = np.zeros((X.shape[2], X.shape[2]), np.float64)

        # NumPy sees that the first factor is the second one transposed and does half the work.
        def strip(here: Area) -> Array:
            part = self._gathered(X, here)
            return part.T @ part

        for part in self.workers.map(strip, _strips(*_owned(X, owned))):
            G += part
        return G[:N, :N]

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
        N, X = len(F), rows(F)
        D = np.zeros((X.shape[2], X.shape[2]), np.float32)
        D[:N, :N] = weight * (G - A) / (float(N) ** 2 * float(M) ** 2)

        def gradient(here: Area) -> Array:
            part = self._gathered(X, here)
            return np.matmul(part, D, out=self.workers.scratch("product", part.shape))

        return self._add(dF, F, owned, gradient)

    def add_content_gradient(
        self, dF: Array | None, F: Array, P: Array, weight: float, owned: Area | None = None
    ) -> Array:
        """dF + weight · equation 2."""
        N, X = len(F), rows(F)
        top, left = (0, 0) if owned is None else (owned[0].start, owned[1].start)

        def gradient(here: Area) -> Array:
            part = X[here]
            difference = self.workers.scratch("product", part.shape)
            target = P[:, here[0].start - top : here[0].stop - top]
            target = target[:, :, here[1].start - left : here[1].stop - left]
            difference[..., N:] = 0
            np.subtract(part[..., :N], target.transpose(1, 2, 0), out=difference[..., :N])
            difference *= np.float32(weight)
            return difference.reshape(-1, X.shape[2])

        return self._add(dF, F, owned, gradient)

    def _add(
        self,
        dF: Array | None,
        F: Array,
        owned: Area | None,
        gradient: Callable[[Area], Array],
    ) -> Array:
        """Return dF plus a gradient at the owned positions, strip by strip, all of it masked."""
        out = channels_last(F.shape) if dF is None else dF
        total, responses = flat(out), flat(F)
        _, V, width = rows(F).shape
        owned_rows, columns = _owned(rows(F), owned)

        def strip(here: Area) -> None:
            first, last = here[0].start, here[0].stop
            within = slice(max(first, owned_rows.start), min(last, owned_rows.stop))
            if (within, columns) == here:
                seed = gradient(here)
            else:
                seed = self.workers.scratch("seed", (last - first, V, width))
                seed[...] = 0
                if within.start < within.stop and columns.start < columns.stop:
                    there = seed[within.start - first : within.stop - first, columns]
                    there[...] = gradient((within, columns)).reshape(there.shape)
            tiles.add_where_open(
                total, seed.reshape(-1), responses, first * V * width, last * V * width
            )

        self.workers.run(strip, _strips(slice(0, F.shape[1]), slice(0, V)))
        return out

    def _gathered(self, X: Array, here: Area) -> Array:
        """Return these positions of X (H, V, channels) as a matrix; copied where they lie apart."""
        part = X[here]
        if len(part) > 1 and part.shape[1] != X.shape[1]:
            copied = self.workers.scratch("gathered", part.shape)
            copied[...] = part
            part = copied
        return part.reshape(-1, X.shape[2])


def _owned(X: Array, owned: Area | None) -> Area:
    return (slice(0, X.shape[0]), slice(0, X.shape[1])) if owned is None else owned


def _strips(height: slice, width: slice) -> list[Area]:
    """Split an area into bands of rows."""
    across = width.stop - width.start
    M = (height.stop - height.start) * across
    length = min(LONGEST, max(SHORTEST, -(-M // 8)))
    some = max(1, length // max(across, 1))
    return [
        (slice(y, min(y + some, height.stop)), width)
        for y in range(height.start, height.stop if across else height.start, some)
    ]
