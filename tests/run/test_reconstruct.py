"""Reconstructions: a transfer with one of its two terms."""

from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from gramstyle import OptionError, Options, reconstruct_content, reconstruct_style
from gramstyle.core.arrays import Array
from gramstyle.core.objective import Objective
from gramstyle.model import Model
from gramstyle.run.plan import plan_run
from gramstyle.run.prepare import Prepared, prepare
from gramstyle.run.reconstruct import content_options, style_options


@pytest.fixture
def image(rng: np.random.Generator) -> Array:
    return rng.integers(0, 256, (24, 32, 3), np.uint8)


@pytest.fixture(autouse=True)
def model(tiny_model_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRAMSTYLE_MODEL", str(tiny_model_path))


def prepare_content(
    image: Array, layer: str, options: Options | None = None
) -> AbstractContextManager[Prepared]:
    return prepare(image, None, content_options(layer, options))


def prepare_style(
    image: Array, layers: tuple[str, ...], options: Options
) -> AbstractContextManager[Prepared]:
    return prepare(None, image, style_options(layers, options))


OPTIONS = Options(size=32, iterations=40, threads=2)


def responses(model: Model, image: Array, layer: str) -> Array:
    network = model.network.until([layer]).pooled_by("avg").astype(np.float64)
    return network.forward(model.preprocessing.forward(image.transpose(2, 0, 1).astype(float)))[
        layer
    ]


def test_a_content_reconstruction_has_the_images_responses_and_not_its_noise_start(
    image: Array, tiny_model: Model
) -> None:
    result = reconstruct_content(image, "conv1_2", replace(OPTIONS, padding="zeros"))
    P = responses(tiny_model, image, "conv1_2")
    noise = np.random.default_rng(0).uniform(0, 255, (3, 24, 32)).transpose(1, 2, 0)
    found, start = (
        np.sum((responses(tiny_model, np.asarray(x), "conv1_2") - P) ** 2)
        for x in (result.image, noise)
    )
    # Forty iterations bring the tiny network's loss to a thousandth; a tenth is asked for.
    assert found < 0.1 * start
    last = result.record.losses[result.record.best]
    # The image is rounded to whole grey levels, the record's loss is not.
    assert last.loss == last.terms["content"] == pytest.approx(found / 2, rel=0.2)
    assert set(last.terms) == {"content"}


def test_a_style_reconstruction_has_the_images_gram_matrices_and_its_shape(
    image: Array, tiny_model: Model
) -> None:
    result = reconstruct_style(image, ("conv1_1", "conv2_1"), OPTIONS)
    assert result.image.size == (32, 24)
    for layer in ("conv1_1", "conv2_1"):
        F, A = (
            responses(tiny_model, x, layer).reshape(-1, 24 * 32 // (1 if layer == "conv1_1" else 4))
            for x in (np.asarray(result.image), image)
        )
        G, A = F @ F.T, A @ A.T
        assert np.linalg.norm(G - A) < 0.1 * np.linalg.norm(A)
    last = result.record.losses[result.record.best]
    assert set(last.terms) == {"style"}
    style = last.layers["style"]
    assert last.loss == pytest.approx(0.5 * style["conv1_1"] + 0.5 * style["conv2_1"])


def test_a_reconstruction_starts_from_noise_of_its_seed_whatever_the_image(image: Array) -> None:
    noise = np.random.default_rng(7).uniform(0, 255, (3, 24, 32))
    seeded = replace(OPTIONS, seed=7)
    for preparing in (
        prepare_content(image, "conv3_1", seeded),
        prepare_style(image, ("conv3_1",), seeded),
    ):
        with preparing as prepared:
            np.testing.assert_array_equal(prepared.start, noise.astype(np.float32))


def test_the_same_seed_gives_the_same_image_on_any_number_of_threads(image: Array) -> None:
    one, two = (
        reconstruct_content(image, "conv2_1", replace(OPTIONS, iterations=5, threads=threads))
        for threads in (1, 2)
    )
    np.testing.assert_array_equal(np.asarray(one.image), np.asarray(two.image))


def test_the_other_term_leaves_no_trace_in_the_record(image: Array) -> None:
    content = plan_run(image, None, content_options("conv3_1", OPTIONS)).settings
    style = plan_run(None, image, style_options(("conv1_1",), OPTIONS)).settings
    assert content.styles == ()
    assert {name: loss.weight for name, loss in content.loss.items()} == {"content": 1.0}
    assert style.content is None
    assert {name: loss.weight for name, loss in style.loss.items()} == {"style": 1.0}


def test_the_network_is_cut_above_the_layer_that_is_looked_at(image: Array) -> None:
    with prepare_content(image, "conv2_2", OPTIONS) as prepared:
        assert prepared.objective.network.names[-1] == "conv2_2"
    with prepare_style(image, ("conv2_1", "conv1_1"), OPTIONS) as prepared:
        assert prepared.objective.network.names[-1] == "conv2_1"


@pytest.mark.parametrize(("content", "style", "init"), [(0, 1, "content"), (1, 0, "style")])
def test_a_start_that_is_not_there_is_refused(
    image: Array, content: int, style: int, init: str
) -> None:
    images = (image if content else None, image if style else None)
    with pytest.raises(OptionError, match=f"no {init} image to start from"):
        plan_run(*images, replace(OPTIONS, init=init))


def test_nothing_to_compare_with_is_refused(tiny_model: Model) -> None:
    with pytest.raises(OptionError, match="nothing to compare with"):
        plan_run(None, None, OPTIONS)
    with pytest.raises(OptionError, match="nothing to compare with"):
        Objective(
            network=tiny_model.network,
            preprocessing=tiny_model.preprocessing,
            terms=(),
            weights={},
        )
