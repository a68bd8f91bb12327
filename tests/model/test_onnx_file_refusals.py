"""Files that are not a model file, and model files with hostile contents."""

import os
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
from gramstyle.model.onnx_file import Model, read_model, reading
from hostile_files import LITTLE_MEMORY, POSITIONS, flipped, peak_memory
from onnx_edits import (
    LAYERS,
    Edit,
    Edited,
    attribute,
    convolutions,
    described,
    node,
    plain,
    refusal,
    replace,
    tensor,
)

# Files that are not a model


def test_the_error_for_a_missing_file_says_how_to_build_one(tmp_path: Path) -> None:
    assert "gramstyle model export" in refusal(tmp_path / "missing.onnx")


def test_a_folder_is_refused(tmp_path: Path) -> None:
    assert "not a file" in refusal(tmp_path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no named pipes")
def test_a_pipe_is_refused_without_waiting(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe.onnx"
    os.mkfifo(pipe)
    assert "not a file" in refusal(pipe)


def test_the_error_for_an_empty_file_says_how_to_build_one(tmp_path: Path) -> None:
    empty = tmp_path / "empty.onnx"
    empty.touch()
    assert "gramstyle model export" in refusal(empty)


def test_a_file_above_the_limit_is_not_read(
    small_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = small_path.stat().st_size
    monkeypatch.setattr(reading, "MAX_BYTES", size)
    assert read_model(small_path).network.names == LAYERS
    monkeypatch.setattr(reading, "MAX_BYTES", size - 1)
    monkeypatch.setattr(Path, "read_bytes", lambda _: pytest.fail("it was read"))
    assert f"{size} bytes, the limit is {size - 1}" in refusal(small_path)


def test_a_truncated_file_is_refused(small_path: Path, tmp_path: Path) -> None:
    data, cut = small_path.read_bytes(), tmp_path / "cut.onnx"
    # Cuts all over the file, and at each byte of the last metadata entry, which is the hash.
    for length in [*range(0, len(data), 61), *range(len(data) - 90, len(data))]:
        cut.write_bytes(data[:length])
        refusal(cut)


@pytest.fixture(scope="module")
def damaged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file that Hypothesis' examples overwrite."""
    return tmp_path_factory.mktemp("damaged") / "damaged.onnx"


@given(st.binary(max_size=200))
@settings(max_examples=100)
def test_random_bytes_are_refused(damaged: Path, data: bytes) -> None:
    damaged.write_bytes(data)
    refusal(damaged)


# The nodes come first in the file; a flip there changes the structure, a later one the weights.
@given(POSITIONS, st.sampled_from([0.15, 1.0]))
@settings(max_examples=300)
def test_flipped_bits_give_an_error_or_leave_the_weights_unchanged(
    small_path: Path, small_model: Model, damaged: Path, positions: list[float], part: float
) -> None:
    data = small_path.read_bytes()
    damaged.write_bytes(flipped(data, [position * part for position in positions]))
    try:
        read = read_model(damaged)
    except ModelError as error:
        message = str(error)
        assert str(damaged) in message
        assert message.isprintable()
        return
    for layer, original in zip(read.network.layers, small_model.network.layers, strict=True):
        assert type(layer) is type(original)
        if isinstance(layer, Convolution) and isinstance(original, Convolution):
            np.testing.assert_array_equal(layer.W, original.W)
            np.testing.assert_array_equal(layer.b, original.b)


# Edited model files: valid protobuf with correct hashes


def test_an_edit_that_changes_nothing_is_accepted(edited: Edited) -> None:
    # Otherwise the editing itself could cause the errors below.
    assert read_model(edited(lambda _: None)).network.names == LAYERS


def test_an_altered_weight_is_refused_by_its_hash(edited: Edited) -> None:
    def edit(proto: onnx.ModelProto) -> None:
        table = tensor(proto, "conv2_1.table")
        table.raw_data = bytes([table.raw_data[0] ^ 1]) + table.raw_data[1:]

    assert "hash" in refusal(edited(edit, rehashed=False))
    assert read_model(edited(edit)).network.names == LAYERS


@pytest.mark.parametrize("part", ["name", "shape", "type"])
def test_the_hash_covers_a_tensors_name_shape_and_type(part: str, edited: Edited) -> None:
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

    assert "hash" in refusal(edited(edit, rehashed=False))


@pytest.mark.parametrize("key", ["preprocessing.mean", "source", "precision"])
def test_altered_metadata_are_refused_by_their_hash(key: str, edited: Edited) -> None:
    edit = described(key, "[103, 116, 123]")
    assert "metadata do not have the recorded hash" in refusal(edited(edit, rehashed=False))
    assert read_model(edited(edit)).metadata[key] == "[103, 116, 123]"


def test_a_file_of_format_1_has_no_hash_of_its_metadata_and_is_read(edited: Edited) -> None:
    edit = described("metadata.sha256", None)
    assert read_model(edited(edit, rehashed=False)).network.names == LAYERS


def test_a_file_without_a_hash_is_refused(edited: Edited) -> None:
    edit = described("tensors.sha256", None)
    assert "lack tensors.sha256" in refusal(edited(edit, rehashed=False))


def outside(location: str) -> Edit:
    def edit(proto: onnx.ModelProto) -> None:
        b = tensor(proto, "conv1_1.b")
        b.ClearField("raw_data")
        b.data_location = TensorProto.EXTERNAL
        b.external_data.add(key="location", value=location)

    return edit


@pytest.mark.parametrize("location", ["/etc/passwd", "../secret", "beside.bin"])
def test_external_data_are_refused_before_they_are_read(
    location: str, edited: Edited, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "beside.bin").write_bytes(convolutions()[0].b.tobytes())
    target = edited(outside(location))
    # The two functions of onnx that would open the file.
    for module, name in ((reading.checker, "check_model"), (numpy_helper, "to_array")):
        monkeypatch.setattr(module, name, lambda *_, **__: pytest.fail("it was read"))
    assert "external data" in refusal(target)


def test_a_reference_to_another_file_is_refused(edited: Edited) -> None:
    def edit(proto: onnx.ModelProto) -> None:
        tensor(proto, "conv1_1.b").external_data.add(key="location", value="/etc/passwd")

    assert "external data" in refusal(edited(edit))


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


def subgraph(name: str) -> Edit:
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
def test_everything_that_a_chain_of_convolutions_does_not_need_is_refused(
    edit: Edit, words: str, edited: Edited
) -> None:
    assert words in refusal(edited(edit))


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
def test_other_attributes_of_convolutions_and_poolings_are_refused(
    name: str, key: str, value: object, edited: Edited
) -> None:
    assert key in refusal(edited(attribute(name, key, value)))


def rewired(name: str, **ends: str) -> Edit:
    """An edit that connects a node's first input or output elsewhere."""

    def edit(proto: onnx.ModelProto) -> None:
        for end, value in ends.items():
            getattr(node(proto, name), end)[0] = value

    return edit


def without(*names: str) -> Edit:
    """An edit that removes nodes and connects their inputs to their outputs."""

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


def second_output(proto: onnx.ModelProto) -> None:
    node(proto, "pool1.pool").output.append("indices")


def another_input(proto: onnx.ModelProto) -> None:
    proto.graph.input.append(
        helper.make_tensor_value_info("mask", TensorProto.FLOAT, [1, 3, None, None])
    )


def renamed_input(proto: onnx.ModelProto) -> None:
    proto.graph.input[0].name = "x"
    node(proto, "conv1_1.conv").input[0] = "x"


def renamed_layer(name: str) -> Edit:
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
        (second_output, "one output"),
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
def test_another_architecture_is_refused(edit: Edit, words: str, edited: Edited) -> None:
    assert words in refusal(edited(edit))


def with_shape(name: str, *dims: int) -> Edit:
    """An edit that changes the declared shape of a tensor."""

    def edit(proto: onnx.ModelProto) -> None:
        tensor(proto, name).dims[:] = dims

    return edit


def holding(name: str, values: Array) -> Edit:
    return lambda proto: replace(proto, name, values)


def holding_plain(W: Array) -> Edit:
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
        (with_shape("conv1_1.b", 2**40), "not have the size of its shape"),
        (with_shape("conv1_1.index", 2**31, 2**31, 3, 3), "not have the size of its shape"),
        (with_shape("conv1_1.table", 2**62, 4), "not have the size of its shape"),
        (with_shape("conv1_1.b", -2, -2), "dimension"),
        (empty_and_huge, "too big"),
        (in_another_field, "not have the size of its shape"),
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
        (shared_biases, "used by two nodes"),
        (without_biases, "no biases"),
        (no_filters, "expected (N, 3, 3, 3)"),
    ],
)
def test_invalid_tensors_are_refused_before_memory_is_allocated(
    edit: Edit, words: str, edited: Edited
) -> None:
    target = edited(edit)
    messages: list[str] = []
    assert peak_memory(lambda: messages.append(refusal(target))) < 2 * LITTLE_MEMORY
    assert words in messages[0]


def uncast(proto: onnx.ModelProto) -> None:
    proto.graph.node.remove(node(proto, "conv1_1.cast"))
    node(proto, "conv1_1.gather").input[1] = "conv1_1.index"


def cast_responses(proto: onnx.ModelProto) -> None:
    proto.graph.node.append(helper.make_node("Cast", ["pool2"], ["z"], to=TensorProto.INT32))


def expanding(proto: onnx.ModelProto) -> None:
    """Many small nodes, each of which would produce a set of weights in memory."""
    place = list(proto.graph.node).index(node(proto, "conv1_1.gather"))
    for k in range(1000):
        copy = helper.make_node("Gather", ["conv1_1.table", "conv1_1.index32"], [f"copy{k}"])
        proto.graph.node.insert(place, copy)


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (attribute("conv1_1.cast", "to", TensorProto.FLOAT), "casts other types"),
        (attribute("conv1_1.cast", "to", TensorProto.UINT8), "casts other types"),
        (attribute("conv1_1.cast", "to", None), "Required attribute 'to' is missing"),
        (rewired("conv1_1.cast", input="conv1_1.b"), "casts other types"),
        (cast_responses, "'pool2'"),
        (holding("conv1_1.index", np.zeros((4, 3, 3, 3), np.float32)), "casts other types"),
        (holding("conv1_1.table", np.zeros(3, np.float32)), "beyond its table"),
        (holding("conv1_1.table", np.zeros(0, np.float32)), "beyond its table"),
        (holding("conv1_1.table", np.zeros((256, 1), np.float32)), "look up values"),
        (holding("conv1_1.table", np.zeros(256, np.uint8)), "not float32"),
        (holding("conv1_1.index", np.zeros((0, 3, 3, 3), np.uint8)), "beyond its table"),
        (attribute("conv1_1.gather", "axis", 1), "look up values"),
        (uncast, "look up values"),
        (rewired("conv1_1.gather", input="conv1_2.table"), "'conv1_2.table'"),
        (rewired("conv1_1.gather", input="input"), "'input'"),
        (expanding, "used by two nodes"),
    ],
)
def test_a_misused_codebook_is_refused(edit: Edit, words: str, edited: Edited) -> None:
    assert words in refusal(edited(edit))


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
def test_invalid_metadata_are_refused(
    key: str, value: str | None, words: str, edited: Edited
) -> None:
    assert words in refusal(edited(described(key, value)))
