"""Equation 7, its gradient and the derivative at every layer as one ONNX graph."""

from collections.abc import Mapping, Sequence

from gramstyle.core.network import Convolution, Network
from gramstyle.core.preprocessing import Preprocessing
from gramstyle.core.terms import Term
from gramstyle.model.onnx_file.graph import IMAGE
from gramstyle.model.onnx_file.objective import (
    GRADIENT,
    LOSS,
    ObjectiveEmission,
    finished_model,
)
from gramstyle.model.onnx_file.objective_parts import Dimensions, Size


def derivatives_model(
    network: Network,
    preprocessing: Preprocessing,
    size: Size,
    terms: Sequence[Term],
    weights: Mapping[str, float],
) -> bytes:
    """Return an ONNX file that computes the loss and every derivative of the backward pass.

    Parameters
    ----------
    network, preprocessing, size, terms, weights
        As in `objective_model`; every term has its target, and none is at a pooling.

    Returns
    -------
    bytes
        Input "x"; outputs "loss", "gradient", then the derivatives at each layer from the deepest
        one on: "conv4_2.dZ", which is dF where F > 0 and 0 elsewhere, and "pool1.dF".
    """
    graph = ObjectiveEmission(network=network, size=size, weights_as="constants")
    graph.forward(network, preprocessing)
    graph.equation_7(terms, weights)
    graph.backward(preprocessing)
    image: Dimensions = (1, 3, *size)
    outputs: dict[str, Dimensions] = {LOSS: (), GRADIENT: image}
    for layer in reversed(network.layers):
        if isinstance(layer, Convolution):
            name = f"{layer.name}.dZ"
        else:
            name = graph.node("Identity", [f"{layer.name}.above"], f"{layer.name}.dF")
        outputs[name] = graph.dimensions(layer.name)
    return finished_model(graph, "derivatives", {IMAGE: image}, outputs, None)
