"""VGG-19's convolutions out of an ONNX file that another program wrote.

Such a file may call its tensors anything, so they are found by following the graph: a chain of
convolutions and ReLUs, a pooling behind each block.
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
from gramstyle.model.onnx_file.graph import FORMAT_KEY
from gramstyle.model.onnx_file.reading import read_model
from gramstyle.model.sources.tensors import StoredTensor, Tensors

# protobuf ends here; VGG-19 with its classifier in float32 is 575 MB.
MAX_BYTES = 2**31 - 1

# What a chain may lead through without changing its values.
PASSING = frozenset({"Identity", "Dropout"})
# Where the classifier begins.
ENDS = frozenset({"Flatten", "Reshape", "Gemm", "MatMul", "GlobalAveragePool"})

CONVOLUTION: Mapping[str, Any] = {
    "kernel_shape": [3, 3],
    "pads": [1, 1, 1, 1],
    "strides": [1, 1],
    "dilations": [1, 1],
    "group": 1,
}
POOLING: Mapping[str, Any] = {
    "kernel_shape": [2, 2],
    "pads": [0, 0, 0, 0],
    "strides": [2, 2],
    "dilations": [1, 1],
}


@dataclass(frozen=True)
class OnnxWeights:
    """The convolutions of an ONNX file, as "chain.convB_K.weight" and "chain.convB_K.bias".

    Attributes
    ----------
    tensors
        The weights and biases.
    preprocessing
        How the network sees images, if the file says so.
    metadata
        What a file of this program's own says of itself; empty for another's.
    """

    tensors: Tensors
    preprocessing: Preprocessing | None
    metadata: Mapping[str, str]


@contextmanager
def open_onnx(path: Path) -> Iterator[OnnxWeights]:
    """Open an ONNX file: this program's own, or another's that holds VGG-19.

    Raises
    ------
    ModelError
        If it is neither.
    """
    size = path.stat().st_size
    if size > MAX_BYTES:
        raise ModelError(f"expected at most {MAX_BYTES} bytes, found {size}")
    proto = onnx.load_model_from_string(path.read_bytes())
    if any(p.key == FORMAT_KEY for p in proto.metadata_props):
        del proto
        yield _own(path)
    else:
        yield OnnxWeights(dict(_followed(proto.graph)), None, {})


def _own(path: Path) -> OnnxWeights:
    model = read_model(path)
    tensors: dict[str, StoredTensor] = {}
    for layer in model.network.layers:
        if isinstance(layer, Convolution):
            tensors[f"chain.{layer.name}.weight"] = _held(layer.W)
            tensors[f"chain.{layer.name}.bias"] = _held(layer.b)
    return OnnxWeights(tensors, model.preprocessing, model.metadata)


def _held(array: Array) -> StoredTensor:
    return StoredTensor(array.shape, array.dtype, lambda: array)


def _followed(graph: onnx.GraphProto) -> Iterator[tuple[str, StoredTensor]]:
    """Follow the chain from the input and name each convolution by its place."""
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
            raise ModelError(f"node {node.name!r} is of the foreign domain {node.domain!r}")
        if kind == "Conv" and rectified:
            _check(node, CONVOLUTION)
            number, rectified = number + 1, False
            yield from _tensors(node, f"chain.conv{block}_{number}", initialisers)
        elif kind == "Relu" and not rectified:
            rectified = True
        elif kind in ("MaxPool", "AveragePool") and rectified and number:
            _check(node, POOLING)
            block, number = block + 1, 0
        elif kind not in PASSING:
            raise ModelError(
                f"expected a chain of convolutions, ReLUs and 2×2 poolings, found {kind!r} after "
                f"{number} convolutions of block {block}"
            )
        at = node.output[0]


def _tensors(
    node: onnx.NodeProto, name: str, initialisers: Mapping[str, onnx.TensorProto]
) -> Iterator[tuple[str, StoredTensor]]:
    if len(node.input) != 3:
        raise ModelError(f"expected weights and biases at node {node.name!r}, found no biases")
    for key, kind in zip(node.input[1:], ("weight", "bias"), strict=True):
        if key not in initialisers:
            raise ModelError(
                f"expected the {kind} of node {node.name!r} as a stored tensor, found none called "
                f"{key!r}; is the network quantised?"
            )
        yield f"{name}.{kind}", _stored(initialisers[key])


# Types that hold a weight, with the field that holds it where raw_data does not.
_TYPES: Mapping[int, tuple[str, str]] = {
    TensorProto.FLOAT: ("f4", "float_data"),
    TensorProto.DOUBLE: ("f8", "double_data"),
    TensorProto.FLOAT16: ("f2", "int32_data"),
}


def _stored(tensor: onnx.TensorProto) -> StoredTensor:
    """Describe a tensor, once its data are as many as its shape says."""
    if tensor.data_location == TensorProto.EXTERNAL or tensor.external_data:
        raise ModelError(f"the tensor {tensor.name!r} lies in another file (external data)")
    if tensor.data_type not in _TYPES:
        raise ModelError(f"expected floats in the tensor {tensor.name!r}")
    dtype, field = _TYPES[tensor.data_type]
    held = len(tensor.raw_data) // np.dtype(dtype).itemsize or len(getattr(tensor, field))
    shape = tuple(tensor.dims)
    if min(shape, default=0) < 1 or prod(shape) != held:
        raise ModelError(f"expected {shape} values in {tensor.name!r}, found {held}")
    return StoredTensor(shape, np.dtype(dtype), lambda: numpy_helper.to_array(tensor))


def _check(node: onnx.NodeProto, expected: Mapping[str, Any]) -> None:
    """Refuse a convolution or a pooling of another geometry than VGG-19's."""
    attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    padding = attributes.pop("auto_pad", b"NOTSET")
    if padding in (b"SAME_UPPER", b"SAME_LOWER") and expected is CONVOLUTION:
        attributes["pads"] = expected["pads"]
    elif padding not in (b"NOTSET", b"VALID"):
        raise ModelError(f"node {node.name!r} pads by {padding!r}")
    # The standard's own defaults, but for the kernel, which the weights' shape may tell.
    defaults = {"pads": [0, 0, 0, 0], "strides": [1, 1], "dilations": [1, 1], "group": 1}
    found = {"kernel_shape": expected["kernel_shape"], **defaults, **attributes}
    for name, value in expected.items():
        if found[name] != value:
            raise ModelError(
                f"expected {name} = {value} at node {node.name!r}, found {found[name]}"
            )
