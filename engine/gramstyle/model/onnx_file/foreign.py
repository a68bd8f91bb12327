"""Read a network from an ONNX file: a model file of gramstyle, or that of another program.

The tensors of such a file can have any names; `graph_chain` finds them by following the graph.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

from gramstyle.core.arrays import Array
from gramstyle.core.network import Convolution
from gramstyle.core.preprocessing import Preprocessing
from gramstyle.errors import ModelError
from gramstyle.model.architecture import Architecture, architecture_of
from gramstyle.model.messages import quoted, with_remedy
from gramstyle.model.onnx_file.external import ExternalValues, include_external_data, is_external
from gramstyle.model.onnx_file.graph import FORMAT_KEY
from gramstyle.model.onnx_file.graph_chain import Chain, Find, follow
from gramstyle.model.onnx_file.parsing import parse_onnx
from gramstyle.model.onnx_file.reading import checked_model, parse_model, read_bytes
from gramstyle.model.sources.tensors import StoredTensor, Tensors

# The limit of protobuf; VGG-19 with its classifier in float32 has 575 MB.
MAX_BYTES = 2**31 - 1
OTHER_NETWORK = "choose a VGG, or another chain of 3×3 convolutions"


@dataclass(frozen=True)
class OnnxWeights:
    """The network of an ONNX file, as "chain.convB_K.weight" and "chain.convB_K.bias".

    Attributes
    ----------
    tensors
        The weights and biases.
    preprocessing
        The network's preprocessing, if the file states it.
    metadata
        The metadata of a model file of gramstyle; empty for other files.
    architecture
        The architecture of the network.
    normalised
        Whether batch normalisations are folded into the tensors.
    """

    tensors: Tensors
    preprocessing: Preprocessing | None
    metadata: Mapping[str, str]
    architecture: Architecture
    normalised: bool = False


@contextmanager
def open_onnx(path: Path) -> Iterator[OnnxWeights]:
    """Open a model file of gramstyle, or another ONNX file that holds a network.

    Raises
    ------
    ModelError
        If it is neither; if values in other files are not in the folder of this one.
    """
    size = path.stat().st_size
    if size > MAX_BYTES:
        raise ModelError(f"expected at most {MAX_BYTES} bytes, found {size}")
    with path.open("rb") as stream:
        proto = parse_onnx(stream)
    if any(p.key == FORMAT_KEY for p in proto.metadata_props):
        del proto
        yield _own_weights(path)
    else:
        try:
            chain = follow(proto.graph, _finder(proto.graph, path))
        except ModelError as error:
            raise ModelError(with_remedy(str(error), OTHER_NETWORK)) from None
        yield OnnxWeights(_named(chain), None, {}, chain.architecture, chain.normalised)


def _own_weights(path: Path) -> OnnxWeights:
    data = read_bytes(path)
    proto = parse_model(path, data)
    include_external_data(proto, path)
    model = checked_model(path, data, proto)
    tensors: dict[str, StoredTensor] = {}
    convolutions = [layer for layer in model.network.layers if isinstance(layer, Convolution)]
    for layer in convolutions:
        tensors[f"chain.{layer.name}.weight"] = _in_memory(layer.W)
        tensors[f"chain.{layer.name}.bias"] = _in_memory(layer.b)
    architecture = architecture_of(convolutions)
    if tuple(layer.name for layer in convolutions) != architecture.layers:
        raise ModelError("expected layers named conv1_1, conv1_2 and so on, found other names")
    return OnnxWeights(tensors, model.preprocessing, model.metadata, architecture)


def _in_memory(array: Array) -> StoredTensor:
    return StoredTensor(array.shape, array.dtype, lambda: array)


def _named(chain: Chain) -> Tensors:
    """Return the tensors of a chain by the names of its layers."""
    tensors: dict[str, StoredTensor] = {}
    for block, convolutions in enumerate(chain.blocks, start=1):
        for number, (W, b) in enumerate(convolutions, start=1):
            tensors[f"chain.conv{block}_{number}.weight"] = W
            tensors[f"chain.conv{block}_{number}.bias"] = b
    return tensors


def _finder(graph: onnx.GraphProto, path: Path) -> Find:
    """Return the function that finds a stored tensor of a node."""
    stored = _constants(graph)

    def find(node: onnx.NodeProto, name: str, kind: str) -> StoredTensor:
        if name not in stored:
            raise ModelError(
                f"expected the {kind} of node {node.name!r} as a stored tensor, found none called "
                f"{name!r}; is the network quantised?"
            )
        try:
            return _stored(stored[name], path)
        except ModelError as error:
            raise ModelError(with_remedy(str(error), "get a fresh copy")) from None

    return find


def _constants(graph: onnx.GraphProto) -> dict[str, onnx.TensorProto]:
    """Return the stored tensors by name: initialisers, constants, and other names of these."""
    found: dict[str, onnx.TensorProto] = {}
    for tensor in graph.initializer:
        if tensor.name in found:
            raise ModelError(f"expected one tensor named {quoted(tensor.name)}, found two")
        found[tensor.name] = tensor
    for node in graph.node:
        if node.domain not in ("", "ai.onnx") or len(node.output) != 1:
            continue
        if node.op_type == "Constant":
            for attribute in node.attribute:
                if attribute.name == "value":
                    found[node.output[0]] = attribute.t
        elif node.op_type == "Identity" and len(node.input) == 1 and node.input[0] in found:
            found[node.output[0]] = found[node.input[0]]
    return found


# The types of weights, with the field for values that are not in raw_data.
_TYPES: Mapping[int, tuple[str, str]] = {
    TensorProto.FLOAT: ("f4", "float_data"),
    TensorProto.DOUBLE: ("f8", "double_data"),
    TensorProto.FLOAT16: ("f2", "int32_data"),
}


def _stored(tensor: onnx.TensorProto, path: Path) -> StoredTensor:
    """Return a tensor, once its number of values is known to match its shape."""
    if tensor.data_type not in _TYPES:
        names = {number: name for name, number in TensorProto.DataType.items()}
        kind = names.get(tensor.data_type, "an unknown type")
        raise ModelError(
            f"expected FLOAT, DOUBLE or FLOAT16 values in the tensor {quoted(tensor.name)}, found "
            f"{kind}; export the network in float32"
        )
    dtype, field = _TYPES[tensor.data_type]
    if is_external(tensor):
        values, stored = ExternalValues(tensor, path), np.dtype(dtype).newbyteorder("<")
        dims = tuple(tensor.dims)
        return StoredTensor(dims, stored, lambda: values.read().view(stored).reshape(dims))
    size = len(tensor.raw_data) // np.dtype(dtype).itemsize or len(getattr(tensor, field))
    shape = tuple(tensor.dims)
    if min(shape, default=0) < 1 or prod(shape) != size:
        raise ModelError(f"expected {shape} values in {tensor.name!r}, found {size}")
    return StoredTensor(shape, np.dtype(dtype), lambda: numpy_helper.to_array(tensor))
