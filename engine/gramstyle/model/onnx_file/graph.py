"""What writing and reading share: versions, names, pooling nodes, and hashes of the contents."""

import hashlib
import json
from collections.abc import Iterable, Mapping

import onnx
from onnx import helper

from gramstyle.kernels import Pooling

IR_VERSION, OPSET = 10, 17
INPUT = "input"

FORMAT_KEY, TENSORS_HASH, METADATA_HASH = "gramstyle.format", "tensors.sha256", "metadata.sha256"

POOL_OPERATORS: Mapping[Pooling, str] = {"max": "MaxPool", "avg": "AveragePool"}


def model_of(graph: onnx.GraphProto) -> onnx.ModelProto:
    """Return a model file's contents around a graph."""
    return helper.make_model(
        graph,
        ir_version=IR_VERSION,
        opset_imports=[helper.make_opsetid("", OPSET)],
        producer_name="gramstyle",
    )


def serialised(model: onnx.ModelProto) -> bytes:
    """Return a model as bytes, the same ones for the same model."""
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
    """Return one hash over names, types, shapes and bytes: it changes when any weight does."""
    digest = hashlib.sha256()
    for tensor in sorted(tensors, key=lambda t: t.name):
        digest.update(f"{tensor.name} {tensor.data_type} {list(tensor.dims)}\n".encode())
        digest.update(tensor.raw_data)
    return digest.hexdigest()


def metadata_hash(metadata: Mapping[str, str]) -> str:
    """Return one hash over everything that a file says of itself, but for this hash."""
    said = {key: value for key, value in metadata.items() if key != METADATA_HASH}
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()
