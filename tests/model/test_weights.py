"""Weights files of every format, and the errors for other files."""

import dataclasses
import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings

from gramstyle.core.network import Convolution
from gramstyle.errors import ModelError, OptionError
from gramstyle.model import known, published
from gramstyle.model.architecture import VGGS, Architecture
from gramstyle.model.export import export_model
from gramstyle.model.known import KnownNetwork, weights_hash
from gramstyle.model.onnx_file import read_model
from gramstyle.model.preprocessings import CAFFE, TORCHVISION
from gramstyle.model.pretrained import Pretrained
from gramstyle.model.published import PublicFile
from gramstyle.model.weights import read_weights
from h5_server import H5Server
from hostile_files import POSITIONS, damaged, error_line, flipped, outcome
from weight_files import (
    AMBIGUOUS,
    BLOCKS,
    FORMATS,
    LAYERS,
    chain,
    gatys_names,
    torchvision_names,
    write_torch_stream,
    write_torch_zip,
)


@pytest.fixture(autouse=True)
def narrow(monkeypatch: pytest.MonkeyPatch, h5_server: H5Server) -> None:
    """Make VGG-19 narrow."""
    monkeypatch.setitem(VGGS, "VGG-19", Architecture(BLOCKS))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file in every format, all with the same weights."""
    folder = tmp_path_factory.mktemp("weights")
    for name, write in FORMATS.items():
        write(folder / name, chain())
    return folder


def refusal(path: Path, **options: str) -> str:
    """The error for a file, without the file's name."""
    message = error_line(lambda: read_weights(path, **options))
    assert str(path) in message
    assert len(message) < 600
    return message.replace(str(path), "FILE")


# Reading


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_gives_the_same_network(name: str, folder: Path, tmp_path: Path) -> None:
    convention = "torchvision" if name in AMBIGUOUS else None
    target = tmp_path / "model.onnx"
    export_model(target, source=folder / name, convention=convention)

    model = read_model(target)

    layers = [layer for layer in model.network.layers if isinstance(layer, Convolution)]
    assert [layer.name for layer in layers] == [f"conv{name}" for name in LAYERS]
    for layer, (W, b) in zip(layers, chain(), strict=True):
        np.testing.assert_array_equal(layer.W, W)
        np.testing.assert_array_equal(layer.b, b)
    assert model.network.names[-1] == "pool5"
    assert model.preprocessing == (CAFFE if convention is None else TORCHVISION)
    assert model.metadata["source"].startswith(f"{name} (")
    digest = hashlib.sha256((folder / name).read_bytes()).hexdigest()
    assert model.metadata["source.sha256"] == digest
    assert model.metadata["weights.sha256"] == weights_hash(layers)
    assert model.metadata["network"] == "unknown"


def test_the_format_is_recognised_by_the_contents(folder: Path, tmp_path: Path) -> None:
    hashes = set()
    for shard in folder.glob("model-*"):
        shutil.copy(shard, tmp_path)
    for name in FORMATS:
        path = tmp_path / "weights.dat"
        path.write_bytes((folder / name).read_bytes())
        read = read_weights(path, convention="caffe")
        hashes.add(read.metadata["weights.sha256"])
    assert len(hashes) == 1


def test_the_weights_hash_covers_names_shapes_and_little_endian_floats() -> None:
    W, b = np.array([[[[1.5]]]], np.float32), np.array([-2.0], np.float32)
    expected = hashlib.sha256(b"conv1_1 (1, 1, 1, 1)\n\x00\x00\xc0\x3f\x00\x00\x00\xc0").hexdigest()
    assert weights_hash([Convolution("conv1_1", W, b)]) == expected
    assert weights_hash([Convolution("conv1_2", W, b)]) != expected


def test_the_weights_hash_is_independent_of_layout_and_the_sign_of_zero() -> None:
    W = np.random.default_rng(0).standard_normal((2, 3, 3, 3)).astype(np.float32)
    W[0, 0] = 0
    b = np.zeros(2, np.float32)
    other = np.asfortranarray(np.where(W == 0, np.float32(-0.0), W))
    assert weights_hash([Convolution("a", W, b)]) == weights_hash([Convolution("a", other, -b)])


def test_exporting_a_model_file_preserves_its_provenance(folder: Path, tmp_path: Path) -> None:
    first, second = tmp_path / "first.onnx", tmp_path / "second.onnx"
    export_model(first, source=folder / "torch.pth", convention="torchvision")
    export_model(second, source=first, precision="float16")
    one, two = read_model(first), read_model(second)
    for key in ("source", "source.sha256", "network", "licence", "attribution"):
        assert one.metadata[key] == two.metadata[key]
    assert two.preprocessing == TORCHVISION
    assert (one.metadata["precision"], two.metadata["precision"]) == ("float32", "float16")


