"""Every VGG in every format, batch normalisation, and networks that the user describes."""

from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from scipy.signal import correlate2d

from gramstyle.core.arrays import Array
from gramstyle.core.network import Convolution, Pool
from gramstyle.errors import ModelError, OptionError
from gramstyle.model.architecture import (
    VGGS,
    Architecture,
    architecture_of,
    parse_architecture,
)
from gramstyle.model.export import export_model
from gramstyle.model.onnx_file import Model, read_model
from gramstyle.model.weights import read_weights
from h5_server import H5Server
from hostile_files import error_line
from weight_files import (
    Chain,
    chain,
    gatys_names,
    names_of,
    torchvision_names,
    write_caffe,
    write_keras,
    write_keras3,
    write_onnx,
    write_safetensors,
    write_torch_stream,
    write_torch_zip,
)

# The convolutions of each block, from table 1 of Simonyan and Zisserman.
COUNTS = {
    "VGG-11": (1, 1, 2, 2, 2),
    "VGG-13": (2, 2, 2, 2, 2),
    "VGG-16": (2, 2, 3, 3, 3),
    "VGG-19": (2, 2, 4, 4, 4),
}
# The indices of the convolutions in torchvision's networks, from their printed structure.
PLAIN = {
    "VGG-11": (0, 3, 6, 8, 11, 13, 16, 18),
    "VGG-13": (0, 2, 5, 7, 10, 12, 15, 17, 20, 22),
    "VGG-16": (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28),
    "VGG-19": (0, 2, 5, 7, 10, 12, 14, 16, 19, 21, 23, 25, 28, 30, 32, 34),
}
NORMALISED = {
    "VGG-11": (0, 4, 8, 11, 15, 18, 22, 25),
    "VGG-13": (0, 3, 7, 10, 14, 17, 21, 24, 28, 31),
    "VGG-16": (0, 3, 7, 10, 14, 17, 20, 24, 27, 30, 34, 37, 40),
    "VGG-19": (0, 3, 7, 10, 14, 17, 20, 23, 27, 30, 33, 36, 40, 43, 46, 49),
}
NARROW = {
    name: tuple((N,) * n for N, n in zip((2, 3, 4, 5, 6), counts, strict=True))
    for name, counts in COUNTS.items()
}


@pytest.fixture(autouse=True)
def narrow(monkeypatch: pytest.MonkeyPatch, h5_server: H5Server) -> None:
    """Make the VGGs narrow."""
    for name, blocks in NARROW.items():
        monkeypatch.setitem(VGGS, name, Architecture(blocks))


FORMATS: dict[str, Callable[[Path, Chain, str], None]] = {
    "torch.pth": lambda p, c, n: write_torch_zip(p, torchvision_names(c, PLAIN[n])),
    "old.pth": lambda p, c, n: write_torch_stream(p, gatys_names(c, names_of(NARROW[n]))),
    "keras.h5": lambda p, c, n: write_keras(p, c, names=names_of(NARROW[n])),
    "keras.weights.h5": lambda p, c, n: write_keras3(p, c, names=names_of(NARROW[n])),
    "unnamed.weights.h5": lambda p, c, n: write_keras3(
        p, c, named=False, names=names_of(NARROW[n])
    ),
    "timm.safetensors": lambda p, c, n: write_safetensors(p, torchvision_names(c, PLAIN[n])),
    "v2.caffemodel": lambda p, c, n: write_caffe(p, c, old=False, names=names_of(NARROW[n])),
    "zoo.onnx": lambda p, c, n: write_onnx(p, c, names=names_of(NARROW[n])),
}


def exported(source: Path, target: Path, network: str | None = None) -> Model:
    export_model(target, source=source, convention="caffe", network=network)
    return read_model(target)


def convolutions_of(model: Model) -> list[Convolution]:
    return [layer for layer in model.network.layers if isinstance(layer, Convolution)]


# The VGGs


