"""Follow the graph of another program's ONNX file: a chain of convolutions, ReLUs and poolings.

The chain begins at the graph's input and ends where the classifier begins or the graph ends. Each
operator in it must be the only one that reads the result of the one before: everything else, such
as a skip connection, is refused by the name of its operator.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import onnx
from onnx import helper

from gramstyle.errors import ModelError
from gramstyle.model.architecture import MOST_BLOCKS, MOST_CONVOLUTIONS, VGGS, Architecture
from gramstyle.model.messages import quoted
from gramstyle.model.onnx_file.reading import CONVOLUTION, POOLING
from gramstyle.model.sources.batch_norm import BatchNorm, no_biases
from gramstyle.model.sources.tensors import StoredTensor

# Operators that do not change their input when the network is run.
IDENTITIES = frozenset({"Identity", "Dropout"})
# Operators at which the classifier begins.
ENDS = frozenset(
    {
        *("Flatten", "Reshape", "Gemm", "MatMul", "GlobalAveragePool", "GlobalMaxPool"),
        *("ReduceMean", "Shape", "Transpose"),
    }
)
POOLINGS = ("MaxPool", "AveragePool")
# The order of the axes after an image of Keras has become one of ONNX.
CHANNELS_FIRST = [0, 3, 1, 2]
# ONNX's default.
EPSILON = 1e-5

Find = Callable[[onnx.NodeProto, str, str], StoredTensor]


@dataclass
class Chain:
    """The convolutions that have been found, block by block.

    Attributes
    ----------
    blocks
        The weights and the biases of each convolution.
    normalised
        Whether a batch normalisation was folded into a convolution.
    """

    blocks: list[list[tuple[StoredTensor, StoredTensor]]] = field(default_factory=lambda: [[]])
    normalised: bool = False

    @property
    def last(self) -> str:
        """The last layer that was found, for a message."""
        block, number = len(self.blocks), len(self.blocks[-1])
        if number:
            return f"conv{block}_{number}"
        return f"pool{block - 1}" if block > 1 else "the input"

    @property
    def architecture(self) -> Architecture:
        """The architecture of the convolutions."""
        found = (tuple(W.shape[0] if W.shape else 0 for W, _ in block) for block in self.blocks)
        return Architecture(tuple(block for block in found if block))


def follow(graph: onnx.GraphProto, find: Find) -> Chain:
    """Return the chain that begins at the input of a graph.

    Parameters
    ----------
    graph
        The graph of a parsed file.
    find
        ``find(node, name, kind)`` returns the stored tensor of this name, which is of a kind such
        as "weight", or raises ModelError.

    Raises
    ------
    ModelError
        If the graph has another number of inputs than one; names the first operator that does not
        fit.
    """
    stored = {tensor.name for tensor in graph.initializer}
    inputs = [each for each in graph.input if each.name not in stored]
    if len(inputs) != 1:
        others = (
            f" more, {quoted(inputs[1].name)}; leave the weights in the file" if inputs else " none"
        )
        raise ModelError(f"expected one input, the image, found{others}")
    readers: dict[str, list[onnx.NodeProto]] = defaultdict(list)
    for node in graph.node:
        for name in dict.fromkeys(node.input):
            readers[name].append(node)
    chain, at, rectified = Chain(), inputs[0].name, True
    axes = (1, 2, 3)  # of channels, height and width
    left = sum(node.op_type == "Conv" for node in graph.node)
    followed: set[str] = set()
    while nodes := readers[at]:
        if at in followed:
            raise ModelError(
                f"expected a chain, found a loop after {chain.last} (node {quoted(nodes[0].name)})"
            )
        followed.add(at)
        if chain.blocks[0] and all(node.op_type in ENDS for node in nodes):
            _check_end(nodes[0], chain, left)
            break
        if rectified and not chain.blocks[-1] and chain.architecture in VGGS.values():
            break  # a VGG is complete, and its classifier may have convolutions too
        node = nodes[0]
        _check_place(nodes, at, chain)
        kind = node.op_type
        if kind == "Conv" and rectified:
            left -= 1
            _add(chain, node, find)
            rectified = False
        elif kind == "BatchNormalization" and not rectified:
            _fold(chain, node, find)
        elif kind == "Relu" and not rectified:
            rectified = True
        elif kind in POOLINGS and rectified and chain.blocks[0]:
            _pool(chain, node)
        elif kind == "Transpose" and _is_reordered(node, chain):
            axes = (3, 1, 2)
        elif kind not in IDENTITIES:
            raise ModelError(_refusal(node, chain, rectified=rectified))
        at = node.output[0]
    if not rectified:
        raise ModelError(f"expected a ReLU after {chain.last}, found the end of the graph")
    if not chain.blocks[0]:
        raise ModelError("expected a chain of convolutions at its input, found none")
    _check_image(inputs[0], chain, axes)
    return chain


def _check_image(image: onnx.ValueInfoProto, chain: Chain, axes: tuple[int, int, int]) -> None:
    """Refuse a stated shape of the input for which the chain cannot be computed.

    A shape with other numbers of pixels than an image is usual, and is ignored.
    """
    if not image.type.tensor_type.HasField("shape"):
        return
    shape = [each.dim_value for each in image.type.tensor_type.shape.dim]  # 0 if it is not stated
    shown = tuple(size or "any" for size in shape)
    if len(shape) != 4 or shape[axes[0]] not in (0, 3):
        raise ModelError(f"expected images with 3 channels as its input, found the shape {shown}")
    least = 2 ** (len(chain.blocks) - 1)
    if any(0 < shape[axis] < least for axis in axes[1:]):
        raise ModelError(
            f"expected an input of {least} pixels or more in each direction, which its "
            f"{len(chain.blocks) - 1} poolings need, found the shape {shown}"
        )


def _check_place(nodes: list[onnx.NodeProto], at: str, chain: Chain) -> None:
    """Refuse an operator that is not the only one to read the tensor `at`, as its first input."""
    for node in nodes:
        if node.domain not in ("", "ai.onnx"):
            raise ModelError(
                f"expected operators of ONNX after {chain.last}, found {quoted(node.op_type)} of "
                f"the domain {quoted(node.domain)} (node {quoted(node.name)}); export the network "
                "without optimisations for a runtime"
            )
        if not node.output:
            raise ModelError(_refusal(node, chain, rectified=True))
    if len(nodes) > 1:
        kinds = " and ".join(repr(node.op_type) for node in nodes[:2])
        raise ModelError(
            f"expected a chain, found that {kinds} both read the result of {chain.last} (node "
            f"{quoted(nodes[1].name)}), as in a network with skips or branches"
        )
    if list(nodes[0].input).count(at) != 1 or nodes[0].input[0] != at:
        raise ModelError(_refusal(nodes[0], chain, rectified=True))


def _check_end(node: onnx.NodeProto, chain: Chain, left: int) -> None:
    """Refuse an end with convolutions behind it, which would be left out."""
    if left and chain.architecture not in VGGS.values():
        raise ModelError(_refusal(node, chain, rectified=True))


def _refusal(node: onnx.NodeProto, chain: Chain, *, rectified: bool) -> str:
    expected = "3×3 convolutions, ReLUs and 2×2 poolings" if rectified else "a ReLU"
    return (
        f"expected {expected} after {chain.last}, found {quoted(node.op_type)} (node "
        f"{quoted(node.name)})"
    )


def _is_reordered(node: onnx.NodeProto, chain: Chain) -> bool:
    """Return whether a node reorders the axes of an image from Keras' order to ONNX's."""
    return not chain.blocks[0] and _attributes(node).get("perm") == CHANNELS_FIRST


def _add(chain: Chain, node: onnx.NodeProto, find: Find) -> None:
    if sum(map(len, chain.blocks)) == MOST_CONVOLUTIONS:
        raise ModelError(f"expected at most {MOST_CONVOLUTIONS} convolutions, found more")
    if not 2 <= len(node.input) <= 3:
        raise ModelError(f"expected weights and biases at node {node.name!r}, found other inputs")
    W = find(node, node.input[1], "weight")
    if len(W.shape) != 4 or W.shape[2:] != (3, 3):
        raise ModelError(
            f"expected a 3×3 convolution after {chain.last}, found weights of shape {W.shape} at "
            f"node {quoted(node.name)}"
        )
    _check(node, CONVOLUTION)
    if len(node.input) == 3 and node.input[2]:
        b = find(node, node.input[2], "bias")
    else:
        b = no_biases(W.shape[0])
    chain.blocks[-1].append((W, b))


def _fold(chain: Chain, node: onnx.NodeProto, find: Find) -> None:
    attributes = _attributes(node)
    W, b = chain.blocks[-1][-1]
    # In training, it normalises with the statistics of the image; the further outputs are theirs.
    trains = (
        attributes.get("training_mode", 0)
        or not attributes.get("is_test", 1)
        or any(node.output[1:])
    )
    if trains:
        raise ModelError(
            f"expected constants in the batch normalisation of {chain.last}, found one in training "
            f"mode (node {quoted(node.name)}); export the network in evaluation mode"
        )
    if len(node.input) != 5 or not attributes.get("spatial", 1):
        raise ModelError(_refusal(node, chain, rectified=False))
    parts = ("scale", "shift", "mean", "variance")
    scale, shift, mean, variance = (
        find(node, name, part) for name, part in zip(node.input[1:], parts, strict=True)
    )
    for tensor in (scale, shift, mean, variance):
        if tensor.shape != W.shape[:1]:
            raise ModelError(
                f"expected {W.shape[:1]} values in the batch normalisation of {chain.last}, found "
                f"{tensor.shape}"
            )
    epsilon = float(attributes.get("epsilon", EPSILON))
    norm = BatchNorm(chain.last, mean, variance, scale, shift, epsilon)
    chain.blocks[-1][-1] = norm.folded(W, b)
    chain.normalised = True


def _pool(chain: Chain, node: onnx.NodeProto) -> None:
    attributes = _attributes(node)
    if node.op_type == "AveragePool" and attributes.get("kernel_shape") == [1, 1]:
        _check(node, {**POOLING, "kernel_shape": [1, 1], "strides": [1, 1]})
        return  # torch's adaptive pooling to the size that the responses have
    _check(node, POOLING)
    if not chain.blocks[-1]:
        raise ModelError(_refusal(node, chain, rectified=True))
    if len(chain.blocks) == MOST_BLOCKS:
        raise ModelError(f"expected at most {MOST_BLOCKS} poolings, found more")
    chain.blocks.append([])


def _attributes(node: onnx.NodeProto) -> dict[str, Any]:
    return {each.name: helper.get_attribute_value(each) for each in node.attribute}


def _check(node: onnx.NodeProto, expected: Mapping[str, Any]) -> None:
    """Refuse a convolution or pooling with other attributes."""
    attributes = _attributes(node)
    padding = attributes.pop("auto_pad", b"NOTSET")
    if padding in (b"SAME_UPPER", b"SAME_LOWER") and expected is CONVOLUTION:
        attributes["pads"] = expected["pads"]
    elif padding == b"VALID":
        attributes["pads"] = [0, 0, 0, 0]
    elif padding != b"NOTSET":
        raise ModelError(
            f"expected pads = {expected['pads']} at the {node.op_type} {quoted(node.name)}, found "
            f"auto_pad = {ascii(padding)[:40]}"
        )
    # The defaults of the ONNX standard; that of the kernel is the shape of the weights.
    defaults = {"pads": [0, 0, 0, 0], "strides": [1, 1], "dilations": [1, 1], "group": 1}
    found = {"kernel_shape": expected["kernel_shape"], **defaults, **attributes}
    for name, value in expected.items():
        if found[name] != value:
            raise ModelError(
                f"expected {name} = {value} at the {node.op_type} {quoted(node.name)}, found "
                f"{found[name]}"
            )
