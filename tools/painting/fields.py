"""The image's coordinates, smooth noise, and operations on arrays of the image's size."""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating[Any]]
Mask = NDArray[np.bool_]
Point = tuple[float, float]

REFERENCE = math.sqrt(768 * 614)


@dataclass(frozen=True)
class Frame:
    """The image's size, and the random generator that its seed starts."""

    width: int
    height: int
    rng: np.random.Generator

    @property
    def scale(self) -> float:
        """Pixels of this image per pixel of the reference image."""
        return math.sqrt(self.width * self.height) / REFERENCE

    @cached_property
    def x(self) -> Array:
        return np.tile(np.arange(self.width, dtype=np.float32), (self.height, 1))

    @cached_property
    def y(self) -> Array:
        return np.tile(np.arange(self.height, dtype=np.float32)[:, None], (1, self.width))

    def to_pixels(self, point: Point) -> Point:
        return point[0] * self.width, point[1] * self.height

    def offset(self, point: Point) -> tuple[Array, Array, Array]:
        """Return each pixel's offset from a point: dx, dy and distance, in pixels."""
        x, y = self.to_pixels(point)
        dx, dy = self.x - x, self.y - y
        return dx, dy, np.hypot(dx, dy) + 1e-3

    def full(self, value: float) -> Array:
        return np.full((self.height, self.width), value, dtype=np.float32)

    def noise(self, x: float, y: float) -> Array:
        """Return smooth noise; x and y are its scale along each axis."""
        shape, scale = (self.height, self.width), self.scale
        return smooth_noise(self.rng, shape, (y * scale, x * scale))


def smooth_noise(
    rng: np.random.Generator, shape: tuple[int, int], sigma: tuple[float, float]
) -> Array:
    """Return Gaussian-filtered noise of mean 0 and deviation 1; sigma is in pixels per axis."""
    fy, fx = np.fft.fftfreq(shape[0])[:, None], np.fft.rfftfreq(shape[1])[None, :]
    damping = np.exp(-2 * np.pi**2 * ((fy * sigma[0]) ** 2 + (fx * sigma[1]) ** 2))
    noise = np.fft.irfft2(np.fft.rfft2(rng.standard_normal(shape)) * damping, s=shape)
    return standardised(noise.astype(np.float32))


def standardised(field: Array) -> Array:
    standard: Array = (field - field.mean()) / (field.std() + 1e-6)
    return standard


def smoothstep(field: Array, low: float, high: float) -> Array:
    """Rise smoothly from 0 at low to 1 at high."""
    t: Array = np.clip((field - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)


def sample(field: NDArray[Any], x: Array, y: Array) -> NDArray[Any]:
    """Return the field's values at points: the nearest pixel's, clamped at the border."""
    rows, columns = field.shape
    j = np.clip(np.rint(y), 0, rows - 1).astype(np.intp)
    i = np.clip(np.rint(x), 0, columns - 1).astype(np.intp)
    return field[j, i]


def distances(spine: Array, rows: slice, columns: slice) -> tuple[Array, Array, float]:
    """Return each pixel's distance along and (signed) across the spine, and the spine's length."""
    start, step = spine[:-1, :, None, None], np.diff(spine, axis=0)[:, :, None, None]
    lengths = np.hypot(step[:, 0], step[:, 1]) + 1e-4
    dx = np.arange(columns.start, columns.stop, dtype=np.float32) - start[:, 0]
    dy = np.arange(rows.start, rows.stop, dtype=np.float32)[:, None] - start[:, 1]
    part = np.clip((dx * step[:, 0] + dy * step[:, 1]) / lengths**2, 0, 1)
    dx, dy = dx - part * step[:, 0], dy - part * step[:, 1]
    squared = dx * dx + dy * dy
    nearest = np.argmin(squared, axis=0)[None]
    signs = np.sign(step[:, 0] * dy - step[:, 1] * dx)
    before = np.cumsum(lengths, axis=0) - lengths
    along = np.take_along_axis(before + part * lengths, nearest, axis=0)[0]
    across = np.take_along_axis(np.sqrt(squared) * signs, nearest, axis=0)[0]
    return along, across, float(lengths.sum())
