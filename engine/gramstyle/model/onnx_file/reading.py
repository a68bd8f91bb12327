"""Read a model file as what it is: input from a stranger."""

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, checker, helper, numpy_helper

from gramstyle.core.arrays import Array
from gramstyle.core.kernels import Pooling
from gramstyle.core.network import Convolution, Layer, Network, Pool
from gramstyle.core.preprocessing import Preprocessing
from gramstyle.errors import ModelError
from gramstyle.model.onnx_file.graph import (
    FORMAT_KEY,
    INPUT,
    METADATA_HASH,
    POOL_OPERATORS,
    TENSORS_HASH,
    metadata_hash,
    model_of,
    pool_node,
    serialised,
    tensors_hash,
)

# A float32 VGG-19 without its classifier is 80 MB. Nothing that this engine can run is larger
# than this, and a file is read whole before it is judged.
MAX_BYTES = 512 * 1024 * 1024
MAX_REASON = 300

OPERATORS = frozenset({"Conv", "Relu", "MaxPool", "AveragePool", "Cast", "Gather"})


@dataclass(frozen=True)
class Model:
    """A checked model file.

    Attributes
    ----------
    path
        Where it was read from.
    sha256
        The hash of the file.
    network
        Its layers, weights in float32.
    preprocessing
        What it does to an image first.
    metadata
        What the file says of itself.
    """

    path: Path
    sha256: str
    network: Network
    preprocessing: Preprocessing
    metadata: Mapping[str, str]
    _proto: onnx.ModelProto

    def runnable(self, names: Iterable[str], pooling: Pooling) -> bytes:
        """Return the graph from the input to the deepest of `names`, ready for a runtime.

        Its outputs are the responses of every layer on the way; every pooling is of the kind
        asked for.

        Raises
        ------
        OptionError
            If a name is not a layer of this network.
        """
        wanted = self.network.until(names).names
        tensors = {t.name: t for t in self._proto.graph.initializer}
        nodes, used = [], set[str]()
        for node in self._proto.graph.node:
            nodes.append(_pooled(node, pooling))
            used.update(node.input)
            if node.output[0] == wanted[-1]:
                break
        outputs = [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, None, None, None])
            for name in wanted
        ]
        graph = helper.make_graph(
            nodes,
            "responses",
            [helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, [1, 3, None, None])],
            outputs,
            [tensors[name] for name in sorted(used & set(tensors))],
        )
        return serialised(model_of(graph))


def read_model(path: Path) -> Model:
    """Read a model file as what it is: input from a stranger.

    Raises
    ------
    ModelError
        If it is missing, too large, truncated or altered, or holds anything that this engine
        does not run: external data, functions, foreign domains, other operators, another shape
        of network.
    """
    data = _read_bytes(path)
    proto = _parse(data, path)
    try:
        _check_contents(proto)
        checker.check_model(proto)
        metadata = {p.key: p.value for p in proto.metadata_props}
        _check_hash(proto, metadata)
        network, preprocessing = _network(proto.graph), _preprocessing(metadata)
        _check_metadata(metadata)
        return Model(
            path=path,
            sha256=hashlib.sha256(data).hexdigest(),
            network=network,
            preprocessing=preprocessing,
            metadata=metadata,
            _proto=proto,
        )
    except ModelError as error:
        raise ModelError(f"model {path} is refused: {_line(error)}") from None
    # onnx raises many types for a file that is well-formed protobuf and nothing else.
    except Exception as error:
        raise ModelError(f"model {path} is not valid ONNX: {_line(error)}") from None


def _pooled(node: onnx.NodeProto, pooling: Pooling) -> onnx.NodeProto:
    # Made anew: each kind knows attributes that the other does not.
    if node.op_type not in POOL_OPERATORS.values():
        return node
    return pool_node(node.output[0], node.input[0], pooling)


def _read_bytes(path: Path) -> bytes:
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise ModelError(f"model {path} is refused: {size} bytes, the limit is {MAX_BYTES}")
        if not path.is_file():
            raise ModelError(f"model {path} is not a file")
        return path.read_bytes()
    except FileNotFoundError:
        raise ModelError(
            f"there is no model {path}; build one with: gramstyle model export --to {path}"
        ) from None
    except OSError as error:
        raise ModelError(f"cannot read model {path}: {error.strerror}") from None


