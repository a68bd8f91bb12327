"""What the loss terms and the backward pass of an objective's graph share.

The shapes of the layers, the targets, the weights and the sums.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from onnx import TensorProto

from gramstyle.core.arrays import Array
from gramstyle.core.network import Network
from gramstyle.model.onnx_file.graph import IMAGE, Emission

# The two edges of an image that may have any size.
ANY = ("height", "width")

Size = tuple[int, int]
# Where the weights are: "defaults", all are inputs that have a default; "inputs", α, β and the
# weight of the total variation are inputs without one, and the weights of the layers are constants;
# "constants": none is an input.
Weights = Literal["defaults", "inputs", "constants"]
Dimensions = tuple[int | str, ...]


@dataclass
class ObjectiveParts(Emission):
    """A graph with the shapes, weights and targets that its losses need."""

    network: Network = field(kw_only=True)
    size: Size | None = field(kw_only=True)
    weights_as: Weights = field(kw_only=True, default="defaults")

    def __post_init__(self) -> None:
        """Find every layer's number of filters and, where the size is known, its shape."""
        self.inputs: dict[str, Dimensions] = {}
        self.seeds: dict[str, list[str]] = {}
        # The numbers of filters do not depend on the size, if it suffices for every pooling.
        shapes = self.network.shapes(*(self.size or (2**16, 2**16)))
        self.filters = {name: N for name, (N, _, _) in shapes.items()}
        self.edges = {name: shape[1:] for name, shape in shapes.items()} if self.size else {}
        if self.size:
            self.edges[IMAGE] = self.size

    def dimensions(self, layer: str) -> Dimensions:
        """Return the shape of a layer's responses; an edge of unknown length has a name."""
        edges = self.edges.get(layer, tuple(f"{layer}.{edge}" for edge in ANY))
        return (1, self.filters[layer], *edges)

    def positions(self, layer: str) -> str:
        """Return M, the number of positions of a layer or of the image."""
        name = f"{layer}.M"
        if layer in self.edges:
            return self.stored_once(name, float(np.prod(self.edges[layer])))
        M = self.once("ReduceProd", [self.layer_edges(layer)], f"{layer}.whole M", keepdims=0)
        return self.once("Cast", [M], name, to=TensorProto.FLOAT)

    def shape(self, layer: str) -> str:
        """Return the shape of a layer's responses."""
        name = f"{layer}.shape"
        if layer in self.edges:
            return self.stored_once(name, np.array(self.dimensions(layer)), "<i8")
        return self.once("Shape", [layer], name)

    def layer_edges(self, layer: str) -> str:
        """Return the height and width of a layer's responses."""
        name = f"{layer}.edges"
        if layer in self.edges:
            return self.stored_once(name, np.array(self.edges[layer]), "<i8")
        return self.once("Shape", [layer], name, start=2)

    def weight(self, name: str, value: float) -> str:
        """Return the weight of a layer: an input of the graph with a default, or a constant."""
        if self.weights_as == "defaults":
            self.inputs[name] = ()
        return self.stored(name, value)

    def loss_weight(self, name: str, default: float) -> str:
        """Return a weight of equation 7: an input, with or without a default, or a constant."""
        if self.weights_as == "constants":
            return self.stored(name, default)
        self.inputs[name] = ()
        return self.stored(name, default) if self.weights_as == "defaults" else name

    def target(self, name: str, array: Array | None, shape: Dimensions) -> str:
        """Return a target: stored, or an input of the graph if the array is None."""
        if array is None:
            self.inputs[name] = shape
            return name
        return self.stored(name, array.reshape((1,) * (len(shape) - array.ndim) + array.shape))

    def number(self, name: str, value: float) -> str:
        """Return a constant, which is stored once."""
        return self.stored_once(name, value)

    def sum_of_squares(self, values: str, name: str, *, axes: int) -> str:
        """Return Σ values², summed axis by axis: one long float32 sum would lose three digits."""
        total = self.node("Mul", [values, values], f"{name}.squares")
        for axis in reversed(range(1, axes)):
            inputs = [total, self.whole([axis])]
            total = self.node("ReduceSum", inputs, f"{name}.sum.{axis}", keepdims=0)
        return self.node("ReduceSum", [total], f"{name}.sum", keepdims=0)

    def total(self, parts: Sequence[str], name: str) -> str:
        """Add up tensors pair by pair: ONNX Runtime's WebGPU has no kernel for `Sum`."""
        *first, last = parts
        if not first:
            return self.node("Identity", [last], name)
        before = first[0] if len(first) == 1 else self.total(first, f"{name}.{len(first)} parts")
        return self.node("Add", [before, last], name)
