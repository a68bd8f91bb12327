"""VGG-19 in ONNX files of other programs, with any names of nodes and tensors."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from gramstyle.core.network import Convolution
from gramstyle.model.onnx_file import read_model
from gramstyle.model.onnx_file.foreign import open_onnx
from hostile_files import POSITIONS, damaged, error_line, outcome
from onnx_zoo import Zoo, arrays, check


@pytest.fixture
def zoo() -> Zoo:
    return Zoo()


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
        (attribute("pool1", "auto_pad", "SAME_UPPER"), "found auto_pad = b'SAME_UPPER'"),
        (
            inserted("BatchNormalization", "relu1"),
            "a ReLU after conv1_2, found 'BatchNormalization' (node 'new')",
        ),
        (inserted("Sub", "conv0"), "2×2 poolings after the input, found 'Sub' (node 'new')"),
        (inserted("Relu", "conv3"), "found 'Relu'"),
        (inserted("Identity", "conv3", domain="evil"), "of the domain 'evil'"),
        (unrectified, "expected a ReLU after conv3_1, found 'Conv' (node 'conv5')"),
        (quantised, "none called 'real'; is the network quantised?"),
        (shaped("vgg0_conv1_weight", 2**31, 2**31, 3, 3), "expected (2147483648,"),
        (shaped("vgg0_conv1_weight", -1, -1, 3, 3), "expected (-1, -1, 3, 3) values"),
        (of_type("vgg0_conv1_bias", TensorProto.INT32), "'vgg0_conv1_bias', found INT32"),
        (external, "expected the name of a file in the same folder, found '/etc/passwd'"),
        (second_input, "expected one input, the image, found more"),
    ],
)
def test_another_network_is_refused_with_expected_and_found(
    edit: Callable[[Zoo], None], words: str, zoo: Zoo, tmp_path: Path
) -> None:
    edit(zoo)
    assert words in refusal(zoo.write(tmp_path))


def test_a_file_beyond_the_limit_of_protobuf_is_not_read(
    zoo: Zoo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = zoo.write(tmp_path)
    monkeypatch.setattr("gramstyle.model.onnx_file.foreign.MAX_BYTES", 10)
    monkeypatch.setattr(Path, "read_bytes", lambda _: pytest.fail("it was read"))
    assert "expected at most 10 bytes" in refusal(path)


@given(POSITIONS, st.booleans())
@settings(max_examples=200)
def test_a_damaged_file_gives_arrays_or_an_exception(
    tmp_path_factory: pytest.TempPathFactory, positions: list[float], cut: bool
) -> None:
    data = damaged(Zoo().proto().SerializeToString(), positions, cut)
    path = tmp_path_factory.getbasetemp() / "flipped.onnx"
    path.write_bytes(data)
    found = outcome(lambda: arrays(path))
    assert isinstance(found, Exception) or all(a.nbytes < len(data) for a in found.values())
