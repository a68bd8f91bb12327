"""Equation 7 and its gradient as one ONNX graph: the backward pass written down, not traced.

Each method that adds an operation's backward adds the same steps that `layers`, `losses` and
`network` do; only standard operators, none of them a gradient. The tensors are named as in
`graph.Emission`, and further, for a layer like conv4_2:

- "conv4_2.P" and "conv1_1.A/M": what is compared with. A Gram matrix is only ever used divided
  by the positions that it is summed over, so that sizes may differ and nothing overflows.
- "conv1_1.G/M" of the image, "conv1_1.E" its loss, "conv1_1.w" its weight.
- "conv4_2.dF", "conv4_2.dZ", "dv": the derivatives. What one term wants is "conv4_2.content.dF" or
  "conv1_1.style.dF", what arrives from above "conv4_2.above"; where only one of them reaches a
  layer, that is its dF.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, checker, helper

from gramstyle.core.arrays import Array
from gramstyle.core.network import Convolution, Network
from gramstyle.core.preprocessing import Preprocessing
from gramstyle.model.onnx_file.graph import IMAGE, INPUT, WINDOW, Emission, model_of, serialised
from gramstyle.model.precision import Precision

LOSS, GRADIENT, CONTENT, STYLE = "loss", "gradient", "content", "style"
ALPHA, BETA = "alpha", "beta"

# The two edges of an image that may have any size.
ANY = ("height", "width")

Size = tuple[int, int]
Dimensions = tuple[int | str, ...]


@dataclass(frozen=True)
class Content:
    """Equations 1 and 2 at a layer.

    Attributes
    ----------
    layer
        Where.
    factor
        What both are multiplied by.
    mean
        Whether they are also divided by the number of positions.
    P
        The photograph's responses (N, H, V); None to ask for them when the graph runs.
    """

    layer: str
    factor: float
    mean: bool
    P: Array | None


@dataclass(frozen=True)
class Style:
    """Equations 4 and 6 at a layer.

    Attributes
    ----------
    layer
        Where.
    w
        The layer's weight w_l.
    factor
        What both are multiplied by.
    A
        The artwork's Gram matrix (N, N) over its number of positions; None to ask for it when the
        graph runs.
    """

    layer: str
    w: float
    factor: float
    A: Array | None


def objective_model(
    network: Network,
    preprocessing: Preprocessing,
    size: Size | None,
    content: Content | None,
    style: Sequence[Style],
    *,
    alpha: float,
    beta: float,
    precision: Precision = "float32",
    metadata: Mapping[str, str] | None = None,
) -> bytes:
    """Return a model file from an image to the loss and its derivative by the pixels.

    Everything is in float32. The weights "alpha", "beta" and "conv1_1.w" are inputs with a
    default. A weight of the network stands in the file once: the turned kernels of the way back
    are made of it by operators that a runtime folds when it loads the file.

    Parameters
    ----------
    network
        From the image to the deepest layer that a term looks at, and no further.
    preprocessing
        What comes before the network.
    size
        Height and width of the image; None for any, which a stored P rules out.
    content, style
        The terms; at least one.
    alpha, beta
        The defaults of α and β.
    precision
        What to store of each weight.
    metadata
        What the file says of itself.

    Returns
    -------
    bytes
        ONNX, IR 10, opset 17. Input "x" (1, 3, H, W), RGB, 0..255; outputs "loss", "gradient" of
        x's shape, "content" (equation 1), an "E" for each style layer (equation 4), "style"
        (equation 5). A term that is left out has no outputs.

    Raises
    ------
    ModelError
        If a weight does not fit the precision.
    ImageError
        If the size is too small for the network.
    """
    graph = _Objective(network=network, size=size)
    graph.forward(network, preprocessing, precision)
    image: Dimensions = (1, 3, *(size or ANY))
    outputs: dict[str, Dimensions] = {LOSS: (), GRADIENT: image}
    losses = []
    if content is not None:
        losses.append(graph.content(content, alpha))
        outputs[CONTENT] = ()
    if style:
        losses.append(graph.style(style, beta))
        outputs |= {STYLE: (), **{f"{term.layer}.E": () for term in style}}
    graph.node("Sum", losses, LOSS)  # eq. 7
    graph.backward(preprocessing)
    return _model(graph, "objective", {IMAGE: image, **graph.inputs}, outputs, metadata)


def targets_model(
    network: Network,
    preprocessing: Preprocessing,
    *,
    content: str | None,
    style: Sequence[str],
    precision: Precision = "float32",
    metadata: Mapping[str, str] | None = None,
) -> bytes:
    """Return a model file from an image of any size to what an objective compares with.

    Parameters
    ----------
    network, preprocessing, precision, metadata
        As in `objective_model`.
    content, style
        The layers that the terms look at.

    Returns
    -------
    bytes
        Input "x"; outputs "conv4_2.P" and "conv1_1.A/M", which an `objective_model` asks for by the
        same names: P is run on the photograph, at the size of the result, the others on the
        artwork, at any size.
    """
    graph = _Objective(network=network, size=None)
    graph.forward(network, preprocessing, precision)
    outputs: dict[str, Dimensions] = {}
    if content is not None:
        graph.node("Identity", [content], f"{content}.P")
        outputs[f"{content}.P"] = graph.dimensions(content)
    for layer in style:
        G = graph.gram(layer)
        N = graph.filters[layer]
        outputs[graph.node("Identity", [G], f"{layer}.A/M")] = (N, N)
    return _model(graph, "targets", {IMAGE: (1, 3, *ANY)}, outputs, metadata)


@dataclass
class _Objective(Emission):
    """The losses behind the way forward, and the way back."""

    network: Network = field(kw_only=True)
    size: Size | None = field(kw_only=True)

    def __post_init__(self) -> None:
        """Find every layer's number of filters and, where the size is known, its shape."""
        self.inputs: dict[str, Dimensions] = {}
        self.seeds: dict[str, list[str]] = {}
        # Filters do not depend on the size; any that is large enough for every pooling tells.
        shapes = self.network.shapes(*(self.size or (2**16, 2**16)))
        self.filters = {name: N for name, (N, _, _) in shapes.items()}
        self.edges = {name: shape[1:] for name, shape in shapes.items()} if self.size else {}

    def dimensions(self, layer: str) -> Dimensions:
        """Return the shape of a layer's responses, an edge that is not known by a name."""
        edges = self.edges.get(layer, tuple(f"{layer}.{edge}" for edge in ANY))
        return (1, self.filters[layer], *edges)

    def gram(self, layer: str) -> str:
        """Equation 3, over the number of positions: G / M."""
        F = self.node("Reshape", [layer, self._whole([self.filters[layer], -1])], f"{layer}.F")
        G = self.node("Gemm", [F, F], f"{layer}.G", transB=1)
        return self.node("Div", [G, self._positions(layer)], f"{layer}.G/M")

    def content(self, term: Content, alpha: float) -> str:
        """Equation 1, and α · equation 2, but for its mask: it is the ReLU's, crossed next."""
        layer = term.layer
        P = self._target(f"{layer}.P", term.P, self.dimensions(layer))
        apart = self.node("Sub", [layer, P], f"{layer}.F-P")
        factor = self.stored(f"{layer}.factor", term.factor)
        if term.mean:
            factor = self.node("Div", [factor, self._positions(layer)], f"{layer}.factor/M")
        total = self._sum_of_squares(apart, f"{layer}.content", axes=4)
        half = self.node("Mul", [total, self._number("1/2", 0.5)], f"{layer}.content.half")
        self.node("Mul", [half, factor], CONTENT)

        weight = self.node("Mul", [self._weight(ALPHA, alpha), factor], f"{layer}.content.weight")
        dF = self.node("Mul", [apart, weight], f"{layer}.content.dF")
        self.seeds.setdefault(layer, []).append(dF)
        return self.node("Mul", [ALPHA, CONTENT], "alpha·content")

    def style(self, terms: Sequence[Style], beta: float) -> str:
        """Equation 5, and what its terms want of their layers."""
        self._weight(BETA, beta)
        self.node("Sum", [self._style(term) for term in terms], STYLE)
        return self.node("Mul", [BETA, STYLE], "beta·style")

    def _style(self, term: Style) -> str:
        """Equation 4, and β w · equation 6, but for its mask: it is the ReLU's, crossed next.

        With G/M and A/M, E = Σ ((G/M − A/M) / (2 N))² and ∂E/∂F = (G/M − A/M) F / (N² M): divided
        first and squared then.
        """
        layer, N = term.layer, self.filters[term.layer]
        G, A = self.gram(layer), self._target(f"{layer}.A/M", term.A, (N, N))
        apart = self.node("Sub", [G, A], f"{layer}.G/M-A/M")
        share = self.node(
            "Div", [apart, self.stored(f"{layer}.2N", 2.0 * N)], f"{layer}.style.part"
        )
        total = self._sum_of_squares(share, f"{layer}.style", axes=2)
        E = self.node("Mul", [total, self.stored(f"{layer}.factor'", term.factor)], f"{layer}.E")

        w = self._weight(f"{layer}.w", term.w)
        slope = self.stored(f"{layer}.factor'/N²", term.factor / N**2)
        weight = self.node("Mul", [BETA, w], f"{layer}.beta·w")
        weight = self.node("Mul", [weight, slope], f"{layer}.beta·w/N²")
        weight = self.node("Div", [weight, self._positions(layer)], f"{layer}.beta·w/N²M")
        D = self.node("Mul", [apart, weight], f"{layer}.D")
        flat = self.node("MatMul", [D, f"{layer}.F"], f"{layer}.D·F")
        dF = self.node("Reshape", [flat, self._shape(layer)], f"{layer}.style.dF")
        self.seeds.setdefault(layer, []).append(dF)
        return self.node("Mul", [w, E], f"{layer}.w·E")

    def backward(self, preprocessing: Preprocessing) -> None:
        """Add `Network.backward` and `Preprocessing.backward`: the forward's steps reversed."""
        layers, names = self.network.layers, self.network.names
        above: list[str] = []
        for layer, below in zip(reversed(layers), reversed((INPUT, *names[:-1])), strict=True):
            dF = self._added([*self.seeds.get(layer.name, []), *above], f"{layer.name}.dF")
            if isinstance(layer, Convolution):
                dZ = self._relu_backward(dF, layer.name)
                dX = "dv" if below == INPUT else f"{below}.above"
                self._convolution_backward(dZ, layer.name, dX)
            elif layer.kind == "max":
                dX = self._max_pool_backward(dF, layer.name, below)
            else:
                dX = self._avg_pool_backward(dF, layer.name, below)
            above = [dX]
        turned = preprocessing.channels == "BGR"
        scaled = self.node("Mul", [*above, "scale"], "dv.scaled" if turned else GRADIENT)
        if turned:
            self.node("Gather", [scaled, "channels"], GRADIENT, axis=1)

    def _added(self, parts: Sequence[str], name: str) -> str:
        """Return everything that reaches a layer, added up."""
        return self.node("Sum", parts, name) if len(parts) > 1 else parts[0]

    def _relu_backward(self, dF: str, layer: str) -> str:
        """dZ = dF where F > 0, else 0."""
        mask = self.node("Greater", [layer, self._number("0", 0.0)], f"{layer}.open")
        return self._where(mask, dF, f"{layer}.dZ")

    def _convolution_backward(self, dZ: str, layer: str, dX: str) -> None:
        """dX = dZ convolved with each kernel turned by 180°, N and C exchanged."""
        exchanged = self.node("Transpose", [f"{layer}.W"], f"{layer}.exchanged", perm=[1, 0, 2, 3])
        # From the last to beyond the first, by steps of −1, along both edges.
        turning = [self._whole(pair) for pair in ([2, 2], [-4, -4], [2, 3], [-1, -1])]
        turned = self.node("Slice", [exchanged, *turning], f"{layer}.turned")
        self.node("Conv", [dZ, turned], dX, **WINDOW)

    def _max_pool_backward(self, dY: str, layer: str, below: str) -> str:
        """dX = dY at the first of a window's largest, 0 elsewhere."""
        X, Y = self._even_part(below), layer
        apart = self.node("SpaceToDepth", [X], f"{layer}.apart", blocksize=2)
        members = self._split(apart, layer)
        given, rest = [], dY
        for which, member in enumerate(members[:-1]):
            chosen = self.node("Equal", [member, Y], f"{layer}.chosen.{which}")
            given.append(self._where(chosen, rest, f"{layer}.given.{which}"))
            # What one member has been given there is no more of for those behind it.
            rest = self.node("Sub", [rest, given[-1]], f"{layer}.rest.{which}")
        together = self.node("Concat", [*given, rest], f"{layer}.given", axis=1)
        even = self.node("DepthToSpace", [together], f"{layer}.even", blocksize=2)
        return self._odd_edges(even, below)

    def _avg_pool_backward(self, dY: str, layer: str, below: str) -> str:
        """dX = dY / 4 at each of a window's four positions."""
        quarter = self.node("Mul", [dY, self._number("1/4", 0.25)], f"{layer}.quarter")
        twice = self._stored_once("twice", np.array([1, 1, 2, 2]), "<f4")
        even = self.node(
            "Resize",
            [quarter, "", twice],
            f"{layer}.even",
            mode="nearest",
            coordinate_transformation_mode="asymmetric",
            nearest_mode="floor",
        )
        return self._odd_edges(even, below)

    def _where(self, mask: str, dF: str, name: str) -> str:
        """dF where the mask is true, else 0, as a product: Where takes four times as long."""
        ones = self.node("Cast", [mask], f"{name}.ones", to=TensorProto.FLOAT)
        return self.node("Mul", [dF, ones], name)

    def _split(self, apart: str, layer: str) -> list[str]:
        """Return the first, second, third and fourth members of all windows, in reading order."""
        members = [f"{layer}.member.{which}" for which in range(4)]
        self.nodes.append(
            helper.make_node("Split", [apart], members, name=f"{layer}.members", axis=1)
        )
        return members

    def _even_part(self, layer: str) -> str:
        """Return a layer's responses without an odd last row or column."""
        if not any(edge % 2 for edge in self.edges.get(layer, (1,))):
            return layer
        ends = self.node("Sub", [self._edges(layer), self._odd(layer)], f"{layer}.ends")
        start, axes = self._whole([0, 0]), self._whole([2, 3])
        return self.node("Slice", [layer, start, ends, axes], f"{layer}.windows")

    def _odd_edges(self, even: str, layer: str) -> str:
        """Return the derivative at all of a layer: 0 at an odd last row or column."""
        if not any(edge % 2 for edge in self.edges.get(layer, (1,))):
            return even
        pads = self.node(
            "Concat", [self._whole([0] * 6), self._odd(layer)], f"{layer}.pads", axis=0
        )
        return self.node("Pad", [even, pads], f"{layer}.above")

    def _odd(self, layer: str) -> str:
        """Return how many rows and columns a pooling of this layer leaves out."""
        name = f"{layer}.odd"
        if layer in self.edges:
            return self._stored_once(name, np.array(self.edges[layer]) % 2, "<i8")
        return self._once("Mod", [self._edges(layer), self._whole([2])], name)

    def _edges(self, layer: str) -> str:
        """Return the height and width of a layer's responses."""
        name = f"{layer}.edges"
        if layer in self.edges:
            return self._stored_once(name, np.array(self.edges[layer]), "<i8")
        return self._once("Shape", [layer], name, start=2)

    def _positions(self, layer: str) -> str:
        """Return M."""
        name = f"{layer}.M"
        if layer in self.edges:
            return self._stored_once(name, float(np.prod(self.edges[layer])))
        M = self._once("ReduceProd", [self._edges(layer)], f"{layer}.whole M", keepdims=0)
        return self._once("Cast", [M], name, to=TensorProto.FLOAT)

    def _shape(self, layer: str) -> str:
        """Return the shape of a layer's responses."""
        name = f"{layer}.shape"
        if layer in self.edges:
            return self._stored_once(name, np.array(self.dimensions(layer)), "<i8")
        return self._once("Shape", [layer], name)

    def _weight(self, name: str, default: float) -> str:
        """Return a weight that whoever runs the graph may replace."""
        self.inputs[name] = ()
        return self.stored(name, default)

    def _target(self, name: str, array: Array | None, shape: Dimensions) -> str:
        """Return what is compared with: stored, or an input."""
        if array is None:
            self.inputs[name] = shape
            return name
        return self.stored(name, array.reshape((1,) * (len(shape) - array.ndim) + array.shape))

    def _sum_of_squares(self, values: str, name: str, *, axes: int) -> str:
        """Return Σ values², an axis after the other: one long sum in float32 loses three digits."""
        total = self.node("Mul", [values, values], f"{name}.squares")
        for axis in reversed(range(1, axes)):
            inputs = [total, self._whole([axis])]
            total = self.node("ReduceSum", inputs, f"{name}.sum.{axis}", keepdims=0)
        return self.node("ReduceSum", [total], f"{name}.sum", keepdims=0)

    def _number(self, name: str, value: float) -> str:
        return self._stored_once(name, value)

    def _whole(self, values: Sequence[int]) -> str:
        """Return whole numbers, which bear themselves as a name."""
        return self._stored_once(",".join(map(str, values)), np.array(values), "<i8")

    def _stored_once(self, name: str, array: Array | float, dtype: str = "<f4") -> str:
        return name if self._is_there(name) else self.stored(name, array, dtype)

    def _once(self, operator: str, inputs: Sequence[str], name: str, **attributes: Any) -> str:
        return name if self._is_there(name) else self.node(operator, inputs, name, **attributes)

    def _is_there(self, name: str) -> bool:
        return any(tensor.name == name for tensor in self.tensors) or any(
            name in node.output for node in self.nodes
        )


def _model(
    graph: "_Objective",
    name: str,
    inputs: Mapping[str, Dimensions],
    outputs: Mapping[str, Dimensions],
    metadata: Mapping[str, str] | None,
) -> bytes:
    model = model_of(
        helper.make_graph(
            graph.nodes,
            name,
            [_value(*each) for each in inputs.items()],
            [_value(*each) for each in outputs.items()],
            graph.tensors,
        )
    )
    helper.set_model_props(model, dict(sorted((metadata or {}).items())))
    checker.check_model(model, full_check=True)
    return serialised(model)


def _value(name: str, shape: Dimensions) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