def test_a_lossy_precision_is_used_only_on_request(folder: Path, tmp_path: Path) -> None:
    found = {}
    for precision in (None, "float32", "float16", "codebook8"):
        target = tmp_path / "model.onnx"
        export_model(target, source=folder / "keras.h5", precision=precision)
        found[precision] = read_model(target).metadata["precision"]
    # The narrow layers have fewer than 256 weights, except the last: 6 · 6 · 9 = 324.
    assert found == {None: "float32", "float32": "float32", "float16": "float16",
                    "codebook8": "codebook8"}  # fmt: skip


# Preprocessing


@pytest.mark.parametrize("name", sorted(AMBIGUOUS))
def test_the_error_for_an_ambiguous_source_asks_for_the_convention(name: str, folder: Path) -> None:
    message = refusal(folder / name)
    assert "--preprocess caffe" in message
    assert "--preprocess torchvision" in message
    assert read_weights(folder / name, convention="caffe").preprocessing == CAFFE


def test_the_users_convention_has_priority(folder: Path) -> None:
    assert read_weights(folder / "keras.h5", convention="torchvision").preprocessing == TORCHVISION


def test_an_unknown_convention_is_refused(folder: Path) -> None:
    with pytest.raises(OptionError, match="caffe or torchvision, not 'mxnet'"):
        read_weights(folder / "keras.h5", convention="mxnet")


def test_torchvisions_convention_matches_its_definition() -> None:
    x = np.random.default_rng(1).uniform(0, 255, (3, 2, 2))
    mean = np.array([0.485, 0.456, 0.406]).reshape(3, 1, 1)
    deviation = np.array([0.229, 0.224, 0.225]).reshape(3, 1, 1)
    # float64, whose factors are rounded once more.
    np.testing.assert_allclose(TORCHVISION.forward(x), (x / 255 - mean) / deviation, rtol=1e-12)


# Identification


def a_network(name: str, preprocessing: object = CAFFE) -> KnownNetwork:
    return KnownNetwork(name, preprocessing, "a licence", "an author")


