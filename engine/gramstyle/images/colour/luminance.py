"""The luminance and the chroma of an image, and an image that combines two images' halves.

Luminance Y = 0.299 R + 0.587 G + 0.114 B and chroma Cb = (B − Y) / 1.772, Cr = (R − Y) / 1.402 are
those of JPEG (ITU-T T.871, after ITU-R BT.601), of sRGB values from 0 to 255, without rounding.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gramstyle.images.image import Image, Plane
from gramstyle.images.strips import strips

# The shares of red, green and blue in the luminance, and the scales of Cb and Cr.
LUMA = (0.299, 0.587, 0.114)
_BLUE, _RED = 1.772, 1.402
# Chroma is stored in these fractions of a level: 16 bits, half the memory of floats.
_STEP = 256


@dataclass(frozen=True, slots=True, eq=False)
class Chroma:
    """The chroma of an image, which another image can receive.

    Attributes
    ----------
    blue, red : ndarray of int16, shape (height, width)
        256 Cb and 256 Cr, rounded.
    alpha : ndarray of float32, shape (height, width), or None
        The opacity of the image. On white, no colour is darker than 255 (1 − alpha).
    """

    blue: NDArray[np.int16]
    red: NDArray[np.int16]
    alpha: Plane | None = None


def luminance(pixels: NDArray[np.float32]) -> Plane:
    """Return Y, (H, W) float32, of pixels (H, W, 3) from 0 to 255, which need not be contiguous."""
    red, green, blue = (pixels[:, :, channel] for channel in range(3))
    luma: Plane = np.float32(LUMA[0]) * red
    luma += np.float32(LUMA[1]) * green
    luma += np.float32(LUMA[2]) * blue
    return luma


def grey(luma: Plane, alpha: Plane | None = None) -> Image:
    """Return a luminance (H, W) as an image, which has it in all three channels."""
    return Image(np.repeat(luma[:, :, np.newaxis], 3, axis=2), alpha)


def chroma_of(image: Image) -> Chroma:
    """Return the chroma of an image, with its alpha."""
    blue, red = (np.empty((image.height, image.width), np.int16) for _ in range(2))
    for top, bottom in strips(image.width, image.height):
        part = image.pixels[top:bottom]
        luma = luminance(part)
        blue[top:bottom] = np.rint((part[:, :, 2] - luma) * np.float32(_STEP / _BLUE))
        red[top:bottom] = np.rint((part[:, :, 0] - luma) * np.float32(_STEP / _RED))
    return Chroma(blue, red, image.alpha)


def with_chroma(luma: Plane, chroma: Chroma, top: int = 0) -> Plane:
    """Return the colours with a luminance and a chroma; the chroma wins where no colour has both.

    At a given chroma, the luminances of the colours from 0 to 255 are an interval. A luminance
    outside of it moves to its nearer end. Clipping the channels instead would change the chroma.

    Parameters
    ----------
    luma
        The luminances (H, W) of some rows.
    chroma
        The chroma of the whole image. Its own luminances lie in these intervals, so that none is
        empty.
    top
        The number of the first of these rows.

    Returns
    -------
    ndarray of float32, shape (H, W, 3)
        Colours from 0 to 255. With alpha: from 255 (1 − alpha), as on white.
    """
    rows = slice(top, top + luma.shape[0])
    colours = np.empty((*luma.shape, 3), np.float32)
    red, green, blue = np.moveaxis(colours, 2, 0)
    np.multiply(chroma.red[rows], np.float32(_RED / _STEP), out=red)
    np.multiply(chroma.blue[rows], np.float32(_BLUE / _STEP), out=blue)
    np.multiply(red, np.float32(-LUMA[0] / LUMA[1]), out=green)
    green -= blue * np.float32(LUMA[2] / LUMA[1])
    floor = 0 if chroma.alpha is None else 255 * (1 - chroma.alpha[rows])
    least, most = floor - colours.min(axis=2), 255 - colours.max(axis=2)
    colours += np.clip(luma, least, most)[:, :, np.newaxis]
    return np.clip(colours, 0, 255, out=colours)  # the rounding of the chroma


def mean_and_deviation(luma: Plane) -> tuple[float, float]:
    """Return the mean and the standard deviation of a luminance (H, W), summed in float64."""
    height, width = luma.shape
    mean = sum(luma[a:b].sum(dtype=np.float64) for a, b in strips(width, height)) / luma.size
    squares = sum(
        np.square(luma[a:b] - mean, dtype=np.float64).sum() for a, b in strips(width, height)
    )
    return float(mean), float(np.sqrt(squares / luma.size))


def matched(luma: Plane, mean: float, deviation: float) -> Plane:
    """Return a luminance (H, W), scaled and shifted to a mean and a standard deviation.

    L′ = σ_C / σ_S · (L − μ_S) + μ_C (Gatys, Bethge, Hertzmann, Shechtman, "Preserving Color in
    Neural Artistic Style Transfer", arXiv 1606.05897, section 3). Values may leave 0..255, which
    the network accepts. A luminance that is the same everywhere becomes the mean.
    """
    own_mean, own_deviation = mean_and_deviation(luma)
    gain = deviation / own_deviation if own_deviation > 1e-3 else 1.0
    scaled: Plane = luma - np.float32(own_mean)
    scaled *= np.float32(gain)
    scaled += np.float32(mean)
    return scaled