@pytest.mark.parametrize("network", COUNTS)
@pytest.mark.parametrize("name", FORMATS)
def test_every_vgg_is_recognised_in_every_format(name: str, network: str, tmp_path: Path) -> None:
    # The name of the file says nothing.
    layers = chain(blocks=NARROW[network])
    FORMATS[name](tmp_path / name, layers, network)
    model = exported(tmp_path / name, tmp_path / "model.onnx")
    assert model.metadata["architecture"] == network
    expected: list[str] = []
    for block, count in enumerate(COUNTS[network], start=1):
        expected += [*(f"conv{block}_{k}" for k in range(1, count + 1)), f"pool{block}"]
    assert list(model.network.names) == expected
    for found, (W, b) in zip(convolutions_of(model), layers, strict=True):
        np.testing.assert_array_equal(found.W, W)
        np.testing.assert_array_equal(found.b, b)


def test_the_real_vggs_have_the_weights_of_the_paper(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    # torchvision's documentation counts the parameters; these are without the classifier's.
    parameters = {
        "VGG-11": 9_220_480, "VGG-13": 9_404_992, "VGG-16": 14_714_688, "VGG-19": 20_024_384,
    }  # fmt: skip
    for name, network in VGGS.items():
        shapes = [shape for *_, shape in network.convolutions()]
        assert sum(int(np.prod(shape)) + shape[0] for shape in shapes) == parameters[name]
        assert network.name == name


def test_a_deeper_network_is_no_prefix_of_another(tmp_path: Path) -> None:
    arrays = torchvision_names(chain(blocks=NARROW["VGG-16"]), PLAIN["VGG-16"])
    del arrays["features.28.weight"]
    write_torch_zip(tmp_path / "vgg16.pth", arrays)
    message = error_line(lambda: read_weights(tmp_path / "vgg16.pth"))
    assert "13 convolutions of VGG-16, found 12 and none for conv5_3 ('features.28" in message


# Other checkpoints


def test_a_resnet_in_the_name_of_a_vgg_is_refused_by_its_first_kernel(tmp_path: Path) -> None:
    arrays = {
        "conv1.weight": np.zeros((4, 3, 7, 7), np.float32),
        "bn1.running_mean": np.zeros(4, np.float32),
        "layer1.0.conv1.weight": np.zeros((4, 4, 3, 3), np.float32),
        "fc.weight": np.zeros((10, 4), np.float32),
    }
    write_torch_zip(tmp_path / "vgg16.pth", arrays)
    message = error_line(lambda: read_weights(tmp_path / "vgg16.pth"))
    assert "found 'conv1.weight' of shape (4, 3, 7, 7)" in message


def test_the_parts_of_a_resnet_are_not_several_networks(tmp_path: Path) -> None:
    arrays = {"conv1.weight": np.zeros((4, 3, 7, 7), np.float32)}
    for k in (2, 3):
        arrays[f"layer{k}.0.downsample.0.weight"] = np.zeros((4, 4, 1, 1), np.float32)
    write_torch_zip(tmp_path / "vgg16.pth", arrays)
    message = error_line(lambda: read_weights(tmp_path / "vgg16.pth"))
    assert "found 'conv1.weight' of shape (4, 3, 7, 7); is it another network?" in message


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("features.1.weight", (1,)),  # a PReLU
        ("features.1.weight", (2,)),  # a normalisation without running means
        ("features.4.fc.weight", (2, 2)),
    ],
)
@pytest.mark.parametrize("prefix", ["", "module."])
def test_a_vgg_with_another_layer_between_its_convolutions_is_refused(
    name: str, shape: tuple[int, ...], prefix: str, tmp_path: Path
) -> None:
    arrays = torchvision_names(chain(blocks=NARROW["VGG-11"]), PLAIN["VGG-11"])
    arrays |= {name: np.ones(shape, np.float32), "classifier.1.weight": np.ones(2, np.float32)}
    arrays = {prefix + key: array for key, array in arrays.items()}
    write_torch_zip(tmp_path / "m.pth", arrays)
    message = error_line(lambda: read_weights(tmp_path / "m.pth", convention="caffe"))
    assert f"running means in VGG-11, found '{prefix}{name}' of shape {shape}" in message


