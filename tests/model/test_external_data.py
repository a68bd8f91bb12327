"""ONNX files whose weights are in other files, written by the onnx library."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, numpy_helper

from gramstyle.core.network import Convolution
from gramstyle.errors import ModelError
from gramstyle.model.architecture import VGGS, Architecture
from gramstyle.model.export import export_model
from gramstyle.model.onnx_file import read_model
from gramstyle.model.onnx_file.foreign import open_onnx
from gramstyle.model.weights import read_weights
from hostile_files import LITTLE_MEMORY, error_line, peak_memory
from weight_files import BLOCKS, chain, write_keras, write_onnx

FIRST = "vgg0_conv0_weight"


@pytest.fixture(autouse=True)
def narrow(monkeypatch: pytest.MonkeyPatch, h5_server: object) -> None:
    """Make VGG-19 narrow."""
    monkeypatch.setitem(VGGS, "VGG-19", Architecture(BLOCKS))


def write(path: Path, *, location: str | None = "zoo.onnx.data", threshold: int = 0) -> Path:
    """Write the network in two files, or with a file for each tensor."""
    write_onnx(path, chain())
    onnx.save_model(
        onnx.load(path),
        path,
        save_as_external_data=True,
        all_tensors_to_one_file=location is not None,
        location=location,
        size_threshold=threshold,
    )
    return path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "folder").mkdir()
    return write(tmp_path / "folder" / "zoo.onnx")


def check(path: Path) -> None:
    found = read_weights(path, convention="caffe").convolutions
    for layer, (W, b) in zip(found, chain(), strict=True):
        np.testing.assert_array_equal(layer.W, W)
        np.testing.assert_array_equal(layer.b, b)


def refusal(path: Path) -> str:
    message = error_line(lambda: read_weights(path, convention="caffe"))
    return message.replace(str(path), "FILE")


def edited(path: Path, edit: Callable[[dict[str, str]], object], name: str = FIRST) -> Path:
    """Edit a tensor's location, offset and length."""
    proto = onnx.load(path, load_external_data=False)
    tensor = next(tensor for tensor in proto.graph.initializer if tensor.name == name)
    entries = {entry.key: entry.value for entry in tensor.external_data}
    edit(entries)
    del tensor.external_data[:]
    for key, value in entries.items():
        tensor.external_data.add(key=key, value=value)
    path.write_bytes(proto.SerializeToString())
    return path


@pytest.mark.parametrize("location", ["zoo.onnx.data", "zoo_weights", "my weights.bin"])
@pytest.mark.parametrize("threshold", [0, 200])
def test_weights_in_a_file_in_the_same_folder_are_read(
    location: str, threshold: int, tmp_path: Path
) -> None:
    # Below the threshold, tensors stay in the ONNX file.
    check(write(tmp_path / "zoo.onnx", location=location, threshold=threshold))


def test_a_file_for_each_tensor_is_read(tmp_path: Path) -> None:
    path = write(tmp_path / "zoo.onnx", location=None)
    assert len(list(tmp_path.iterdir())) == 33
    check(path)


def test_weights_in_a_subfolder_are_read(path: Path) -> None:
    (path.parent / "data").mkdir()
    path.with_name("zoo.onnx.data").rename(path.parent / "data" / "all")
    for name in [
        tensor.name for tensor in onnx.load(path, load_external_data=False).graph.initializer
    ]:
        edited(path, lambda entries: entries.update(location="data/all"), name)
    check(path)


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_other_floats_are_read(dtype: type, tmp_path: Path) -> None:
    write_onnx(tmp_path / "zoo.onnx", chain())
    proto = onnx.load(tmp_path / "zoo.onnx")
    for tensor in proto.graph.initializer:
        values = numpy_helper.to_array(tensor).astype(dtype)
        tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    onnx.save_model(
        proto, tmp_path / "zoo.onnx", save_as_external_data=True, size_threshold=0, location="data"
    )
    with open_onnx(tmp_path / "zoo.onnx") as opened:
        W = opened.tensors["chain.conv5_4.weight"]
        assert (W.dtype, W.shape) == (np.dtype(dtype), chain()[15][0].shape)
        np.testing.assert_array_equal(W.load(), chain()[15][0].astype(dtype))


def test_opening_reads_no_weights(path: Path) -> None:
    data = path.with_name("zoo.onnx.data")
    with data.open("ab") as file:
        file.truncate(2**28)  # not stored by most file systems

    def attempt() -> None:
        with open_onnx(edited(path, lambda entries: entries.update(offset=str(2**27)))) as opened:
            assert not opened.tensors["chain.conv1_1.weight"].load().any()

    assert peak_memory(attempt) < LITTLE_MEMORY


