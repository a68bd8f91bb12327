"""The linear map between two covariances of colours, and images that are recoloured by it."""

import numpy as np
import pytest

from gramstyle.images import strips as strip_sizes
from gramstyle.images.colour.transport import (
    MOST_GAIN,
    from_light,
    optimal_map,
    recoloured,
    statistics_of,
    to_light,
)
from images.profiles import encoded

# Eigenvalues of 3 × 3 matrices in float64; the covariances have condition numbers below 1000.
FLOAT64 = 1e-10


def covariance(rng, scale=1.0):
    colours = rng.standard_normal((3, 3)) + 0.3 * np.eye(3)
    return scale * (colours @ colours.T + 0.05 * np.eye(3))


def spread(rng, mean, matrix, shape=(60, 70)):
    """An sRGB image whose linear light has about this mean, and deviations by a matrix."""
    light = np.array(mean) + rng.standard_normal((*shape, 3)) @ np.array(matrix).T
    return encoded(np.clip(light, 0.02, 0.98)).astype("f4")


@pytest.mark.parametrize("seed", range(5))
def test_the_map_turns_one_covariance_into_the_other(seed):
    rng = np.random.default_rng(seed)
    before, after = covariance(rng), covariance(rng, 0.1)
    T = optimal_map(before, after)
    np.testing.assert_allclose(T @ before @ T.T, after, atol=FLOAT64)


@pytest.mark.parametrize("seed", range(5))
def test_the_map_is_symmetric_and_positive_definite(seed):
    rng = np.random.default_rng(seed)
    T = optimal_map(covariance(rng), covariance(rng))
    np.testing.assert_array_equal(T, T.T)
    assert np.linalg.eigvalsh(T).min() > 0


@pytest.mark.parametrize("seed", range(5))
def test_no_other_map_between_the_covariances_moves_colours_less(seed):
    # All maps with S Σ₁ Sᵀ = Σ₂ are chol(Σ₂) Q chol(Σ₁)⁻¹ for an orthogonal Q.
    rng = np.random.default_rng(seed)
    before, after = covariance(rng), covariance(rng)

    def cost(S):
        """The mean squared distance between c and S c: tr((S − I) Σ₁ (S − I)ᵀ)."""
        return np.trace((S - np.eye(3)) @ before @ (S - np.eye(3)).T)

    least = cost(optimal_map(before, after))
    first, second = np.linalg.cholesky(before), np.linalg.cholesky(after)
    for _ in range(100):
        Q = np.linalg.qr(rng.standard_normal((3, 3)))[0]
        other = second @ Q @ np.linalg.inv(first)
        np.testing.assert_allclose(other @ before @ other.T, after, atol=FLOAT64)
        assert cost(other) >= least - FLOAT64


def test_the_map_of_two_diagonal_covariances_is_the_ratio_of_deviations():
    T = optimal_map(np.diag([1.0, 4.0, 9.0]), np.diag([4.0, 1.0, 9.0]))
    np.testing.assert_allclose(T, np.diag([2, 0.5, 1]), atol=FLOAT64)


def test_light_is_that_of_the_standard_and_back():
    values = np.linspace(0, 255, 1001, dtype="f4")
    np.testing.assert_allclose(encoded(to_light(values)), values, atol=0.01)  # power in float32
    np.testing.assert_allclose(from_light(to_light(values)), values, atol=0.01)


def test_statistics_are_those_of_numpy_in_float64(rng, monkeypatch):
    monkeypatch.setattr(strip_sizes, "_PIXELS", 100)
    pixels = rng.uniform(0, 255, (30, 20, 3)).astype("f4")
    found, light = statistics_of(pixels), to_light(pixels).reshape(-1, 3).astype("f8")
    np.testing.assert_allclose(found.mean, light.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(found.covariance, np.cov(light.T, bias=True), atol=1e-12)


def test_a_recoloured_image_has_the_mean_and_covariance_of_the_other(rng):
    style = spread(rng, (0.3, 0.5, 0.4), [[0.05, 0, 0], [0.02, 0.06, 0], [0, 0.03, 0.04]])
    photo = spread(rng, (0.5, 0.4, 0.3), [[0.05, 0, 0], [0.04, 0.03, 0], [0.03, 0, 0.03]])
    wanted, found = statistics_of(photo), statistics_of(recoloured(style, statistics_of(photo)))
    # A pixel in a thousand is clipped, and the covariances have a little variance added.
    np.testing.assert_allclose(found.mean, wanted.mean, atol=1e-4)
    scale = np.trace(wanted.covariance)
    np.testing.assert_allclose(found.covariance, wanted.covariance, atol=0.005 * scale)


def test_an_image_with_its_own_statistics_stays_as_it_is(rng):
    pixels = rng.uniform(0, 255, (30, 20, 3)).astype("f4")
    np.testing.assert_allclose(recoloured(pixels, statistics_of(pixels)), pixels, atol=0.01)


def test_grey_images_are_no_special_case(rng):
    grey = np.repeat(rng.uniform(60, 200, (40, 30, 1)), 3, axis=2).astype("f4")
    colour = spread(rng, (0.4, 0.3, 0.5), [[0.05, 0, 0], [0, 0.04, 0], [0, 0, 0.04]])
    for style, photo in ((grey, colour), (colour, grey), (grey, grey[::-1] / 2)):
        result, wanted = recoloured(style, statistics_of(photo)), statistics_of(photo)
        assert np.isfinite(result).all()
        np.testing.assert_allclose(statistics_of(result).mean, wanted.mean, atol=0.01)
    flat = np.full((20, 20, 3), 128, "f4")
    assert np.ptp(recoloured(flat, statistics_of(colour)).reshape(-1, 3), axis=0).max() == 0
    # A grey result: its chroma is a few of the 255 levels.
    assert np.ptp(recoloured(colour, statistics_of(grey)), axis=2).mean() < 4


def test_the_noise_of_an_almost_grey_image_grows_no_more_than_the_largest_gain(rng):
    noise = 1e-4
    grey = encoded(0.4 + noise * rng.standard_normal((50, 50, 3))).astype("f4")
    colour = spread(rng, (0.4, 0.4, 0.4), 0.1 * np.eye(3))
    light = to_light(recoloured(grey, statistics_of(colour))).reshape(-1, 3)
    assert light.std(axis=0).max() < 1.1 * MOST_GAIN * noise


def test_a_colour_outside_of_srgb_keeps_its_hue(rng):
    style = spread(rng, (0.5, 0.5, 0.5), 0.15 * np.eye(3))
    photo = spread(rng, (0.75, 0.2, 0.1), 0.1 * np.eye(3))
    result = recoloured(style, statistics_of(photo))
    assert result.min() >= 0
    assert result.max() <= 255
    # Clipping each channel would give the full red of a third of the pixels the hues of others.
    edge = (to_light(result) >= 1 - 1e-6).any(axis=2) | (to_light(result) <= 1e-6).any(axis=2)
    assert 0.02 < edge.mean() < 0.6
