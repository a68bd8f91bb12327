"""What is simulated: a cluster, an image in tiles, and the outcome."""

from collections.abc import Mapping
from dataclasses import dataclass

from gramstyle.core.conventions import STYLE_LAYERS
from gramstyle.core.network import Network
from gramstyle.tiling import Tiling

PIXEL = 3 * 4  # bytes, as float32
ENTRY = 8  # bytes: engines sum Gram matrices in float64


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """The speed of a cluster.

    Attributes
    ----------
    workers
        Number of workers.
    bandwidth
        Bytes per second that each interface sends, and receives, over Dask's connections.
    rate
        Pixels per second of one worker, for both passes over a whole image. The default is
        `winograd` on two cores (docs/large.md).
    forward
        Fraction of that time that pass 1 takes. Measured (docs/performance.md): forward pass,
        losses and Gram matrices take 0.51 of 1.05 s at 512×512 and 1.82 of 3.76 s at 1024×1024.
    jitter
        σ of the lognormal factor on each tile's seconds in each pass; its mean is 1.
    straggler
        How many times slower one of the workers is.
    latency
        Seconds per message.
    overhead
        Seconds that the scheduler takes per task. Dask's documentation states a few hundred
        microseconds in the scheduler (distributed.dask.org/en/stable/limitations.html) and 1 ms
        in all (distributed.dask.org/en/stable/); the default is the larger one.
    addition
        Seconds to add two tiles' sums, unpacking included (5 MB each; measured: 0.7 ms).
    handling
        Seconds per million pixels of a window for the client to cut it out, and again to add its
        gradient (measured: 1.3 to 2.6 ms and 2.5 ms).
    optimiser
        Seconds per million pixels of the image (docs/large.md: 6.3 s for 12.6).
    """

    workers: int
    bandwidth: float
    rate: float = 264_000.0
    forward: float = 0.485
    jitter: float = 0.0
    straggler: float = 1.0
    latency: float = 1e-4
    overhead: float = 1e-3
    addition: float = 1e-3
    handling: float = 2.5e-3
    optimiser: float = 0.5


@dataclass(frozen=True)
class TiledImage:
    """The sizes that the simulation needs of an image in tiles.

    Attributes
    ----------
    pixels
        Pixels of the image.
    windows
        Pixels of each tile's window: the tile with its halo.
    gram
        Bytes of the Gram matrices of one tile.
    """

    pixels: int
    windows: tuple[int, ...]
    gram: int

    @classmethod
    def of(cls, network: Network, height: int, width: int, edge: int) -> "TiledImage":
        """Return the sizes for a network that ends at its deepest loss layer.

        Raises
        ------
        GramstyleError
            If `Tiling` refuses the size of the image or of the tiles.
        """
        windows = []
        for tile in Tiling(network, height, width, edge):
            rows, columns = tile.window
            windows.append((rows.stop - rows.start) * (columns.stop - columns.start))
        filters = (network.shapes(height, width)[name][0] for name in STYLE_LAYERS)
        return cls(height * width, tuple(windows), ENTRY * sum(N**2 for N in filters))


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """The time and the traffic of one evaluation and one step of the optimiser.

    Attributes
    ----------
    seconds
        From the first window to the next image.
    busy
        Seconds for which each part was busy. "worker" is the busiest worker; the two directions of
        the client's interface are added.
    computing
        Mean over the workers of the seconds for which each was busy.
    sent, received
        Bytes that the client sent and received.
    between
        Bytes that workers sent to each other.
    """

    seconds: float
    busy: Mapping[str, float]
    computing: float
    sent: int
    received: int
    between: int

    @property
    def limit(self) -> str:
        """The part that was busy longest."""
        return max(self.busy, key=lambda part: self.busy[part])
