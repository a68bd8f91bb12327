"""Every CUDA kernel, every kernel of the engine and the forward pass against the plain ones."""

import itertools
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np

from gramstyle.core import layers
from gramstyle.core.arrays import Array
from gramstyle.core.kernels import PlainKernels
from gramstyle.core.layers import PADDINGS, Padding
from gramstyle.core.network import Convolution, Network, Pool
from gramstyle.engines.cuda.device import Device
from gramstyle.engines.cuda.forward import ForwardPass, taps_of
from gramstyle.engines.cuda.kernels import DeviceKernels
from gramstyle.engines.cuda.products import Buffers, convolve, positions_first
from gramstyle.engines.cuda.steps import NUMPY_STEPS, steps

from .parts import Work

# ‖found − plain‖ / ‖plain‖ that passes: sums of up to 4,608 products in another order.
TOLERANCES = {"float32": 1e-5, "float64": 1e-12}
# N, C, H, V: odd sizes, one row, few channels, all of VGG-19's; strips of several rows and of one.
SHAPES = [(1, 1, 1, 1), (3, 4, 5, 7), (30, 3, 9, 6), (64, 3, 33, 45), (64, 64, 17, 23)]
LARGE = [(128, 64, 31, 37), (512, 512, 13, 9)]
ENTRIES = 1 << 14


class NanBuffers(Buffers):
    """Buffers that are full of NaN each time they are asked for."""

    def __call__(self, name: str, shape: tuple[int, ...], like: Array) -> Array:
        array = super().__call__(name, shape, like)
        array[...] = np.nan
        return array


def checks(device: Device, rng: np.random.Generator, *, small: bool) -> Iterator[tuple[str, Work]]:
    """Yield all checks, in float32 and float64; small shapes only if `small`."""
    shapes = SHAPES[:4] if small else [*SHAPES, *LARGE]
    for dtype in TOLERANCES:
        tested = Tested(device, rng, dtype)
        for name, check in tested.elementwise():
            yield f"step {name}, {dtype}", check
        for padding in PADDINGS:
            for name, check in tested.flat(padding):
                yield f"step {name}, {padding}, {dtype}", check
        for shape, padding in itertools.product(shapes, PADDINGS):
            if padding != "reflect" or min(shape[2:]) > 1:
                where = "×".join(map(str, shape))
                name = f"convolution {where}, {padding}, {dtype}"
                yield name, partial(tested.convolution, shape, padding)
        for name, check in tested.terms():
            yield f"{name}, {dtype}", check
        for kind in ("max", "avg"):
            yield f"{kind} pooling backward, {dtype}", partial(tested.pooling, kind)
            for padding in PADDINGS:
                name = f"forward pass, {kind}, {padding}, {dtype}"
                yield name, partial(tested.forward, kind, padding)


