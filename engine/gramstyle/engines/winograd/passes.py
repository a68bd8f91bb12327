"""A network forward and backward in strips of tiles, nothing in memory that nobody reads.

Between two convolutions, and between a convolution and a pooling, a strip is finished while it is
in the cache:

- forward, bias, ReLU and pooling are done as a strip's outputs come out of the transform. Of a
  layer that no loss term looks at, the backward needs only which ReLUs were open, or which of each
  window was the largest: a byte instead of a float, and above a max pooling one for four;
- backward, the ReLU's mask is applied as derivatives come out of the transform, and a pooling's
  backward as they go in: the large derivative between the two is never written.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import numpy as np

from gramstyle.core import layers
from gramstyle.core.arrays import Array
from gramstyle.core.network import AddSeed, Network, Pool, Responses
from gramstyle.engines.threads import Workers
from gramstyle.engines.winograd import channels_first as adopting
from gramstyle.engines.winograd import transforms as tiles
from gramstyle.engines.winograd.algorithm import PATCH, TILE, transform_kernels
from gramstyle.engines.winograd.layout import channels_last, flat, matrix, padded

# Tiles in a strip, at most: enough rows for an efficient matrix product, few enough for a strip's
# 36 transformed planes to stay in the cache.
TILES = 128

# Positions in a strip of the first layer, which has too few channels for tiles to pay.
POSITIONS = 8192

_NONE = np.empty(0, np.float32)
_NO_BYTES = np.empty(0, np.uint8)


@dataclass(frozen=True)
class _Stage:
    """A convolution, and the pooling behind it if there is one."""

    name: str
    weights: Array  # U (36, C, N), of the first stage W (27, N), channels padded
    b: Array  # padded too
    pool: Pool | None


class WinogradPasses:
    """The two passes of one network, in float32 on the CPU; lives as long as its objective.

    What `forward` returns is this object's own and is overwritten by the next call. `backward`
    belongs to the `forward` or `adopt` before it.

    Parameters
    ----------
    network
        Up to the deepest layer that a loss term looks at.
    kept
        The layers that loss terms look at: their responses are returned.
    workers
        The threads that work.

    Attributes
    ----------
    network
        The same network with NaN for its kernels, which take no memory: they are kept here in a
        form of their own, and nobody else needs them.
    """

    def __init__(self, network: Network, kept: Iterable[str], *, workers: Workers) -> None:
        self.network = _without_weights(network)
        self._kept = frozenset(kept)
        self._workers = workers
        self._stages = _stages(network)
        self._shapes: dict[str, tuple[int, int, int]] = {}
        self._responses: dict[str, Array] = {}
        # By stage: a byte for each ReLU that says whether it was open, or for each window of a
        # max pooling which of its four was the largest.
        self._notes: dict[str, Array] = {}
        self._memory, self._note_memory = _NONE, _NO_BYTES  # of responses and notes
        self._buffers = [_NONE, _NONE]
        # The responses that a backward pass has passed: nobody reads them any more.
        self._passed = _NONE

    def forward(self, v: Array) -> Responses:
        """Return the kept responses (N, H, V) to the input v (3, H, V)."""
        self._allocate(v.shape[1], v.shape[2])
        X = self._first_forward(self._stages[0], np.ascontiguousarray(v, np.float32))
        for stage in self._stages[1:]:
            X = self._forward(stage, X)
        return dict(self._responses)

    def left(self, H: int, V: int) -> tuple[Array, ...]:
        """Return the flat arrays that `forward` has left for an input (3, H, V).

        Without those of the first layer: two fifths of the memory, a fiftieth of the work.
        """
        self._allocate(H, V)
        first = self._stages[0]
        behind = first.pool.name if first.pool is not None else first.name
        start = sum(
            flat(F).size for name, F in self._responses.items() if name in (first.name, behind)
        )
        end = sum(flat(F).size for F in self._responses.values())
        notes = (self._notes.get(stage.name, _NO_BYTES) for stage in self._stages[1:])
        return (self._memory[start:end], *(array for array in notes if len(array)))

    def again(self, v: Array) -> Responses:
        """Return what `forward` has returned for the same v; nothing of `left` is looked at."""
        self._allocate(v.shape[1], v.shape[2])
        self._first_forward(self._stages[0], np.ascontiguousarray(v, np.float32))
        return dict(self._responses)

    def adopt(self, responses: Responses) -> Responses:
        """Take over the responses (N, H, V) of every layer from elsewhere; return the kept ones."""
        first = responses[self.network.names[0]]
        self._allocate(first.shape[1], first.shape[2])
        for stage in self._stages:
            self._adopt(stage, responses)
        return dict(self._responses)

    def backward(self, _responses: Responses, add_seed: AddSeed) -> Array:
        """Return dv (3, H, V), as `Network.backward` does: the stages of `forward`, reversed."""
        dX: Array | None = None
        below: tuple[_Stage | None, ...] = (None, *self._stages[:-1])
        for stage, next_stage in zip(reversed(self._stages), reversed(below), strict=True):
            if stage.pool is not None and stage.pool.name in self._kept:
                dX = add_seed(stage.pool.name, dX)
            if stage.name in self._kept:
                dX = add_seed(stage.name, self._unpooled(stage, dX))
            assert dX is not None  # noqa: S101 - the deepest layer is kept
            self._pass(stage)
            if next_stage is None:
                return self._first_backward(stage, dX)
            dX = self._backward(stage, dX, next_stage)
        raise AssertionError("a network starts with a convolution")

    def _forward(self, stage: _Stage, X: Array) -> Array:
        """Through a convolution and its ReLU, and the pooling behind: X (C, H, V) → F or Y."""
        _, H, V = X.shape
        C, N, keep = padded(len(X)), len(stage.b), stage.name in self._kept
        notes = self._notes.get(stage.name, _NO_BYTES)
        F = self._target(stage.name, besides=X) if keep or stage.pool is None else None
        Y = None if stage.pool is None else self._target(stage.pool.name, besides=X)
        source, responses, pooled = (_NONE if array is None else flat(array) for array in (X, F, Y))

        def finish(Q: Array, first: int, last: int) -> None:
            area = (Q, stage.b, H, V, N, _across(V), first, last)
            if stage.pool is None:
                tiles.respond(*area, responses, notes, True, len(notes) > 0)
            elif stage.pool.kind == "max":
                tiles.respond_max_pooled(*area, responses, keep, pooled, notes)
            else:
                tiles.respond_avg_pooled(*area, responses, keep, pooled, notes)

        def begin(D: Array, patch: Array, first: int, last: int) -> None:
            tiles.transform(source, H, V, C, _across(V), first, last, False, patch, D)

        self._in_strips(stage.weights, H, V, begin, finish)
        result = F if Y is None else Y
        assert result is not None  # noqa: S101 - one of the two is written
        return result

    def _backward(self, stage: _Stage, dY: Array, below: _Stage) -> Array:
        """Through the pooling, unless that is done, the ReLU and the convolution: dY → dX.

        Below a convolution that is not kept, its ReLU is crossed as well.
        """
        H, V = self._shapes[stage.name][1:]
        C, N = padded(self._shapes[below.name][0]), padded(self._shapes[stage.name][0])
        notes = self._notes.get(stage.name, _NO_BYTES)
        masked = below.pool is None and below.name not in self._kept
        open_ = self._notes[below.name] if masked else _NO_BYTES
        dX = self._buffer((self._shapes[below.name][0], H, V), besides=dY)
        source, target = flat(dY), flat(dX)
        pool = None if stage.name in self._kept else stage.pool
        h, v = H // 2, V // 2

        def begin(D: Array, patch: Array, first: int, last: int) -> None:
            span = (N, _across(V), first, last)
            if pool is None:
                tiles.transform(source, H, V, *span, True, patch, D)
            elif pool.kind == "max":
                tiles.transform_max_pooled(source, notes, h, v, *span, patch, D)
            else:
                tiles.transform_avg_pooled(source, h, v, notes, V, *span, patch, D)

        def finish(Q: Array, first: int, last: int) -> None:
            tiles.derive(Q, H, V, C, _across(V), first, last, target, open_, masked)

        self._in_strips(stage.weights.swapaxes(1, 2), H, V, begin, finish)
        return dX

    def _in_strips(
        self,
        U: Array,
        H: int,
        V: int,
        begin: Callable[[Array, Array, int, int], None],
        finish: Callable[[Array, int, int], None],
    ) -> None:
        """Transform, multiply and transform back all tiles of an image (H, V)."""
        _, C, N = U.shape
        count = _across(H) * _across(V)
        length = min(TILES, max(TILES // 4, -(-count // 4)))

        def strip(first: int) -> None:
            last = min(first + length, count)
            D = self._workers.scratch("D", (PATCH**2, last - first, C))
            Q = self._workers.scratch("Q", (PATCH**2, last - first, N))
            patch = self._workers.scratch("patch", (PATCH**2 * C,))
            begin(D.reshape(-1), patch, first, last)
            np.matmul(D, U, out=Q)
            finish(Q.reshape(-1), first, last)

        self._workers.run(strip, range(0, count, length))

    def _first_forward(self, stage: _Stage, v: Array) -> Array:
        """Through the first convolution and its ReLU: v (3, H, V) → F (N, H, V)."""
        _, H, V = v.shape
        F = self._target(stage.name, besides=None)
        out = matrix(F)
        around = np.pad(v, ((0, 0), (1, 1), (1, 1)))

        def strip(rows: slice) -> None:
            n = rows.stop - rows.start
            taps = self._workers.scratch("taps", (3, 3, 3, n, V))
            for i in range(3):
                for j in range(3):
                    taps[:, i, j] = around[:, rows.start + i : rows.stop + i, j : j + V]
            here = out[rows.start * V : rows.stop * V]
            np.matmul(taps.reshape(27, n * V).T, stage.weights, out=here)
            here += stage.b
            np.maximum(here, 0, out=here)

        self._workers.run(strip, _bands(H, V))
        Y = F
        if stage.pool is not None:
            pool = layers.max_pool_forward if stage.pool.kind == "max" else layers.avg_pool_forward
            Y = self._target(stage.pool.name, besides=F)
            flat(Y)[:] = 0  # its padding too
            Y[...] = pool(F)
        self._note(stage, F)
        return Y

    def _first_backward(self, stage: _Stage, dY: Array) -> Array:
        """Back through it: dF, masked, or dY of the pooling behind it → dv (3, H, V)."""
        _, H, V = self._shapes[stage.name]
        dF = dY if stage.name in self._kept else self._unpooled(stage, dY)
        assert dF is not None  # noqa: S101 - as dY is
        dZ = matrix(dF)
        dv = np.empty((3, H, V), np.float32)

        def strip(rows: slice) -> None:
            top, bottom = max(rows.start - 1, 0), min(rows.stop + 1, H)
            product = self._workers.scratch("taps", (27, (bottom - top) * V))
            np.matmul(stage.weights, dZ[top * V : bottom * V].T, out=product)
            spread = product.reshape(3, 3, 3, bottom - top, V)
            total = dv[:, rows]
            total[...] = 0
            for i in range(3):
                # dv at row y takes from dZ at row y − i + 1; what lies outside is zero.
                first, last = max(rows.start - i + 1, 0), min(rows.stop - i + 1, H)
                lines = slice(first + i - 1 - rows.start, last + i - 1 - rows.start)
                for j in range(3):
                    to, of = slice(max(j - 1, 0), V + min(j - 1, 0)), 1 - j
                    moved = spread[:, i, j, first - top : last - top, to.start + of : to.stop + of]
                    total[:, lines, to] += moved

        self._workers.run(strip, _bands(H, V))
        return dv

    def _unpooled(self, stage: _Stage, dY: Array | None) -> Array | None:
        """Through the pooling behind a stage, if there is one, the whole derivative at once."""
        if stage.pool is None or dY is None:
            return dY
        shape = self._shapes[stage.name]
        dX = self._buffer(shape, besides=dY)
        N, h, v = dY.shape
        notes = self._notes.get(stage.name, _NO_BYTES)
        if shape[1] % 2 or shape[2] % 2:
            flat(dX)[:] = 0
        source, target = flat(dY), flat(dX)

        def rows(s: slice) -> None:
            area = (v, padded(N), s.start, s.stop, shape[2], target)
            if stage.pool is not None and stage.pool.kind == "max":
                tiles.unpool_max(source, notes, *area)
            else:
                tiles.unpool_avg(source, notes, *area)

        self._workers.run(rows, _bands(h, v))
        return dX

    def _adopt(self, stage: _Stage, responses: Responses) -> None:
        """Copy and note what one stage leaves behind."""
        self._note(stage, responses[stage.name])
        for name in (stage.name, *([] if stage.pool is None else [stage.pool.name])):
            if name in self._kept:
                self._by_rows(adopting.copy_rows, responses[name], flat(self._responses[name]))

    def _note(self, stage: _Stage, F: Array) -> None:
        """Note of responses (N, H, V) what the backward needs to know."""
        if stage.name in self._notes:
            largest = stage.pool is not None and stage.pool.kind == "max"
            note = adopting.note_largest if largest else adopting.note_open
            self._by_rows(note, F, self._notes[stage.name], rows=F.shape[1] // (1 + largest))

    def _by_rows(
        self, write: Callable[..., None], F: Array, out: Array, *, rows: int | None = None
    ) -> None:
        """Take over responses (N, H, V), a band of `rows` at a time."""
        N, H, V = F.shape
        source = np.ascontiguousarray(F, np.float32).reshape(-1)

        def band(s: slice) -> None:
            write(source, N, H, V, padded(N), s.start, s.stop, out)

        self._workers.run(band, _bands(H if rows is None else rows, V))

    def _allocate(self, H: int, V: int) -> None:
        """Make room for the responses and notes of an image of this size."""
        self._passed = _NONE
        shapes = self.network.shapes(H, V)
        if shapes == self._shapes:
            return
        self._responses.clear()
        self._notes.clear()
        self._shapes = shapes
        # One behind the other, so that those that a backward pass has passed are one stretch.
        kept = {name: shape for name, shape in shapes.items() if name in self._kept}
        ends = np.cumsum([padded(N) * h * v for N, h, v in kept.values()])
        self._memory = _at_least(self._memory, int(ends[-1]))
        for (name, shape), start in zip(kept.items(), (0, *ends[:-1]), strict=True):
            self._responses[name] = channels_last(shape, self._memory[start:])
            if padded(shape[0]) != shape[0]:
                flat(self._responses[name])[:] = 0
        sizes: dict[str, int] = {}
        for stage in self._stages:
            N, h, v = shapes[stage.name]
            if stage.pool is not None and stage.pool.kind == "max":
                h, v = h // 2, v // 2
            if stage.pool is not None or stage.name not in self._kept:
                sizes[stage.name] = h * v * padded(N)
        self._note_memory = _at_least(self._note_memory, sum(sizes.values()))
        self._note_memory[:] = 0
        start = 0
        for name, size in sizes.items():
            self._notes[name] = self._note_memory[start : start + size]
            start += size

    def _target(self, name: str, *, besides: Array | None) -> Array:
        """Return where the responses of a layer go: kept, or a buffer that is not `besides`."""
        if name in self._kept:
            return self._responses[name]
        return self._buffer(self._shapes[name], besides=besides)

    def _pass(self, stage: _Stage) -> None:
        """Take note that what a stage has responded is not read any more in this pass."""
        for name in (stage.name, stage.pool and stage.pool.name):
            if name in self._responses:
                memory = self._responses[name].base
                assert memory is not None  # noqa: S101 - it is a part of one
                start = (flat(self._responses[name]).ctypes.data - memory.ctypes.data) // 4
                self._passed = memory[start:]
                return

    def _buffer(self, shape: tuple[int, int, int], *, besides: Array | None) -> Array:
        """Return an array to write to that does not touch `besides`, its contents undefined.

        It is one of two buffers; but before a buffer has to grow, responses are written over that
        the pass has passed.
        """
        size = padded(shape[0]) * shape[1] * shape[2]
        ends = (self._passed[:size], self._passed[max(len(self._passed) - size, 0) :])
        for place in (*self._buffers, *ends):
            if place.size >= size and not (
                besides is not None and np.may_share_memory(place, besides)
            ):
                return channels_last(shape, place)
        smaller = 0 if besides is None or not np.may_share_memory(self._buffers[0], besides) else 1
        self._buffers[smaller] = np.empty(size, np.float32)
        return channels_last(shape, self._buffers[smaller])


def _stages(network: Network) -> tuple[_Stage, ...]:
    """Return the network's convolutions, each with the pooling behind it."""
    stages: list[_Stage] = []
    for layer, behind in zip(network.layers, (*network.layers[1:], None), strict=True):
        if isinstance(layer, Pool):
            continue
        N, C = layer.W.shape[:2]
        b = np.zeros(padded(N), np.float32)
        b[:N] = layer.b
        W = np.zeros((padded(N), padded(C) if stages else C, 3, 3), np.float32)
        W[:N, :C] = layer.W
        weights = transform_kernels(W) if stages else W.transpose(1, 2, 3, 0).reshape(-1, len(W))
        pool = behind if isinstance(behind, Pool) else None
        stages.append(_Stage(layer.name, weights, b, pool))
    return tuple(stages)


def _at_least(memory: Array, size: int) -> Array:
    """Return memory of this size: the same if it is large enough, as another image had it."""
    return memory if len(memory) >= size else np.zeros(size, memory.dtype)


def _without_weights(network: Network) -> Network:
    return Network(
        tuple(
            layer
            if isinstance(layer, Pool)
            else replace(layer, W=np.broadcast_to(np.float32(np.nan), layer.W.shape))
            for layer in network.layers
        )
    )


def _across(length: int) -> int:
    """Return how many tiles cover an edge."""
    return -(-length // TILE)


def _bands(height: int, width: int) -> list[slice]:
    """Split rows into bands of about POSITIONS positions."""
    rows = max(1, POSITIONS // width)
    return [slice(start, min(start + rows, height)) for start in range(0, height, rows)]
