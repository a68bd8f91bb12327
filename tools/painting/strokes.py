"""Regions, brushes, and the strokes with which a brush paints a region."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .fields import Array, Mask, sample
from .flows import Flow
from .palettes import Palette, colours_at

FINEST = 3.2  # the width of the narrowest brush in pixels, however small the image
REACH = 4  # points of a stroke's spine on each side of its middle


@dataclass(frozen=True)
class Paint:
    """A palette, its weight among the region's paints at each pixel, and its tone (0..1) there."""

    palette: Palette
    weight: Array
    tone: Array


@dataclass(frozen=True)
class Brush:
    """The mean size of its strokes, and how many times over they cover the region."""

    width: float
    length: float
    coverage: float
    body: float = 1.0  # thickness of the paint
    lift: float = 0.0  # added to the tone
    spread: float = 0.09  # deviation of the tone from stroke to stroke


@dataclass(frozen=True)
class Region:
    """One part of the image: where it is, and how it is painted."""

    mask: Mask
    flow: Flow
    paints: Sequence[Paint]
    brushes: Sequence[Brush]
    size: Array | None = None  # a factor on the size of strokes, for perspective
    downward: bool = False  # paint strokes in order from the top of the image to the bottom
    wander: float = 0.12  # deviation of a stroke's direction, in radians


@dataclass(frozen=True)
class Stroke:
    """A spine (points, 2) of x and y in pixels, and the two colours on the brush."""

    spine: Array
    width: float
    body: float
    colour: Array
    second: Array
    grain: NDArray[np.int64]  # the corner of the brush's textures to start from


def strokes(
    rng: np.random.Generator, scale: float, region: Region, brush: Brush
) -> Iterator[Stroke]:
    """Yield all strokes of one brush over one region, in the order of painting."""
    width = max(brush.width * scale, FINEST)
    length = max(brush.length * scale, 2.5 * FINEST)
    size = np.ones(region.mask.shape, np.float32) if region.size is None else region.size
    x, y = scatter(rng, region.mask / size**2, brush.coverage / (width * length))
    if region.downward:
        order = np.argsort(y, kind="stable")
        x, y = x[order], y[order]
    size = sample(size, x, y)
    widths = np.maximum(width * size * rng.uniform(0.75, 1.25, x.size), 0.8 * FINEST)
    lengths = length * size * rng.uniform(0.65, 1.35, x.size)
    turns = rng.normal(0, region.wander, x.size)
    ahead, in_front = follow(region, x, y, lengths / 2, turns)
    back, behind = follow(region, x, y, -lengths / 2, turns)
    spines = np.concatenate([back[:, ::-1], np.stack([x, y], axis=1)[:, None], ahead], axis=1)
    colours, seconds = (choose_colours(rng, region, brush, x, y) for _ in range(2))
    grains = rng.integers(0, 1 << 16, (x.size, 2))
    for n in np.flatnonzero(in_front + behind >= 2):
        spine = spines[n, REACH - behind[n] : REACH + 1 + in_front[n]]
        yield Stroke(spine, float(widths[n]), brush.body, colours[n], seconds[n], grains[n])


def scatter(rng: np.random.Generator, density: Array, rate: float) -> tuple[Array, Array]:
    """Return random points x and y: on average rate × density of them in each pixel."""
    levels = np.cumsum(density, dtype=np.float64)
    found = np.searchsorted(levels, levels[-1] * rng.random(math.ceil(rate * levels[-1])), "right")
    rows, columns = np.divmod(found, density.shape[1])
    jitter = rng.random((2, found.size), dtype=np.float32) - 0.5
    return columns.astype(np.float32) + jitter[0], rows.astype(np.float32) + jitter[1]


def follow(
    region: Region, x: Array, y: Array, length: Array, turn: Array
) -> tuple[Array, NDArray[np.intp]]:
    """Follow the flow from each point: points (strokes, REACH, 2), and how many are inside."""
    step, cos, sin = length / REACH, np.cos(turn), np.sin(turn)
    points = np.empty((x.size, REACH, 2), dtype=np.float32)
    inside = np.ones(x.size, dtype=np.bool_)
    count = np.zeros(x.size, dtype=np.intp)
    for n in range(REACH):
        u, v = sample(region.flow.u, x, y), sample(region.flow.v, x, y)
        x, y = x + step * (cos * u - sin * v), y + step * (sin * u + cos * v)
        points[:, n, 0], points[:, n, 1] = x, y
        inside &= sample(region.mask, x, y)
        count += inside
    return points, count


def choose_colours(
    rng: np.random.Generator, region: Region, brush: Brush, x: Array, y: Array
) -> Array:
    """Choose a paint for each stroke with probability ∝ its weight, and a colour by its tone."""
    levels = np.cumsum([sample(paint.weight, x, y) for paint in region.paints], axis=0)
    chosen = (rng.random(x.size) * levels[-1] >= levels).sum(axis=0)
    wobble = rng.normal(brush.lift, brush.spread, x.size)
    colours = rng.normal(0, 0.018, (x.size, 3)).astype(np.float32)
    for index, paint in enumerate(region.paints):
        mine = chosen == index
        colours[mine] += colours_at(paint.palette, (sample(paint.tone, x, y) + wobble)[mine])
    return colours
