"""Chains of convolutions in the graphs of other programs, and what is no such chain."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper

from gramstyle.model.architecture import VGGS, Architecture
from gramstyle.model.onnx_file.foreign import open_onnx
from gramstyle.model.weights import read_weights
from hostile_files import error_line
from onnx_zoo import BLOCKS, Net, Zoo, arrays, check


@pytest.fixture
def zoo() -> Zoo:
    return Zoo()


def refusal(path: Path) -> str:
    return error_line(lambda: arrays(path))


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
    # The folded weights are rounded to float32.
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


def with_input(net: Net, shape: list[int | str] | None, folder: Path) -> Path:
    """Write a network whose file states the shape of its input."""
    proto = net.proto()
    image = helper.make_tensor_value_info("data", TensorProto.FLOAT, shape)
    proto.graph.input[0].CopyFrom(image)
    path = folder / "stated.onnx"
    path.write_bytes(proto.SerializeToString())
    return path


def two_poolings() -> Net:
    net = Net()
    net.layer(net.pool(net.layer(net.pool(net.layer("data", 4, 3), "p"), 5, 4), "q"), 6, 5)
    return net


@pytest.mark.parametrize(
    "shape",
    [None, [1, 3, 224, 224], ["batch", 3, "height", "width"], [1, 3, 4, 4], [0, 0, 0, 0]],
)
def test_a_stated_input_that_the_chain_can_compute_is_ignored(
    shape: list[int | str] | None, tmp_path: Path
) -> None:
    assert len(arrays(with_input(two_poolings(), shape, tmp_path))) == 6


@pytest.mark.parametrize(
    ("shape", "words"),
    [
        ([1, 1, 224, 224], "expected images with 3 channels as its input, found the shape (1, 1,"),
        ([1, 224, 224, 3], "expected images with 3 channels"),
        ([1, "channels", 3, 224], "expected an input of 4 pixels or more in each direction"),
        ([3, 224, 224], "expected images with 3 channels"),
        ([], "expected images with 3 channels"),
    ],
)
def test_a_stated_input_that_does_not_fit_the_chain_is_refused(
    shape: list[int | str], words: str, tmp_path: Path
) -> None:
    assert words in refusal(with_input(two_poolings(), shape, tmp_path))


def test_a_reordered_image_has_its_channels_last(tmp_path: Path) -> None:
    net = Net()
    net.add("Transpose", ["data"], "image", perm=[0, 3, 1, 2])
    net.layer("image", 4, 3)
    assert len(arrays(with_input(net, [1, 224, 224, 3], tmp_path))) == 2
    assert "3 channels" in refusal(with_input(net, [1, 3, 224, 224], tmp_path))


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
    assert "found weights of shape (9, 5, 7, 7)" in refusal(tmp_path / "zoo.onnx")


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


def in_a_loop(net: Net) -> None:
    net.add("Identity", [net.layer("data", 4, 3)], "again")
    net.add("Identity", ["again"], "relu0")


def at_its_own_input(net: Net) -> None:
    net.add("Identity", ["data"], "data")


def unpadded_by_name(net: Net) -> None:
    net.layer("data", 4, 3)
    net.node("conv0").attribute.append(helper.make_attribute("auto_pad", "VALID"))


def dilated(net: Net) -> None:
    net.layer("data", 4, 3)
    del net.node("conv0").attribute[:]
    for name in ("dilations", "pads"):
        net.node("conv0").attribute.append(
            helper.make_attribute(name, [2] * (2 if name == "dilations" else 4))
        )


def fused_by_a_runtime(net: Net) -> None:
    net.add("FusedConv", ["data"], "c", domain="com.example")


def stored_twice(net: Net) -> None:
    net.layer("data", 4, 3)
    net.stored("vgg0_conv0_weight", np.zeros((4, 3, 3, 3), np.float32))


def normalised(
    *, outputs: int = 1, variance: float = 1.0, **attributes: object
) -> Callable[[Net], None]:
    """A batch normalisation that differs from the one of a trained network."""

    def build(net: Net) -> None:
        names = [
            net.stored(f"c{k}", np.full(4, variance if k == 3 else 1, np.float32)) for k in range(4)
        ]
        net.add("BatchNormalization", [net.convolved("data", 4, 3), *names], "bn", **attributes)
        net.node("bn").output.extend(f"more{k}" for k in range(outputs - 1))
        net.add("Relu", ["bn"], "end")

    return build


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
        (in_a_loop, "found a loop after conv1_1 (node 'again')"),
        (at_its_own_input, "found a loop after the input (node 'data')"),
        (unpadded_by_name, "expected pads = [1, 1, 1, 1] at the Conv 'conv0', found [0, 0, 0, 0]"),
        (dilated, "expected dilations = [1, 1] at the Conv 'conv0', found [2, 2]"),
        (fused_by_a_runtime, "found 'FusedConv' of the domain 'com.example' (node 'c'); export"),
        (stored_twice, "expected one tensor named 'vgg0_conv0_weight', found two"),
        (normalised(training_mode=1), "batch normalisation of conv1_1, found one in training mode"),
        (normalised(is_test=0), "batch normalisation of conv1_1, found one in training mode"),
        (normalised(outputs=5), "batch normalisation of conv1_1, found one in training mode"),
        (normalised(variance=-1.0), "0 or more in the batch normalisation of conv1_1, found a neg"),
        (normalised(epsilon=-1e-6), "0 or more in the batch normalisation of conv1_1, found a neg"),
        (normalised(variance=np.inf), "for the variance of the batch normalisation of conv1_1"),
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


def test_weights_may_be_constants_of_the_graph_or_have_a_second_name(tmp_path: Path) -> None:
    net = Net()
    net.layer("data", 4, 3)
    bias = net.tensor("vgg0_conv0_bias")
    net.initialisers.remove(bias)
    net.nodes.insert(0, helper.make_node("Constant", [], [bias.name], value=bias))
    net.nodes.insert(0, helper.make_node("Identity", ["vgg0_conv0_weight"], ["second"]))
    net.node("conv0").input[1] = "second"
    found = arrays(net.write(tmp_path))
    for part, expected in zip(("weight", "bias"), net.weights[0], strict=True):
        np.testing.assert_array_equal(found[f"chain.conv1_1.{part}"], expected)
