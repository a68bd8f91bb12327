"""The kernels of the loss terms for responses that are stored channels last."""

from collections.abc import Callable

import numpy as np

from gramstyle.core.arrays import Array
from gramstyle.core.kernels import Area
from gramstyle.core.moments import Moments, no_moments
from gramstyle.engines.bands import Guide, area_bands, owned_area
from gramstyle.engines.strips import StripKernels
from gramstyle.engines.winograd import seeds
from gramstyle.engines.winograd.layout import channels_last, flat, rows
from gramstyle.engines.winograd.masks import add_masked
from gramstyle.engines.winograd.products import WIDE, pack
from gramstyle.engines.winograd.storage import NO_FLOATS

# The largest and the smallest number of positions in a strip. Starting a strip takes as long as
# computing a small one, and a small image needs a strip for every thread.
LONGEST, SHORTEST = 8192, 512


class ChannelsLastKernels(StripKernels):
    """`StripKernels` for arrays (N, H, V) that are stored channels last (see `layout`).

    Only the loss terms are replaced. The inherited steps of the backward pass are slow on such
    arrays, and `WinogradPasses.backward` does not use them. The derivatives returned here are
    already masked by the ReLU: they are 0 where F is 0.
    """

    def gram(self, F: Array, owned: Area | None = None, T: Array | None = None) -> Array:
        """Return the Gram matrix (equation 3) in float64, summed over strips."""
        N, X = len(F), rows(F)
        G = np.zeros((X.shape[2], X.shape[2]), np.float64)
        guide = None if T is None else Guide.of(T, owned)

        # NumPy detects that the first factor is the second one transposed and does half the work.
        def strip(here: Area) -> Array:
            part = self._gathered(X, here)
            if guide is not None:
                scaled = self.workers.scratch("guided", part.shape)
                part = np.multiply(part, guide.at(here)[:, None], out=scaled)
            return part.T @ part

        for part in self.workers.map(strip, _strips(owned_area(F.shape, owned))):
            G += part
        return G[:N, :N]

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
        # With a guidance, T∘(D (T∘F)) = T²∘(D F).
        D = weight * (G - A) / (float(len(F)) ** 2 * float(M) ** 2)
        return self._add_affine(dF, F, D, np.zeros(len(F)), owned, None if T is None else T * T)

    def add_content_gradient(
        self, dF: Array | None, F: Array, P: Array, weight: float, owned: Area | None = None
    ) -> Array:
        """Return dF + weight · equation 2."""
        N, X = len(F), rows(F)
        top, left = (edge.start for edge in owned_area(F.shape, owned))

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

    def moments(self, F: Array, owned: Area | None = None, *, pairs: bool = False) -> Moments:
        """Return the moments over the owned positions in float64, added up over strips."""
        N, X = len(F), rows(F)

        def strip(here: Area) -> Moments:
            part = self._gathered(X, here)
            mean = part.mean(axis=0, dtype=np.float64)
            centre = mean.astype(np.float32)
            H = np.subtract(part, centre, out=self.workers.scratch("product", part.shape))
            if pairs:
                products = (H.T @ H)[:N, :N].astype(np.float64)
            else:
                products = np.square(H, out=H).sum(axis=0, dtype=np.float64)[:N]
            return Moments(len(part), mean[:N], products)

        parts = self.workers.map(strip, _strips(owned_area(F.shape, owned)))
        return sum(parts, start=no_moments(N, pairs=pairs))

    def add_affine_gradient(
        self, dF: Array | None, F: Array, D: Array, d: Array, owned: Area | None = None
    ) -> Array:
        """Return dF + (D F + d, where F > 0, else 0)."""
        if D.ndim == 2:
            return self._add_affine(dF, F, D, d, owned, None)
        N, X = len(F), rows(F)
        slope, shift = np.zeros((2, X.shape[2]), np.float32)
        slope[:N], shift[:N] = D, d

        def gradient(here: Area) -> Array:
            part = self._gathered(X, here)
            seed = np.multiply(part, slope, out=self.workers.scratch("product", part.shape))
            seed += shift
            return seed

        return self._add(dF, F, owned, gradient)

    def add_gradient(
        self, dF: Array | None, F: Array, gradient: Array, owned: Area | None = None
    ) -> Array:
        """Return dF + gradient, masked by the ReLU, at the owned positions."""
        N, width = len(F), rows(F).shape[2]
        top, left = (0, 0) if owned is None else (owned[0].start, owned[1].start)

        def part(here: Area) -> Array:
            there = gradient[:, here[0].start - top : here[0].stop - top]
            there = there[:, :, here[1].start - left : here[1].stop - left]
            seed = self.workers.scratch("product", (*there.shape[1:], width))
            seed[..., :N], seed[..., N:] = there.transpose(1, 2, 0), 0
            return seed.reshape(-1, width)

        return self._add(dF, F, owned, part)

    def _add_affine(
        self, dF: Array | None, F: Array, D: Array, d: Array, owned: Area | None, T: Array | None
    ) -> Array:
        """Return dF + T (D F + d), masked, at the owned positions; dF masked elsewhere."""
        N, (H, V, width) = len(F), rows(F).shape
        matrix, shift = np.zeros((1, width, width), np.float32), np.zeros(width, np.float32)
        matrix[0, :N, :N], shift[:N] = D.T, d
        panels, out = pack(matrix), channels_last(F.shape) if dF is None else dF
        total, responses = flat(out), flat(F)
        area = tuple(
            edge for part in owned_area(F.shape, owned) for edge in (part.start, part.stop)
        )
        guide = NO_FLOATS if T is None else np.ascontiguousarray(T, np.float32).reshape(-1)

        def strip(here: Area) -> None:
            place = (V, width, here[0].start, here[0].stop, area, guide, T is not None)
            product = self.workers.scratch("product", (seeds.POSITIONS * WIDE,))
            seeds.add_affine(responses, panels, shift, *place, product, total)

        self.workers.run(strip, _strips((slice(0, H), slice(0, V))))
        return out

    def _add(
        self,
        dF: Array | None,
        F: Array,
        owned: Area | None,
        gradient: Callable[[Area], Array],
    ) -> Array:
        """Return dF plus a gradient at the owned positions, both masked, strip by strip."""
        out = channels_last(F.shape) if dF is None else dF
        total, responses = flat(out), flat(F)
        H, V, width = rows(F).shape
        owned_rows, columns = owned_area(F.shape, owned)

        def strip(here: Area) -> None:
            first, last = here[0].start, here[0].stop
            both = slice(max(first, owned_rows.start), min(last, owned_rows.stop))
            if (both, columns) == here:
                seed = gradient(here)
            else:
                seed = self.workers.scratch("seed", (last - first, V, width))
                seed[...] = 0
                if both.start < both.stop and columns.start < columns.stop:
                    part = seed[both.start - first : both.stop - first, columns]
                    part[...] = gradient((both, columns)).reshape(part.shape)
            add_masked(total, seed.reshape(-1), responses, first * V * width, last * V * width)

        self.workers.run(strip, _strips((slice(0, H), slice(0, V))))
        return out

    def _gathered(self, X: Array, here: Area) -> Array:
        """Return these positions of X (H, V, channels) as a matrix; a copy if not adjacent."""
        part = X[here]
        if len(part) > 1 and part.shape[1] != X.shape[1]:
            copied = self.workers.scratch("gathered", part.shape)
            copied[...] = part
            part = copied
        return part.reshape(-1, X.shape[2])


def _strips(area: Area) -> list[Area]:
    """Split an area into strips."""
    rows, columns = area
    M = (rows.stop - rows.start) * (columns.stop - columns.start)
    return area_bands(area, min(LONGEST, max(SHORTEST, -(-M // 8))))
