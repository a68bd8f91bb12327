"""Write ONNX files of other programs: VGG-19 as the ONNX model zoo writes it, and parts of it."""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from gramstyle.core.arrays import Array
from gramstyle.model.onnx_file.foreign import open_onnx

BLOCKS = (2, 2, 4, 4, 4)


class Zoo:
    """VGG-19 with its classifier, as the ONNX model zoo writes it."""

    def __init__(self) -> None:
        rng = np.random.default_rng(7)
        self.weights: list[tuple[Array, Array]] = []
        self.nodes: list[onnx.NodeProto] = []
        self.initialisers: list[onnx.TensorProto] = []
        self.inputs = ["data"]
        at, channels = "data", 3
        for block, count in enumerate(BLOCKS, start=1):
            for _ in range(count):
                W = rng.standard_normal((block, channels, 3, 3)).astype(np.float32)
                b = rng.standard_normal(block).astype(np.float32)
                at, channels = self.convolution(at, W, b), block
            self.add("MaxPool", [at], f"pool{block}", kernel_shape=[2, 2], strides=[2, 2],
                     pads=[0, 0, 0, 0])  # fmt: skip
            at = f"pool{block}"
        self.add("Flatten", [at], "flat")
        self.stored("fc_weight", np.zeros((10, 5), np.float32))
        self.add("Gemm", ["flat", "fc_weight"], "logits", transB=1)

    def convolution(self, at: str, W: Array, b: Array) -> str:
        k = len(self.weights)
        self.weights.append((W, b))
        names = [self.stored(f"vgg0_conv{k}_{part}", x) for part, x in (("weight", W), ("bias", b))]
        self.add("Conv", [at, *names], f"conv{k}", kernel_shape=[3, 3], pads=[1, 1, 1, 1],
                 strides=[1, 1], dilations=[1, 1], group=1)  # fmt: skip
        self.add("Relu", [f"conv{k}"], f"relu{k}")
        return f"relu{k}"

    def stored(self, name: str, array: Array) -> str:
        self.initialisers.append(numpy_helper.from_array(array, name))
        return name

    def add(self, kind: str, inputs: list[str], output: str, **attributes: object) -> None:
        self.nodes.append(helper.make_node(kind, inputs, [output], name=output, **attributes))

    def proto(self) -> onnx.ModelProto:
        def value(name: str) -> onnx.ValueInfoProto:
            return helper.make_tensor_value_info(name, TensorProto.FLOAT, None)

        # Old files list every stored tensor among the inputs.
        inputs = [value(name) for name in (*self.inputs, *(t.name for t in self.initialisers))]
        graph = helper.make_graph(
            self.nodes, "zoo", inputs, [value("logits")], initializer=self.initialisers
        )
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 8)])

    def node(self, name: str) -> onnx.NodeProto:
        return next(node for node in self.nodes if node.name == name)

    def tensor(self, name: str) -> onnx.TensorProto:
        return next(tensor for tensor in self.initialisers if tensor.name == name)

    def write(self, folder: Path) -> Path:
        path = folder / "zoo.onnx"
        path.write_bytes(self.proto().SerializeToString())
        return path


class Net(Zoo):
    """The beginning of a network, to which tests add operators."""

    def __init__(self) -> None:
        self.rng = np.random.default_rng(8)
        self.weights, self.nodes, self.initialisers, self.inputs = [], [], [], ["data"]

    def layer(self, at: str, N: int, C: int) -> str:
        W = self.rng.standard_normal((N, C, 3, 3)).astype(np.float32)
        return self.convolution(at, W, self.rng.standard_normal(N).astype(np.float32))

    def convolved(self, at: str, N: int, C: int) -> str:
        """Add a convolution without its ReLU."""
        at = self.layer(at, N, C)
        del self.nodes[-1]
        return at.replace("relu", "conv")

    def pool(self, at: str, output: str) -> str:
        self.add("MaxPool", [at], output, kernel_shape=[2, 2], strides=[2, 2])
        return output

    def named(self, folder: Path) -> list[str]:
        return [name for name in arrays(self.write(folder)) if name.endswith("weight")]


def arrays(path: Path) -> dict[str, Array]:
    with open_onnx(path) as opened:
        return {name: tensor.load() for name, tensor in opened.tensors.items()}


def check(zoo: Zoo, path: Path) -> None:
    """Check that the file gives the sixteen convolutions, named by their position."""
    found = arrays(path)
    names = [f"chain.conv{b}_{k}" for b, n in enumerate(BLOCKS, 1) for k in range(1, n + 1)]
    assert set(found) == {f"{name}.{part}" for name in names for part in ("weight", "bias")}
    for name, (W, b) in zip(names, zoo.weights, strict=True):
        np.testing.assert_array_equal(found[f"{name}.weight"], W)
        np.testing.assert_array_equal(found[f"{name}.bias"], b)
