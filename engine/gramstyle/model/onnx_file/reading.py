"""Read and check a model file, which is untrusted input."""

import hashlib
import io
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, checker, helper, numpy_helper

from gramstyle.core.arrays import Array
from gramstyle.core.kernels import Pooling
from gramstyle.core.layers import Padding
from gramstyle.core.network import Convolution, Layer, Network, Pool
from gramstyle.core.preprocessing import Preprocessing
from gramstyle.errors import ModelError
from gramstyle.model.messages import printable, quoted, with_remedy
from gramstyle.model.onnx_file.external import is_external
from gramstyle.model.onnx_file.graph import (
    FORMAT_KEY,
    INPUT,
    METADATA_HASH,
    TENSORS_HASH,
    metadata_hash,
    tensors_hash,
)
from gramstyle.model.onnx_file.metadata import read_preprocessing
from gramstyle.model.onnx_file.parsing import parse_onnx
from gramstyle.model.onnx_file.runnable import runnable_model
from gramstyle.model.sources.protobuf import LimitError

# A file is read whole before it is checked. VGG-19 in float32 without its classifier has 80 MB.
MAX_BYTES = 512 * 1024 * 1024

REMEDY = "build it again with: gramstyle model export"

# The attributes of the convolutions and poolings that gramstyle computes. The padding is checked
# last, because it follows from the others: a dilation of 2 comes with a padding of 2.
CONVOLUTION: Mapping[str, Any] = {
    "kernel_shape": [3, 3],
    "strides": [1, 1],
    "dilations": [1, 1],
    "group": 1,
    "pads": [1, 1, 1, 1],
}
POOLING: Mapping[str, Any] = {
    "kernel_shape": [2, 2],
    "pads": [0, 0, 0, 0],
    "strides": [2, 2],
    "dilations": [1, 1],
}

OPERATORS = frozenset({"Conv", "Relu", "MaxPool", "AveragePool", "Cast", "Gather"})


@dataclass(frozen=True)
class Model:
    """A checked model file.

    Attributes
    ----------
    path
        The file's path.
    sha256
        The hash of the file.
    network
        The layers, with weights in float32.
    preprocessing
        The network's preprocessing.
    metadata
        The file's metadata.

    Examples
    --------
    >>> from gramstyle.model import locate_model, read_model
    >>> model = read_model(locate_model())
    >>> model.network.names[:3], model.preprocessing.channels
    (('conv1_1', 'conv1_2', 'pool1'), 'BGR')
    """

    path: Path
    sha256: str
    network: Network
    preprocessing: Preprocessing
    metadata: Mapping[str, str]
    _proto: onnx.ModelProto

    def runnable(self, names: Iterable[str], pooling: Pooling, padding: Padding = "zeros") -> bytes:
        """Return an ONNX model from the input to the deepest of the named layers.

        Its outputs are the responses of every layer up to there. All its poolings are of the
        given kind, and the inputs of all its convolutions are padded in the given way.

        Raises
        ------
        OptionError
            If a name is not a layer of this network.
        """
        return runnable_model(self._proto.graph, self.network.until(names).names, pooling, padding)


def read_model(path: Path) -> Model:
    """Read and check a model file.

    Raises
    ------
    ModelError
        If it is missing, too large, truncated or altered, or contains anything that gramstyle
        does not run: external data, functions, foreign domains, other operators, another
        architecture.

    Examples
    --------
    >>> from gramstyle.model import locate_model, read_model
    >>> network = read_model(locate_model()).network
    >>> len([name for name in network.names if name.startswith("conv")])
    16
    """
    data = read_bytes(path)
    return checked_model(path, data, parse_model(path, data))


def checked_model(path: Path, data: bytes, proto: onnx.ModelProto) -> Model:
    """Check a parsed model file; parameters are its path, its bytes and its contents.

    Raises
    ------
    ModelError
        As `read_model`.
    """
    try:
        _check_contents(proto)
        checker.check_model(proto)
        metadata = {p.key: p.value for p in proto.metadata_props}
        _check_hashes(proto, metadata)
        return Model(
            path=path,
            sha256=hashlib.sha256(data).hexdigest(),
            network=_network(proto.graph),
            preprocessing=read_preprocessing(metadata),
            metadata=metadata,
            _proto=proto,
        )
    except ModelError as error:
        reason = with_remedy(_first_line(error), REMEDY)
        raise ModelError(f"model {path} is refused: {reason}") from None
    # For well-formed protobuf that is not ONNX, onnx raises exceptions of many types.
    except Exception as error:
        reason = f"it is not valid ONNX ({_first_line(error).rstrip(': ')}); {REMEDY}"
        raise ModelError(f"model {path} is refused: {reason}") from None