class Tested:
    """What is compared in one float type."""

    def __init__(self, device: Device, rng: np.random.Generator, dtype: str) -> None:
        self._device, self._rng, self._dtype = device, rng, np.dtype(dtype)
        self._tolerance = TOLERANCES[dtype]
        self._buffers = NanBuffers(ENTRIES)
        self._kernels = DeviceKernels(self._buffers)

    def random(self, *shape: int) -> Array:
        """Return normal numbers, exact in the float type, with some zeros among them."""
        values = self._rng.standard_normal(shape).astype(self._dtype)
        values[self._rng.uniform(size=shape) < 0.05] = 0  # the kink of the ReLU, ties of poolings
        return values

    def close(self, found: Any, expected: Any) -> float:
        """Return the relative difference; raise an error if it is too large or not a number."""
        found = np.asarray(self._device.to_host(found), np.float64)
        expected = np.asarray(expected, np.float64)
        apart = float(np.linalg.norm(found - expected)) / (float(np.linalg.norm(expected)) or 1.0)
        if found.shape != expected.shape or not apart <= self._tolerance:
            raise ValueError(f"differs from the plain one by {apart:.2g} of its norm")
        return apart

    def place(self, array: Array) -> Array:
        """Return a copy on the device."""
        return self._device.to_device(array)

    # The CUDA kernels

    def elementwise(self) -> Iterator[tuple[str, Work]]:
        """Yield a check of each kernel that has one entry of each array."""
        shape = (7, 5, 12)
        for name, read, written in (
            ("mask", 2, 1), ("largest", 4, 1), ("mean", 4, 1), ("unpool", 5, 4), ("spread", 1, 4),
        ):  # fmt: skip
            yield name, partial(self._entries, name, [shape] * read, written)
        yield "relu", partial(self._in_place, "relu", [(12,)], ())
        yield "add_difference", partial(self._in_place, "add_difference", [shape] * 2, (0.5,))

    def _entries(self, name: str, read: Sequence[tuple[int, ...]], written: int) -> float:
        given = [self.random(*shape) for shape in read]
        expected = [np.full(given[0].shape, np.nan, self._dtype) for _ in range(written)]
        found = [self.place(each) for each in expected]
        getattr(NUMPY_STEPS, name)(*given, *expected)
        getattr(steps(self._device.xp), name)(*map(self.place, given), *found)
        return max(self.close(*pair) for pair in zip(found, expected, strict=True))

    def _in_place(
        self, name: str, read: Sequence[tuple[int, ...]], numbers: tuple[float, ...]
    ) -> float:
        given, expected = [self.random(*shape) for shape in read], self.random(7, 5, 12)
        found, last = self.place(expected), [self._dtype.type(number) for number in numbers]
        getattr(NUMPY_STEPS, name)(*given, *last, expected)
        getattr(steps(self._device.xp), name)(*map(self.place, given), *last, found)
        return self.close(found, expected)

    def flat(self, padding: Padding) -> Iterator[tuple[str, Work]]:
        """Yield checks of the kernels that index flat arrays, for 3 and for 8 channels."""
        for (H, V, C), group in (((5, 7, 3), 3), ((4, 3, 8), 2)):
            edges: tuple[int, ...] = (-1, -1, -1, -1)
            if padding != "zeros":
                sources = (layers.ring_sources(length, padding) for length in (H, V))
                edges = tuple(itertools.chain(*sources))
            number, X = PADDINGS.index(padding), H * V * C
            for first, rows in ((0, H), (1, 2)):
                how: tuple[int, ...] = (H, V, C, group, first, V, 1, number)
                size = rows * V * 9
                yield "patches", partial(self._flat, "patches", X, how, size * C, size * group)
            how = (H, V, C, *edges)
            yield "unpatch", partial(self._flat, "unpatch", 9 * X, how, X, X)
            if padding != "zeros":
                ring, how = (H + 2) * (V + 2) * C, (H, V, C, group, *edges)
                yield "fold", partial(self._flat, "fold", ring, how, X, H * V * group)

    def _flat(
        self, name: str, read: int, how: tuple[int, ...], written: int, threads: int
    ) -> float:
        given, expected = self.random(read), np.full(written, np.nan, self._dtype)
        found = self.place(expected)
        getattr(NUMPY_STEPS, name)(given, *how, expected, size=threads)
        getattr(steps(self._device.xp), name)(self.place(given), *how, found, size=threads)
        return self.close(found, expected)

    # The kernels of the engine

    def convolution(self, shape: tuple[int, int, int, int], padding: Padding) -> float:
        """Compare both passes of a convolution."""
        N, C, H, V = shape
        W, X, dF, F = (self.random(*s) for s in ((N, C, 3, 3), (C, H, V), (N, H, V), (N, H, V)))
        weights = self.place(W)
        Z = self._buffers("Z", (H, V, N), weights)
        image = self.place(np.ascontiguousarray(positions_first(X)))
        convolve(image, taps_of(weights), Z, self._buffers, padding)
        W = W.astype(np.float64)
        expected = layers.conv2d_forward(X.astype(np.float64), W, np.zeros(N), padding)
        there = self.close(Z, positions_first(expected))
        dX = self._kernels.convolution_backward(self.place(dF), self.place(F), weights, padding)
        plain = PlainKernels().convolution_backward(dF.astype(np.float64), F, W, padding)
        return max(there, self.close(dX, plain))

    def pooling(self, kind: Any) -> float:
        """Compare the backward pass of a pooling, with ties."""
        said = []
        for C, H, V in ((3, 5, 7), (8, 6, 4)):
            X, dY = self._rng.integers(0, 3, (C, H, V)), self.random(C, H // 2, V // 2)
            X = X.astype(self._dtype)
            found = self._kernels.pool_backward(self.place(dY), self.place(X), kind)
            said.append(self.close(found, PlainKernels().pool_backward(dY, X, kind)))
        return max(said)

    def terms(self) -> Iterator[tuple[str, Work]]:
        """Yield a check of each kernel of the loss terms: whole, and in an area."""
        areas: tuple[Any, ...] = (None, (slice(1, 4), slice(2, 7)))
        N, H, V = 6, 5, 9
        symmetric = self.random(N, N)
        symmetric += symmetric.T.copy()
        for owned in areas:
            F = np.abs(self.random(N, H, V))
            here = F if owned is None else F[:, owned[0], owned[1]]
            T = np.abs(self.random(*here.shape[1:]))
            where = "whole" if owned is None else "in an area"
            sums: tuple[tuple[str, tuple[Any, ...]], ...] = (
                ("gram", (owned,)), ("gram", (owned, T)),
            )  # fmt: skip
            for name, arguments in sums:
                guided = " guided" if len(arguments) == 2 else ""
                yield f"{name}{guided} {where}", partial(self._sum, name, F, arguments)
            for pairs in (False, True):
                said = f"moments{' of pairs' if pairs else ''} {where}"
                yield said, partial(self._moments, F, owned, pairs=pairs)
            gradients: tuple[tuple[str, tuple[Any, ...]], ...] = (
                ("add_style_gradient", (symmetric, 0.5 * symmetric, 45.0, 3.0, owned)),
                ("add_style_gradient", (symmetric, 0.5 * symmetric, 9.5, 3.0, owned, T)),
                ("add_content_gradient", (self.random(*here.shape), 0.5, owned)),
                ("add_affine_gradient", (symmetric, symmetric[0], owned)),
                ("add_affine_gradient", (symmetric[1], symmetric[0], owned)),
                ("add_gradient", (self.random(*here.shape), owned)),
            )
            for name, arguments in gradients:
                yield f"{name} {where}", partial(self._gradient, name, F, arguments)

    def _sum(self, name: str, F: Array, arguments: tuple[Any, ...]) -> float:
        found = getattr(self._kernels, name)(self.place(F), *map(self._placed, arguments))
        return self.close(found, getattr(PlainKernels(), name)(F.astype(np.float64), *arguments))

    def _moments(self, F: Array, owned: Any, *, pairs: bool) -> float:
        found = self._kernels.moments(self.place(F), owned, pairs=pairs)
        expected = PlainKernels().moments(F.astype(np.float64), owned, pairs=pairs)
        mean = self.close(found.mean, expected.mean)
        return max(mean, self.close(found.products, expected.products))

    def _gradient(self, name: str, F: Array, arguments: tuple[Any, ...]) -> float:
        # Where F = 0 the plain kernels apply the ReLU's mask; the device's leave it to the ReLU.
        F = F + self._dtype.type(0.1)
        said = []
        for before in (None, self.random(*F.shape)):
            plain: Callable[..., Array] = getattr(PlainKernels(), name)
            expected = plain(None if before is None else before.copy(), F, *arguments)
            dF = None if before is None else self.place(before)
            found = getattr(self._kernels, name)(dF, self.place(F), *map(self._placed, arguments))
            said.append(self.close(found, expected))
        return max(said)

    def _placed(self, argument: Any) -> Any:
        return self.place(argument) if isinstance(argument, np.ndarray) else argument

    # The forward pass

    def forward(self, kind: Any, padding: Padding) -> float:
        """Compare every layer's responses, at two calls."""
        network = Network(
            (
                Convolution("conv1_1", self.random(8, 3, 3, 3), self.random(8)),
                Convolution("conv1_2", self.random(8, 8, 3, 3) / 8, self.random(8)),
                Pool("pool1", kind),
                Convolution("conv2_1", self.random(7, 8, 3, 3) / 8, self.random(7)),
            )
        ).padded_by(padding)
        placed = Network(
            tuple(
                Convolution(each.name, self.place(each.W), self.place(each.b), each.padding)
                if isinstance(each, Convolution)
                else each
                for each in network.layers
            )
        )
        run, plain, said = ForwardPass(placed, self._buffers), network.astype(np.float64), []
        for _ in range(2):
            v = self.random(3, 19, 13)
            found, expected = run(self.place(v)), plain.forward(v.astype(np.float64))
            said += [self.close(found[name], F) for name, F in expected.items()]
        return max(said)
