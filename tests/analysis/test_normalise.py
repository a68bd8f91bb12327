"""The normalised network, whose filters have a mean activation of 1."""

import dataclasses
import hashlib
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from gramstyle.analysis.normalise import (
    MeasureOptions,
    MeasureProgress,
    find_images,
    mean_activations,
    normalise,
    rescaled,
)
from gramstyle.core.network import Convolution, Network, Pool
from gramstyle.errors import ImageError, ModelError, OptionError
from gramstyle.model.known import weights_hash
from gramstyle.model.onnx_file import Model, read_model, write_model
from gramstyle.model.pretrained import Pretrained

# ONNX Runtime's float32 responses against the float64 forward pass, fifteen layers deep.
FLOAT32 = 1e-4


def convolutions(network: Network) -> list[Convolution]:
    return [layer for layer in network.layers if isinstance(layer, Convolution)]


def with_weights(network: Network, changed: list[Convolution]) -> Network:
    by_name = {c.name: c for c in changed}
    return Network(tuple(by_name.get(layer.name, layer) for layer in network.layers))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images of several sizes, some of them in a subfolder."""
    folder = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(5)
    (folder / "below").mkdir()
    for name, (height, width) in {
        "b.png": (48, 33),
        "a.png": (40, 80),
        "below/c.png": (64, 64),
    }.items():
        pixels = rng.integers(0, 256, (height, width, 3), np.uint8)
        PIL.Image.fromarray(pixels).save(folder / name)
    return folder


def responses_in_float64(
    model: Model, images: list[Path], pooling: str
) -> list[dict[str, np.ndarray]]:
    network = model.network.pooled_by(pooling).astype(np.float64)
    every = []
    for path in images:
        x = np.asarray(PIL.Image.open(path), np.float64).transpose(2, 0, 1)
        every.append(network.forward(model.preprocessing.forward(x)))
    return every


# The means


@pytest.mark.parametrize("pooling", ["max", "avg"])
def test_means_are_over_all_positions_of_all_images(
    tiny_model: Model, folder: Path, pooling: str
) -> None:
    images = find_images([folder])
    means = mean_activations(tiny_model, images, MeasureOptions(pooling=pooling))
    every = responses_in_float64(tiny_model, images, pooling)
    for layer in convolutions(tiny_model.network):
        flat = [F[layer.name].reshape(len(layer.b), -1) for F in every]
        expected = np.concatenate(flat, axis=1).mean(axis=1)
        assert means.by_layer[layer.name].dtype == np.float64
        np.testing.assert_allclose(
            means.by_layer[layer.name], expected, rtol=FLOAT32, atol=FLOAT32 * expected.max()
        )
    assert means.images == 3


def test_the_hash_of_the_images_is_independent_of_their_order(
    tiny_model: Model, folder: Path
) -> None:
    images = find_images([folder])
    digests = sorted(hashlib.sha256(path.read_bytes()).digest() for path in images)
    expected = hashlib.sha256(b"".join(digests)).hexdigest()
    for order in (images, images[::-1]):
        assert mean_activations(tiny_model, order).sha256 == expected
    assert mean_activations(tiny_model, images[:2]).sha256 != expected


def test_large_images_are_reduced_and_small_ones_are_not(
    tiny_model: Model, folder: Path, tmp_path: Path
) -> None:
    large = PIL.Image.open(folder / "a.png")
    large.resize((48, 24), PIL.Image.Resampling.LANCZOS).save(tmp_path / "small.png")
    options = MeasureOptions(size=48)
    of_small = mean_activations(tiny_model, [tmp_path / "small.png"], options).by_layer["conv1_1"]
    of_large = mean_activations(tiny_model, [folder / "a.png"], options).by_layer["conv1_1"]
    unshrunk = mean_activations(tiny_model, [folder / "a.png"]).by_layer["conv1_1"]
    # Pillow rounds the small image to whole grey levels.
    np.testing.assert_allclose(of_large, of_small, rtol=0.01)
    assert np.abs(unshrunk / of_small - 1).max() > 0.1


def test_unusable_images_are_left_out_and_reported(
    tiny_model: Model, folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "damaged.png").write_bytes((folder / "a.png").read_bytes()[:100])
    PIL.Image.new("RGB", (15, 200)).save(tmp_path / "narrow.png")
    images = [tmp_path / "damaged.png", tmp_path / "narrow.png", folder / "a.png"]
    reports: list[MeasureProgress] = []
    means = mean_activations(tiny_model, images, callback=reports.append)
    assert [report.done for report in reports] == [1, 2, 3]
    assert [report.problem is None for report in reports] == [False, False, True]
    assert "damaged.png" in str(reports[0].problem)
    assert "too small" in str(reports[1].problem)
    alone = mean_activations(tiny_model, [folder / "a.png"])
    assert (means.images, means.sha256) == (1, alone.sha256)
    np.testing.assert_array_equal(means.by_layer["conv3_2"], alone.by_layer["conv3_2"])


def test_no_usable_images_give_one_line(tiny_model: Model, tmp_path: Path) -> None:
    (tmp_path / "x.png").write_bytes(b"no image")
    with pytest.raises(ImageError, match=r"none of 1 images can be used.*x\.png"):
        mean_activations(tiny_model, [tmp_path / "x.png"])
    with pytest.raises(ImageError, match="none of 0 images can be used"):
        mean_activations(tiny_model, [])


@pytest.mark.parametrize(
    "options", [{"size": 0}, {"pooling": "sum"}, {"threads": 0}], ids=lambda o: next(iter(o))
)
def test_invalid_options_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(OptionError, match=f"{next(iter(options))} must be"):
        MeasureOptions(**options)


def test_a_size_that_exceeds_the_memory_is_refused(
    tiny_model: Model, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.sysconf", lambda name: {"SC_PAGE_SIZE": 4096}.get(name, 1000))
    with pytest.raises(OptionError, match=r"80×40 pixels takes about .* GB.*--size"):
        mean_activations(tiny_model, [folder / "a.png"])


# Images


def test_folders_are_searched_in_order_without_hidden_and_other_files(tmp_path: Path) -> None:
    for name in ("2.JPG", "1.png", ".hidden.png", "notes.txt", "z/3.webp"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    found = find_images([tmp_path])
    assert [path.relative_to(tmp_path).as_posix() for path in found] == [
        "1.png",
        "2.JPG",
        "z/3.webp",
    ]


def test_an_image_given_twice_counts_once(tmp_path: Path) -> None:
    (tmp_path / "a.png").touch()
    (tmp_path / "odd.name").touch()
    twice = [tmp_path / "a.png", tmp_path, tmp_path / "odd.name", tmp_path / "z" / ".." / "a.png"]
    (tmp_path / "z").mkdir()
    assert find_images(twice) == [tmp_path / "a.png", tmp_path / "odd.name"]


def test_missing_paths_and_empty_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"no image or folder .*missing"):
        find_images([tmp_path / "missing"])
    with pytest.raises(ImageError, match="no images in the given folders"):
        find_images([tmp_path])


# The rescaled network


@pytest.mark.parametrize("pooling", ["max", "avg"])
def test_the_rescaled_networks_responses_are_the_originals_divided_by_the_means(
    tiny_model: Model, rng: np.random.Generator, pooling: str
) -> None:
    network = tiny_model.network.pooled_by(pooling)
    means = {c.name: rng.uniform(0.01, 100, len(c.b)) for c in convolutions(network)}
    other = with_weights(network, rescaled(convolutions(network), means)).astype(np.float64)
    v = 100 * rng.standard_normal((3, 40, 48))
    F = network.astype(np.float64).forward(v)
    scaled = other.forward(v)
    above = ""
    for layer in network.layers:
        above = layer.name if isinstance(layer, Convolution) else above
        expected = F[layer.name] / means[above][:, None, None]
        # Weights are rounded to float32 again: 6e-8 per layer, added up over sixteen layers.
        np.testing.assert_allclose(
            scaled[layer.name], expected, rtol=1e-5, atol=1e-5 * expected.max()
        )


@pytest.mark.parametrize("pooling", ["max", "avg"])
def test_every_filter_of_the_normalised_network_has_mean_1_over_the_images(
    tiny_model: Model, folder: Path, tmp_path: Path, pooling: str
) -> None:
    images = find_images([folder])
    options = MeasureOptions(pooling=pooling)
    means = mean_activations(tiny_model, images, options)
    result = normalise(Pretrained.from_model(tiny_model), means)
    write_model(
        tmp_path / "normalised.onnx",
        result.convolutions,
        result.preprocessing,
        precision="float32",
        metadata=result.metadata,
    )
    model = read_model(tmp_path / "normalised.onnx")
    for name, mean in mean_activations(model, images, options).by_layer.items():
        alive = means.by_layer[name] > 0
        assert alive.any()
        np.testing.assert_allclose(mean[alive], 1, rtol=FLOAT32)
        np.testing.assert_array_equal(mean[~alive], 0)
    assert model.metadata["normalised.images"] == "3"
    assert model.metadata["normalised.sha256"] == means.sha256
    assert model.metadata["normalised.size"] == "512"
    assert model.metadata["normalised.pooling"] == pooling
    assert model.metadata["weights.sha256"] == weights_hash(convolutions(model.network))


def test_a_network_with_other_poolings_is_refused(tiny_model: Model) -> None:
    moved = Network((*tiny_model.network.layers[:2], *tiny_model.network.layers[3:]))
    with pytest.raises(ModelError, match="with a poolB after each, found conv1_1"):
        Pretrained.from_model(dataclasses.replace(tiny_model, network=moved))


def test_a_filter_that_never_responds_is_not_rescaled(tiny_model: Model) -> None:
    chain = convolutions(tiny_model.network)
    means = {c.name: np.ones(len(c.b)) for c in chain}
    means["conv1_1"][1] = 0
    for before, after in zip(chain, rescaled(chain, means), strict=True):
        np.testing.assert_array_equal(after.W, before.W)
        np.testing.assert_array_equal(after.b, before.b)


def test_a_mean_that_is_too_small_for_float32_is_refused(tiny_model: Model) -> None:
    chain = convolutions(tiny_model.network)
    means = {c.name: np.ones(len(c.b)) for c in chain}
    means["conv2_1"][0] = 1e-60
    with pytest.raises(ModelError, match="conv2_1 responds too weakly"):
        rescaled(chain, means)


def test_poolings_are_homogeneous(rng: np.random.Generator) -> None:
    F = rng.standard_normal((2, 6, 8))
    scale = np.array([3.0, 0.5])[:, None, None]
    for kind in ("max", "avg"):
        pool = Network((Pool("pool", kind),))
        np.testing.assert_allclose(pool.forward(scale * F)["pool"], scale * pool.forward(F)["pool"])
