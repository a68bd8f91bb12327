"""The forward and backward pass of a network in strips of tiles.

A strip is finished while it is in the cache, up to the next convolution or pooling:

- Forward, the bias, the ReLU and the pooling are applied to a strip's outputs as they leave the
  transform. If no loss term looks at a layer, the backward pass needs only its mask or, above a max
  pooling, its argmax: a bit instead of a float, or a byte instead of four floats.
- Backward, the mask of the ReLU is applied to derivatives as they leave the transform, and the
  backward pass of a pooling as they enter it. The large derivative between the two is never stored.
"""

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from gramstyle.core import layers
from gramstyle.core.arrays import Array
from gramstyle.core.network import AddSeed, Network, Responses
from gramstyle.engines.bands import bands
from gramstyle.engines.cache import EngineCache
from gramstyle.engines.threads import Workers
from gramstyle.engines.winograd import (
    channels_first,
    first_layer,
    masks,
    products,
    transforms,
)
from gramstyle.engines.winograd.blocks import Block, split, without_weights
from gramstyle.engines.winograd.convolution import Convolution, Convolver
from gramstyle.engines.winograd.layout import flat, padded
from gramstyle.engines.winograd.sources import across, backward_sources, forward_sources
from gramstyle.engines.winograd.storage import NO_BYTES, NO_FLOATS, Storage

# Positions in a strip of the steps that do not use tiles.
POSITIONS = 8192