def read_bytes(path: Path) -> bytes:
    """Return the bytes of a model file; raise ModelError if it is missing or too large."""
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            reason = f"{size} bytes, the limit is {MAX_BYTES}; {REMEDY}"
            raise ModelError(f"model {path} is refused: {reason}")
        if not path.is_file():
            raise ModelError(f"model {path} is not a file")
        return path.read_bytes()
    except FileNotFoundError:
        raise ModelError(
            f"there is no model {path}; build one with: gramstyle model export --to {path}"
        ) from None
    except OSError as error:
        raise ModelError(f"cannot read model {path}: {error.strerror}") from None


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return printable(lines[0])


def parse_model(path: Path, data: bytes) -> onnx.ModelProto:
    """Parse the bytes of a model file; raise ModelError if they are not one."""
    try:
        proto = parse_onnx(io.BytesIO(data))
    except LimitError as error:
        raise ModelError(f"model {path} is refused: {error}") from None
    except Exception:  # protobuf's DecodeError, which onnx does not export
        raise ModelError(
            f"model {path} is truncated or not an ONNX file; build one with: gramstyle model "
            "export, which accepts weights of any format"
        ) from None
    if not proto.graph.node:
        raise ModelError(
            f"model {path} contains no network; build one with: gramstyle model export"
        )
    if all(p.key != FORMAT_KEY for p in proto.metadata_props):
        raise ModelError(
            f"model {path} is another program's ONNX file; convert it with: gramstyle "
            "model export --from FILE --to MODEL"
        )
    return proto


def _check_contents(proto: onnx.ModelProto) -> None:
    """Refuse everything that a chain of convolutions does not need, before it is processed."""
    graph = proto.graph
    if proto.functions or proto.training_info or graph.sparse_initializer:
        raise ModelError("it contains functions, training information or sparse tensors")
    if not all((p.key + p.value).isprintable() for p in proto.metadata_props):
        raise ModelError("its metadata contain control characters")
    domains = {opset.domain for opset in proto.opset_import} | {n.domain for n in graph.node}
    if foreign := sorted(domains - {"", "ai.onnx"}):
        raise ModelError(f"it uses operators of the foreign domain {foreign[0]!r}")
    if unknown := sorted({n.op_type for n in graph.node} - OPERATORS):
        raise ModelError(f"it uses the operator {unknown[0]!r}, which gramstyle does not run")
    for tensor in graph.initializer:
        if is_external(tensor):
            raise ModelError(
                f"the tensor {quoted(tensor.name)} is stored in another file (external data); put "
                "both in one file with: gramstyle model export --from FILE --to MODEL"
            )
        if tensor.data_type not in _DTYPES:
            raise ModelError(f"the tensor {tensor.name!r} is not float32, float16 or uint8")
        if len(tensor.raw_data) != prod(tensor.dims) * _DTYPES[tensor.data_type].itemsize:
            raise ModelError(f"the tensor {tensor.name!r} does not have the size of its shape")


_DTYPES: Mapping[int, np.dtype[Any]] = {
    TensorProto.FLOAT: np.dtype("<f4"),
    TensorProto.FLOAT16: np.dtype("<f2"),
    TensorProto.UINT8: np.dtype("u1"),
}


def _check_hashes(proto: onnx.ModelProto, metadata: Mapping[str, str]) -> None:
    if TENSORS_HASH not in metadata:
        raise ModelError("its metadata lack tensors.sha256; build it with: gramstyle model export")
    found = {
        "weights": (metadata[TENSORS_HASH], tensors_hash(proto.graph.initializer)),
        # Files of format 1 have no hash of their metadata.
        "metadata": (metadata.get(METADATA_HASH), metadata_hash(metadata)),
    }
    for content, (recorded, actual) in found.items():
        if recorded not in (None, actual):
            raise ModelError(
                f"its {content} do not have the recorded hash: the file was altered or damaged; "
                "rebuild it with: gramstyle model export"
            )


# Layer names are printed, so they must not contain terminal control sequences.
_NAME = re.compile(r"[\w.]{1,100}")


def _network(graph: onnx.GraphProto) -> Network:
    """Follow the chain from the input: (Cast, Gather,) Conv, Relu and poolings."""
    weights = {t.name: numpy_helper.to_array(t) for t in graph.initializer}
    if [i.name for i in graph.input] != [INPUT]:
        raise ModelError(f"its only input must be named {INPUT!r}")
    layers: list[Layer] = []
    indices: set[str] = set()
    at, channels, pending = INPUT, 3, None
    for node in graph.node:
        attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        source, result = node.input[0], node.output[0]
        if len(node.output) != 1 or not _NAME.fullmatch(result):
            raise ModelError(f"node {node.name!r} does not have one output with a plain name")
        if node.op_type in ("Cast", "Gather"):
            weights[result] = _unpack(node, attributes, weights, indices)
            continue
        if source != at or (pending is not None) != (node.op_type == "Relu"):
            raise ModelError(f"node {node.name!r} breaks the chain of Conv, Relu and pooling")
        if node.op_type == "Conv":
            pending = _weights(node, attributes, weights, channels)
            channels = len(pending[1])
        elif node.op_type == "Relu" and pending is not None:
            layers.append(Convolution(result, *pending))
            pending = None
        else:
            layers.append(_pool(node, attributes))
        at = result
    if pending is not None or not layers or not isinstance(layers[0], Convolution):
        raise ModelError("it must begin with a convolution, and each must be followed by a ReLU")
    if any(isinstance(a, Pool) and isinstance(b, Pool) for a, b in pairwise(layers)):
        raise ModelError("two of its poolings follow each other")
    if len({layer.name for layer in layers}) != len(layers):
        raise ModelError("two of its layers have the same name")
    return Network(tuple(layers))