def test_a_vgg_with_a_prelu_of_caffes_name_is_refused(tmp_path: Path) -> None:
    names = names_of(NARROW["VGG-11"])
    arrays = gatys_names(chain(blocks=NARROW["VGG-11"]), names)
    arrays["relu3_1.weight"] = np.ones(2, np.float32)
    write_torch_zip(tmp_path / "m.pth", arrays)
    message = error_line(lambda: read_weights(tmp_path / "m.pth", convention="caffe"))
    assert "found 'relu3_1.weight' of shape (2,), as of a PReLU" in message


def test_an_alexnet_is_refused_by_the_shape_of_its_first_kernel(tmp_path: Path) -> None:
    shapes = {0: (64, 3, 11, 11), 3: (192, 64, 5, 5), 6: (384, 192, 3, 3), 8: (256, 384, 3, 3)}
    arrays = {
        f"features.{index}.weight": np.zeros((2, *shape[1:2], 3, 3), np.float32)
        if index
        else np.zeros((2, 3, 11, 11), np.float32)
        for index, shape in shapes.items()
    }
    write_torch_zip(tmp_path / "vgg11.pth", arrays)
    message = error_line(lambda: read_weights(tmp_path / "vgg11.pth"))
    assert "expected floats of shape (2, 3, 3, 3) for conv1_1 of VGG-11" in message
    assert "found float32 of shape (2, 3, 11, 11)" in message


# Batch normalisation


def normalisations(layers: Chain, seed: int = 5) -> list[dict[str, Array]]:
    """Random constants of a batch normalisation behind each convolution."""
    rng = np.random.default_rng(seed)
    return [
        {
            "weight": rng.normal(1, 0.5, len(b)).astype(np.float32),
            "bias": rng.normal(size=len(b)).astype(np.float32),
            "running_mean": rng.normal(size=len(b)).astype(np.float32),
            "running_var": rng.uniform(0.1, 3, len(b)).astype(np.float32),
        }
        for _, b in layers
    ]


def naive_forward(x: Array, layers: Chain, norms: list[dict[str, Array]]) -> Array:
    """Return the responses of convolutions in float64, each with its normalisation and ReLU."""
    F = x
    for (W, b), norm in zip(layers, norms, strict=True):
        Z = np.stack(
            [
                sum(correlate2d(F[c], W[n, c].astype(float), "same") for c in range(len(F))) + b[n]
                for n in range(len(b))
            ]
        )
        mean, variance = norm["running_mean"].astype(float), norm["running_var"].astype(float)
        Z = (Z - mean[:, None, None]) / np.sqrt(variance + 1e-5)[:, None, None]
        Z = norm["weight"].astype(float)[:, None, None] * Z
        F = np.maximum(Z + norm["bias"].astype(float)[:, None, None], 0)
    return F


@pytest.mark.parametrize("network", COUNTS)
@pytest.mark.parametrize("prefix", ["", "state_dict.module."])
def test_batch_normalisation_is_folded_into_the_convolutions(
    network: str, prefix: str, tmp_path: Path
) -> None:
    layers = chain(blocks=NARROW[network])
    norms = normalisations(layers)
    arrays = torchvision_names(layers, NORMALISED[network])
    for index, norm in zip(NORMALISED[network], norms, strict=True):
        arrays |= {f"features.{index + 1}.{part}": array for part, array in norm.items()}
    arrays = {prefix + name: array for name, array in arrays.items()}
    arrays[f"{prefix}classifier.1.running_mean"] = np.zeros(3, np.float32)
    write_torch_zip(tmp_path / "m.pth", arrays)
    model = exported(tmp_path / "m.pth", tmp_path / "m.onnx")
    assert model.metadata["architecture"] == network
    assert model.metadata["batch.normalisation"] == "folded into the convolutions"

    block = len(NARROW[network][0])  # without a pooling in between
    x = np.random.default_rng(1).normal(size=(3, 9, 7))
    folded = model.network.until([f"conv1_{block}"]).astype(np.float64)
    F = folded.forward(x)[f"conv1_{block}"]
    np.testing.assert_allclose(F, naive_forward(x, layers[:block], norms[:block]), rtol=2e-6,
                               atol=2e-6)  # fmt: skip

    # The note stays when the model file is exported again.
    again = exported(tmp_path / "m.onnx", tmp_path / "again.onnx")
    assert again.metadata["batch.normalisation"] == model.metadata["batch.normalisation"]


