"""The part of a model file that a run needs, as a graph that ONNX Runtime runs."""

from collections.abc import Sequence

import onnx
from onnx import TensorProto, helper

from gramstyle.core.kernels import Pooling
from gramstyle.core.layers import Padding
from gramstyle.model.onnx_file.graph import (
    INPUT,
    POOL_OPERATORS,
    Emission,
    model_of,
    pool_node,
    serialised,
)


def runnable_model(
    graph: onnx.GraphProto, names: Sequence[str], pooling: Pooling, padding: Padding
) -> bytes:
    """Return a model whose outputs are the responses of the named layers, up to the last of them.

    Parameters
    ----------
    graph
        The graph of a checked model file.
    names
        The layers, from the image upwards, without gaps.
    pooling, padding
        The kind of every pooling, and the padding of every convolution's input.
    """
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    result, used = Emission(), set[str]()
    for node in graph.node:
        # New nodes, because each operator has attributes that the other lacks.
        if node.op_type in POOL_OPERATORS.values():
            result.nodes.append(pool_node(node.output[0], node.input[0], pooling))
        elif node.op_type == "Conv" and padding != "zeros":
            result.convolution(node.input, node.output[0], padding)
        else:
            result.nodes.append(node)
        used.update(node.input)
        if node.output[0] == names[-1]:
            break
    outputs = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, None, None, None])
        for name in names
    ]
    return serialised(
        model_of(
            helper.make_graph(
                result.nodes,
                "responses",
                [helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, [1, 3, None, None])],
                outputs,
                [*(tensors[name] for name in sorted(used & set(tensors))), *result.tensors],
            )
        )
    )
