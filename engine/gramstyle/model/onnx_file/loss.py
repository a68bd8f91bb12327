"""The loss as an ONNX graph of standard operators, from the pixels on, for other runtimes.

The tensors are named as in `graph.Emission`. Further names: "conv4_2.P", "conv1_1.G", "conv1_1.A".
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import TensorProto, checker, helper, numpy_helper

from gramstyle.core.arrays import Array
from gramstyle.core.mean_std import EPSILON
from gramstyle.core.network import Network
from gramstyle.core.preprocessing import Preprocessing
from gramstyle.model.onnx_file.graph import IMAGE, Emission, model_of, serialised

__all__ = [
    "IMAGE",
    "LOSS",
    "ContentNodes",
    "RegionNodes",
    "StatisticNodes",
    "StyleNodes",
    "loss_model",
    "tensor_file",
]

LOSS = "loss"


@dataclass(frozen=True)
class ContentNodes:
    """The content term factor · Σ (F − P)² at a layer; P is (N, H, V)."""

    layer: str
    P: Array
    factor: float


@dataclass(frozen=True)
class StyleNodes:
    """The style term factor · Σ (G − ratio · A)² at a layer; A is (N, N)."""

    layer: str
    A: Array
    ratio: float
    factor: float


@dataclass(frozen=True)
class RegionNodes:
    """The style term factor · Σ (G / m − A)² of a region, G = (T∘F) (T∘F)ᵀ; T is (H, V)."""

    layer: str
    T: Array
    m: float
    A: Array
    factor: float


@dataclass(frozen=True)
class StatisticNodes:
    """Another style term at a layer, factor · Σ (S − A)²: "mean-std" or "covariance"."""

    layer: str
    statistic: str
    A: Array
    factor: float


def loss_model(
    network: Network,
    preprocessing: Preprocessing,
    size: tuple[int, int],
    content: ContentNodes | None,
    style: Sequence[StyleNodes | StatisticNodes],
    *,
    regions: Sequence[RegionNodes] = (),
    tv: float = 0.0,
) -> bytes:
    """Return an ONNX file that computes the loss and all responses from an image (1, 3, H, V).

    Everything is in float32: few runtimes have a convolution in float64.

    Parameters
    ----------
    network
        The network, from the image upwards.
    preprocessing
        The step before the network.
    size
        The image's height and width, in pixels.
    content, style
        Terms of the loss. Their factors include every weight.
    regions
        The style terms of regions.
    tv
        The factor of the total variation: Σ of squared differences of neighbouring pixels.
    """
    graph = _Loss()
    graph.forward(network, preprocessing)
    shapes = network.shapes(*size)
    terms = [] if content is None else [graph.content(content)]
    for term in style:
        add = graph.style if isinstance(term, StyleNodes) else graph.statistic
        terms.append(add(term, shapes[term.layer]))  # type: ignore[arg-type]
    terms += [
        graph.region(term, f"{term.layer}.region{number}", shapes[term.layer])
        for number, term in enumerate(regions)
    ]
    if tv:
        terms.append(graph.total_variation(tv))
    graph.node("Sum", terms, LOSS)
    model = model_of(
        helper.make_graph(
            graph.nodes,
            "loss",
            [_value(IMAGE, (3, *size))],
            [helper.make_tensor_value_info(LOSS, TensorProto.FLOAT, [])]
            + [_value(name, shape) for name, shape in shapes.items()],
            graph.tensors,
        )
    )
    checker.check_model(model, full_check=True)
    return serialised(model)


def tensor_file(name: str, array: Array) -> bytes:
    """Return a serialised TensorProto with an array in float32, like ONNX's own test data."""
    data: bytes = numpy_helper.from_array(np.asarray(array, "<f4"), name).SerializeToString(
        deterministic=True
    )
    return data