def with_norms(edit: Callable[[dict[str, Array]], object]) -> dict[str, Array]:
    layers = chain(blocks=NARROW["VGG-11"])
    arrays = torchvision_names(layers, NORMALISED["VGG-11"])
    for index, norm in zip(NORMALISED["VGG-11"], normalisations(layers), strict=True):
        arrays |= {f"features.{index + 1}.{part}": array for part, array in norm.items()}
    edit(arrays)
    return arrays


def test_convolutions_without_biases_and_normalisations_without_constants_are_read(
    tmp_path: Path,
) -> None:
    def edit(arrays: dict[str, Array]) -> None:
        for index in NORMALISED["VGG-11"]:
            del arrays[f"features.{index}.bias"]
            del arrays[f"features.{index + 1}.weight"], arrays[f"features.{index + 1}.bias"]

    arrays = with_norms(edit)
    write_torch_zip(tmp_path / "m.pth", arrays)
    first = read_weights(tmp_path / "m.pth", convention="caffe").convolutions[0]
    s = 1 / np.sqrt(arrays["features.1.running_var"].astype(float) + 1e-5)
    W = arrays["features.0.weight"] * s[:, None, None, None]
    # The folded weights are rounded to float32.
    np.testing.assert_allclose(first.W, W, rtol=1e-6)
    np.testing.assert_allclose(first.b, -arrays["features.1.running_mean"] * s, rtol=1e-6)


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (lambda a: a.pop("features.5.running_mean"), "no 'features.5.running_mean'"),
        (lambda a: a.pop("features.5.running_var"), "no 'features.5.running_var'"),
        (
            lambda a: a.update({"features.5.weight": np.ones(9, np.float32)}),
            "shape (3,) for the batch normalisation of conv2_1, found float32 of shape (9,)",
        ),
        (
            lambda a: a.update({"features.1.running_var": np.full(2, -1, np.float32)}),
            "variances and ε of 0 or more in the batch normalisation of conv1_1",
        ),
        (
            lambda a: a.update({"features.1.running_var": np.full(2, -5e-6, np.float32)}),
            "variances and ε of 0 or more in the batch normalisation of conv1_1",
        ),
        (
            lambda a: a.update({"features.5.running_var": np.full(3, np.inf, np.float32)}),
            "finite numbers for the variance of the batch normalisation of conv2_1",
        ),
        (lambda a: a.pop("features.5.weight"), "found no 'features.5.weight'; is the file comp"),
        (lambda a: a.pop("features.5.bias"), "found no 'features.5.bias'; is the file complete"),
    ],
)
def test_a_batch_normalisation_that_does_not_fit_is_refused(
    edit: Callable[[dict[str, Array]], object], words: str, tmp_path: Path
) -> None:
    write_torch_zip(tmp_path / "m.pth", with_norms(edit))
    assert words in error_line(lambda: read_weights(tmp_path / "m.pth", convention="caffe"))


def test_batch_normalisation_of_another_name_is_refused(tmp_path: Path) -> None:
    names = names_of(NARROW["VGG-11"])
    arrays = gatys_names(chain(blocks=NARROW["VGG-11"]), names)
    arrays |= {f"norm{name}.running_mean": np.zeros(2, np.float32) for name in names}
    write_torch_zip(tmp_path / "m.pth", arrays)
    message = error_line(lambda: read_weights(tmp_path / "m.pth", convention="caffe"))
    assert "found 'norm1_1'; export the network as ONNX" in message