def test_known_weights_are_identified_in_every_format(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = read_weights(folder / "keras.h5").metadata["weights.sha256"]
    monkeypatch.setitem(known.KNOWN_NETWORKS, digest, a_network("a narrow VGG-19"))
    for name in FORMATS:
        read = read_weights(folder / name)
        assert read.metadata["network"] == "a narrow VGG-19"
        assert read.metadata["licence"] == "a licence"
        assert read.preprocessing == CAFFE


@pytest.mark.parametrize(
    ("is_reversed", "is_biased", "is_known"),
    [(False, False, True), (True, False, False), (False, True, False)],
)
def test_the_original_network_is_identified_by_its_biases_and_first_layer(
    is_reversed: bool,
    is_biased: bool,
    is_known: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    layers = chain()
    biases = b"".join(b.astype("<f4").tobytes() for _, b in layers)
    channels = np.abs(layers[0][0]).sum(axis=(0, 2, 3), dtype=np.float64)
    assert np.abs(channels[::-1] / channels - 1).max() > 0.05  # enough for this test
    monkeypatch.setattr(known, "OXFORD_BIASES", hashlib.sha256(biases).hexdigest())
    monkeypatch.setattr(known, "OXFORD_CHANNELS", tuple(channels))
    path = tmp_path / "quantised.pth"
    # The weights differ slightly, as after quantising.
    altered = [(W * np.float32(1.001), b) for W, b in layers]
    if is_biased:
        altered[7] = (altered[7][0], altered[7][1] + np.float32(1))
    if is_reversed:
        altered[0] = (altered[0][0][:, ::-1].copy(), altered[0][1])
    write_torch_zip(path, torchvision_names(altered))
    if is_known:
        read = read_weights(path)
        assert read.metadata["network"].startswith("VGG-19 of Oxford (Caffe), by its biases")
        assert read.preprocessing == CAFFE
    else:
        assert "--preprocess" in refusal(path)


def test_a_published_file_is_identified_by_its_hash_and_has_its_convention(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = (folder / "torch.pth").read_bytes()
    for algorithm, length in (("sha256", 64), ("sha256", 8), ("sha1", 40), ("md5", 32)):
        digest = hashlib.new(algorithm, data, usedforsecurity=False).hexdigest()[:length]
        file = PublicFile(
            name="narrow", file_name="torch.pth", urls=(), size=None, algorithm=algorithm,
            digest=digest, network=a_network("published", TORCHVISION),
        )  # fmt: skip
        monkeypatch.setattr(published, "PUBLIC_FILES", {"narrow": file})
        read = read_weights(folder / "torch.pth")
        assert read.metadata["network"] == "published"
        assert read.preprocessing == TORCHVISION
        other = tmp_path / "other.pth"
        write_torch_zip(other, torchvision_names(chain(seed=1)))
        assert "--preprocess" in refusal(other)


def test_published_files_have_valid_hashes_and_addresses() -> None:
    lengths = {"md5": 32, "sha1": 40, "sha256": 64}
    for name, file in published.PUBLIC_FILES.items():
        assert file.name == name
        assert len(file.digest) in (lengths[file.algorithm], 8)
        assert int(file.digest, 16) > 0
        # Unencrypted addresses need a complete hash.
        safe = "https://" if len(file.digest) == 8 else ("https://", "http://")
        assert all(url.startswith(safe) for url in file.urls)
        assert file.urls[0].startswith("https://")
        assert "/" not in file.file_name


def test_codebooks_other_than_the_default_ones_are_refused(tmp_path: Path) -> None:
    tensors = {}
    for name, (W, b) in zip(LAYERS, chain(), strict=True):
        key = "block{}_conv{}".format(*name.split("_"))
        tensors[f"{key}_W_q"] = np.zeros(W.shape, np.uint8)
        tensors[f"{key}_W_table"] = np.ones(256, np.float32)
        tensors[f"{key}_b"] = b
    write_torch_stream(tmp_path / "weights.bin", tensors)
    message = refusal(tmp_path / "weights.bin")
    assert "expected the default weights, whose hash is 46e231a92289" in message
    assert "get a fresh copy" in message


# Errors


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo], ids=["folder", "pipe"])
def test_a_path_that_is_not_a_file_is_refused_without_waiting(
    make: Callable[[Path], None], tmp_path: Path
) -> None:
    make(tmp_path / "source")
    assert refusal(tmp_path / "source").startswith("cannot read the weights FILE: ")


def test_the_error_for_a_folder_asks_for_the_file_in_it(tmp_path: Path) -> None:
    assert "it is a folder; name the weights file in it" in refusal(tmp_path)


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("vgg19-dcbb9e9.pth", "vgg19-dcbb9e9d.pth"),
        ("model.safetensor", "model.safetensors"),
        ("Keras.weights.h5", "keras.weights.h5"),
    ],
)
def test_the_error_for_a_missing_file_names_a_similar_one(
    written: str, meant: str, tmp_path: Path
) -> None:
    for name in ("vgg19-dcbb9e9d.pth", "model.safetensors", "keras.weights.h5"):
        (tmp_path / name).touch()
    message = error_line(lambda: read_weights(tmp_path / written))
    assert message.endswith(
        f"there are no weights {tmp_path / written}; did you mean {tmp_path / meant}?"
    )
    assert refusal(tmp_path / "photo.jpg") == "there are no weights FILE"
    assert refusal(tmp_path / "no folder" / "photo.jpg") == "there are no weights FILE"


@pytest.mark.parametrize("data", [b"GIF89a", b"#!/bin/sh\n", bytes(100)])
def test_the_error_for_an_unknown_format_lists_the_known_ones(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "source").write_bytes(data)
    message = refusal(tmp_path / "source")
    assert (
        "expected a torch checkpoint, Keras .h5 or .keras, safetensors, a Caffe model, ONNX"
        in message
    )
    assert repr(data[:8]) in message


@pytest.mark.parametrize("name", FORMATS)
def test_a_truncated_file_gives_one_line_and_leaves_no_file(
    name: str, folder: Path, tmp_path: Path
) -> None:
    # A tar archive ends with kilobytes of zeros.
    data = (folder / name).read_bytes().rstrip(b"\0")
    source = tmp_path / name
    for fraction in (0.2, 0.5, 0.9, 0.99):
        source.write_bytes(data[: int(fraction * len(data))])
        assert refusal(source, convention="caffe").startswith("FILE ")
        with pytest.raises(ModelError):
            export_model(tmp_path / "model.onnx", source=source, convention="caffe")
        assert list(tmp_path.iterdir()) == [source]


