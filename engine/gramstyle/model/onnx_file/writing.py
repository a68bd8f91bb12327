"""Write a network as an ONNX file."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import onnx
from onnx import TensorProto, checker, helper, numpy_helper

from gramstyle.core.network import Convolution
from gramstyle.core.preprocessing import Preprocessing
from gramstyle.errors import ModelError
from gramstyle.model.onnx_file.graph import (
    FORMAT_KEY,
    INPUT,
    METADATA_HASH,
    TENSORS_HASH,
    metadata_hash,
    model_of,
    pool_node,
    serialised,
    stored_weights,
    tensors_hash,
)
from gramstyle.model.precision import Precision
from gramstyle.system.files import write_atomically

FORMAT = "2"


def write_model(
    path: Path,
    convolutions: Sequence[Convolution],
    preprocessing: Preprocessing,
    *,
    precision: Precision,
    metadata: Mapping[str, str],
) -> None:
    """Write convolutions, with a 2×2 max pooling after each block, as an ONNX file.

    Equal arguments give equal bytes. The file is written atomically.

    Parameters
    ----------
    path
        The file to write.
    convolutions
        From the first to the last; a name is "conv", the block, "_", the number in the block.
    preprocessing
        Stored in the metadata.
    precision
        The precision of the stored weights; biases are always float32.
    metadata
        Further metadata of the file.

    Raises
    ------
    ModelError
        If a weight exceeds the range of the precision, or the file cannot be written.
    """
    nodes, tensors = [], []
    previous, block = INPUT, _block(convolutions[0].name)
    for convolution in convolutions:
        if _block(convolution.name) != block:
            nodes.append(pool_node(f"pool{block}", previous, "max"))
            previous, block = f"pool{block}", _block(convolution.name)
        stored, unpacking = stored_weights(convolution, precision)
        tensors += [numpy_helper.from_array(array, name) for name, array in stored.items()]
        nodes += [*unpacking, *_convolution_nodes(convolution.name, previous)]
        previous = convolution.name
    nodes.append(pool_node(f"pool{block}", previous, "max"))
    graph = helper.make_graph(
        nodes,
        "vgg",
        [helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, [1, 3, "height", "width"])],
        [helper.make_tensor_value_info(f"pool{block}", TensorProto.FLOAT, [1, None, None, None])],
        tensors,
    )
    model = model_of(graph)
    properties = {
        **metadata,
        FORMAT_KEY: FORMAT,
        "precision": precision,
        "preprocessing.channels": preprocessing.channels,
        "preprocessing.mean": json.dumps(preprocessing.mean),
        "preprocessing.scale": json.dumps(preprocessing.scale),
        TENSORS_HASH: tensors_hash(tensors),
    }
    properties[METADATA_HASH] = metadata_hash(properties)
    helper.set_model_props(model, dict(sorted(properties.items())))
    checker.check_model(model)
    write_atomically(path, serialised(model), error=ModelError)


def _block(name: str) -> str:
    return name.removeprefix("conv").split("_")[0]


def _convolution_nodes(name: str, previous: str) -> list[onnx.NodeProto]:
    return [
        helper.make_node(
            "Conv",
            [previous, f"{name}.W", f"{name}.b"],
            [f"{name}.Z"],
            name=f"{name}.conv",
            kernel_shape=[3, 3],
            pads=[1, 1, 1, 1],
        ),
        helper.make_node("Relu", [f"{name}.Z"], [name], name=f"{name}.relu"),
    ]
