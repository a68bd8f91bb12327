"""Direction fields that strokes follow."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .fields import Array, Frame, Point, sample, standardised


@dataclass(frozen=True)
class Flow:
    """A unit vector (u, v) at every pixel."""

    u: Array
    v: Array

    @classmethod
    def along(cls, u: Array, v: Array) -> "Flow":
        length = np.hypot(u, v) + 1e-6
        return cls(u / length, v / length)

    @classmethod
    def at_angle(cls, angle: Array) -> "Flow":
        return cls(np.cos(angle), np.sin(angle))

    def streaks(self, noise: Array, reach: float) -> Array:
        """Average noise along the flow (line integral convolution), so that streaks follow it."""
        steps = 24
        grid: Array = np.indices(noise.shape, dtype=np.float32)
        total = noise.copy()
        for stride in (reach / steps, -reach / steps):
            y, x = grid
            for _ in range(steps):
                x, y = x + stride * sample(self.u, x, y), y + stride * sample(self.v, x, y)
                total += sample(noise, x, y)
        return standardised(total)


@dataclass(frozen=True)
class Swirl:
    """A vortex. A negative turn is counter-clockwise; a positive pull draws the flow inwards."""

    centre: Point
    radius: float
    turn: float
    pull: float = 0.0


def add_swirls(frame: Frame, base: Flow, swirls: Sequence[Swirl]) -> Flow:
    """Return the base flow, replaced by a vortex near each swirl's centre."""
    u, v = base.u.copy(), base.v.copy()
    for swirl in swirls:
        dx, dy, r = frame.offset(swirl.centre)
        weight = 3 * np.exp(-((r / (swirl.radius * frame.scale)) ** 2)) / r
        u += weight * (-swirl.turn * dy - swirl.pull * dx)
        v += weight * (swirl.turn * dx - swirl.pull * dy)
    return Flow.along(u, v)