class _Loss(Emission):
    """The nodes of the forward pass, then those of the loss terms."""

    def content(self, term: ContentNodes) -> str:
        """Add equation 1, weighted; return its tensor."""
        P = self.stored(f"{term.layer}.P", term.P[None])
        return self._sum_of_squares(term.layer, P, f"{term.layer}.content", term.factor)

    def style(self, term: StyleNodes, shape: tuple[int, int, int]) -> str:
        """Add equations 3 and 4, weighted; return the tensor."""
        name, (N, H, V) = term.layer, shape
        matrix = self.stored(f"{name}.shape", np.array([N, H * V]), "<i8")
        F = self.node("Reshape", [name, matrix], f"{name}.matrix")
        turned = self.node("Transpose", [F], f"{name}.turned", perm=[1, 0])
        G = self.node("MatMul", [F, turned], f"{name}.G")
        A = [self.stored(f"{name}.A", term.A), self.stored(f"{name}.ratio", term.ratio)]
        scaled = self.node("Mul", A, f"{name}.scaled")
        return self._sum_of_squares(G, scaled, f"{name}.style", term.factor)

    def region(self, term: RegionNodes, name: str, shape: tuple[int, int, int]) -> str:
        """Add the style term of a region, weighted; return the tensor."""
        N, H, V = shape
        matrix = self.stored(f"{name}.shape", np.array([N, H * V]), "<i8")
        F = self.node("Reshape", [term.layer, matrix], f"{name}.matrix")
        guided = self.node("Mul", [F, self.stored(f"{name}.T", term.T.reshape(1, -1))], f"{name}.X")
        turned = self.node("Transpose", [guided], f"{name}.turned", perm=[1, 0])
        G = self.node("MatMul", [guided, turned], f"{name}.G")
        G = self.node("Div", [G, self.stored(f"{name}.m", term.m)], f"{name}.G/m")
        A = self.stored(f"{name}.A", term.A)
        return self._sum_of_squares(G, A, f"{name}.style", term.factor)

    def statistic(self, term: StatisticNodes, shape: tuple[int, int, int]) -> str:
        """Add the term of means and deviations or of covariances, weighted; return the tensor."""
        name, (N, H, V) = term.layer, shape
        matrix = self.stored(f"{name}.shape", np.array([N, H * V]), "<i8")
        F = self.node("Reshape", [name, matrix], f"{name}.matrix")
        mu = self.node("ReduceMean", [F], f"{name}.mu", axes=[1])
        centred = self.node("Sub", [F, mu], f"{name}.centred")
        if term.statistic == "mean-std":
            squares = self.node("Mul", [centred, centred], f"{name}.squares")
            variance = self.node("ReduceMean", [squares], f"{name}.variance", axes=[1])
            epsilon = self.stored(f"{name}.epsilon", EPSILON)
            above = self.node("Add", [variance, epsilon], f"{name}.variance+epsilon")
            sigma = self.node("Sqrt", [above], f"{name}.sigma")
            columns = self.node("Concat", [mu, sigma], f"{name}.columns", axis=1)
            S = self.node("Transpose", [columns], f"{name}.S", perm=[1, 0])
        else:
            turned = self.node("Transpose", [centred], f"{name}.turned", perm=[1, 0])
            product = self.node("MatMul", [centred, turned], f"{name}.product")
            S = self.node("Div", [product, self.stored(f"{name}.M", float(H * V))], f"{name}.S")
        A = self.stored(f"{name}.A", term.A)
        return self._sum_of_squares(S, A, f"{name}.style", term.factor)

    def total_variation(self, factor: float) -> str:
        """Add the Σ of squared differences of neighbouring pixels, weighted; return its tensor."""
        sums = []
        for axis, name in ((2, "tv.down"), (3, "tv.across")):
            zero, one, last, end, along = (
                self.stored(f"{name}.{number}", np.array([number]), "<i8")
                for number in (0, 1, -1, 2**31 - 1, axis)
            )
            first = self.node("Slice", [IMAGE, zero, last, along], f"{name}.first")
            second = self.node("Slice", [IMAGE, one, end, along], f"{name}.second")
            sums.append(self._sum_of_squares(second, first, name, factor))
        return self.node("Add", sums, "tv")

    def _sum_of_squares(self, found: str, wanted: str, name: str, factor: float) -> str:
        apart = self.node("Sub", [found, wanted], f"{name}.difference")
        squares = self.node("Mul", [apart, apart], f"{name}.squares")
        total = self.node("ReduceSum", [squares], f"{name}.sum", keepdims=0)
        return self.node("Mul", [total, self.stored(f"{name}.factor", factor)], name)


def _value(name: str, shape: Sequence[int]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, *shape])