class WinogradPasses:
    """The two passes of one network in float32 on the CPU; implements `core.objective.Recall`.

    This object owns the responses that `forward` returns and overwrites them in the next call.
    `backward` belongs to the last call of `forward`, `again` or `convert`.

    Parameters
    ----------
    network
        The network up to the deepest layer that a loss term looks at.
    returned
        The layers that loss terms look at. Their responses are returned.
    workers
        The threads.
    cache
        Keeps the kernels in the layout of the passes, for later passes of the same model; None
        keeps nothing.

    Attributes
    ----------
    network
        The same network with NaN for its kernels, so that the original kernels can be freed; the
        passes store them in another layout.
    storage
        All arrays that depend on the size of the image.
    """

    def __init__(
        self,
        network: Network,
        returned: Iterable[str],
        *,
        workers: Workers,
        cache: EngineCache | None = None,
    ) -> None:
        self.network = without_weights(network)
        self._returned = frozenset(returned)
        self._workers = workers
        self._blocks = split(network, EngineCache() if cache is None else cache)
        self.storage = Storage(self.network, self._blocks, self._returned)
        self._convolve = Convolver(workers)

    def forward(self, v: Array) -> Responses:
        """Return the responses (N, H, V) of the returned layers to the input v (3, H, V)."""
        X = self._first_forward(v)
        for block in self._blocks[1:]:
            X = self._block_forward(block, X)
        return dict(self.storage.responses)

    def left(self, H: int, V: int) -> tuple[Array, ...]:
        """Return the flat arrays that `forward` has filled for an input (3, H, V).

        Those of the first block are left out: they are two fifths of the memory, and computing
        them again takes a fiftieth of the time.
        """
        self.storage.allocate(H, V)
        return self.storage.without_first_block()

    def again(self, v: Array) -> Responses:
        """Return what `forward` returned for the same v; does not read the arrays of `left`."""
        self._first_forward(v)
        return dict(self.storage.responses)

    def convert(self, responses: Responses) -> Responses:
        """Return the responses (N, H, V) of another runtime in the layout of these passes.

        Parameters
        ----------
        responses
            The responses of every layer, stored channels first.
        """
        first = responses[self.network.names[0]]
        self.storage.allocate(first.shape[1], first.shape[2])
        for block in self._blocks:
            self._write_masks(block, responses[block.name])
            for name in block.names:
                if name in self._returned:
                    F, out = responses[name], flat(self.storage.responses[name])
                    self._in_bands(channels_first.copy, F, out, F.shape[1])
        return dict(self.storage.responses)

    def backward(self, _responses: Responses, add_seed: AddSeed) -> Array:
        """Return dv (3, H, V), as `Network.backward` does: the blocks of `forward`, reversed."""
        dX: Array | None = None
        below: tuple[Block | None, ...] = (None, *self._blocks[:-1])
        for block, next_block in zip(reversed(self._blocks), reversed(below), strict=True):
            if block.pool is not None and block.pool.name in self._returned:
                dX = add_seed(block.pool.name, dX)
            if block.name in self._returned:
                dX = add_seed(block.name, self._pool_backward(block, dX))
            assert dX is not None  # noqa: S101 - a loss term looks at the deepest layer
            self.storage.release(block)
            if next_block is None:
                return self._first_backward(block, dX)
            dX = self._block_backward(block, dX, next_block)
        raise AssertionError("a network starts with a convolution")

    def _block_forward(self, block: Block, X: Array) -> Array:
        """Return F, or Y if the block has a pooling: X (C, H, V) through a block."""
        _, H, V = X.shape
        C, N, store_f = padded(len(X)), len(block.b), block.name in self._returned
        mask = self.storage.masks.get(block.name, NO_BYTES)
        tile = block.tile
        tables = tuple(forward_sources(length, block.padding, tile) for length in (H, V))
        F = Y = None
        if store_f or block.pool is None:
            F = self.storage.target(block.name, apart_from=X)
        if block.pool is not None:
            Y = self.storage.target(block.pool.name, apart_from=X)
        source, responses, pooled = (
            NO_FLOATS if array is None else flat(array) for array in (X, F, Y)
        )

        def begin(D: Array, patch: Array, first: int, last: int) -> None:
            tiles = (*tables, V, C, tile, across(V, tile), first, last)
            transforms.transform_image(source, *tiles, False, patch, D)

        def finish(Q: Array, out: Array, start: int, width: int, first: int, last: int) -> None:
            tiles = (Q, start, width, block.b, H, V, N, tile, across(V, tile), first, last, out)
            if block.pool is None:
                transforms.write_responses(*tiles, responses, mask, len(mask) > 0)
            elif block.max_pooled:
                transforms.write_max_pooled(*tiles, responses, store_f, pooled, mask)
            else:
                transforms.write_avg_pooled(*tiles, responses, store_f, pooled, mask)

        self._convolve(Convolution(block.kernels, True, tile, C, N, (H, V), begin, finish))
        result = F if Y is None else Y
        assert result is not None  # noqa: S101 - one of the two is written
        return result

    def _block_backward(self, block: Block, dY: Array, below: Block) -> Array:
        """Return dX: dY through the pooling (unless done), the ReLU and the convolution.

        If the convolution below is not returned, dX is masked by its ReLU as well.
        """
        shapes = self.storage.shapes
        H, V = shapes[block.name][1:]
        C, N = padded(shapes[below.name][0]), padded(shapes[block.name][0])
        mask = self.storage.masks.get(block.name, NO_BYTES)
        masked = below.pool is None and below.name not in self._returned
        mask_below = self.storage.masks[below.name] if masked else NO_BYTES
        ring = layers.ring_width(block.padding)
        height, width = H + 2 * ring, V + 2 * ring
        dX = self.storage.buffer((shapes[below.name][0], H, V), apart_from=dY)
        border = np.empty(2 * ring * (height + width) * C, np.float32)
        source, target = flat(dY), flat(dX)
        pool = None if block.name in self._returned else block.pool
        h, v = H // 2, V // 2
        tile = block.tile
        tables = tuple(backward_sources(length, block.padding, tile) for length in (H, V))

        def begin(D: Array, patch: Array, first: int, last: int) -> None:
            tiles: tuple[Any, ...] = (N, tile, across(width, tile), first, last)
            if pool is None:
                transforms.transform_image(source, *tables, V, *tiles, True, patch, D)
            elif pool.kind == "max":
                tiles = (mask, h, v, *tables, *tiles)
                transforms.transform_max_pool_backward(source, *tiles, patch, D)
            else:
                tiles = (h, v, mask, *tables, V, *tiles)
                transforms.transform_avg_pool_backward(source, *tiles, patch, D)

        def finish(Q: Array, out: Array, start: int, channels: int, first: int, last: int) -> None:
            tiles = (H, V, C, ring, tile, across(width, tile), first, last, out)
            arrays = (target, border, mask_below, masked)
            transforms.write_derivatives(Q, start, channels, *tiles, *arrays)

        edges = (height, width)
        self._convolve(Convolution(block.kernels, False, tile, N, C, edges, begin, finish))
        if ring:
            sources = (
                *layers.ring_sources(H, block.padding),
                *layers.ring_sources(V, block.padding),
            )
            transforms.add_border(border, H, V, C, *sources, target, mask_below, masked)
        return dX

    def _first_forward(self, v: Array) -> Array:
        """Return F, or Y if the block has a pooling: v (3, H, V) through the first block."""
        block, (_, H, V) = self._blocks[0], v.shape
        self.storage.allocate(H, V)
        F = self.storage.target(block.name, apart_from=None)
        v = np.ascontiguousarray(v, np.float32)
        around = np.ascontiguousarray(layers.pad_forward(v, block.padding)).reshape(-1)
        N, responses = len(block.b), flat(F)

        def band(rows: slice) -> None:
            taps = self._workers.scratch("taps", (first_layer.POSITIONS * first_layer.TAPS,))
            product = self._workers.scratch("product", (first_layer.POSITIONS * products.WIDE,))
            place = (N, H, V, rows.start, rows.stop, taps, product, responses)
            first_layer.forward(around, block.kernels, block.b, *place)

        self._workers.run(band, _bands(H, V))
        self._write_masks(block, F)
        if block.pool is None:
            return F
        pool = layers.max_pool_forward if block.max_pooled else layers.avg_pool_forward
        Y = self.storage.target(block.pool.name, apart_from=F)
        flat(Y)[:] = 0  # the padding too
        Y[...] = pool(F)
        return Y

    def _first_backward(self, block: Block, dY: Array) -> Array:
        """Return dv (3, H, V): dY, or the masked dF, through the first block."""
        _, H, V = self.storage.shapes[block.name]
        dF = dY if block.name in self._returned else self._pool_backward(block, dY)
        assert dF is not None  # noqa: S101 - dY is not None
        ring = layers.ring_width(block.padding)
        dv = np.empty((3, H + 2 * ring, V + 2 * ring), np.float32)
        source, target = flat(dF), dv.reshape(-1)
        kernels = block.kernels[first_layer.TAPS * len(block.b) :]

        def band(rows: slice) -> None:
            size = first_layer.POSITIONS * max(first_layer.PADDED_TAPS, products.WIDE)
            product = self._workers.scratch("product", (size,))
            place = (len(block.b), H, V, ring, rows.start, rows.stop, product, target)
            first_layer.backward(source, kernels, *place)

        self._workers.run(band, _bands(*dv.shape[1:]))
        return layers.pad_backward(dv, block.padding) if ring else dv

    def _pool_backward(self, block: Block, dY: Array | None) -> Array | None:
        """Return dF: dY through the block's pooling, if there is one, for the whole image."""
        if block.pool is None or dY is None:
            return dY
        shape = self.storage.shapes[block.name]
        dF = self.storage.buffer(shape, apart_from=dY)
        N, h, v = dY.shape
        mask = self.storage.masks.get(block.name, NO_BYTES)
        if shape[1] % 2 or shape[2] % 2:
            flat(dF)[:] = 0
        source, target = flat(dY), flat(dF)
        backward = masks.max_pool_backward if block.max_pooled else masks.avg_pool_backward

        def band(rows: slice) -> None:
            backward(source, mask, v, padded(N), rows.start, rows.stop, shape[2], target)

        self._workers.run(band, _bands(h, v))
        return dF

    def _write_masks(self, block: Block, F: Array) -> None:
        """Write the mask or the argmax of the responses F (N, H, V)."""
        if block.name in self.storage.masks:
            mask = self.storage.masks[block.name]
            if block.max_pooled:
                self._in_bands(channels_first.write_argmax, F, mask, F.shape[1] // 2)
            else:
                self._in_bands(channels_first.write_mask, F, mask, F.shape[1])

    def _in_bands(self, write: Callable[..., None], F: Array, out: Array, count: int) -> None:
        """Convert the responses F (N, H, V) in bands of `count` rows or rows of windows."""
        N, H, V = F.shape
        source = np.ascontiguousarray(F, np.float32).reshape(-1)

        def band(s: slice) -> None:
            write(source, N, H, V, padded(N), s.start, s.stop, out)

        self._workers.run(band, _bands(count, V))


def _bands(height: int, width: int) -> list[slice]:
    """Split rows into bands of about POSITIONS positions."""
    return bands(slice(0, height), max(1, POSITIONS // width))
