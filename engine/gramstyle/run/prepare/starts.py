"""The image that a scale starts from."""

from dataclasses import replace
from math import gcd

import numpy as np

from gramstyle.core.arrays import Array
from gramstyle.images import Image, read_image, resize
from gramstyle.run.inputs import Canvas, ScaleImages
from gramstyle.run.options import Options
from gramstyle.run.plan import ScalePlan

# How many pixels of an image the filter that enlarges it reads on each side, rounded up.
FILTER = 8


def image_of_iterate(x: Array, canvas: Canvas, options: Options) -> Image:
    """Return an iterate of another scale as an image of the canvas's size."""
    source = np.clip(x.transpose(1, 2, 0).astype(np.float32) / np.float32(255), 0, 1)
    if options.pads == "circular":
        return _wrapped(source, canvas, options)
    return _resized(source, canvas, options)


def _wrapped(source: Array, canvas: Canvas, options: Options) -> Image:
    """Return pixels (h, w, 3), whose opposite edges meet, resized so that they still do.

    A margin of the opposite edge surrounds the pixels while they are resized. It is as many whole
    pixels before as after, and wider than the filter of the resizing.
    """
    margins, larger = [], []
    for here, there in zip(source.shape[:2], (canvas.height, canvas.width), strict=True):
        parts = gcd(here, there)
        count = min(parts, -(-FILTER * parts // here))
        margins.append(here // parts * count)
        larger.append(there // parts * count)
    around = np.pad(source, (*((each, each) for each in margins), (0, 0)), mode="wrap")
    down, across = larger
    size = Canvas(canvas.width + 2 * across, canvas.height + 2 * down)
    image = _resized(around, size, options)
    inside = image.pixels[down : down + canvas.height, across : across + canvas.width]
    return replace(image, pixels=np.ascontiguousarray(inside))


def _resized(source: Array, canvas: Canvas, options: Options) -> Image:
    # An iterate is larger than the images if a small content image is enlarged.
    most = max(options.max_pixels, source.shape[0] * source.shape[1])
    return resize(read_image(source, name="init", max_pixels=most), canvas.width, canvas.height)


def start_of(scale: ScalePlan, images: ScaleImages, dtype: type = np.float64) -> Array:
    """Return the first x (3, H, W)."""
    canvas, options = images.canvas, scale.options
    if images.custom is not None:
        return _as_pixels(images.custom, dtype)
    if options.start == "content":
        assert images.content is not None  # noqa: S101 - checked when planning
        return _as_pixels(images.content, dtype)
    if options.start == "style":
        assert images.first_style is not None  # noqa: S101 - as above
        return _as_pixels(resize(images.first_style, canvas.width, canvas.height), dtype)
    noise = np.random.default_rng(options.seed)
    x: Array = np.empty((3, canvas.height, canvas.width), dtype)
    if options.colours == "content":  # as grey as the images
        x[...] = noise.uniform(0.0, 255.0, x.shape[1:])
        return x
    for channel in x:
        channel[...] = noise.uniform(0.0, 255.0, channel.shape)
    return x


def _as_pixels(image: Image, dtype: type = np.float64) -> Array:
    """Return an image's pixels as x (3, H, W)."""
    return np.ascontiguousarray(image.pixels.transpose(2, 0, 1), dtype)