def _take(node: onnx.NodeProto, names: Iterable[str], weights: dict[str, Array]) -> list[Array]:
    """Remove and return tensors.

    Each tensor can be used by one node only, so a small file cannot expand to a huge network.
    """
    try:
        return [weights.pop(name) for name in names]
    except KeyError as error:
        raise ModelError(
            f"node {node.name!r} needs {error}, which is not a weight of the file or is used "
            "by two nodes"
        ) from None


_CASTS = {(np.dtype("u1"), TensorProto.INT32), (np.dtype("f2"), TensorProto.FLOAT)}


def _unpack(
    node: onnx.NodeProto,
    attributes: Mapping[str, Any],
    weights: dict[str, Array],
    indices: set[str],
) -> Array:
    """Run one node that decodes float16 or a codebook to weights.

    Indices that are cast to int32 are added to the set by their names and stay uint8, which takes a
    quarter of the memory.
    """
    operands = _take(node, node.input, weights)
    if node.op_type == "Cast":
        target = attributes.get("to")
        if len(attributes) != 1 or (operands[0].dtype, target) not in _CASTS:
            raise ModelError(
                f"node {node.name!r} casts other types than uint8 to int32 or float16 to float32"
            )
        if target == TensorProto.INT32:
            indices.add(node.output[0])
            return operands[0]
        return operands[0].astype(np.float32)
    table, index = operands
    if attributes.get("axis", 0) != 0 or table.ndim != 1 or node.input[1] not in indices:
        raise ModelError(f"node {node.name!r} does not look up values in a table")
    if index.size == 0 or int(index.max()) >= len(table):
        raise ModelError(f"node {node.name!r} looks up values beyond its table")
    # Indexed in the memory layout of the backward pass, which then needs no copy.
    return table[_tap_by_tap(index)] if index.ndim == 4 else table[index]


def _weights(
    node: onnx.NodeProto, attributes: Mapping[str, Any], weights: dict[str, Array], channels: int
) -> tuple[Array, Array]:
    expected = {**CONVOLUTION, "auto_pad": b"NOTSET"}
    _check_attributes(node, attributes, expected, required=("pads",))
    if len(node.input) != 3:
        raise ModelError(f"node {node.name!r} has no biases")
    W, b = _take(node, node.input[1:], weights)
    if W.dtype != np.float32 or b.dtype != np.float32:
        raise ModelError(f"the weights of node {node.name!r} are not float32")
    if W.shape[1:] != (channels, 3, 3) or b.shape != W.shape[:1] or len(b) == 0:
        raise ModelError(
            f"node {node.name!r} has weights {W.shape} and biases {b.shape}; "
            f"expected (N, {channels}, 3, 3) and (N,)"
        )
    if not (np.isfinite(W).all() and np.isfinite(b).all()):
        raise ModelError(f"the weights of node {node.name!r} are not finite")
    return _tap_by_tap(W), b


def _tap_by_tap(W: Array) -> Array:
    """Return W (N, C, 3, 3) with a layout in which each W[:, :, i, j].T is contiguous."""
    return np.ascontiguousarray(W.transpose(2, 3, 1, 0)).transpose(3, 2, 0, 1)


def _pool(node: onnx.NodeProto, attributes: Mapping[str, Any]) -> Pool:
    expected = {
        **POOLING,
        "ceil_mode": 0,
        "count_include_pad": 0,
        "storage_order": 0,
        "auto_pad": b"NOTSET",
    }
    _check_attributes(node, attributes, expected, required=("kernel_shape", "strides"))
    return Pool(node.output[0], "max" if node.op_type == "MaxPool" else "avg")


def _check_attributes(
    node: onnx.NodeProto,
    attributes: Mapping[str, Any],
    expected: Mapping[str, Any],
    *,
    required: tuple[str, ...],
) -> None:
    for name in (*attributes, *required):
        if name not in attributes or attributes[name] != expected.get(name):
            found = attributes.get(name, "nothing")
            raise ModelError(
                f"node {node.name!r} has {name} = {found}, expected {expected.get(name)}"
            )