@pytest.mark.parametrize("name", FORMATS)
@settings(max_examples=40)
@given(positions=POSITIONS)
def test_flipped_bits_give_finite_weights_or_one_line(
    name: str, positions: list[float], folder: Path
) -> None:
    source = folder / f"flipped-{name}"  # beside the files that an index names
    source.write_bytes(flipped((folder / name).read_bytes(), positions))
    read = outcome(lambda: read_weights(source, convention="caffe"))
    if isinstance(read, Exception):
        assert isinstance(read, ModelError)
        assert str(source) in str(read)
    else:
        assert all(np.isfinite(c.W).all() for c in read.convolutions)


def test_the_error_for_a_truncated_zip_archive_says_so(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "torch.pth"
    path.write_bytes((folder / "torch.pth").read_bytes()[:-100])
    assert (
        "expected a complete zip archive, as torch and Keras write, found one that is damaged"
        in refusal(path)
    )


@pytest.mark.parametrize("name", ["torch.pth", "keras.h5", "zoo.onnx"])
def test_the_error_for_a_weight_that_is_not_finite_names_its_layer(
    name: str, tmp_path: Path
) -> None:
    layers = chain()
    layers[9][0][1, 2, 0, 0] = np.nan
    FORMATS[name](tmp_path / name, layers)
    assert "expected finite numbers in conv4_2, found NaN" in refusal(
        tmp_path / name, convention="caffe"
    )


@pytest.mark.parametrize("name", ["torch.pth", "keras.h5", "zoo.onnx"])
def test_a_layer_whose_weights_are_all_zero_is_refused(name: str, tmp_path: Path) -> None:
    layers = chain()
    layers[9][0][...] = 0
    FORMATS[name](tmp_path / name, layers)
    message = refusal(tmp_path / name, convention="caffe")
    assert "expected weights other than 0 in conv4_2, found zeros only" in message
    layers[9][0][1, 2, 0, 0] = 1e-6
    FORMATS[name](tmp_path / name, layers)
    assert read_weights(tmp_path / name, convention="caffe").convolutions[9].W.any()


@pytest.mark.parametrize("name", FORMATS)
@settings(max_examples=20)
@given(positions=POSITIONS)
def test_each_refusal_of_a_damaged_file_says_what_to_do(
    name: str, positions: list[float], folder: Path
) -> None:
    source = folder / f"damaged-{name}"  # beside the files that an index names
    source.write_bytes(damaged((folder / name).read_bytes(), positions, cut=True))
    read = outcome(lambda: read_weights(source, convention="caffe"))
    if isinstance(read, Exception):
        # What to do comes behind a semicolon.
        assert "; " in str(read)


def test_the_error_for_another_depth_names_both(tmp_path: Path) -> None:
    arrays = gatys_names(chain())
    for part in ("weight", "bias"):
        del arrays[f"conv5_4.{part}"]
    write_torch_zip(tmp_path / "vgg18.pth", arrays)
    message = refusal(tmp_path / "vgg18.pth")
    assert "expected the 16 convolutions of VGG-19, found 15 and none for conv5_4" in message


def test_terminal_codes_in_a_file_name_do_not_reach_the_metadata(
    folder: Path, tmp_path: Path
) -> None:
    path = tmp_path / "red\x1b[31m.h5"
    path.write_bytes((folder / "keras.h5").read_bytes())
    assert json.dumps(read_weights(path).metadata["source"]) == '"red?[31m.h5 (Keras HDF5 file)"'


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "found an empty file; get a fresh copy"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "run git lfs pull"),
        (b"\n<!DOCTYPE html><html>", "found a web page; download the file itself"),
        (b"<html><head>", "found a web page; download the file itself"),
    ],
)
@pytest.mark.parametrize("name", ["m.onnx", "m.pth"])
def test_what_a_download_leaves_in_the_place_of_weights_is_named(
    data: bytes, words: str, name: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(data)
    assert words in refusal(tmp_path / name)


def test_a_file_of_format_1_is_named_by_its_weights(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    export_model(tmp_path / "model.onnx", source=folder / "keras.h5")
    model = read_model(tmp_path / "model.onnx")
    monkeypatch.setitem(
        known.KNOWN_NETWORKS, model.metadata["weights.sha256"], a_network("a network")
    )
    first = {k: v for k, v in model.metadata.items() if k in ("source", "licence")}
    pretrained = Pretrained.from_model(dataclasses.replace(model, metadata=first))
    assert pretrained.metadata == {"architecture": "VGG-19", "network": "a network", **first}
