"""Masks and label maps: images whose greys or colours mark regions of another image."""

from dataclasses import dataclass

import numpy as np
import PIL.Image
from numpy.typing import NDArray

from gramstyle.errors import ImageError
from gramstyle.images.image import Plane
from gramstyle.images.original import Original
from gramstyle.images.problems import raise_image_error
from gramstyle.images.reading import MAX_PIXELS, Source, read_original
from gramstyle.images.strips import strips

# More regions than a run needs. An antialiased or compressed map has thousands of colours.
MOST_LABELS = 64

# How far from 0 and 1 a weighted mean of zeros or of ones may be in float32.
_ROUNDING = 1e-6


@dataclass(frozen=True, slots=True, eq=False)
class Mask:
    """A mask: how much each pixel belongs to a region.

    Attributes
    ----------
    values : ndarray of uint8, shape (height, width)
        From 0 (outside of the region) to 255.

    Examples
    --------
    >>> import numpy as np
    >>> from gramstyle.images import Mask
    >>> mask = Mask(np.array([[0, 255]], np.uint8))
    >>> mask.resized(4, 1).tolist()
    [[0.0, 0.25, 0.75, 1.0]]
    """

    values: NDArray[np.uint8]

    @classmethod
    def full(cls) -> "Mask":
        """Return the mask of a region that covers any image."""
        return cls(np.full((1, 1), 255, np.uint8))

    @property
    def width(self) -> int:
        """Number of columns."""
        return int(self.values.shape[1])

    @property
    def height(self) -> int:
        """Number of rows."""
        return int(self.values.shape[0])

    def resized(self, width: int, height: int) -> Plane:
        """Return the mask in a size in pixels: float32 from 0 to 1, (height, width).

        A triangle filter, unlike the filter of images, never overshoots: a pixel is 0 or 1 where
        all pixels of the mask that it covers are.
        """
        plane = self.values.astype(np.float32) / np.float32(255)
        if (width, height) != (self.width, self.height):
            image = PIL.Image.fromarray(plane)
            plane = np.array(image.resize((width, height), PIL.Image.Resampling.BILINEAR))
            plane[plane < _ROUNDING] = 0
            plane[plane > 1 - _ROUNDING] = 1
        return plane


@dataclass(frozen=True, slots=True, eq=False)
class LabelMap:
    """A label map: an image in which each colour marks a region.

    Attributes
    ----------
    indices : ndarray of uint8, shape (height, width)
        The number of each pixel's colour.
    colours : tuple of str
        The colours as #rrggbb, in ascending order.

    Examples
    --------
    >>> import numpy as np
    >>> from gramstyle.images import read_labels
    >>> labels = read_labels(np.array([[[255, 0, 0], [0, 0, 255]]], np.uint8))
    >>> labels.colours, labels.mask("#ff0000").values.tolist()
    (('#0000ff', '#ff0000'), [[255, 0]])
    """

    indices: NDArray[np.uint8]
    colours: tuple[str, ...]

    @property
    def width(self) -> int:
        """Number of columns."""
        return int(self.indices.shape[1])

    @property
    def height(self) -> int:
        """Number of rows."""
        return int(self.indices.shape[0])

    def mask(self, colour: str) -> Mask:
        """Return the mask of the region with a colour."""
        there = self.indices == self.colours.index(colour)
        return Mask(there.astype(np.uint8) * np.uint8(255))


def read_mask(
    source: Source,
    *,
    name: str = "mask",
    max_pixels: int = MAX_PIXELS,
    max_bytes: int | None = None,
) -> Mask:
    """Read a mask: black is outside of the region, white inside, and greys are in between.

    Parameters
    ----------
    source, name, max_pixels, max_bytes
        As in `read_original`. The mean of red, green and blue counts.

    Raises
    ------
    ImageError
        As for `read_original`; if it is transparent.

    Examples
    --------
    >>> import numpy as np
    >>> from gramstyle.images import read_mask
    >>> read_mask(np.array([[0.0, 0.2, 1.0]])).values.tolist()
    [[0, 51, 255]]
    """
    original = read_original(source, name=name, max_pixels=max_pixels, max_bytes=max_bytes)
    values = np.empty((original.height, original.width), np.uint8)
    for top, bottom in strips(original.width, original.height):
        values[top:bottom] = np.rint(_opaque_rows(original, top, bottom).mean(axis=2))
    return Mask(values)


def read_labels(
    source: Source,
    *,
    name: str = "labels",
    max_pixels: int = MAX_PIXELS,
    max_bytes: int | None = None,
) -> LabelMap:
    """Read a label map, in which each colour marks a region.

    Parameters
    ----------
    source, name, max_pixels, max_bytes
        As in `read_original`.

    Raises
    ------
    ImageError
        As for `read_original`; if it is transparent, or has too many colours.

    Examples
    --------
    >>> import numpy as np
    >>> from gramstyle.images import read_labels
    >>> read_labels(np.zeros((2, 3), np.uint8)).colours
    ('#000000',)
    """
    original = read_original(source, name=name, max_pixels=max_pixels, max_bytes=max_bytes)
    codes = np.empty((original.height, original.width), np.uint32)
    found = np.zeros(2**24, bool)
    for top, bottom in strips(original.width, original.height):
        red, green, blue = np.moveaxis(np.rint(_opaque_rows(original, top, bottom)), 2, 0)
        codes[top:bottom] = (red * 256 + green) * 256 + blue
        found[codes[top:bottom]] = True
    colours = np.flatnonzero(found)
    if len(colours) > MOST_LABELS:
        raise ImageError(
            f"{original.start}: it has {len(colours):,} colours, and a label map has one colour "
            f"for each region, at most {MOST_LABELS}; paint it without antialiasing and save it "
            "as PNG"
        )
    number = np.zeros(2**24, np.uint8)
    number[colours] = np.arange(len(colours))
    return LabelMap(number[codes], tuple(f"#{colour:06x}" for colour in colours))


def _opaque_rows(original: Original, top: int, bottom: int) -> Plane:
    """Return rows of an image (h, W, 3), 0 to 255; refuse a transparent one."""
    with raise_image_error(original.start, lambda _: "it is damaged; get a complete copy"):
        pixels, alpha = original.rows(top, bottom)
        if alpha is not None and alpha.min() < 1:
            raise ImageError(
                "it is transparent, and only its greys or colours count; fill its background"
            )
        return pixels
