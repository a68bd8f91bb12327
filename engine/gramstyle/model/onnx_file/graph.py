"""Shared parts of all graphs: versions, names, nodes, hashes, and the forward pass."""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from gramstyle.core.arrays import Array
from gramstyle.core.kernels import Pooling
from gramstyle.core.layers import Padding
from gramstyle.core.network import Convolution, Network
from gramstyle.core.preprocessing import Preprocessing
from gramstyle.model.onnx_file.nodes import Nodes
from gramstyle.model.onnx_file.padding import add_padding
from gramstyle.model.precision import Precision, as_float16, codebook

IR_VERSION, OPSET = 10, 17
INPUT = "input"
# The input of a graph that begins with the preprocessing.
IMAGE = "x"

FORMAT_KEY, TENSORS_HASH, METADATA_HASH = "gramstyle.format", "tensors.sha256", "metadata.sha256"


def window(border: int) -> dict[str, list[int]]:
    """Return the attributes of a 3×3 convolution whose input gets a border of so many zeros."""
    return {"kernel_shape": [3, 3], "pads": [border] * 4}


POOL_OPERATORS: Mapping[Pooling, str] = {"max": "MaxPool", "avg": "AveragePool"}


def model_of(graph: onnx.GraphProto) -> onnx.ModelProto:
    """Return an ONNX model with this graph."""
    return helper.make_model(
        graph,
        ir_version=IR_VERSION,
        opset_imports=[helper.make_opsetid("", OPSET)],
        producer_name="gramstyle",
    )


def serialised(model: onnx.ModelProto) -> bytes:
    """Return a model as bytes; equal models give equal bytes."""
    data: bytes = model.SerializeToString(deterministic=True)
    return data


def pool_node(name: str, previous: str, pooling: Pooling) -> onnx.NodeProto:
    """Return a 2×2 pooling with stride 2."""
    return helper.make_node(
        POOL_OPERATORS[pooling],
        [previous],
        [name],
        name=f"{name}.pool",
        kernel_shape=[2, 2],
        strides=[2, 2],
    )


def tensors_hash(tensors: Iterable[onnx.TensorProto]) -> str:
    """Return one hash of names, types, shapes and bytes; it changes if any weight changes."""
    digest = hashlib.sha256()
    for tensor in sorted(tensors, key=lambda t: t.name):
        digest.update(f"{tensor.name} {tensor.data_type} {list(tensor.dims)}\n".encode())
        digest.update(tensor.raw_data)
    return digest.hexdigest()


def metadata_hash(metadata: Mapping[str, str]) -> str:
    """Return one hash of all metadata except this hash itself."""
    covered = {key: value for key, value in metadata.items() if key != METADATA_HASH}
    return hashlib.sha256(json.dumps(covered, sort_keys=True).encode()).hexdigest()


def stored_weights(
    convolution: Convolution, precision: Precision
) -> tuple[dict[str, Array], list[onnx.NodeProto]]:
    """Return the arrays to store, and the nodes that compute "NAME.W" from them.

    Raises
    ------
    ModelError
        If a weight exceeds the range of the precision.
    """
    name, W = convolution.name, np.asarray(convolution.W, "<f4", order="C")
    biases = {f"{name}.b": np.asarray(convolution.b, "<f4")}
    if precision == "float32":
        return {f"{name}.W": W, **biases}, []
    if precision == "float16":
        return {f"{name}.half": as_float16(W, name=name), **biases}, [
            _cast(name, f"{name}.half", f"{name}.W", TensorProto.FLOAT)
        ]
    index, table = codebook(W)
    return {f"{name}.index": index, f"{name}.table": table, **biases}, [
        # Gather does not accept uint8 indices.
        _cast(name, f"{name}.index", f"{name}.index32", TensorProto.INT32),
        helper.make_node(
            "Gather", [f"{name}.table", f"{name}.index32"], [f"{name}.W"], name=f"{name}.gather"
        ),
    ]


def _cast(name: str, source: str, result: str, to: int) -> onnx.NodeProto:
    return helper.make_node("Cast", [source], [result], name=f"{name}.cast", to=to)


class Emission(Nodes):
    """The nodes of a graph that begins with the forward pass of a network.

    The tensors have the paper's letters: "conv4_2" is F of that layer, "conv4_2.Z" its
    pre-activation, "conv4_2.W" and "conv4_2.b" its weights and biases, "x" the image, "v" the
    preprocessed image.
    """

    def convolution(self, inputs: Sequence[str], output: str, padding: Padding) -> str:
        """Add a 3×3 convolution; the inputs are X, which is padded by one, W and b."""
        X, *weights = inputs
        if padding == "zeros":
            return self.node("Conv", inputs, output, **window(1))
        padded = add_padding(self, X, padding, f"{output}.padded")
        return self.node("Conv", [padded, *weights], output, **window(0))

    def forward(
        self, network: Network, preprocessing: Preprocessing, precision: Precision = "float32"
    ) -> None:
        """Add the forward pass from the image to every layer's responses."""
        F = self._preprocessed(preprocessing)
        for layer in network.layers:
            if isinstance(layer, Convolution):
                F = self._convolved(layer, F, precision)
            else:
                self.nodes.append(pool_node(layer.name, F, layer.kind))
                F = layer.name

    def _preprocessed(self, preprocessing: Preprocessing) -> str:
        """Add v = scale · (x − mean), in the network's channel order."""
        x = IMAGE
        if preprocessing.channels == "BGR":
            order = self.stored("channels", np.array([2, 1, 0]), "<i8")
            x = self.node("Gather", [x, order], "reordered", axis=1)
        columns = np.array([preprocessing.mean, preprocessing.scale]).reshape(2, 1, 3, 1, 1)
        x = self.node("Sub", [x, self.stored("mean", columns[0])], "centred")
        return self.node("Mul", [x, self.stored("scale", columns[1])], "v")

    def _convolved(self, layer: Convolution, below: str, precision: Precision) -> str:
        """Add Z = W ∗ F + b of the layer below, and F = max(0, Z)."""
        name = layer.name
        arrays, unpacking = stored_weights(layer, precision)
        self.tensors += [numpy_helper.from_array(array, key) for key, array in arrays.items()]
        self.nodes += unpacking
        Z = self.convolution([below, f"{name}.W", f"{name}.b"], f"{name}.Z", layer.padding)
        return self.node("Relu", [Z], name)
