"""Sizes and resampling of images."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gramstyle import images
from gramstyle.errors import OptionError
from images.samples import EXACT, image


@pytest.mark.parametrize(
    ("width", "height", "longer_edge", "wanted"),
    [
        (4000, 3000, 1000, (1000, 750)),
        (3000, 4000, 1000, (750, 1000)),
        (100, 50, 400, (400, 200)),
        (7, 7, 7, (7, 7)),
        (10_000, 3, 100, (100, 1)),
        (3, 10_000, 1, (1, 1)),
        (6, 1, 9, (9, 2)),  # 1.5 is rounded up,
        (1, 2, 5, (3, 5)),  # and so is 2.5
        (1000, 667, 512, (512, 342)),  # 341.504
    ],
)
def test_a_fitted_size_has_the_same_aspect_ratio_to_the_pixel(width, height, longer_edge, wanted):
    assert images.fitted_size(width, height, longer_edge) == wanted


@given(st.integers(1, 10**6), st.integers(1, 10**6), st.integers(1, 10**6))
@settings(max_examples=200)
def test_a_fitted_size_is_accurate_to_half_a_pixel(width, height, longer_edge):
    fitted = images.fitted_size(width, height, longer_edge)
    assert max(fitted) == longer_edge
    for edge, before in zip(fitted, (width, height), strict=True):
        # In whole numbers: |edge - before * longer_edge / longer| <= 1/2, or the edge is 1.
        longer = max(width, height)
        assert edge == 1 or abs(2 * edge * longer - 2 * before * longer_edge) <= longer


@pytest.mark.parametrize("numbers", [(0, 5, 5), (5, 0, 5), (5, 5, 0), (5, 5, -1)])
def test_a_size_below_1_is_refused(numbers):
    with pytest.raises(OptionError, match="from 1 up"):
        images.fitted_size(*numbers)
    with pytest.raises(OptionError, match="at least 1"):
        images.resize(image(), 0, 5)


def test_a_uniform_image_stays_uniform_at_any_size():
    colour = np.array([10, 100.3, 230], "f4")
    flat = images.Image(np.tile(colour, (7, 10, 1)), np.full((7, 10), 0.3, "f4"))
    for width, height in ((3, 2), (40, 41), (1, 1), (10, 3)):
        result = images.resize(flat, width, height)
        assert result.pixels.shape == (height, width, 3)
        assert result.pixels.dtype == np.float32
        # In 8 bits, 100.3 would be 100.
        np.testing.assert_allclose(result.pixels, np.tile(colour, (height, width, 1)), atol=EXACT)
        np.testing.assert_allclose(result.alpha, 0.3, atol=EXACT)


@pytest.mark.parametrize("width", [5, 13, 40])
def test_resizing_is_lanczos_with_three_lobes(width):
    row = np.random.default_rng(0).uniform(60, 190, 20)  # small enough not to be clipped
    result = images.resize(images.Image(np.tile(row[:, None], (4, 1, 3)).astype("f4")), width, 4)
    step = 20 / width
    distance = np.arange(20) + 0.5 - step * (np.arange(width)[:, None] + 0.5)
    distance /= max(step, 1)  # downsampling widens the filter to three new pixels
    weights = np.where(abs(distance) < 3, np.sinc(distance) * np.sinc(distance / 3), 0)
    wanted = weights @ row / weights.sum(axis=1)
    np.testing.assert_allclose(result.pixels[2, :, 1], wanted, atol=EXACT)


def test_a_sharp_edge_does_not_leave_the_range():
    edge = np.zeros((8, 8, 3), "f4")
    edge[:, 4:] = 255
    result = images.resize(images.Image(edge, edge[..., 0] / 255), 29, 29)
    assert (result.pixels.min(), result.pixels.max()) == (0, 255)
    assert (result.alpha.min(), result.alpha.max()) == (0, 1)


def test_the_colour_of_a_transparent_pixel_does_not_bleed_when_resized():
    # Transparent black beside opaque white: no dark pixel may appear at any size.
    rgba = np.full((8, 8, 4), 255, "u1")
    rgba[:, 4:] = 0
    result = images.resize(images.read_image(rgba), 5, 5)
    np.testing.assert_allclose(result.pixels, 255, atol=EXACT)


def test_resizing_to_the_same_size_returns_the_same_object():
    same = image()
    assert images.resize(same, same.width, same.height) is same