def test_batch_normalisation_in_a_keras_file_is_refused(tmp_path: Path) -> None:
    path, names = tmp_path / "m.h5", names_of(NARROW["VGG-11"])
    write_keras(path, chain(blocks=NARROW["VGG-11"]), names=names)
    with h5py.File(path, "a") as file:
        file["head/moving_mean:0"] = np.zeros(2, np.float32)
    assert len(read_weights(path).convolutions) == 8  # a classifier's is ignored
    with h5py.File(path, "a") as file:
        for name in names:
            file[f"bn{name}/moving_mean:0"] = np.zeros(2, np.float32)
    message = error_line(lambda: read_weights(path))
    assert "expected no batch normalisation in Keras' files, found '/" in message


# Networks of the user


OWN = ((3, 4), (5,), (4, 4, 6))
DESCRIPTION = "3,4,pool,5,pool,4,4,6"


@pytest.mark.parametrize(
    ("names", "other"),
    [
        (["0", "2", "5", "8", "10", "12"], "1.weight"),
        (["conv1", "conv2", "conv3", "conv4", "conv5", "conv6"], "act1.weight"),
    ],
)
def test_a_described_network_with_a_prelu_is_refused(
    names: list[str], other: str, tmp_path: Path
) -> None:
    layers = chain(blocks=OWN)
    arrays = {f"{name}.weight": W for name, (W, _) in zip(names, layers, strict=True)}
    arrays[other] = np.ones(1, np.float32)
    write_torch_zip(tmp_path / "m.pth", arrays)
    message = error_line(
        lambda: read_weights(tmp_path / "m.pth", convention="caffe", network=DESCRIPTION)
    )
    assert f"found '{other}' of shape (1,), as of a PReLU" in message


@pytest.mark.parametrize(
    "names",
    [
        ["0", "2", "5", "8", "10", "12"],
        ["body.conv1", "body.conv2", "body.conv3", "body.conv4", "body.conv5", "body.conv10"],
        ["1_1", "1_2", "2_1", "3_1", "3_2", "3_3"],
    ],
)
@pytest.mark.parametrize("write", [write_torch_zip, write_safetensors])
def test_a_described_network_is_read_in_the_order_of_the_numbers(
    write: Callable[[Path, dict[str, Array]], None], names: list[str], tmp_path: Path
) -> None:
    layers = chain(blocks=OWN)
    arrays = {f"{name}.weight": W for name, (W, _) in zip(names, layers, strict=True)}
    arrays |= {f"{name}.bias": b for name, (_, b) in zip(names[1:], layers[1:], strict=True)}
    arrays["head.weight"] = np.zeros((10, 6), np.float32)
    write(tmp_path / "m", dict(reversed(arrays.items())))
    model = exported(tmp_path / "m", tmp_path / "m.onnx", DESCRIPTION)
    assert model.network.names == (
        "conv1_1", "conv1_2", "pool1", "conv2_1", "pool2", "conv3_1", "conv3_2", "conv3_3", "pool3",
    )  # fmt: skip
    assert model.metadata["architecture"] == f"{DESCRIPTION},pool"
    found = convolutions_of(model)
    for convolution, (W, b) in zip(found[1:], layers[1:], strict=True):
        np.testing.assert_array_equal(convolution.W, W)
        np.testing.assert_array_equal(convolution.b, b)
    np.testing.assert_array_equal(found[0].b, np.zeros(3))  # it has no biases


def own_arrays() -> dict[str, Array]:
    names = ["0", "2", "5", "8", "10", "12"]
    return {
        f"{name}.{part}": array
        for name, arrays in zip(names, chain(blocks=OWN), strict=True)
        for part, array in zip(("weight", "bias"), arrays, strict=True)
    }


