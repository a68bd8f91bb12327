"""The arrays of `WinogradPasses`: responses, masks and derivatives of an image of one size."""

from collections.abc import Sequence

import numpy as np

from gramstyle.core.arrays import Array
from gramstyle.core.network import Network
from gramstyle.engines.winograd.blocks import Block
from gramstyle.engines.winograd.layout import channels_last, flat, padded

NO_FLOATS = np.empty(0, np.float32)
NO_BYTES = np.empty(0, np.uint8)


class Storage:
    """The arrays of one network's passes, which are allocated again only for a larger image.

    Attributes
    ----------
    shapes
        The shape (N, H, V) of every layer's responses.
    responses
        The responses of the layers that the forward pass returns, consecutive in memory.
    masks
        By block, what the backward pass needs to know of the responses: a bit for each, or a byte
        for each window of a max pooling (see `masks`). A block that returns its
        responses and has no pooling needs none.
    buffers
        Two buffers, for everything else.
    """

    def __init__(self, network: Network, blocks: Sequence[Block], returned: frozenset[str]) -> None:
        self._network, self._blocks, self._returned = network, blocks, returned
        self.shapes: dict[str, tuple[int, int, int]] = {}
        self.responses: dict[str, Array] = {}
        self.masks: dict[str, Array] = {}
        self.buffers = [NO_FLOATS, NO_FLOATS]
        self._floats, self._bytes = NO_FLOATS, NO_BYTES  # memory of the responses and the masks
        self._released = NO_FLOATS

    def allocate(self, H: int, V: int) -> None:
        """Allocate responses and masks for an image of this size, if the last one had another."""
        self._released = NO_FLOATS
        shapes = self._network.shapes(H, V)
        if shapes == self.shapes:
            return
        self.responses.clear()
        self.masks.clear()
        self.shapes = shapes
        # Consecutive, so that released responses are contiguous.
        returned = {name: shape for name, shape in shapes.items() if name in self._returned}
        ends = np.cumsum([padded(N) * h * v for N, h, v in returned.values()])
        self._floats = _at_least(self._floats, int(ends[-1]))
        for (name, shape), start in zip(returned.items(), (0, *ends[:-1]), strict=True):
            self.responses[name] = channels_last(shape, self._floats[start:])
            if padded(shape[0]) != shape[0]:
                flat(self.responses[name])[:] = 0
        sizes: dict[str, int] = {}
        for block in self._blocks:
            N, h, v = shapes[block.name]
            if block.max_pooled:
                sizes[block.name] = (h // 2) * (v // 2) * padded(N)
            elif block.pool is not None or block.name not in self._returned:
                sizes[block.name] = h * v * padded(N) // 8
        self._bytes = _at_least(self._bytes, sum(sizes.values()))
        self._bytes[:] = 0
        start = 0
        for name, size in sizes.items():
            self.masks[name] = self._bytes[start : start + size]
            start += size

    def without_first_block(self) -> tuple[Array, ...]:
        """Return responses and masks of all blocks but the first, as flat arrays."""
        first = self._blocks[0].names
        start = sum(flat(F).size for name, F in self.responses.items() if name in first)
        end = sum(flat(F).size for F in self.responses.values())
        masks = (self.masks.get(block.name, NO_BYTES) for block in self._blocks[1:])
        return (self._floats[start:end], *(mask for mask in masks if len(mask)))

    def target(self, name: str, *, apart_from: Array | None) -> Array:
        """Return the array for a layer's responses: one to return, or a buffer."""
        if name in self.responses:
            return self.responses[name]
        return self.buffer(self.shapes[name], apart_from=apart_from)

    def release(self, block: Block) -> None:
        """Let later derivatives overwrite the responses of this block and those above it."""
        for name in block.names:
            if name in self.responses:
                offset = flat(self.responses[name]).ctypes.data - self._floats.ctypes.data
                self._released = self._floats[offset // 4 :]
                return

    def buffer(self, shape: tuple[int, int, int], *, apart_from: Array | None) -> Array:
        """Return an array that shares no memory with `apart_from`, its contents undefined.

        It is one of the two buffers, or the memory of released responses if a buffer would have to
        grow.
        """
        size = padded(shape[0]) * shape[1] * shape[2]
        ends = (self._released[:size], self._released[max(len(self._released) - size, 0) :])
        for place in (*self.buffers, *ends):
            if place.size >= size and not _overlap(place, apart_from):
                return channels_last(shape, place)
        index = int(_overlap(self.buffers[0], apart_from))
        self.buffers[index] = np.empty(size, np.float32)
        return channels_last(shape, self.buffers[index])


def _overlap(place: Array, other: Array | None) -> bool:
    return other is not None and np.may_share_memory(place, other)


def _at_least(memory: Array, size: int) -> Array:
    """Return memory of at least this size: the same if it is large enough."""
    return memory if len(memory) >= size else np.zeros(size, memory.dtype)
