"""A network as blocks: each convolution with its ReLU and the pooling after it."""

from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from gramstyle.core.arrays import Array
from gramstyle.core.layers import Padding
from gramstyle.core.network import Convolution, Network, Pool
from gramstyle.engines.cache import EngineCache
from gramstyle.engines.winograd.algorithm import transform_kernels
from gramstyle.engines.winograd.layout import padded


@dataclass(frozen=True)
class Block:
    """A convolution with its ReLU, and the pooling after it if there is one.

    Attributes
    ----------
    name
        The convolution's name.
    weights
        The transformed kernels U (36, C, N); in the first block the kernels W (27, N). Channels
        are padded.
    b
        The bias (N,), padded.
    padding
        How the input is padded.
    pool
        The pooling, or None.
    """

    name: str
    weights: Array
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
    """Return the blocks of a network; the cache keeps the transformed kernels."""
    blocks: list[Block] = []
    for layer, behind in zip(network.layers, (*network.layers[1:], None), strict=True):
        if isinstance(layer, Pool):
            continue
        N = len(layer.b)
        b = np.zeros(padded(N), np.float32)
        b[:N] = layer.b
        weights = cache.array(layer.name, partial(_transformed if blocks else _flat, layer))
        pool = behind if isinstance(behind, Pool) else None
        blocks.append(Block(layer.name, weights, b, layer.padding, pool))
    return tuple(blocks)


def _transformed(layer: Convolution) -> Array:
    """Return the transformed kernels U (36, C, N), padded."""
    N, C = layer.W.shape[:2]
    W = np.zeros((padded(N), padded(C), 3, 3), np.float32)
    W[:N, :C] = layer.W
    return transform_kernels(W)


def _flat(layer: Convolution) -> Array:
    """Return the kernels W (27, N) of the first block, padded."""
    N, C = layer.W.shape[:2]
    W = np.zeros((padded(N), C, 3, 3), np.float32)
    W[:N] = layer.W
    return W.transpose(1, 2, 3, 0).reshape(-1, len(W))


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
