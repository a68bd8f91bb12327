"""Textures: their size and scales, the joint of their edges, and what is refused."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest

from gramstyle import OptionError, Options, reconstruct_style, texture
from gramstyle.core.arrays import Array
from gramstyle.images import Image
from gramstyle.run.inputs import Canvas
from gramstyle.run.plan import RunPlan
from gramstyle.run.prepare import RunResources
from gramstyle.run.prepare.starts import image_of_iterate
from gramstyle.run.texture import plan_texture

Make = Callable[..., RunPlan]
# The order of sums in float32, where some ReLUs flip.
FLOAT32 = 5e-3


@pytest.fixture
def painting(rng: np.random.Generator) -> Array:
    return rng.integers(0, 256, (60, 90, 3)).astype(np.uint8)


@pytest.fixture
def planned(painting: Array, tiny_model_path: Path) -> Make:
    def plan(size: Any, *, tileable: bool = False, **given: Any) -> RunPlan:
        options = Options(**{"engine": "numpy", **given})
        return plan_texture(painting, size, options, tileable=tileable, model=tiny_model_path)

    return plan


def sizes(plan: RunPlan) -> list[tuple[int, int]]:
    return [(scale.width, scale.height) for scale in plan.scales]


def test_the_scales_have_the_shape_of_the_texture(planned: Make) -> None:
    assert sizes(planned((240, 160), scales=2)) == [(170, 113), (240, 160)]
    assert sizes(planned((100, 300), scales=1)) == [(100, 300)]
    assert sizes(planned((64, 64))) == [(64, 64)]
    assert len(planned((256, 256)).scales) > 1


def test_each_scale_of_a_tileable_texture_has_multiples_of_16_pixels(planned: Make) -> None:
    assert sizes(planned((256, 192), tileable=True, scales=3)) == [
        (128, 96), (176, 128), (256, 192)
    ]  # fmt: skip
    # Style layers of the first two blocks have one pooling.
    few = planned((130, 70), tileable=True, style_layers=("conv1_1", "conv2_1"), scales=2)
    assert sizes(few) == [(92, 50), (130, 70)]


def test_a_tileable_texture_has_circular_padding_and_the_style_the_size_of_its_longer_edge(
    planned: Make,
) -> None:
    plan = planned((96, 128), tileable=True)
    assert plan.settings.options["padding"] == "circular"
    assert plan.settings.options["size"] == 128
    assert plan.settings.content is None
    (style,) = plan.settings.styles
    assert (style.width, style.height) == (128, 80)  # which wraps, too
    assert planned((96, 128)).settings.options["padding"] == Options().pads


@pytest.mark.parametrize(
    ("size", "given", "words"),
    [
        ((500, 512), {}, "need multiples of 16; the next larger size is 512x512"),
        ((33, 17), {"style_layers": ("conv3_1",)}, "multiples of 4; the next larger size is 36x20"),
        ((64, 64), {"padding": "reflect"}, "has circular padding, not reflect; leave one"),
        ((0, 64), {}, "at least"),
    ],
)
def test_what_has_a_seam_is_refused_in_one_line(
    size: tuple[int, int], given: dict[str, Any], words: str, planned: Make
) -> None:
    with pytest.raises(OptionError) as caught:
        planned(size, tileable=True, **given)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_texture_without_joined_edges_may_have_any_size(planned: Make) -> None:
    assert sizes(planned((77, 50))) == [(77, 50)]


def test_the_loss_of_a_tileable_texture_moves_with_it(planned: Make) -> None:
    plan = planned((64, 48), tileable=True, style_loss="mean-std", tv=10.0)
    with RunResources(plan) as resources, resources.prepare(0) as prepared:
        x = prepared.start
        expected = prepared.loss_and_gradient(x)
        gradient = np.roll(expected.gradient, (16, 32), axis=(1, 2))
        found = prepared.loss_and_gradient(np.roll(x, (16, 32), axis=(1, 2)))
    assert found.loss == pytest.approx(expected.loss, rel=1e-5)
    assert np.linalg.norm(found.gradient - gradient) < FLOAT32 * np.linalg.norm(gradient)


def enlarged(x: Array, width: int, height: int, **given: Any) -> Array:
    image: Image = image_of_iterate(x, Canvas(width, height), Options(**given))
    return image.pixels.transpose(2, 0, 1)


@pytest.mark.parametrize(
    ("before", "after", "shift", "moved"),
    [
        ((32, 48), (48, 64), (2, 3), (3, 4)),
        ((16, 16), (32, 32), (5, 7), (10, 14)),
        ((3, 5), (4, 8), (3, 5), (0, 0)),  # no common divisor: a whole turn
    ],
)
def test_the_start_of_the_next_scale_is_enlarged_around_the_edges(
    before: Any, after: Any, shift: Any, moved: Any, rng: np.random.Generator
) -> None:
    x = rng.uniform(0, 255, (3, *before))
    size = {"width": after[1], "height": after[0], "padding": "circular"}
    expected = np.roll(enlarged(x, **size), moved, axis=(1, 2))
    found = enlarged(np.roll(x, shift, axis=(1, 2)), **size)
    assert found.shape == (3, *after)
    # Float32 sums of a dozen pixels; their order is the same at every place.
    np.testing.assert_allclose(found, expected, atol=1e-3)
    plain = enlarged(x, width=after[1], height=after[0])
    inside = (
        slice(None),
        slice(after[0] // 3, -(after[0] // 3)),
        slice(after[1] // 3, after[1] // 2),
    )
    if min(before) >= 16:  # far from the edges, the padding does not matter
        np.testing.assert_allclose(enlarged(x, **size)[inside], plain[inside], atol=1e-3)
        assert not np.allclose(enlarged(x, **size), plain, atol=1.0)


def test_a_texture_of_the_style_images_own_shape_is_its_reconstruction(
    painting: Array, tiny_model_path: Path
) -> None:
    options = Options(size=48, iterations=3, engine="numpy")
    made = texture(painting, (48, 32), options, model=tiny_model_path).image
    layers = options.style_layers
    expected = reconstruct_style(painting, layers, options, model=tiny_model_path).image
    np.testing.assert_array_equal(np.asarray(made), np.asarray(expected))


def test_a_texture_of_several_images_has_the_size_that_is_asked_for(
    painting: Array, tiny_model_path: Path
) -> None:
    options = Options(iterations=2, style_blend=(3, 1), scales=2, engine="numpy")
    result = texture(
        [painting, painting[:, ::-1]], (96, 64), options, tileable=True, model=tiny_model_path
    )
    assert result.image.size == (96, 64)
    assert list(result.record.losses[-1].terms) == ["style"]


def steps(x: Array, axis: int) -> Array:
    """The mean difference between neighbouring rows or columns; the first one is the wrap."""
    apart: Array = np.abs(x - np.roll(x, 1, axis=axis)).mean(axis=(1 - axis, 2))
    return apart


@pytest.mark.real_model
def test_a_mosaic_of_a_tileable_texture_has_no_seam(real_model_path: Path) -> None:
    painting = Path(__file__).parents[2] / "docs/samples/night.jpg"
    with PIL.Image.open(painting) as image:
        style = np.asarray(image.convert("RGB").resize((96, 72)))
    options = Options(iterations=16, scales=2, style_layers=("conv1_1", "conv2_1", "conv3_1"))

    def made(*, tileable: bool) -> Array:
        found = texture(style, (96, 64), options, tileable=tileable, model=real_model_path).image
        return np.asarray(found, float)

    joined, apart = made(tileable=True), made(tileable=False)
    for axis in (0, 1):
        # Steps between the windows of the poolings are larger than steps within them, and the wrap
        # is between windows.
        wrap, inside = steps(joined, axis)[0], steps(joined, axis)[4::4]
        # Within three standard deviations, it is one of them: neither an edge nor a smear.
        assert abs(wrap - inside.mean()) < 3 * inside.std()
        edge, inside = steps(apart, axis)[0], steps(apart, axis)[4::4]
        assert edge - inside.mean() > 3 * inside.std()
