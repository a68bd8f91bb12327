"""A network as blocks: each convolution with its ReLU and the pooling after it."""

from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from gramstyle.core.arrays import Array
from gramstyle.core.layers import Padding
from gramstyle.core.network import Network, Pool
from gramstyle.engines.cache import EngineCache
from gramstyle.engines.winograd.algorithm import TILES
from gramstyle.engines.winograd.first_layer import PADDED_TAPS, TAPS
from gramstyle.engines.winograd.kernel_panels import by_taps
from gramstyle.engines.winograd.layout import padded
from gramstyle.engines.winograd.products import pack

# The edges of tiles. Large ones need fewer multiplications, but their transforms take longer, and
# they waste more at the edges of small images. They are used in convolutions of at most so many
# channels, whose images are large and whose kernels are few.
SMALL, LARGE = TILES
FEW_CHANNELS = 256


@dataclass(frozen=True)
class Block:
    """A convolution with its ReLU, and the pooling after it if there is one.

    Attributes
    ----------
    name
        The convolution's name.
    tile
        The edge of its tiles.
    kernels
        The kernels (taps, N, C), padded, flat (see `kernel_panels`); in the first block two arrays
        in panels one after the other, W (27, N) and W (N, 27), the taps padded.
    b
        The bias (N,), padded.
    padding
        How the input is padded.
    pool
        The pooling, or None.
    """

    name: str
    tile: int
    kernels: Array
    b: Array
    padding: Padding
    pool: Pool | None

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the block's layers."""
        return (self.name,) if self.pool is None else (self.name, self.pool.name)

    @property
    def max_pooled(self) -> bool:
        """Whether the block ends in a max pooling."""
        return self.pool is not None and self.pool.kind == "max"


def split(network: Network, cache: EngineCache) -> tuple[Block, ...]:
    """Return the blocks of a network; the cache keeps the kernels in this layout."""
    blocks: list[Block] = []
    for layer, behind in zip(network.layers, (*network.layers[1:], None), strict=True):
        if isinstance(layer, Pool):
            continue
        N = len(layer.b)
        b = np.zeros(padded(N), np.float32)
        b[:N] = layer.b
        tile = LARGE if max(layer.W.shape[:2]) <= FEW_CHANNELS else SMALL
        make = partial(by_taps if blocks else _first, layer.W)
        kernels = cache.array(layer.name, make)
        pool = behind if isinstance(behind, Pool) else None
        blocks.append(Block(layer.name, tile, kernels, b, layer.padding, pool))
    return tuple(blocks)


def _first(kernels: Array) -> Array:
    """Return the kernels of the first block, W (27, N) and W (N, 27), padded, in panels."""
    N = len(kernels)
    W = np.zeros((padded(N), PADDED_TAPS), np.float32)
    W[:N, :TAPS] = kernels.reshape(N, TAPS)
    return np.concatenate([pack(W.T[None, :TAPS]), pack(W[None])])


def without_weights(network: Network) -> Network:
    """Return the network with NaN for all kernels, as a broadcast array that takes no memory."""
    return Network(
        tuple(
            layer
            if isinstance(layer, Pool)
            else replace(layer, W=np.broadcast_to(np.float32(np.nan), layer.W.shape))
            for layer in network.layers
        )
    )
