"""VGG-19 out of ONNX files that other programs wrote: found by its graph, whatever the names."""

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
from gramstyle.errors import ModelError
from gramstyle.model.onnx_file import read_model
from gramstyle.model.onnx_file.foreign import open_onnx

BLOCKS = (2, 2, 4, 4, 4)


class Zoo:
    """A network as the ONNX model zoo writes it: VGG-19's chain, a classifier behind it."""

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
    """The file holds the sixteen convolutions, each under its place's name."""
    found = arrays(path)
    names = [f"chain.conv{b}_{k}" for b, n in enumerate(BLOCKS, 1) for k in range(1, n + 1)]
    assert set(found) == {f"{name}.{part}" for name in names for part in ("weight", "bias")}
    for name, (W, b) in zip(names, zoo.weights, strict=True):
        np.testing.assert_array_equal(found[f"{name}.weight"], W)
        np.testing.assert_array_equal(found[f"{name}.bias"], b)


def test_the_convolutions_are_named_by_their_place(zoo: Zoo, tmp_path: Path) -> None:
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
def test_what_other_programs_write_differently_makes_no_difference(
    edit: Callable[[Zoo], None], zoo: Zoo, tmp_path: Path
) -> None:
    edit(zoo)
    check(zoo, zoo.write(tmp_path))


def test_half_precision_is_read(zoo: Zoo, tmp_path: Path) -> None:
    W = zoo.weights[0][0].astype(np.float16)
    zoo.tensor("vgg0_conv0_weight").CopyFrom(numpy_helper.from_array(W, "vgg0_conv0_weight"))
    found = arrays(zoo.write(tmp_path))["chain.conv1_1.weight"]
    assert found.dtype == np.float16
    np.testing.assert_array_equal(found, W)


def test_a_model_file_of_our_own_is_a_source_with_all_that_it_says(
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


# What is refused


def refusal(path: Path) -> str:
    with pytest.raises(ModelError) as caught:
        arrays(path)
    assert str(caught.value).isprintable()
    return str(caught.value)


def attribute(name: str, key: str, value: object) -> Callable[[Zoo], None]:
    def edit(zoo: Zoo) -> None:
        kept = [a for a in zoo.node(name).attribute if a.name != key]
        del zoo.node(name).attribute[:]
        zoo.node(name).attribute.extend([*kept, helper.make_attribute(key, value)])

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


def without_biases(zoo: Zoo) -> None:
    del zoo.node("conv2").input[2]


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
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="/etc/passwd")


def second_input(zoo: Zoo) -> None:
    zoo.inputs.append("mask")


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (attribute("conv3", "strides", [2, 2]), "expected strides = [1, 1] at node 'conv3'"),
        (attribute("conv3", "pads", [0, 0, 0, 0]), "expected pads = [1, 1, 1, 1]"),
        (attribute("conv3", "dilations", [2, 2]), "expected dilations = [1, 1]"),
        (attribute("conv3", "group", 2), "expected group = 1"),
        (attribute("conv3", "kernel_shape", [5, 5]), "expected kernel_shape = [3, 3]"),
        (attribute("pool1", "kernel_shape", [3, 3]), "expected kernel_shape = [2, 2]"),
        (attribute("pool1", "strides", [1, 1]), "expected strides = [2, 2]"),
        (attribute("pool1", "auto_pad", "SAME_UPPER"), "pads by b'SAME_UPPER'"),
        (inserted("BatchNormalization", "relu1"), "found 'BatchNormalization' after 2 conv"),
        (inserted("Sub", "conv0"), "found 'Sub' after 0 convolutions of block 1"),
        (inserted("Relu", "conv3"), "found 'Relu'"),
        (inserted("Identity", "conv3", domain="evil"), "foreign domain 'evil'"),
        (unrectified, "found 'Conv' after 1 convolutions of block 3"),
        (quantised, "none called 'real'; is the network quantised?"),
        (without_biases, "no biases"),
        (shaped("vgg0_conv1_weight", 2**31, 2**31, 3, 3), "expected (2147483648,"),
        (shaped("vgg0_conv1_weight", -1, -1, 3, 3), "expected (-1, -1, 3, 3) values"),
        (of_type("vgg0_conv1_bias", TensorProto.INT32), "expected floats"),
        (external, "lies in another file"),
        (second_input, "expected one input, found 2"),
    ],
)
def test_another_network_is_refused_with_what_was_expected_and_found(
    edit: Callable[[Zoo], None], words: str, zoo: Zoo, tmp_path: Path
) -> None:
    edit(zoo)
    assert words in refusal(zoo.write(tmp_path))


def test_a_file_beyond_protobufs_limit_is_refused_unread(
    zoo: Zoo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = zoo.write(tmp_path)
    monkeypatch.setattr("gramstyle.model.onnx_file.foreign.MAX_BYTES", 10)
    monkeypatch.setattr(Path, "read_bytes", lambda _: pytest.fail("it was read"))
    assert "expected at most 10 bytes" in refusal(path)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.floats(0, 1, exclude_max=True), min_size=1, max_size=4), st.booleans())
def test_flipped_bits_and_cuts_give_arrays_or_an_ordinary_error(
    tmp_path_factory: pytest.TempPathFactory, places: list[float], cut: bool
) -> None:
    folder = tmp_path_factory.getbasetemp()
    data = bytearray(Zoo().proto().SerializeToString())
    for place in places:
        bit = int(place * 8 * len(data))
        data[bit // 8] ^= 1 << bit % 8
    if cut:
        del data[int(places[0] * len(data)) :]
    path = folder / "flipped.onnx"
    path.write_bytes(data)
    try:
        found = arrays(path)
    except (MemoryError, RecursionError):
        raise
    except Exception:
        return  # the caller makes one line of any of them
    else:
        assert all(array.nbytes < len(data) for array in found.values())
