"""The comparison of networks: equal, rounded, rescaled, quantised, or different."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from gramstyle.analysis.compare import compare_models, sample_image
from gramstyle.analysis.normalise import rescaled
from gramstyle.core.network import Convolution
from gramstyle.core.preprocessing import Preprocessing
from gramstyle.errors import ImageError, ModelError
from gramstyle.images import Image
from gramstyle.model.onnx_file import Model, read_model, write_model
from gramstyle.model.preprocessings import CAFFE


def convolutions(model: Model) -> list[Convolution]:
    return [layer for layer in model.network.layers if isinstance(layer, Convolution)]


def saved(
    folder: Path, layers: Sequence[Convolution], preprocessing: Preprocessing = CAFFE
) -> Model:
    path = folder / "other.onnx"
    write_model(path, layers, preprocessing, precision="float32", metadata={})
    return read_model(path)


def test_a_network_equals_itself(tiny_model: Model) -> None:
    comparison = compare_models(tiny_model, tiny_model)
    assert comparison.verdict == "the same network: all weights and biases are equal"
    assert [layer.name for layer in comparison.layers] == [c.name for c in convolutions(tiny_model)]
    for layer in comparison.layers:
        assert (layer.weights, layer.biases, layer.responses) == (0, 0, 0)
        assert layer.directions < 1e-7  # the root of float64's rounding of 1 - cos²


def test_differences_are_relative_and_local(tiny_model: Model, tmp_path: Path) -> None:
    layers = convolutions(tiny_model)
    changed = layers[5]
    layers[5] = Convolution(changed.name, changed.W * np.float32(1.5), changed.b * np.float32(2))
    comparison = compare_models(tiny_model, saved(tmp_path, layers))
    for k, layer in enumerate(comparison.layers):
        # W · 1.5 is rounded once to float32.
        assert layer.weights == pytest.approx(0.5 if k == 5 else 0, abs=1e-6)
        assert layer.biases == (1 if k == 5 else 0)
        assert (layer.responses > 0.01) == (k >= 5)
    assert comparison.verdict.startswith("another network: responses differ by up to")


def test_responses_are_those_of_the_session(
    tiny_model: Model, tmp_path: Path, rng: np.random.Generator
) -> None:
    layers = [Convolution(c.name, c.W, c.b + np.float32(0.1)) for c in convolutions(tiny_model)]
    other = saved(tmp_path, layers)
    image = Image(rng.uniform(0, 255, (32, 40, 3)).astype(np.float32))
    x = image.pixels.transpose(2, 0, 1).astype(np.float64)
    F_a, F_b = (
        m.network.astype(np.float64).forward(m.preprocessing.forward(x))
        for m in (tiny_model, other)
    )
    for layer in compare_models(tiny_model, other, image).layers:
        A, B = F_a[layer.name], F_b[layer.name]
        expected = np.linalg.norm(B - A) / np.linalg.norm(A)
        assert layer.responses == pytest.approx(expected, rel=1e-3)  # float32 responses


def test_rescaled_filters_are_recognised(
    tiny_model: Model, tmp_path: Path, rng: np.random.Generator
) -> None:
    layers = convolutions(tiny_model)
    means = {c.name: rng.uniform(0.1, 10, len(c.b)) for c in layers}
    comparison = compare_models(tiny_model, saved(tmp_path, rescaled(layers, means)))
    assert comparison.verdict == "the same network with its filters rescaled"
    assert max(layer.responses for layer in comparison.layers) > 0.1


def test_the_first_layer_may_be_converted_to_another_preprocessing(
    tiny_model: Model, tmp_path: Path
) -> None:
    first, *rest = convolutions(tiny_model)
    turned = Convolution(first.name, first.W[:, ::-1] * np.float32(255), first.b)
    seen = Preprocessing(channels="RGB", mean=CAFFE.mean[::-1], scale=(1 / 255,) * 3)
    comparison = compare_models(tiny_model, saved(tmp_path, [turned, *rest], seen))
    assert comparison.layers[0].weights < 1e-6  # rounding of the product with 255
    assert comparison.verdict.startswith("the same network except for rounding")


@pytest.mark.parametrize(
    ("noise", "verdict"),
    [(1e-7, "the same network except for rounding"), (3e-3, "nearly the same network")],
)
def test_the_verdict_follows_the_size_of_the_differences(
    noise: float, verdict: str, tiny_model: Model, tmp_path: Path, rng: np.random.Generator
) -> None:
    def shaken(W: np.ndarray) -> np.ndarray:
        return (W * (1 + noise * rng.standard_normal(W.shape))).astype(np.float32)

    layers = [Convolution(c.name, shaken(c.W), c.b) for c in convolutions(tiny_model)]
    assert compare_models(tiny_model, saved(tmp_path, layers)).verdict.startswith(verdict)


def test_a_silent_filter_is_a_difference_only_if_the_other_responds(
    tiny_model: Model, tmp_path: Path
) -> None:
    first, *rest = convolutions(tiny_model)
    silent = Convolution(first.name, first.W.copy(), first.b.copy())
    silent.W[2], silent.b[2] = 0, -1
    other = saved(tmp_path, [silent, *rest])
    assert compare_models(other, other).layers[0].directions < 1e-7
    # One of four filters is at a right angle: the root of the mean of 1, 0, 0, 0.
    assert compare_models(tiny_model, other).layers[0].directions == pytest.approx(0.5, abs=1e-6)


def test_the_error_for_another_architecture_names_both(tiny_model: Model, tmp_path: Path) -> None:
    shorter = saved(tmp_path, convolutions(tiny_model)[:-1])
    with pytest.raises(ModelError, match=r"conv5_4 is 8×8×3×3 in .*tiny\.onnx and missing in"):
        compare_models(tiny_model, shorter)


def test_an_image_that_is_too_small_is_refused(tiny_model: Model) -> None:
    with pytest.raises(ImageError, match="too small"):
        compare_models(tiny_model, tiny_model, Image(np.zeros((8, 8, 3), np.float32)))


def test_the_sample_image_is_reproducible_and_has_all_colours() -> None:
    one, two = sample_image(), sample_image()
    np.testing.assert_array_equal(one.pixels, two.pixels)
    assert one.pixels.shape == (256, 256, 3)
    assert one.pixels.std(axis=(0, 1)).min() > 20
