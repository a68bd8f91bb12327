"""A small model file, and edits of its contents."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
from onnx import helper, numpy_helper

from gramstyle.core.arrays import Array
from gramstyle.core.network import Convolution
from gramstyle.core.preprocessing import Preprocessing
from gramstyle.model.onnx_file import graph, read_model, write_model
from gramstyle.model.precision import Precision
from hostile_files import error_line

Edit = Callable[[onnx.ModelProto], object]
Edited = Callable[..., Path]

PREPROCESSING = Preprocessing(channels="RGB", mean=(123.675, 116.28, 1 / 3), scale=(0.1, -2.0, 1e3))
LAYERS = ("conv1_1", "conv1_2", "pool1", "conv2_1", "pool2")
FILTERS = {"conv1_1": (4, 3), "conv1_2": (4, 4), "conv2_1": (5, 4)}


def write(
    path: Path,
    layers: list[Convolution] | None = None,
    precision: Precision = "codebook8",
    **metadata: str,
) -> None:
    chain = convolutions() if layers is None else layers
    write_model(path, chain, PREPROCESSING, precision=precision, metadata=metadata)


def convolutions() -> list[Convolution]:
    rng = np.random.default_rng(19)
    return [
        Convolution(
            name=name,
            W=rng.standard_normal((N, C, 3, 3)).astype(np.float32),
            b=rng.standard_normal(N).astype(np.float32),
        )
        for name, (N, C) in FILTERS.items()
    ]


def node(proto: onnx.ModelProto, name: str) -> onnx.NodeProto:
    return next(node for node in proto.graph.node if node.name == name)


def tensor(proto: onnx.ModelProto, name: str) -> onnx.TensorProto:
    return next(tensor for tensor in proto.graph.initializer if tensor.name == name)


def replace(proto: onnx.ModelProto, name: str, values: Array) -> None:
    tensor(proto, name).CopyFrom(numpy_helper.from_array(values, name))


def plain(proto: onnx.ModelProto, name: str, W: Array) -> None:
    """Give a convolution its weights as an initialiser instead of a codebook."""
    for kind in ("cast", "gather"):
        proto.graph.node.remove(node(proto, f"{name}.{kind}"))
    proto.graph.initializer.append(numpy_helper.from_array(W, f"{name}.W"))


def attribute(name: str, key: str, value: object) -> Edit:
    """An edit that sets one attribute of one node."""

    def edit(proto: onnx.ModelProto) -> None:
        attributes = node(proto, name).attribute
        for old in [old for old in attributes if old.name == key]:
            attributes.remove(old)
        if value is not None:
            attributes.append(helper.make_attribute(key, value))

    return edit


def described(key: str, value: str | None) -> Edit:
    """An edit that sets, or removes, one piece of metadata."""

    def edit(proto: onnx.ModelProto) -> None:
        properties = {p.key: p.value for p in proto.metadata_props if p.key != key}
        if value is not None:
            properties[key] = value
        helper.set_model_props(proto, properties)

    return edit


def altered(
    path: Path,
    folder: Path,
    edit: Edit,
    *,
    rehashed: bool = True,
) -> Path:
    """Write an edited model file, with new hashes or the old ones."""
    proto = onnx.load_model(path)
    edit(proto)
    if rehashed:
        described("tensors.sha256", graph.tensors_hash(proto.graph.initializer))(proto)
        metadata = {p.key: p.value for p in proto.metadata_props}
        described("metadata.sha256", graph.metadata_hash(metadata))(proto)
    target = folder / "altered.onnx"
    target.write_bytes(proto.SerializeToString())
    return target


def refusal(path: Path) -> str:
    """The error for a model file, without the file's name, which contains words of the test."""
    message = error_line(lambda: read_model(path))
    assert str(path) in message
    reason = message.replace(str(path), "")
    assert len(reason) < 400
    return reason