@pytest.mark.parametrize(
    ("description", "edit", "words"),
    [
        ("3,4,pool,5,pool,4,4", {}, "found another one, '12.weight'"),
        (f"{DESCRIPTION},pool,7", {}, "the 7 convolutions of the network, found 6"),
        ("3,5,pool,5,pool,4,4,6", {}, "(5, 3, 3, 3) for conv1_2 of the network"),
        (DESCRIPTION, {"5.weight": np.zeros((5, 4, 5, 5))}, "shape (5, 4, 5, 5) ('5.weight')"),
        (
            DESCRIPTION,
            {"stem.weight": np.zeros((3, 3, 3, 3))},
            "names differ in numbers only, found '0.weight' and 'stem.weight'",
        ),
        (DESCRIPTION, {"1.running_mean": np.zeros(3)}, "behind each convolution or none"),
        ("vgg16", {}, "for conv1_1 of VGG-16, found"),
    ],
)
def test_a_network_that_differs_from_its_description_is_refused(
    description: str, edit: dict[str, Array], words: str, tmp_path: Path
) -> None:
    edit = {name: array.astype(np.float32) for name, array in edit.items()}
    write_torch_zip(tmp_path / "m.pth", own_arrays() | edit)
    message = error_line(
        lambda: read_weights(tmp_path / "m.pth", convention="caffe", network=description)
    )
    assert words in message


def test_a_described_network_may_have_batch_normalisation(tmp_path: Path) -> None:
    layers = chain(blocks=((3, 4),))
    norms = normalisations(layers)
    arrays = {"0.weight": layers[0][0], "3.weight": layers[1][0]}
    for index, norm in zip((1, 4), norms, strict=True):
        arrays |= {f"{index}.{part}": array for part, array in norm.items()}
    write_torch_zip(tmp_path / "m.pth", arrays)
    model = exported(tmp_path / "m.pth", tmp_path / "m.onnx", "3,4")
    x = np.random.default_rng(1).normal(size=(3, 6, 5))
    F = model.network.until(["conv1_2"]).astype(np.float64).forward(x)["conv1_2"]
    without = [(W, np.zeros(len(W))) for W, _ in layers]
    # The folded weights are rounded to float32.
    np.testing.assert_allclose(F, naive_forward(x, without, norms), rtol=2e-6, atol=2e-6)


@pytest.mark.parametrize("text", ["VGG-16", "vgg16", " Vgg-16 "])
def test_a_vgg_has_several_spellings(text: str) -> None:
    assert parse_architecture(text) == Architecture(NARROW["VGG-16"])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "--network must be VGG-11, VGG-13, VGG-16, VGG-19, or the filters"),
        ("vgg17", "did you mean VGG-1"),
        ("resnet", "not 'resnet'"),
        ("pool,3", "a pooling must follow a convolution"),
        ("3,pool,pool,4", "a pooling must follow a convolution"),
        ("3,x", "'x' is neither a number of filters (1 to 8192) nor pool"),
        ("3,0", "'0' is neither"),
        ("3,-4", "'-4' is neither"),
        ("3,99999", "'99999' is neither"),
        (",".join(["3"] * 201), "at most 200 convolutions"),
        ("3,pool," * 21 + "3", "20 poolings"),
    ],
)
def test_a_description_that_says_nothing_is_refused(text: str, words: str) -> None:
    with pytest.raises(OptionError) as caught:
        parse_architecture(text)
    assert words in str(caught.value)
    assert str(caught.value).isprintable()
    assert "\n" not in str(caught.value)


def test_a_name_is_read_back_as_the_same_architecture() -> None:
    for blocks in (*NARROW.values(), OWN, ((8192,),)):
        assert parse_architecture(Architecture(blocks).name) == Architecture(blocks)


def test_a_stated_architecture_that_differs_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "zoo.onnx"
    write_onnx(path, chain(blocks=NARROW["VGG-16"]), names=names_of(NARROW["VGG-16"]))
    with pytest.raises(ModelError, match="expected VGG-19, found VGG-16; leave --network out"):
        read_weights(path, convention="caffe", network="VGG-19")


def test_an_own_network_in_onnx_needs_no_description(tmp_path: Path) -> None:
    layers = chain(blocks=OWN)
    write_onnx(tmp_path / "m.onnx", layers, names=names_of(OWN))
    model = exported(tmp_path / "m.onnx", tmp_path / "model.onnx")
    assert architecture_of(convolutions_of(model)).blocks == OWN
    assert sum(isinstance(layer, Pool) for layer in model.network.layers) == 3