def _line(error: Exception) -> str:
    """Return an error's first line, printable and short whatever names the file chose."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return "".join(c for c in lines[0] if c.isprintable())[:MAX_REASON]


def _parse(data: bytes, path: Path) -> onnx.ModelProto:
    try:
        proto = onnx.load_model_from_string(data)
    except Exception:  # protobuf's own DecodeError, which is not onnx's to name
        raise ModelError(
            f"model {path} is truncated or not an ONNX file; build one with: gramstyle model "
            "export, which takes weights of any kind"
        ) from None
    if not proto.graph.node:
        raise ModelError(f"model {path} holds no network; build one with: gramstyle model export")
    if all(p.key != FORMAT_KEY for p in proto.metadata_props):
        raise ModelError(
            f"model {path} is another program's ONNX file; make a model of it with: gramstyle "
            "model export --from FILE --to MODEL"
        )
    return proto


def _check_contents(proto: onnx.ModelProto) -> None:
    """Refuse whatever a plain chain of convolutions does not need, before anything looks at it."""
    graph = proto.graph
    if proto.functions or proto.training_info or graph.sparse_initializer:
        raise ModelError("it holds functions, training information or sparse tensors")
    if not all((p.key + p.value).isprintable() for p in proto.metadata_props):
        raise ModelError("its metadata hold control characters")
    domains = {opset.domain for opset in proto.opset_import} | {n.domain for n in graph.node}
    if foreign := sorted(domains - {"", "ai.onnx"}):
        raise ModelError(f"it uses operators of the foreign domain {foreign[0]!r}")
    if unknown := sorted({n.op_type for n in graph.node} - OPERATORS):
        raise ModelError(f"it uses the operator {unknown[0]!r}, which this engine does not run")
    for tensor in graph.initializer:
        if tensor.data_location == TensorProto.EXTERNAL or tensor.external_data:
            raise ModelError(f"the tensor {tensor.name!r} lies in another file (external data)")
        if tensor.data_type not in _DTYPES:
            raise ModelError(f"the tensor {tensor.name!r} is not float32, float16 or uint8")
        if len(tensor.raw_data) != prod(tensor.dims) * _DTYPES[tensor.data_type].itemsize:
            raise ModelError(f"the tensor {tensor.name!r} is not as large as its shape says")


_DTYPES: Mapping[int, np.dtype[Any]] = {
    TensorProto.FLOAT: np.dtype("<f4"),
    TensorProto.FLOAT16: np.dtype("<f2"),
    TensorProto.UINT8: np.dtype("u1"),
}


def _check_hash(proto: onnx.ModelProto, metadata: Mapping[str, str]) -> None:
    recorded = metadata.get(TENSORS_HASH)
    if recorded is None:
        raise ModelError("its metadata lack tensors.sha256; build it with: gramstyle model export")
    if recorded != tensors_hash(proto.graph.initializer):
        raise ModelError(
            "its weights do not have the recorded hash: the file was altered or damaged; "
            "build it anew with: gramstyle model export"
        )


def _check_metadata(metadata: Mapping[str, str]) -> None:
    # Files of the first format have no hash of it.
    if metadata.get(METADATA_HASH, metadata_hash(metadata)) != metadata_hash(metadata):
        raise ModelError(
            "its metadata do not have the recorded hash: the file was altered or damaged; "
            "build it anew with: gramstyle model export"
        )


def _preprocessing(metadata: Mapping[str, str]) -> Preprocessing:
    channels = metadata.get("preprocessing.channels")
    if channels not in ("RGB", "BGR"):
        raise ModelError("its metadata lack preprocessing.channels (RGB or BGR)")
    return Preprocessing(
        channels="RGB" if channels == "RGB" else "BGR",
        mean=_triple(metadata, "preprocessing.mean"),
        scale=_triple(metadata, "preprocessing.scale"),
    )


def _triple(metadata: Mapping[str, str], key: str) -> tuple[float, float, float]:
    try:
        a, b, c = (float(number) for number in json.loads(metadata[key]))
    except (KeyError, ValueError, TypeError):
        raise ModelError(f"its metadata lack {key} (three numbers)") from None
    with np.errstate(over="ignore", under="ignore"):
        numbers = np.array([a, b, c]).astype(np.float32)  # as the network will see them
    if not np.isfinite(numbers).all() or (key.endswith("scale") and not numbers.all()):
        raise ModelError(f"its metadata hold an impossible {key}")
    return a, b, c


# A layer's name is printed and typed, so it holds nothing that a terminal would obey.
_NAME = re.compile(r"[\w.]{1,100}")


def _network(graph: onnx.GraphProto) -> Network:
    """Follow the chain from the input: (Cast, Gather,) Conv, Relu and the poolings."""
    weights = {t.name: numpy_helper.to_array(t) for t in graph.initializer}
    if [i.name for i in graph.input] != [INPUT]:
        raise ModelError(f"its only input must be called {INPUT!r}")
    layers: list[Layer] = []
    at, channels, pending = INPUT, 3, None
    for node in graph.node:
        attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        source, result = node.input[0], node.output[0]
        if len(node.output) != 1 or not _NAME.fullmatch(result):
            raise ModelError(f"node {node.name!r} has not one result with a plain name")
        if node.op_type in ("Cast", "Gather"):
            weights[result] = _unpack(node, attributes, weights)
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
    if len({layer.name for layer in layers}) != len(layers):
        raise ModelError("two of its layers have the same name")
    return Network(tuple(layers))


def _take(node: onnx.NodeProto, names: Iterable[str], weights: dict[str, Array]) -> list[Array]:
    """Take tensors out: each serves one node, so a small file cannot unfold into a huge network."""
    try:
        return [weights.pop(name) for name in names]
    except KeyError as error:
        raise ModelError(
            f"node {node.name!r} needs {error}, which is no weight of the file or serves two nodes"
        ) from None


_CASTS: Mapping[tuple[np.dtype[Any], Any], np.dtype[Any]] = {
    (np.dtype("u1"), TensorProto.INT32): np.dtype("i4"),
    (np.dtype("f2"), TensorProto.FLOAT): np.dtype("f4"),
}


def _unpack(
    node: onnx.NodeProto, attributes: Mapping[str, Any], weights: dict[str, Array]
) -> Array:
    """Follow one step from half precision or a codebook to the weights."""
    operands = _take(node, node.input, weights)
    if node.op_type == "Cast":
        target = attributes.get("to")
        if len(attributes) != 1 or (operands[0].dtype, target) not in _CASTS:
            raise ModelError(
                f"node {node.name!r} casts something else than uint8 to int32 or float16 to float32"
            )
        return operands[0].astype(_CASTS[operands[0].dtype, target])
    table, index = operands
    if attributes.get("axis", 0) != 0 or table.ndim != 1 or index.dtype != np.int32:
        raise ModelError(f"node {node.name!r} does not look values up in a table")
    if index.size == 0 or int(index.max()) >= len(table):
        raise ModelError(f"node {node.name!r} looks for values beyond its table")
    # Looked up in the order that the backward pass wants, so that the copy there is none.
    return table[_tap_by_tap(index)] if index.ndim == 4 else table[index]


def _weights(
    node: onnx.NodeProto, attributes: Mapping[str, Any], weights: dict[str, Array], channels: int
) -> tuple[Array, Array]:
    expected = {
        "kernel_shape": [3, 3],
        "pads": [1, 1, 1, 1],
        "strides": [1, 1],
        "dilations": [1, 1],
        "group": 1,
        "auto_pad": b"NOTSET",
    }
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
    """Return W (N, C, 3, 3), laid out so that each W[:, :, i, j].T is one contiguous matrix."""
    return np.ascontiguousarray(W.transpose(2, 3, 1, 0)).transpose(3, 2, 0, 1)


def _pool(node: onnx.NodeProto, attributes: Mapping[str, Any]) -> Pool:
    expected = {
        "kernel_shape": [2, 2],
        "strides": [2, 2],
        "pads": [0, 0, 0, 0],
        "dilations": [1, 1],
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
                f"node {node.name!r} has {name} = {found}, the engine runs {expected.get(name)}"
            )
