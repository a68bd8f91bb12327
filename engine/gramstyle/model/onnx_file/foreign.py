"""Read VGG-19's convolutions from an ONNX file that another program wrote.

The tensors of such a file can have any names. The reader finds them by following the graph: a
chain of convolutions and ReLUs, with a pooling after each block.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from gramstyle.core.arrays import Array
from gramstyle.core.network import Convolution
from gramstyle.core.preprocessing import Preprocessing
from gramstyle.errors import ModelError
from gramstyle.model.onnx_file.external import ExternalValues, include_external_data, is_external
from gramstyle.model.onnx_file.graph import FORMAT_KEY
from gramstyle.model.onnx_file.parsing import parse_onnx
from gramstyle.model.onnx_file.reading import (
    CONVOLUTION,
    POOLING,
    checked_model,
    parse_model,
    read_bytes,
)
from gramstyle.model.sources.tensors import StoredTensor, Tensors

# The limit of protobuf; VGG-19 with its classifier in float32 has 575 MB.
MAX_BYTES = 2**31 - 1

# Operators that do not change their input when the network is run.
IDENTITIES = frozenset({"Identity", "Dropout"})
# Operators at which the classifier begins.
ENDS = frozenset({"Flatten", "Reshape", "Gemm", "MatMul", "GlobalAveragePool"})


@dataclass(frozen=True)
class OnnxWeights:
    """The convolutions of an ONNX file, as "chain.convB_K.weight" and "chain.convB_K.bias".

    Attributes
    ----------
    tensors
        The weights and biases.
    preprocessing
        The network's preprocessing, if the file states it.
    metadata
        The metadata of a model file of gramstyle; empty for other files.
    """

    tensors: Tensors
    preprocessing: Preprocessing | None
    metadata: Mapping[str, str]


@contextmanager
def open_onnx(path: Path) -> Iterator[OnnxWeights]:
    """Open a model file of gramstyle, or another ONNX file that holds VGG-19.

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
        yield OnnxWeights(dict(_convolutions(proto.graph, path)), None, {})


def _own_weights(path: Path) -> OnnxWeights:
    data = read_bytes(path)
    proto = parse_model(path, data)
    include_external_data(proto, path)
    model = checked_model(path, data, proto)
    tensors: dict[str, StoredTensor] = {}
    for layer in model.network.layers:
        if isinstance(layer, Convolution):
            tensors[f"chain.{layer.name}.weight"] = _in_memory(layer.W)
            tensors[f"chain.{layer.name}.bias"] = _in_memory(layer.b)
    return OnnxWeights(tensors, model.preprocessing, model.metadata)


def _in_memory(array: Array) -> StoredTensor:
    return StoredTensor(array.shape, array.dtype, lambda: array)


def _convolutions(graph: onnx.GraphProto, path: Path) -> Iterator[tuple[str, StoredTensor]]:
    """Follow the chain from the input; yield each convolution's tensors, named by its place."""
    initialisers = {t.name: t for t in graph.initializer}
    inputs = [i.name for i in graph.input if i.name not in initialisers]
    if len(inputs) != 1:
        raise ModelError(f"expected one input, found {len(inputs)}")
    at, block, number, rectified = inputs[0], 1, 0, True
    for node in graph.node:
        if not node.input or node.input[0] != at:
            continue
        kind = node.op_type
        if kind in ENDS:
            break
        if node.domain not in ("", "ai.onnx") or not node.output:
            raise ModelError(f"node {node.name!r} is in the foreign domain {node.domain!r}")
        if kind == "Conv" and rectified:
            _check(node, CONVOLUTION)
            number, rectified = number + 1, False
            yield from _tensors(node, f"chain.conv{block}_{number}", initialisers, path)
        elif kind == "Relu" and not rectified:
            rectified = True
        elif kind in ("MaxPool", "AveragePool") and rectified and number:
            _check(node, POOLING)
            block, number = block + 1, 0
        elif kind not in IDENTITIES:
            raise ModelError(
                f"expected a chain of convolutions, ReLUs and 2×2 poolings, found {kind!r} after "
                f"{number} convolutions of block {block}"
            )
        at = node.output[0]


def _tensors(
    node: onnx.NodeProto, name: str, initialisers: Mapping[str, onnx.TensorProto], path: Path
) -> Iterator[tuple[str, StoredTensor]]:
    if len(node.input) != 3:
        raise ModelError(f"expected weights and biases at node {node.name!r}, found no biases")
    for key, kind in zip(node.input[1:], ("weight", "bias"), strict=True):
        if key not in initialisers:
            raise ModelError(
                f"expected the {kind} of node {node.name!r} as a stored tensor, found none called "
                f"{key!r}; is the network quantised?"
            )
        yield f"{name}.{kind}", _stored(initialisers[key], path)


# The types of weights, with the field for values that are not in raw_data.
_TYPES: Mapping[int, tuple[str, str]] = {
    TensorProto.FLOAT: ("f4", "float_data"),
    TensorProto.DOUBLE: ("f8", "double_data"),
    TensorProto.FLOAT16: ("f2", "int32_data"),
}


def _stored(tensor: onnx.TensorProto, path: Path) -> StoredTensor:
    """Return a tensor, once its number of values is known to match its shape."""
    if tensor.data_type not in _TYPES:
        raise ModelError(f"expected floats in the tensor {tensor.name!r}")
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


def _check(node: onnx.NodeProto, expected: Mapping[str, Any]) -> None:
    """Refuse a convolution or pooling with other attributes than VGG-19's."""
    attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    padding = attributes.pop("auto_pad", b"NOTSET")
    if padding in (b"SAME_UPPER", b"SAME_LOWER") and expected is CONVOLUTION:
        attributes["pads"] = expected["pads"]
    elif padding not in (b"NOTSET", b"VALID"):
        raise ModelError(f"node {node.name!r} has the padding {padding!r}")
    # The defaults of the ONNX standard; that of the kernel is the shape of the weights.
    defaults = {"pads": [0, 0, 0, 0], "strides": [1, 1], "dilations": [1, 1], "group": 1}
    found = {"kernel_shape": expected["kernel_shape"], **defaults, **attributes}
    for name, value in expected.items():
        if found[name] != value:
            raise ModelError(
                f"expected {name} = {value} at node {node.name!r}, found {found[name]}"
            )
