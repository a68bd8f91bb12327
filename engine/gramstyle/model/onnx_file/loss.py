"""A loss from the pixels on as an ONNX graph of standard operators, for other runtimes to run.

The tensors bear the paper's letters: "conv4_2" is F of that layer, "conv4_2.Z" what the ReLU
reads, "conv4_2.P", "conv1_1.G", "conv1_1.A", "conv1_1.E" are the others, "v" is the network's
input.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, checker, helper, numpy_helper

from gramstyle.arrays import Array
from gramstyle.model.onnx_file.graph import model_of, pool_node, serialised
from gramstyle.network import Convolution, Network
from gramstyle.preprocessing import Preprocessing

PICTURE, LOSS = "x", "loss"


@dataclass(frozen=True)
class ContentTerm:
    """factor · Σ (F − P)² at a layer; P (N, H, V)."""

    layer: str
    P: Array
    factor: float


@dataclass(frozen=True)
class StyleTerm:
    """factor · Σ (G − ratio · A)² at a layer; A (N, N)."""

    layer: str
    A: Array
    ratio: float
    factor: float


def loss_model(
    network: Network,
    preprocessing: Preprocessing,
    size: tuple[int, int],
    content: ContentTerm | None,
    style: Sequence[StyleTerm],
) -> bytes:
    """Return a model file from the picture (1, 3, H, V) to the loss and every layer's responses.

    Everything is in float32: few runtimes have a convolution in float64.

    Parameters
    ----------
    network
        Its layers, from the picture upwards.
    preprocessing
        What comes before the network.
    size
        The picture's height and width.
    content, style
        The terms that the loss is the sum of; at least one. Their factors hold every weight.
    """
    graph = _Graph()
    F = graph.preprocessed(preprocessing)
    for layer in network.layers:
        if isinstance(layer, Convolution):
            F = graph.convolved(layer, F)
        else:
            graph.nodes.append(pool_node(layer.name, F, layer.kind))
            F = layer.name
    shapes = network.shapes(*size)
    terms = [] if content is None else [graph.content(content)]
    terms += [graph.style(term, shapes[term.layer]) for term in style]
    graph.node("Sum", terms, LOSS)
    model = model_of(
        helper.make_graph(
            graph.nodes,
            "loss",
            [_value(PICTURE, (3, *size))],
            [helper.make_tensor_value_info(LOSS, TensorProto.FLOAT, [])]
            + [_value(name, shape) for name, shape in shapes.items()],
            graph.tensors,
        )
    )
    checker.check_model(model, full_check=True)
    return serialised(model)


def tensor_file(name: str, array: Array) -> bytes:
    """Return a TensorProto with an array in float32, as ONNX's own test data are."""
    data: bytes = numpy_helper.from_array(np.asarray(array, "<f4"), name).SerializeToString(
        deterministic=True
    )
    return data


@dataclass
class _Graph:
    """Nodes and stored tensors in the order in which they are added."""

    nodes: list[onnx.NodeProto] = field(default_factory=list)
    tensors: list[onnx.TensorProto] = field(default_factory=list)

    def node(self, operator: str, inputs: Sequence[str], output: str, **attributes: Any) -> str:
        """Add a node and return what it gives."""
        self.nodes.append(helper.make_node(operator, inputs, [output], name=output, **attributes))
        return output

    def stored(self, name: str, array: Array | float, dtype: str = "<f4") -> str:
        """Add a stored tensor and return its name."""
        # asarray and not ascontiguousarray, which makes a row of a single number.
        values = np.asarray(array, dtype, order="C")
        self.tensors.append(numpy_helper.from_array(values, name))
        return name

    def preprocessed(self, preprocessing: Preprocessing) -> str:
        """v = scale · (x − mean), in the network's order of channels."""
        x = PICTURE
        if preprocessing.channels == "BGR":
            order = self.stored("channels", np.array([2, 1, 0]), "<i8")
            x = self.node("Gather", [x, order], "reordered", axis=1)
        columns = np.array([preprocessing.mean, preprocessing.scale]).reshape(2, 1, 3, 1, 1)
        x = self.node("Sub", [x, self.stored("mean", columns[0])], "centred")
        return self.node("Mul", [x, self.stored("scale", columns[1])], "v")

    def convolved(self, layer: Convolution, below: str) -> str:
        """F = max(0, Z)."""
        name = layer.name
        W, b = self.stored(f"{name}.W", layer.W), self.stored(f"{name}.b", layer.b)
        geometry = {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}
        Z = self.node("Conv", [below, W, b], f"{name}.Z", **geometry)
        return self.node("Relu", [Z], name)

    def content(self, term: ContentTerm) -> str:
        """Equation 1, weighted."""
        P = self.stored(f"{term.layer}.P", term.P[None])
        return self._sum_of_squares(term.layer, P, f"{term.layer}.content", term.factor)

    def style(self, term: StyleTerm, shape: tuple[int, int, int]) -> str:
        """Equations 3 and 4, weighted."""
        name, (N, H, V) = term.layer, shape
        matrix = self.stored(f"{name}.shape", np.array([N, H * V]), "<i8")
        F = self.node("Reshape", [name, matrix], f"{name}.matrix")
        turned = self.node("Transpose", [F], f"{name}.turned", perm=[1, 0])
        G = self.node("MatMul", [F, turned], f"{name}.G")
        A = [self.stored(f"{name}.A", term.A), self.stored(f"{name}.ratio", term.ratio)]
        scaled = self.node("Mul", A, f"{name}.scaled")
        return self._sum_of_squares(G, scaled, f"{name}.style", term.factor)

    def _sum_of_squares(self, found: str, wanted: str, name: str, factor: float) -> str:
        apart = self.node("Sub", [found, wanted], f"{name}.difference")
        squares = self.node("Mul", [apart, apart], f"{name}.squares")
        total = self.node("ReduceSum", [squares], f"{name}.sum", keepdims=0)
        return self.node("Mul", [total, self.stored(f"{name}.factor", factor)], name)


def _value(name: str, shape: Sequence[int]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, *shape])
