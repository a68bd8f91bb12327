"""Equation 7 and its gradient as one ONNX graph, whose backward pass is written by hand.

Each method that adds the backward pass of an operation adds the steps of `core.layers` and
`core.network`; the module `terms` adds those of the loss terms. All operators are standard ones;
none is a gradient operator. The tensors are named as in `graph.Emission`. Further names, for a
layer like conv4_2:

- "conv4_2.dF", "conv4_2.dZ", "dv": the derivatives. The part of one term is "conv4_2.content.dF" or
  "conv1_1.style.dF", the part from the layers above is "conv4_2.above". Where only one of them
  reaches a layer, it is that layer's dF.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import onnx
from onnx import TensorProto, checker, helper

from gramstyle.core.network import Convolution, Network
from gramstyle.core.preprocessing import Preprocessing
from gramstyle.core.term import PIXELS
from gramstyle.core.terms import Term
from gramstyle.model.onnx_file.graph import IMAGE, INPUT, model_of, serialised, window
from gramstyle.model.onnx_file.objective_parts import ANY, Dimensions, ObjectiveParts, Size, Weights
from gramstyle.model.onnx_file.padding import add_padding_backward
from gramstyle.model.onnx_file.terms import add_target, add_term, value_names, weight_name
from gramstyle.model.precision import Precision

LOSS, GRADIENT = "loss", "gradient"


def objective_model(
    network: Network,
    preprocessing: Preprocessing,
    size: Size | None,
    terms: Sequence[Term],
    weights: Mapping[str, float],
    *,
    precision: Precision = "float32",
    metadata: Mapping[str, str] | None = None,
    weights_as: Weights = "defaults",
) -> bytes:
    """Return an ONNX file that computes the loss and its derivative by the pixels from an image.

    Everything is in float32. The weights such as "alpha", "beta" and "conv1_1.w" are inputs with a
    default, which ONNX Runtime's JavaScript interface cannot replace: see `weights_as`. A weight of
    the network is in the file once: the backward pass flips the kernels by operators that a runtime
    folds when it loads the file.

    Parameters
    ----------
    network
        The network from the image to the deepest layer that a term uses, and no further.
    preprocessing
        The step before the network.
    size
        Height and width of the image in pixels; None for any size, which a stored P excludes.
    terms
        The terms. If a term has no target, the target is an input of the graph.
    weights
        The weights of equation 7, by the losses' names: the defaults of the inputs.
    precision
        The precision in which the network's weights are stored.
    metadata
        The file's metadata.
    weights_as
        "defaults": every weight is an input with a default. "inputs": the weights of equation 7
        are inputs without a default, and the weights of the layers are constants. "constants": no
        weight is an input.

    Returns
    -------
    bytes
        ONNX, IR 10, opset 17. Input "x" (1, 3, H, W), RGB, 0..255; outputs "loss", "gradient" of
        x's shape, each loss by its name, such as "content" (equation 1) and "style" (equation 5),
        and an "E" for each style layer (equation 4).

    Raises
    ------
    ModelError
        If a weight does not fit the precision.
    ImageError
        If the size is too small for the network.
    OptionError
        If a term cannot be written in standard operators.
    """
    graph = ObjectiveEmission(network=network, size=size, weights_as=weights_as)
    graph.forward(network, preprocessing, precision)
    image: Dimensions = (1, 3, *(size or ANY))
    outputs: dict[str, Dimensions] = {LOSS: (), GRADIENT: image}
    outputs |= dict.fromkeys(graph.equation_7(terms, weights), ())
    graph.backward(preprocessing)
    return finished_model(graph, "objective", {IMAGE: image, **graph.inputs}, outputs, metadata)


def targets_model(
    network: Network,
    preprocessing: Preprocessing,
    terms: Sequence[Term],
    *,
    precision: Precision = "float32",
    metadata: Mapping[str, str] | None = None,
) -> bytes:
    """Return an ONNX file that computes the targets of an objective from an image of any size.

    Parameters
    ----------
    network, preprocessing, precision, metadata
        As in `objective_model`.
    terms
        The terms; whether they have targets does not matter.

    Returns
    -------
    bytes
        Input "x"; outputs such as "conv4_2.P" and "conv1_1.A/M", which are inputs of an
        `objective_model`. Run it on the content image at the size of the result for P, and on the
        style image at any size for A/M.
    """
    graph = ObjectiveEmission(network=network, size=None)
    graph.forward(network, preprocessing, precision)
    outputs: dict[str, Dimensions] = {}
    for term in terms:
        outputs |= add_target(graph, term)
    return finished_model(graph, "targets", {IMAGE: (1, 3, *ANY)}, outputs, metadata)


class ObjectiveEmission(ObjectiveParts):
    """The nodes of the forward pass, of the losses and of the backward pass."""

    def equation_7(self, terms: Sequence[Term], weights: Mapping[str, float]) -> list[str]:
        """Add the loss; return the tensors with the values of each loss and of its terms."""
        weighted, names = [], []
        for name in dict.fromkeys(term.name for term in terms):
            of_loss = [term for term in terms if term.name == name]
            weighted.append(self.loss(of_loss, weights[name]))
            names += [name, *value_names(of_loss)]
        self.total(weighted, LOSS)
        return names

    def loss(self, terms: Sequence[Term], weight: float) -> str:
        """Add one of the losses of equation 7, such as L_style (equation 5).

        The tensor with the loss's name is its value; the returned tensor is the weighted value.
        """
        name = terms[0].name
        factor = self.loss_weight(weight_name(name), weight)
        values = [
            add_term(self, term, value, factor)
            for term, value in zip(terms, value_names(terms), strict=True)
        ]
        if values != [name]:
            self.total(values, name)
        return self.node("Mul", [factor, name], f"{factor}·{name}")

    def backward(self, preprocessing: Preprocessing) -> None:
        """Add the backward passes of the network and of the preprocessing."""
        layers, names = self.network.layers, self.network.names
        above: list[str] = []
        for layer, below in zip(reversed(layers), reversed((INPUT, *names[:-1])), strict=True):
            parts = [*self.seeds.get(layer.name, []), *above]
            dF = self.total(parts, f"{layer.name}.dF") if len(parts) > 1 else parts[0]
            if isinstance(layer, Convolution):
                dZ = self._relu_backward(dF, layer.name)
                dX = "dv" if below == INPUT else f"{below}.above"
                self._convolution_backward(dZ, layer, dX)
            elif layer.kind == "max":
                dX = self._max_pool_backward(dF, layer.name, below)
            else:
                dX = self._avg_pool_backward(dF, layer.name, below)
            above = [dX]
        reordered, pixels = preprocessing.channels == "BGR", self.seeds.get(PIXELS, [])
        carried = "dv.above" if pixels else GRADIENT
        dx = self.node("Mul", [*above, "scale"], "dv.scaled" if reordered else carried)
        if reordered:
            dx = self.node("Gather", [dx, "channels"], carried, axis=1)
        if pixels:
            self.total([dx, *pixels], GRADIENT)

    def _relu_backward(self, dF: str, layer: str) -> str:
        """Return dZ = dF where F > 0, else 0."""
        mask = self.node("Greater", [layer, self.number("0", 0.0)], f"{layer}.open")
        return self._where(mask, dF, f"{layer}.dZ")

    def _convolution_backward(self, dZ: str, layer: Convolution, dX: str) -> None:
        """Add dX = dZ convolved with each kernel rotated by 180°, N and C exchanged."""
        name, padding = layer.name, layer.padding
        exchanged = self.node("Transpose", [f"{name}.W"], f"{name}.exchanged", perm=[1, 0, 2, 3])
        # A slice from the last entry to the first, in steps of −1, along both edges.
        turning = [self.whole(pair) for pair in ([2, 2], [-4, -4], [2, 3], [-1, -1])]
        turned = self.node("Slice", [exchanged, *turning], f"{name}.turned")
        if padding == "zeros":
            self.node("Conv", [dZ, turned], dX, **window(1))
        else:
            padded = self.node("Conv", [dZ, turned], f"{name}.dX.padded", **window(2))
            add_padding_backward(self, padded, padding, dX)

    def _max_pool_backward(self, dY: str, layer: str, below: str) -> str:
        """Return dX = dY at the first maximum of each window, 0 elsewhere."""
        X, Y = self._even_part(below), layer
        apart = self.node("SpaceToDepth", [X], f"{layer}.apart", blocksize=2)
        members = self._split(apart, layer)
        given, rest = [], dY
        for which, member in enumerate(members[:-1]):
            chosen = self.node("Equal", [member, Y], f"{layer}.chosen.{which}")
            given.append(self._where(chosen, rest, f"{layer}.given.{which}"))
            # Later members receive only what no earlier member has received.
            rest = self.node("Sub", [rest, given[-1]], f"{layer}.rest.{which}")
        together = self.node("Concat", [*given, rest], f"{layer}.given", axis=1)
        even = self.node("DepthToSpace", [together], f"{layer}.even", blocksize=2)
        return self._odd_edges(even, below)

    def _avg_pool_backward(self, dY: str, layer: str, below: str) -> str:
        """Return dX = dY / 4 at each of a window's four positions."""
        quarter = self.node("Mul", [dY, self.number("1/4", 0.25)], f"{layer}.quarter")
        twice = self.stored_once("twice", np.array([1, 1, 2, 2]), "<f4")
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
        """Return dF where the mask is true, else 0: a product, four times as fast as Where."""
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
        ends = self.node("Sub", [self.layer_edges(layer), self._odd(layer)], f"{layer}.ends")
        start, axes = self.whole([0, 0]), self.whole([2, 3])
        return self.node("Slice", [layer, start, ends, axes], f"{layer}.windows")

    def _odd_edges(self, even: str, layer: str) -> str:
        """Return the derivative at all positions of a layer: 0 in an odd last row or column."""
        if not any(edge % 2 for edge in self.edges.get(layer, (1,))):
            return even
        pads = self.node("Concat", [self.whole([0] * 6), self._odd(layer)], f"{layer}.pads", axis=0)
        return self.node("Pad", [even, pads], f"{layer}.above")

    def _odd(self, layer: str) -> str:
        """Return how many rows and columns a pooling of this layer leaves out."""
        name = f"{layer}.odd"
        if layer in self.edges:
            return self.stored_once(name, np.array(self.edges[layer]) % 2, "<i8")
        return self.once("Mod", [self.layer_edges(layer), self.whole([2])], name)


def finished_model(
    graph: ObjectiveEmission,
    name: str,
    inputs: Mapping[str, Dimensions],
    outputs: Mapping[str, Dimensions],
    metadata: Mapping[str, str] | None,
) -> bytes:
    """Return the checked file of a graph with these inputs and outputs."""
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
