"""The loss terms on responses that lie in memory positions before channels."""

from collections.abc import Callable

import numpy as np

from gramstyle.arrays import Array
from gramstyle.strips import StripKernels
from gramstyle.winograd import tiles
from gramstyle.winograd.memory import channels_last, flat, matrix

# Positions in a strip, at most and at least: small strips cost as much to hand out as to work on,
# and of a small picture there must be some for every thread.
LONGEST, SHORTEST = 8192, 512


class ChannelsLastKernels(StripKernels):
    """`StripKernels` for arrays (N, H, V) as `memory.channels_last` makes them.

    Its own steps of a sweep are inherited and are slow on such arrays: `WinogradSweeps.backward`
    does them instead. A derivative that is returned here has been masked: it is 0 where F is, which
    the ReLU below would make it anyway.
    """

    def gram(self, F: Array) -> Array:
        """Equation 3, strip by strip: a Gram matrix is a sum over positions. Float64 result."""
        N, X = len(F), matrix(F)
        G = np.zeros((X.shape[1], X.shape[1]), np.float64)
        # NumPy sees that the first factor is the second one transposed and does half the work.
        for part in self.workers.map(lambda s: X[s].T @ X[s], _positions(len(X))):
            G += part
        return G[:N, :N]

    def add_style_gradient(
        self, dF: Array | None, F: Array, G: Array, A: Array, M: int, weight: float
    ) -> Array:
        """dF + weight · equation 6."""
        N, X = len(F), matrix(F)
        D = np.zeros((X.shape[1], X.shape[1]), np.float32)
        D[:N, :N] = weight * (G - A) / (float(N) ** 2 * float(M) ** 2)
        return self._add(dF, F, lambda s, seed: np.matmul(X[s], D, out=seed))

    def add_content_gradient(self, dF: Array | None, F: Array, P: Array, weight: float) -> Array:
        """dF + weight · equation 2."""
        N, X = len(F), matrix(F)
        target = P.transpose(1, 2, 0).reshape(-1, N)

        def difference(s: slice, seed: Array) -> None:
            seed[:, N:] = 0
            np.subtract(X[s, :N], target[s], out=seed[:, :N])
            seed *= np.float32(weight)

        return self._add(dF, F, difference)

    def _add(
        self, dF: Array | None, F: Array, write_seed: Callable[[slice, Array], object]
    ) -> Array:
        """Return dF plus what is written, strip by strip, both masked."""
        out = channels_last(F.shape) if dF is None else dF
        total, responses, width = flat(out), flat(F), matrix(F).shape[1]

        def strip(s: slice) -> None:
            seed = self.workers.scratch("seed", (s.stop - s.start, width))
            write_seed(s, seed)
            tiles.add_where_open(
                total, seed.reshape(-1), responses, s.start * width, s.stop * width
            )

        self.workers.run(strip, _positions(len(responses) // width))
        return out


def _positions(M: int) -> list[slice]:
    length = min(LONGEST, max(SHORTEST, -(-M // 8)))
    return [slice(start, min(start + length, M)) for start in range(0, M, length)]