@pytest.mark.parametrize("precision", ["float32", "float16", "codebook8"])
def test_a_model_file_of_gramstyle_in_two_files_is_a_source(precision: str, tmp_path: Path) -> None:
    first, split, second = (tmp_path / name for name in ("a.onnx", "b.onnx", "c.onnx"))
    write_keras(tmp_path / "k.h5", chain())
    export_model(first, source=tmp_path / "k.h5", precision=precision)
    onnx.save_model(
        onnx.load(first), split, save_as_external_data=True, size_threshold=0, location="b.data"
    )
    with pytest.raises(ModelError, match=r"gramstyle model export --from FILE --to MODEL"):
        read_model(split)
    export_model(second, source=split)
    one, two = read_model(first).network.layers, read_model(second).network.layers
    for layer, same in zip(one, two, strict=True):
        if isinstance(layer, Convolution) and isinstance(same, Convolution):
            np.testing.assert_array_equal(layer.W, same.W)
    # The hash in the model file covers the weights in the other file.
    data = bytearray((tmp_path / "b.data").read_bytes())
    data[100] ^= 1
    (tmp_path / "b.data").write_bytes(data)
    assert "do not have the recorded hash" in refusal(split)


# Guards


@pytest.mark.parametrize(
    "location", ["../secret", "/etc/passwd", "data/../../secret", "..\\secret", "C:\\secret", ""]
)
def test_a_location_that_leads_out_of_the_folder_is_refused(location: str, path: Path) -> None:
    (path.parent.parent / "secret").write_bytes(bytes(10_000))
    message = refusal(edited(path, lambda entries: entries.update(location=location, offset="0")))
    assert "expected the name of a file in the same folder, found" in message


def test_a_link_out_of_the_folder_is_refused_with_the_remedy(path: Path) -> None:
    data, secret = path.with_name("zoo.onnx.data"), path.parent.parent / "secret"
    data.rename(secret)
    data.symlink_to(secret)
    assert "replace the link with a copy of the file" in refusal(path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no named pipes")
def test_a_pipe_is_refused_without_waiting(path: Path) -> None:
    path.with_name("zoo.onnx.data").unlink()
    os.mkfifo(path.with_name("zoo.onnx.data"))
    assert "expected the file 'zoo.onnx.data' in the same folder, found none" in refusal(path)


def test_a_missing_file_is_named_with_the_remedy(path: Path) -> None:
    path.with_name("zoo.onnx.data").unlink()
    assert "'zoo.onnx.data' in the same folder, found none; copy it there" in refusal(path)


def test_a_file_that_is_cut_short_is_refused(path: Path) -> None:
    data = path.with_name("zoo.onnx.data")
    data.write_bytes(data.read_bytes()[:-1])
    assert "get fresh copies of both files" in refusal(path)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"offset": "999999999"}, "expected 216 bytes of 'vgg0_conv0_weight'"),
        ({"offset": str(2**62)}, "found 0"),
        ({"offset": "-4"}, "expected an offset or length of 'vgg0_conv0_weight', found '-4'"),
        ({"offset": "1e3"}, "expected an offset or length"),
        ({"offset": "٤"}, "expected an offset or length"),
        ({"offset": "9" * 5000}, "expected an offset or length"),
        ({"length": "215"}, "expected 216 bytes"),
        ({"length": "217"}, "expected 216 bytes"),
        ({"length": str(2**40)}, "expected 216 bytes"),
        ({"length": ""}, "expected an offset or length"),
    ],
)
def test_a_place_that_contradicts_the_shape_or_the_file_is_refused(
    changes: dict[str, str], words: str, path: Path
) -> None:
    assert words in refusal(edited(path, lambda entries: entries.update(changes)))


def test_a_huge_shape_is_refused_before_memory_is_allocated(path: Path) -> None:
    proto = onnx.load(path, load_external_data=False)
    tensor = next(tensor for tensor in proto.graph.initializer if tensor.name == FIRST)
    tensor.dims[:] = [2**31, 2**31, 3, 3]
    path.write_bytes(proto.SerializeToString())
    assert "get fresh copies" in refusal(path)
    assert peak_memory(lambda: refusal(path)) < 2 * LITTLE_MEMORY


def without_location(tensor: onnx.TensorProto) -> None:
    del tensor.external_data[:]


def in_both_places(tensor: onnx.TensorProto) -> None:
    tensor.raw_data = bytes(216)


def integers(tensor: onnx.TensorProto) -> None:
    tensor.data_type = TensorProto.INT64


@pytest.mark.parametrize(
    ("edit", "words"),
    [(without_location, "in one place"), (in_both_places, "in one place"), (integers, "INT")],
)
def test_contradictory_external_data_are_refused(
    edit: Callable[[onnx.TensorProto], None], words: str, path: Path
) -> None:
    proto = onnx.load(path, load_external_data=False)
    edit(next(tensor for tensor in proto.graph.initializer if tensor.name == FIRST))
    path.write_bytes(proto.SerializeToString())
    assert words in refusal(path)
