"""The canvas, and the colour and height that one stroke leaves on it."""

import numpy as np
from numpy.typing import NDArray

from .fields import Array, Frame, distances, smooth_noise, smoothstep
from .palettes import colours_at
from .strokes import Region, Stroke


class Canvas:
    """A primed canvas: colour (height, width, 3) from 0 to 1, relief in thicknesses of paint."""

    def __init__(self, frame: Frame, ground: Array) -> None:
        self.colour: Array = np.empty((frame.height, frame.width, 3), dtype=np.float32)
        self.colour[:] = ground
        self.relief: Array = 0.12 * np.sin(2.1 * frame.x) * np.sin(2.1 * frame.y)
        self.bristles = 0.5 + 0.25 * smooth_noise(frame.rng, (256, 256), (0.9, 22))
        self.load = smooth_noise(frame.rng, (256, 256), (2.2, 34))

    def underpaint(self, region: Region) -> None:
        """Tint the region with its first paint, so that no ground shows between strokes."""
        paint, mask = region.paints[0], region.mask
        thin = colours_at(paint.palette, paint.tone[mask] - 0.12)
        self.colour[mask] += 0.8 * (thin - self.colour[mask])

    def draw(self, stroke: Stroke) -> None:
        rows, columns = self._box(stroke)
        along, across, total = distances(stroke.spine, rows, columns)
        far, side = along / total, across / (stroke.width / 2)
        hair = texture_at(self.bristles, along, across, stroke.grain)
        streak = texture_at(self.load, along, across, stroke.grain)
        second = 0.8 * smoothstep(streak, 0.2, 1.1)[..., None]
        colour = stroke.colour + second * (stroke.second - stroke.colour)
        colour *= (0.88 + 0.24 * hair)[..., None]
        height = stroke.body * min(stroke.width / 9, 1.6) * thickness(far, side, hair)
        cover = opacity(far, side, hair, stroke.width)
        self.relief[rows, columns] += cover * (height - 0.6 * self.relief[rows, columns])
        self.colour[rows, columns] += cover[..., None] * (colour - self.colour[rows, columns])

    def _box(self, stroke: Stroke) -> tuple[slice, slice]:
        """Return the rows and columns of the canvas that the stroke may touch."""
        margin = stroke.width / 2 + 1
        low = np.floor(stroke.spine.min(axis=0) - margin).astype(int)
        high = np.ceil(stroke.spine.max(axis=0) + margin).astype(int) + 1
        left, top = np.maximum(low, 0)
        right, bottom = np.minimum(high, self.relief.shape[::-1])
        return slice(top, bottom), slice(left, right)

    def shaded(self) -> Array:
        """Return the colours under a light from the upper left."""
        down, right = np.gradient(self.relief)
        slope = np.tanh(1.1 * (down + right))
        gloss = 0.16 * np.maximum(slope - 0.35, 0) ** 1.5
        lit: Array = self.colour * (1 + 0.3 * slope)[..., None] + gloss[..., None]
        return lit.clip(0, 1)


def texture_at(texture: Array, along: Array, across: Array, corner: NDArray[np.int64]) -> Array:
    """Return the values of a texture that follows the stroke, starting from a corner."""
    row = ((2 * across).astype(np.intp) + corner[0]) % texture.shape[0]
    column = (along.astype(np.intp) + corner[1]) % texture.shape[1]
    values: Array = texture[row, column]
    return values


def opacity(far: Array, side: Array, hair: Array, width: float) -> Array:
    """Return the cover from 0 to 1: ragged at the sides, thinner towards the end."""
    taper = np.minimum(1, 0.55 + 3 * far) * (1 - 0.35 * far**3)
    edge: Array = (taper - np.abs(side)) * (width / 2) + 2.2 * (hair - 0.5)
    dry = smoothstep(hair + 1.15 - 1.25 * far**2, 0.1, 0.6)
    within: Array = (edge + 0.5).clip(0, 1)
    return 0.97 * dry * within


def thickness(far: Array, side: Array, hair: Array) -> Array:
    """Return the height of the paint: furrowed by the bristles, ridged at the sides and the end."""
    ridge = 0.5 * np.exp(-(((np.abs(side) - 0.75) / 0.2) ** 2))
    heap = 0.6 * np.exp(-(((far - 0.93) / 0.1) ** 2))
    height: Array = 0.45 + 1.5 * (hair - 0.5) + ridge + heap
    return height
