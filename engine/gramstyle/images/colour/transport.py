"""Give an image the mean colour and the covariance of the colours of another image.

The map is the linear one that moves the colours least: the solution of Monge and Kantorovich
(F. Pitié, A. Kokaram, "The linear Monge-Kantorovitch linear colour mapping for example-based colour
transfer", CVMP 2007). It is applied to linear light, in which mixtures of colours are averages.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gramstyle.images.image import Plane
from gramstyle.images.strips import strips

Matrix = NDArray[np.float64]

# ITU-R BT.709: the shares of red, green and blue in the luminance of linear light.
_LIGHT = (0.2126, 0.7152, 0.0722)
# A variance that is added in all directions, of a deviation of a quarter of an 8-bit level.
# Without it, the covariance of a grey image has no inverse.
_LEAST_VARIANCE = (0.25 / 255) ** 2
# The most by which a difference of colours grows. An almost grey image has chroma of noise.
MOST_GAIN = 10.0


@dataclass(frozen=True, eq=False)
class ColourStatistics:
    """The mean and the covariance of the colours of an image, in linear light from 0 to 1.

    Attributes
    ----------
    mean : ndarray of float64, shape (3,)
    covariance : ndarray of float64, shape (3, 3)
    """

    mean: NDArray[np.float64]
    covariance: Matrix


def statistics_of(pixels: NDArray[np.float32]) -> ColourStatistics:
    """Return the statistics of sRGB pixels (H, W, 3) from 0 to 255."""
    total, products = np.zeros(3), np.zeros((3, 3))
    height, width = pixels.shape[:2]
    for top, bottom in strips(width, height):
        light = np.moveaxis(to_light(pixels[top:bottom]), 2, 0).astype(np.float64)
        total += [channel.sum() for channel in light]
        # Not a matrix product, whose last bits may depend on the number of threads.
        products += [[(one * other).sum() for other in light] for one in light]
    mean = total / (width * height)
    return ColourStatistics(mean, products / (width * height) - np.outer(mean, mean))


def optimal_map(before: Matrix, after: Matrix) -> Matrix:
    """Return the symmetric positive definite T with T Σ₁ T = Σ₂.

    T = Σ₁^(−½) (Σ₁^½ Σ₂ Σ₁^½)^½ Σ₁^(−½). Of all linear maps of colours with the covariance Σ₁ to
    colours with the covariance Σ₂, it has the least mean squared distance between a colour and its
    image (docs/derivations.md).

    Parameters
    ----------
    before, after : ndarray of float64, shape (n, n)
        The covariances Σ₁ and Σ₂, both symmetric and positive definite.
    """
    root = _power(before, 0.5)
    inverse = _power(before, -0.5)
    found = inverse @ _power(root @ after @ root, 0.5) @ inverse
    symmetric: Matrix = (found + found.T) / 2
    return symmetric


def recoloured(pixels: NDArray[np.float32], after: ColourStatistics) -> Plane:
    """Return an image with the mean and the covariance of the colours of another image.

    Both covariances get a small variance in every direction, and no difference of colours grows
    more than tenfold; so a grey image gets the mean colour of the other one, and its greys follow
    that image's strongest contrast. Colours outside of sRGB move towards the grey of their
    luminance until they fit, which preserves hue; the mean and the covariance then differ a little.

    Parameters
    ----------
    pixels
        sRGB, (H, W, 3) float32 from 0 to 255.
    after
        The statistics of the other image.

    Returns
    -------
    ndarray of float32, shape (H, W, 3)
        sRGB from 0 to 255.
    """
    before, least = statistics_of(pixels), _LEAST_VARIANCE * np.eye(3)
    matrix = _bounded(optimal_map(before.covariance + least, after.covariance + least))
    offset = (after.mean - matrix @ before.mean).astype(np.float32)
    matrix32 = matrix.astype(np.float32)
    result = np.empty(pixels.shape, np.float32)
    height, width = pixels.shape[:2]
    for top, bottom in strips(width, height):
        red, green, blue = np.moveaxis(to_light(pixels[top:bottom]), 2, 0)
        mapped = [row[0] * red + row[1] * green + row[2] * blue + base
                  for row, base in zip(matrix32, offset, strict=True)]  # fmt: skip
        result[top:bottom] = from_light(_in_gamut(np.stack(mapped, axis=2)))
    return result


def to_light(pixels: NDArray[np.float32]) -> Plane:
    """Return sRGB values from 0 to 255 as linear light from 0 to 1 (IEC 61966-2-1)."""
    values = np.clip(pixels, 0, 255) / np.float32(255)
    bent = np.power((values + np.float32(0.055)) / np.float32(1.055), np.float32(2.4))
    return np.where(values <= np.float32(0.04045), values / np.float32(12.92), bent)


def from_light(light: Plane) -> Plane:
    """Return linear light from 0 to 1 as sRGB values from 0 to 255: the inverse of `to_light`."""
    bent = np.float32(1.055) * np.power(light, np.float32(1 / 2.4)) - np.float32(0.055)
    values = np.where(light <= np.float32(0.0031308), np.float32(12.92) * light, bent)
    return np.clip(values * np.float32(255), 0, 255)


def _in_gamut(light: Plane) -> Plane:
    """Move colours (…, 3) outside of 0..1 towards the grey of their luminance until they fit."""
    y = sum(np.float32(share) * light[..., i] for i, share in enumerate(_LIGHT))
    y = np.clip(y, 0, 1)[..., np.newaxis]
    away = light - y
    room = np.where(away > 0, 1 - y, y)  # as far as a channel may go from the grey
    with np.errstate(divide="ignore", invalid="ignore"):
        share = np.where(abs(away) > room, room / abs(away), 1).min(axis=-1, keepdims=True)
    inside: Plane = np.clip(y + share * away, 0, 1)
    return inside


def _bounded(matrix: Matrix) -> Matrix:
    """Return a symmetric matrix with no eigenvalue above the largest gain."""
    values, vectors = np.linalg.eigh(matrix)
    bounded: Matrix = (vectors * np.minimum(values, MOST_GAIN)) @ vectors.T
    return bounded


def _power(matrix: Matrix, exponent: float) -> Matrix:
    """Return a power of a symmetric positive definite matrix."""
    values, vectors = np.linalg.eigh(matrix)
    power: Matrix = (vectors * np.maximum(values, 1e-300) ** exponent) @ vectors.T
    return power
