"""Luminance and chroma: their definition, and that a given chroma survives any luminance."""

import numpy as np
import PIL.Image
import pytest

from gramstyle.images import Image, to_pil
from gramstyle.images import strips as strip_sizes
from gramstyle.images.colour.luminance import (
    chroma_of,
    luminance,
    matched,
    mean_and_deviation,
    with_chroma,
)

# A chroma is stored in 1/256 level; a channel is off by at most 1.772 · 1/512.
STORED = 0.004
# Sums of float32 values up to 255.
FLOAT32 = 1e-4


def jpeg_chroma(pixels):
    """Cb and Cr by the matrix of ITU-T T.871, in float64."""
    matrix = np.array([[-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]])
    return np.asarray(pixels, np.float64) @ matrix.T


@pytest.fixture
def photo(rng):
    # A third of the values are 0 or 255: the luminance of such a pixel has little or no freedom.
    return np.clip(rng.uniform(-130, 390, (40, 50, 3)), 0, 255).astype("f4")


def test_luminance_and_chroma_are_those_of_jpeg(photo):
    pixels = np.rint(photo)
    ycc = np.asarray(PIL.Image.fromarray(pixels.astype("u1")).convert("YCbCr"), np.float64)
    chroma = chroma_of(Image(pixels))
    # Pillow rounds to 8 bits, by tables of integers.
    np.testing.assert_allclose(luminance(pixels), ycc[..., 0], atol=1)
    np.testing.assert_allclose(chroma.blue / 256 + 128, ycc[..., 1], atol=1)
    np.testing.assert_allclose(chroma.red / 256 + 128, ycc[..., 2], atol=1)


def test_an_image_is_its_own_luminance_with_its_own_chroma(photo):
    back = with_chroma(luminance(photo), chroma_of(Image(photo)))
    np.testing.assert_allclose(back, photo, atol=2 * STORED)


def test_the_chroma_is_kept_within_a_level_for_any_luminance(photo, rng):
    luma = rng.uniform(-200, 455, photo.shape[:2]).astype("f4")
    colours = with_chroma(luma, chroma_of(Image(photo)))
    assert colours.min() >= 0
    assert colours.max() <= 255
    shown = np.asarray(to_pil(Image(colours)))
    assert np.abs(jpeg_chroma(shown) - jpeg_chroma(photo)).max() <= 1


def test_a_luminance_moves_only_where_no_colour_has_it_and_the_chroma(photo, rng):
    luma = rng.uniform(-200, 455, photo.shape[:2]).astype("f4")
    away = photo - luminance(photo)[..., None]
    least, most = -away.min(axis=2), 255 - away.max(axis=2)
    found = luminance(with_chroma(luma, chroma_of(Image(photo))))
    np.testing.assert_allclose(found, np.clip(luma, least, most), atol=3 * STORED)


def test_with_alpha_the_colours_are_ones_that_exist_on_white(photo, rng):
    alpha = rng.uniform(0, 1, photo.shape[:2]).astype("f4")
    alpha[:5] = 0
    seen = 255 - (255 - photo) * alpha[..., None]
    luma = rng.uniform(-200, 455, alpha.shape).astype("f4")
    colours = with_chroma(luma, chroma_of(Image(seen, alpha)))
    assert (colours >= 255 * (1 - alpha[..., None]) - 2 * STORED).all()
    assert np.abs(jpeg_chroma(colours) - jpeg_chroma(seen)).max() <= 2 * STORED


def test_strips_of_rows_give_the_same_bits(photo, rng, monkeypatch):
    luma = rng.uniform(0, 255, photo.shape[:2]).astype("f4")
    whole = with_chroma(luma, chroma_of(Image(photo)))
    monkeypatch.setattr(strip_sizes, "_PIXELS", 60)
    chroma = chroma_of(Image(photo))
    parts = [with_chroma(luma[top : top + 3], chroma, top) for top in range(0, 40, 3)]
    np.testing.assert_array_equal(np.concatenate(parts), whole)


def test_a_matched_luminance_has_the_mean_and_the_deviation(photo):
    luma = matched(luminance(photo), 90.0, 12.5)
    np.testing.assert_allclose([luma.mean(dtype="f8"), luma.std(dtype="f8")], [90, 12.5], rtol=1e-5)


def test_the_luminance_of_one_shade_becomes_the_mean():
    np.testing.assert_array_equal(matched(np.full((4, 5), 77, "f4"), 90.0, 12.5), 90)


def test_mean_and_deviation_are_those_of_numpy_in_float64(photo, monkeypatch):
    monkeypatch.setattr(strip_sizes, "_PIXELS", 60)
    luma = luminance(photo)
    wanted = luma.astype("f8").mean(), luma.astype("f8").std()
    np.testing.assert_allclose(mean_and_deviation(luma), wanted, rtol=1e-12)
