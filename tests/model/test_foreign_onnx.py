"""VGG-19 in ONNX files of other programs, with any names of nodes and tensors."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from gramstyle.core.arrays import Array
from gramstyle.core.network import Convolution
from gramstyle.model.architecture import VGGS, Architecture
from gramstyle.model.onnx_file import read_model
from gramstyle.model.onnx_file.foreign import open_onnx
from gramstyle.model.weights import read_weights
from hostile_files import POSITIONS, damaged, error_line, outcome

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


@pytest.fixture
def zoo() -> Zoo:
    return Zoo()


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


def test_convolutions_are_named_by_their_position(zoo: Zoo, tmp_path: Path) -> None:
    path = zoo.write(tmp_path)
    check(zoo, path)
    with open_onnx(path) as opened:
        assert opened.preprocessing is None
        assert opened.metadata == {}


def renamed(zoo: Zoo) -> None:
    """As another exporter calls them."""
    for k, tensor in enumerate(zoo.initialisers):
        for node in zoo.nodes:
            node.input[:] = [f"w{k}" if name == tensor.name else name for name in node.input]
        tensor.name = f"w{k}"


def spelled_out_elsewhere(zoo: Zoo) -> None:
    """Data in the typed field instead of the raw one."""
    tensor = zoo.tensor("vgg0_conv3_weight")
    values = numpy_helper.to_array(tensor).ravel().tolist()
    tensor.ClearField("raw_data")
    tensor.float_data.extend(values)


def without_a_kernel_shape(zoo: Zoo) -> None:
    del zoo.node("conv0").attribute[:]
    zoo.node("conv0").attribute.append(helper.make_attribute("auto_pad", "SAME_UPPER"))


def with_dropout(zoo: Zoo) -> None:
    place = zoo.nodes.index(zoo.node("flat"))
    zoo.nodes.insert(place, helper.make_node("Dropout", ["pool5"], ["dropped"], name="dropped"))
    zoo.node("flat").input[0] = "dropped"


def average_pooled(zoo: Zoo) -> None:
    zoo.node("pool2").op_type = "AveragePool"


def features_only(zoo: Zoo) -> None:
    del zoo.nodes[-2:]


@pytest.mark.parametrize(
    "edit",
    [
        renamed, spelled_out_elsewhere, without_a_kernel_shape, with_dropout, average_pooled,
        features_only,
    ],
)  # fmt: skip
def test_variants_of_other_programs_are_read(
    edit: Callable[[Zoo], None], zoo: Zoo, tmp_path: Path
) -> None:
    edit(zoo)
    check(zoo, zoo.write(tmp_path))


def test_float16_is_read(zoo: Zoo, tmp_path: Path) -> None:
    W = zoo.weights[0][0].astype(np.float16)
    zoo.tensor("vgg0_conv0_weight").CopyFrom(numpy_helper.from_array(W, "vgg0_conv0_weight"))
    found = arrays(zoo.write(tmp_path))["chain.conv1_1.weight"]
    assert found.dtype == np.float16
    np.testing.assert_array_equal(found, W)


def test_a_model_file_is_a_source_and_keeps_its_metadata(
    tiny_model_path: Path,
) -> None:
    model = read_model(tiny_model_path)
    found = arrays(tiny_model_path)
    for layer in model.network.layers:
        if isinstance(layer, Convolution):
            np.testing.assert_array_equal(found[f"chain.{layer.name}.weight"], layer.W)
            np.testing.assert_array_equal(found[f"chain.{layer.name}.bias"], layer.b)
    with open_onnx(tiny_model_path) as opened:
        assert opened.preprocessing == model.preprocessing
        assert opened.metadata == model.metadata


# Errors


def refusal(path: Path) -> str:
    return error_line(lambda: arrays(path))


def attribute(name: str, key: str, value: object) -> Callable[[Zoo], None]:
    def edit(zoo: Zoo) -> None:
        others = [a for a in zoo.node(name).attribute if a.name != key]
        del zoo.node(name).attribute[:]
        zoo.node(name).attribute.extend([*others, helper.make_attribute(key, value)])

    return edit


def inserted(kind: str, before: str, domain: str = "") -> Callable[[Zoo], None]:
    def edit(zoo: Zoo) -> None:
        node = zoo.node(before)
        new = helper.make_node(kind, [node.input[0]], ["new"], name="new", domain=domain)
        zoo.nodes.insert(zoo.nodes.index(node), new)
        node.input[0] = "new"

    return edit


def unrectified(zoo: Zoo) -> None:
    zoo.nodes.remove(zoo.node("relu4"))
    zoo.node("conv5").input[0] = "conv4"


def quantised(zoo: Zoo) -> None:
    zoo.nodes.insert(0, helper.make_node("DequantizeLinear", ["q", "s"], ["real"], name="dq"))
    zoo.node("conv4").input[1] = "real"


def shaped(name: str, *dims: int) -> Callable[[Zoo], None]:
    def edit(zoo: Zoo) -> None:
        zoo.tensor(name).dims[:] = dims

    return edit


def of_type(name: str, data_type: int) -> Callable[[Zoo], None]:
    def edit(zoo: Zoo) -> None:
        zoo.tensor(name).data_type = data_type

    return edit


def external(zoo: Zoo) -> None:
    tensor = zoo.tensor("vgg0_conv0_bias")
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="/etc/passwd")


def second_input(zoo: Zoo) -> None:
    zoo.inputs.append("mask")


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (attribute("conv3", "strides", [2, 2]), "expected strides = [1, 1] at the Conv 'conv3'"),
        (attribute("conv3", "pads", [0, 0, 0, 0]), "expected pads = [1, 1, 1, 1]"),
        (attribute("conv3", "dilations", [2, 2]), "expected dilations = [1, 1]"),
        (attribute("conv3", "group", 2), "expected group = 1"),
        (attribute("conv3", "kernel_shape", [5, 5]), "expected kernel_shape = [3, 3]"),
        (attribute("pool1", "kernel_shape", [3, 3]), "expected kernel_shape = [2, 2]"),
        (attribute("pool1", "strides", [1, 1]), "expected strides = [2, 2]"),
        (attribute("pool1", "auto_pad", "SAME_UPPER"), "has the padding b'SAME_UPPER'"),
        (
            inserted("BatchNormalization", "relu1"),
            "a ReLU after conv1_2, found 'BatchNormalization' (node 'new')",
        ),
        (inserted("Sub", "conv0"), "2×2 poolings after the input, found 'Sub' (node 'new')"),
        (inserted("Relu", "conv3"), "found 'Relu'"),
        (inserted("Identity", "conv3", domain="evil"), "foreign domain 'evil'"),
        (unrectified, "expected a ReLU after conv3_1, found 'Conv' (node 'conv5')"),
        (quantised, "none called 'real'; is the network quantised?"),
        (shaped("vgg0_conv1_weight", 2**31, 2**31, 3, 3), "expected (2147483648,"),
        (shaped("vgg0_conv1_weight", -1, -1, 3, 3), "expected (-1, -1, 3, 3) values"),
        (of_type("vgg0_conv1_bias", TensorProto.INT32), "expected floats"),
        (external, "expected the name of a file in the same folder, found '/etc/passwd'"),
        (second_input, "expected one input, found 2"),
    ],
)
def test_another_network_is_refused_with_expected_and_found(
    edit: Callable[[Zoo], None], words: str, zoo: Zoo, tmp_path: Path
) -> None:
    edit(zoo)
    assert words in refusal(zoo.write(tmp_path))


# Chains of other networks


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


def test_a_chain_of_any_length_is_named_by_counting(tmp_path: Path) -> None:
    net = Net()
    at = net.layer(net.layer("data", 3, 3), 4, 3)
    at = net.layer(net.pool(at, "p"), 5, 4)
    net.layer(net.layer(net.pool(at, "q"), 6, 5), 7, 6)
    names = ["conv1_1", "conv1_2", "conv2_1", "conv3_1", "conv3_2"]
    assert net.named(tmp_path) == [f"chain.{name}.weight" for name in names]
    with open_onnx(net.write(tmp_path)) as opened:
        assert opened.architecture.blocks == ((3, 4), (5,), (6, 7))


@pytest.mark.parametrize("epsilon", [None, 1e-3])
def test_batch_normalisation_is_folded_with_the_epsilon_of_the_graph(
    epsilon: float | None, tmp_path: Path
) -> None:
    net = Net()
    at = net.convolved("data", 4, 3)
    constants = {
        "scale": net.rng.normal(size=4), "shift": net.rng.normal(size=4),
        "mean": net.rng.normal(size=4), "variance": net.rng.uniform(0.1, 2, 4),
    }  # fmt: skip
    names = [net.stored(key, each.astype(np.float32)) for key, each in constants.items()]
    attributes = {} if epsilon is None else {"epsilon": epsilon}
    net.add("BatchNormalization", [at, *names], "bn", **attributes)
    net.add("Relu", ["bn"], "end")
    with open_onnx(net.write(tmp_path)) as opened:
        found = {name: tensor.load() for name, tensor in opened.tensors.items()}
        assert opened.normalised
    (W, b), x = net.weights[0], net.rng.normal(size=(3, 3, 3))
    scale, shift, mean, variance = (c.astype(np.float32).astype(float) for c in constants.values())
    Z = np.tensordot(W.astype(float), x, 3) + b
    expected = scale * (Z - mean) / np.sqrt(variance + (1e-5 if epsilon is None else 1e-3)) + shift
    folded = np.tensordot(found["chain.conv1_1.weight"], x, 3) + found["chain.conv1_1.bias"]
    np.testing.assert_allclose(folded, expected, rtol=1e-6)


def test_convolutions_without_biases_have_zeros(tmp_path: Path) -> None:
    net = Net()
    net.layer("data", 4, 3)
    del net.node("conv0").input[2]
    np.testing.assert_array_equal(arrays(net.write(tmp_path))["chain.conv1_1.bias"], np.zeros(4))


def test_the_axes_of_an_image_of_keras_may_be_reordered_first(tmp_path: Path) -> None:
    net = Net()
    net.add("Transpose", ["data"], "image", perm=[0, 3, 1, 2])
    net.add("Transpose", [net.layer("image", 4, 3)], "last", perm=[0, 2, 3, 1])
    assert net.named(tmp_path) == ["chain.conv1_1.weight"]


def test_torchs_pooling_to_the_size_that_the_responses_have_is_ignored(
    zoo: Zoo, tmp_path: Path
) -> None:
    place = zoo.nodes.index(zoo.node("flat"))
    pooling = helper.make_node(
        "AveragePool", ["pool5"], ["pooled"], kernel_shape=[1, 1], strides=[1, 1]
    )
    zoo.nodes.insert(place, pooling)
    zoo.node("flat").input[0] = "pooled"
    check(zoo, zoo.write(tmp_path))


def test_the_classifier_of_a_vgg_may_have_convolutions(
    zoo: Zoo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # timm's classifier begins with a convolution of 7×7.
    blocks = tuple((k,) * count for k, count in enumerate(BLOCKS, start=1))
    monkeypatch.setitem(VGGS, "VGG-19", Architecture(blocks))
    kernel = zoo.stored("head", np.zeros((9, 5, 7, 7), np.float32))
    node = helper.make_node("Conv", ["pool5", kernel], ["head.out"], name="head", pads=[0] * 4)
    zoo.nodes.insert(zoo.nodes.index(zoo.node("flat")), node)
    zoo.node("flat").input[0] = "head.out"
    check(zoo, zoo.write(tmp_path))
    monkeypatch.undo()
    assert "found [0, 0, 0, 0]" in refusal(tmp_path / "zoo.onnx")


def skip(net: Net) -> None:
    at = net.layer("data", 4, 3)
    net.add("Add", [net.layer(at, 4, 4), at], "sum")


def skip_the_other_way(net: Net) -> None:
    at = net.layer("data", 4, 3)
    net.add("Add", [at, net.layer(at, 4, 4)], "sum")


def leaky(net: Net) -> None:
    net.add("LeakyRelu", [net.convolved("data", 4, 3)], "end")


def without_a_relu(net: Net) -> None:
    net.convolved(net.layer("data", 4, 3), 5, 4)


def normalised_after_the_relu(net: Net) -> None:
    names = [net.stored(f"c{k}", np.ones(4, np.float32)) for k in range(4)]
    net.add("BatchNormalization", [net.layer("data", 4, 3), *names], "bn")


def pooled_twice(net: Net) -> None:
    net.layer(net.pool(net.pool(net.layer("data", 4, 3), "p"), "q"), 4, 4)


def pooled_first(net: Net) -> None:
    net.layer(net.pool("data", "p"), 4, 3)


def large_kernel(net: Net) -> None:
    W = np.zeros((4, 3, 5, 5), np.float32)
    net.convolution("data", W, np.zeros(4, np.float32))
    del net.node("conv0").attribute[:]
    net.node("conv0").attribute.append(helper.make_attribute("pads", [1, 1, 1, 1]))


def of_other_channels(net: Net) -> None:
    net.layer(net.layer("data", 4, 3), 5, 9)


def convolved_behind_a_reshape(net: Net) -> None:
    net.add("Reshape", [net.layer("data", 4, 3), "shape"], "again")
    net.layer("again", 4, 4)


def no_network(net: Net) -> None:
    net.add("Flatten", ["data"], "flat")


def as_the_kernel(net: Net) -> None:
    net.add("Conv", [net.stored("x", np.zeros((4, 3, 3, 3), np.float32)), "data"], "c")


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (skip, "'Conv' and 'Add' both read the result of conv1_1 (node 'sum'), as in a network"),
        (skip_the_other_way, "'Conv' and 'Add' both read the result of conv1_1"),
        (leaky, "expected a ReLU after conv1_1, found 'LeakyRelu' (node 'end')"),
        (without_a_relu, "expected a ReLU after conv1_2, found the end of the graph"),
        (normalised_after_the_relu, "after conv1_1, found 'BatchNormalization' (node 'bn')"),
        (pooled_twice, "after pool1, found 'MaxPool' (node 'q')"),
        (pooled_first, "after the input, found 'MaxPool' (node 'p')"),
        (large_kernel, "a 3×3 convolution after the input, found weights of shape (4, 3, 5, 5)"),
        (convolved_behind_a_reshape, "after conv1_1, found 'Reshape' (node 'again')"),
        (no_network, "after the input, found 'Flatten' (node 'flat')"),
        (as_the_kernel, "after the input, found 'Conv' (node 'c')"),
    ],
)
def test_what_is_no_chain_is_refused_by_its_first_operator(
    build: Callable[[Net], None], words: str, tmp_path: Path
) -> None:
    net = Net()
    build(net)
    assert words in refusal(net.write(tmp_path))


def test_weights_of_other_channels_are_refused(tmp_path: Path) -> None:
    net = Net()
    of_other_channels(net)
    message = error_line(lambda: read_weights(net.write(tmp_path), convention="caffe"))
    assert "expected floats of shape (5, 4, 3, 3) for conv1_2 of the network" in message
    assert "found float32 of shape (5, 9, 3, 3)" in message


def test_a_file_beyond_the_limit_of_protobuf_is_not_read(
    zoo: Zoo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = zoo.write(tmp_path)
    monkeypatch.setattr("gramstyle.model.onnx_file.foreign.MAX_BYTES", 10)
    monkeypatch.setattr(Path, "read_bytes", lambda _: pytest.fail("it was read"))
    assert "expected at most 10 bytes" in refusal(path)


@given(POSITIONS, st.booleans())
@settings(max_examples=200, deadline=None)
def test_a_damaged_file_gives_arrays_or_an_exception(
    tmp_path_factory: pytest.TempPathFactory, positions: list[float], cut: bool
) -> None:
    data = damaged(Zoo().proto().SerializeToString(), positions, cut)
    path = tmp_path_factory.getbasetemp() / "flipped.onnx"
    path.write_bytes(data)
    found = outcome(lambda: arrays(path))
    assert isinstance(found, Exception) or all(a.nbytes < len(data) for a in found.values())
