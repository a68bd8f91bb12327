"""A loss from the pixels on as an ONNX graph of standard operators, for other runtimes to run.

The tensors are named as in `graph.Emission`; "conv4_2.P", "conv1_1.G", "conv1_1.A" are the others.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import TensorProto, checker, helper, numpy_helper

from gramstyle.core.arrays import Array
from gramstyle.core.network import Network
from gramstyle.core.preprocessing import Preprocessing
from gramstyle.model.onnx_file.graph import IMAGE, Emission, model_of, serialised

__all__ = ["IMAGE", "LOSS", "ContentTerm", "StyleTerm", "loss_model", "tensor_file"]

LOSS = "loss"


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
    """Return a model file from the image (1, 3, H, V) to the loss and every layer's responses.

    Everything is in float32: few runtimes have a convolution in float64.

    Parameters
    ----------
    network
        Its layers, from the image upwards.
    preprocessing
        What comes before the network.
    size
        The image's height and width.
    content, style
        The terms that the loss is the sum of; at least one. Their factors hold every weight.
    """
    graph = _Loss()
    graph.forward(network, preprocessing)
    shapes = network.shapes(*size)
    terms = [] if content is None else [graph.content(content)]
    terms += [graph.style(term, shapes[term.layer]) for term in style]
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
    """Return a TensorProto with an array in float32, as ONNX's own test data are."""
    data: bytes = numpy_helper.from_array(np.asarray(array, "<f4"), name).SerializeToString(
        deterministic=True
    )
    return data


class _Loss(Emission):
    """The terms of the loss, behind the way forward."""

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
