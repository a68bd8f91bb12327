"""Every kind of file of weights becomes the same network; what is none of them is one line."""

import dataclasses
import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gramstyle.core.network import Convolution
from gramstyle.errors import ModelError, OptionError
from gramstyle.model import known, published, vgg19
from gramstyle.model.export import export_model
from gramstyle.model.known import Known, weights_hash
from gramstyle.model.onnx_file import read_model
from gramstyle.model.pretrained import Pretrained
from gramstyle.model.published import PublicFile
from gramstyle.model.vgg19 import CAFFE, TORCHVISION
from gramstyle.model.weights import read_weights
from weight_files import (
    AMBIGUOUS,
    BLOCKS,
    KINDS,
    LAYERS,
    chain,
    gatys_names,
    torchvision_names,
    write_torch_stream,
    write_torch_zip,
)


@pytest.fixture(autouse=True)
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    """VGG-19 with a few filters a layer."""
    monkeypatch.setattr(vgg19, "BLOCKS", BLOCKS)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of every kind, all with the same weights."""
    folder = tmp_path_factory.mktemp("weights")
    for name, write in KINDS.items():
        write(folder / name, chain())
    return folder


def refusal(path: Path, **options: str) -> str:
    """The one line with which a file is refused, which names it; returned without the name."""
    with pytest.raises(ModelError) as caught:
        read_weights(path, **options)
    message = str(caught.value)
    assert str(path) in message
    assert message.isprintable()
    assert len(message) < 600
    return message.replace(str(path), "FILE")


# Reading


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_of_file_gives_the_same_network(name: str, folder: Path, tmp_path: Path) -> None:
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


def test_the_kind_is_told_by_the_contents_whatever_the_name(folder: Path, tmp_path: Path) -> None:
    hashes = set()
    for name in KINDS:
        path = tmp_path / "weights.dat"
        path.write_bytes((folder / name).read_bytes())
        read = read_weights(path, convention="caffe")
        hashes.add(read.metadata["weights.sha256"])
    assert len(hashes) == 1


def test_the_hash_of_the_weights_is_over_names_shapes_and_little_endian_floats() -> None:
    W, b = np.array([[[[1.5]]]], np.float32), np.array([-2.0], np.float32)
    expected = hashlib.sha256(b"conv1_1 (1, 1, 1, 1)\n\x00\x00\xc0\x3f\x00\x00\x00\xc0").hexdigest()
    assert weights_hash([Convolution("conv1_1", W, b)]) == expected
    assert weights_hash([Convolution("conv1_2", W, b)]) != expected


def test_the_hash_of_the_weights_takes_no_notice_of_layout_and_of_the_sign_of_zero() -> None:
    W = np.random.default_rng(0).standard_normal((2, 3, 3, 3)).astype(np.float32)
    W[0, 0] = 0
    b = np.zeros(2, np.float32)
    other = np.asfortranarray(np.where(W == 0, np.float32(-0.0), W))
    assert weights_hash([Convolution("a", W, b)]) == weights_hash([Convolution("a", other, -b)])


def test_a_model_file_of_our_own_keeps_what_it_says_when_it_is_written_anew(
    folder: Path, tmp_path: Path
) -> None:
    first, second = tmp_path / "first.onnx", tmp_path / "second.onnx"
    export_model(first, source=folder / "torch.pth", convention="torchvision")
    export_model(second, source=first, precision="float16")
    one, two = read_model(first), read_model(second)
    for key in ("source", "source.sha256", "network", "licence", "attribution"):
        assert one.metadata[key] == two.metadata[key]
    assert two.preprocessing == TORCHVISION
    assert (one.metadata["precision"], two.metadata["precision"]) == ("float32", "float16")


def test_a_smaller_precision_is_only_taken_when_it_is_asked_for(
    folder: Path, tmp_path: Path
) -> None:
    kept = {}
    for precision in (None, "float32", "float16", "codebook8"):
        target = tmp_path / "model.onnx"
        export_model(target, source=folder / "keras.h5", precision=precision)
        kept[precision] = read_model(target).metadata["precision"]
    # The narrow layers have fewer than 256 weights, but for the last: 6 · 6 · 9 = 324.
    assert kept == {None: "float32", "float32": "float32", "float16": "float16",
                    "codebook8": "codebook8"}  # fmt: skip


# How the network sees images


@pytest.mark.parametrize("name", sorted(AMBIGUOUS))
def test_a_source_that_does_not_tell_asks_for_the_convention(name: str, folder: Path) -> None:
    message = refusal(folder / name)
    assert "--preprocess caffe" in message
    assert "--preprocess torchvision" in message
    assert read_weights(folder / name, convention="caffe").preprocessing == CAFFE


def test_what_the_user_says_comes_first(folder: Path) -> None:
    assert read_weights(folder / "keras.h5", convention="torchvision").preprocessing == TORCHVISION


def test_an_unknown_convention_is_refused(folder: Path) -> None:
    with pytest.raises(OptionError, match="caffe or torchvision, not 'mxnet'"):
        read_weights(folder / "keras.h5", convention="mxnet")


def test_torchvisions_convention_is_zero_to_one_minus_the_mean_over_the_deviation() -> None:
    x = np.random.default_rng(1).uniform(0, 255, (3, 2, 2))
    mean = np.array([0.485, 0.456, 0.406]).reshape(3, 1, 1)
    deviation = np.array([0.229, 0.224, 0.225]).reshape(3, 1, 1)
    np.testing.assert_allclose(TORCHVISION.forward(x), (x / 255 - mean) / deviation, rtol=1e-12)


# Who it is


def recognised(name: str, preprocessing: object = CAFFE) -> Known:
    return Known(name, preprocessing, "a licence", "an author")


def test_weights_that_are_known_are_named_whatever_file_they_come_in(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = read_weights(folder / "keras.h5").metadata["weights.sha256"]
    monkeypatch.setitem(known.KNOWN, digest, recognised("a narrow VGG-19"))
    for name in KINDS:
        read = read_weights(folder / name)
        assert read.metadata["network"] == "a narrow VGG-19"
        assert read.metadata["licence"] == "a licence"
        assert read.preprocessing == CAFFE


@pytest.mark.parametrize(
    ("turned", "biased", "is_known"),
    [(False, False, True), (True, False, False), (False, True, False)],
)
def test_the_original_network_is_known_by_its_biases_unless_its_first_layer_was_turned_round(
    turned: bool,
    biased: bool,
    is_known: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    layers = chain()
    biases = b"".join(b.astype("<f4").tobytes() for _, b in layers)
    channels = np.abs(layers[0][0]).sum(axis=(0, 2, 3), dtype=np.float64)
    assert np.abs(channels[::-1] / channels - 1).max() > 0.05  # the test can tell
    monkeypatch.setattr(known, "OXFORD_BIASES", hashlib.sha256(biases).hexdigest())
    monkeypatch.setattr(known, "OXFORD_CHANNELS", tuple(channels))
    path = tmp_path / "quantised.pth"
    # As if they had been quantised: the weights are a little off.
    held = [(W * np.float32(1.001), b) for W, b in layers]
    if biased:
        held[7] = (held[7][0], held[7][1] + np.float32(1))
    if turned:
        held[0] = (held[0][0][:, ::-1].copy(), held[0][1])
    write_torch_zip(path, torchvision_names(held))
    if is_known:
        read = read_weights(path)
        assert read.metadata["network"].startswith("VGG-19 of Oxford (Caffe), by its biases")
        assert read.preprocessing == CAFFE
    else:
        assert "--preprocess" in refusal(path)


def test_a_published_file_is_known_by_its_hash_and_brings_its_convention(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = (folder / "torch.pth").read_bytes()
    for algorithm, length in (("sha256", 64), ("sha256", 8), ("sha1", 40), ("md5", 32)):
        digest = hashlib.new(algorithm, data, usedforsecurity=False).hexdigest()[:length]
        file = PublicFile(
            name="narrow", file_name="torch.pth", urls=(), size=None, algorithm=algorithm,
            digest=digest, network=recognised("published", TORCHVISION),
        )  # fmt: skip
        monkeypatch.setattr(published, "PUBLIC_FILES", {"narrow": file})
        read = read_weights(folder / "torch.pth")
        assert read.metadata["network"] == "published"
        assert read.preprocessing == TORCHVISION
        other = tmp_path / "other.pth"
        write_torch_zip(other, torchvision_names(chain(seed=1)))
        assert "--preprocess" in refusal(other)


def test_every_published_file_has_a_whole_or_an_eight_digit_hash_and_safe_addresses() -> None:
    lengths = {"md5": 32, "sha1": 40, "sha256": 64}
    for name, file in published.PUBLIC_FILES.items():
        assert file.name == name
        assert len(file.digest) in (lengths[file.algorithm], 8)
        assert int(file.digest, 16) > 0
        # Without encryption only where a whole hash shows what comes.
        safe = "https://" if len(file.digest) == 8 else ("https://", "http://")
        assert all(url.startswith(safe) for url in file.urls)
        assert file.urls[0].startswith("https://")
        assert "/" not in file.file_name


def test_codebooks_other_than_the_default_ones_are_refused(tmp_path: Path) -> None:
    tensors = {}
    for name, (W, b) in zip(LAYERS, chain(), strict=True):
        key = "block{}_conv{}".format(*name.split("_"))
        tensors[f"{key}_W_q"] = np.zeros(W.shape, np.uint8)
        tensors[f"{key}_W_table"] = np.zeros(256, np.float32)
        tensors[f"{key}_b"] = b
    write_torch_stream(tmp_path / "weights.bin", tensors)
    message = refusal(tmp_path / "weights.bin")
    assert "expected the default weights, whose hash is 46e231a92289" in message
    assert "get a fresh copy" in message


# What is refused


@pytest.mark.parametrize("make", [lambda _: None, Path.mkdir, os.mkfifo], ids=str)
def test_what_is_no_file_is_refused_and_not_waited_for(
    make: Callable[[Path], None], tmp_path: Path
) -> None:
    make(tmp_path / "source")
    assert refusal(tmp_path / "source").startswith("cannot read the weights FILE: ")


@pytest.mark.parametrize("data", [b"", b"GIF89a", b"#!/bin/sh\n", bytes(100)])
def test_a_file_of_no_known_kind_is_refused_with_those_that_are(
    data: bytes, tmp_path: Path
) -> None:
    (tmp_path / "source").write_bytes(data)
    message = refusal(tmp_path / "source")
    assert "expected a torch checkpoint, Keras .h5, safetensors, a Caffe model, ONNX" in message
    assert repr(data[:8]) in message


@pytest.mark.parametrize("name", KINDS)
def test_a_file_cut_short_is_one_line_and_leaves_nothing(
    name: str, folder: Path, tmp_path: Path
) -> None:
    # A tar archive ends with kilobytes of nothing.
    data = (folder / name).read_bytes().rstrip(b"\0")
    source = tmp_path / name
    for share in (0.2, 0.5, 0.9, 0.99):
        source.write_bytes(data[: int(share * len(data))])
        assert refusal(source, convention="caffe").startswith("FILE ")
        with pytest.raises(ModelError):
            export_model(tmp_path / "model.onnx", source=source, convention="caffe")
        assert list(tmp_path.iterdir()) == [source]


@pytest.mark.parametrize("name", KINDS)
@settings(max_examples=40, deadline=None)
@given(places=st.lists(st.floats(0, 1, exclude_max=True), min_size=1, max_size=6))
def test_flipped_bits_give_numbers_or_one_line(
    name: str, places: list[float], folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    data = bytearray((folder / name).read_bytes())
    for place in places:
        bit = int(place * 8 * len(data))
        data[bit // 8] ^= 1 << bit % 8
    source = tmp_path_factory.getbasetemp() / name
    source.write_bytes(data)
    try:
        read = read_weights(source, convention="caffe")
    except ModelError as error:
        assert str(source) in str(error)  # noqa: PT017 - the other outcome is fine too
        assert str(error).isprintable()  # noqa: PT017
    else:
        assert all(np.isfinite(c.W).all() for c in read.convolutions)


def test_a_zip_archive_cut_short_is_called_that(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "torch.pth"
    path.write_bytes((folder / "torch.pth").read_bytes()[:-100])
    assert "expected a whole zip archive, as torch writes, found one that is damaged" in refusal(
        path
    )


@pytest.mark.parametrize("name", ["torch.pth", "keras.h5", "zoo.onnx"])
def test_a_weight_that_is_no_number_is_refused_with_its_layer(name: str, tmp_path: Path) -> None:
    layers = chain()
    layers[9][0][1, 2, 0, 0] = np.nan
    KINDS[name](tmp_path / name, layers)
    assert "expected numbers in conv4_2, found NaN" in refusal(tmp_path / name, convention="caffe")


def test_a_network_of_another_depth_is_refused_with_both(tmp_path: Path) -> None:
    held = gatys_names(chain())
    for part in ("weight", "bias"):
        del held[f"conv5_4.{part}"]
    write_torch_zip(tmp_path / "vgg18.pth", held)
    message = refusal(tmp_path / "vgg18.pth")
    assert "expected VGG-19's sixteen convolutions, found 30 of their 32 tensors" in message


def test_a_file_with_terminal_codes_in_its_name_leaves_none_in_the_record(
    folder: Path, tmp_path: Path
) -> None:
    path = tmp_path / "red\x1b[31m.h5"
    path.write_bytes((folder / "keras.h5").read_bytes())
    assert json.dumps(read_weights(path).metadata["source"]) == '"red?[31m.h5 (Keras HDF5 file)"'


def test_a_file_of_the_first_format_gets_the_name_that_its_weights_have(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    export_model(tmp_path / "model.onnx", source=folder / "keras.h5")
    model = read_model(tmp_path / "model.onnx")
    monkeypatch.setitem(known.KNOWN, model.metadata["weights.sha256"], recognised("a network"))
    first = {k: v for k, v in model.metadata.items() if k in ("source", "licence")}
    held = Pretrained.of_model(dataclasses.replace(model, metadata=first))
    assert held.metadata == {"network": "a network", **first}
