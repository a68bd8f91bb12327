"""Paint an image in oils, stroke by stroke, from a seed.

A scene is a list of passages, painted back to front. A passage has a shape, a flow that its
strokes follow, and voices: palettes that compete for each stroke. Brushes go over it from the
broad to the fine. Paint lies on the canvas as colour and as height, and the height is lit at
the end, as impasto is.

Points are fractions of the image's width and height; radii, brushes and the scale of noise are
pixels of a reference image of 768 × 614, so that a scene looks alike at every size.
"""

import argparse
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Array = NDArray[np.floating[Any]]
Mask = NDArray[np.bool_]
Palette = Array  # (pigments, 3), red, green, blue from 0 to 1: dark to light, or far to near
Point = tuple[float, float]

REFERENCE = math.sqrt(768 * 614)
FINEST = 3.2  # no brush is narrower, in pixels, however small the image
REACH = 4  # points on the spine of a stroke, each way from its middle
SMALLEST, LARGEST = 16, 4096  # pixels along a side


# Fields: arrays of the image's size


@dataclass(frozen=True)
class Frame:
    """The image's pixels, and the chance that its seed sets going."""

    width: int
    height: int
    rng: np.random.Generator

    @property
    def scale(self) -> float:
        """Pixels for one pixel of the reference."""
        return math.sqrt(self.width * self.height) / REFERENCE

    @cached_property
    def x(self) -> Array:
        return np.tile(np.arange(self.width, dtype=np.float32), (self.height, 1))

    @cached_property
    def y(self) -> Array:
        return np.tile(np.arange(self.height, dtype=np.float32)[:, None], (1, self.width))

    def place(self, point: Point) -> Point:
        """A point in pixels."""
        return point[0] * self.width, point[1] * self.height

    def offset(self, point: Point) -> tuple[Array, Array, Array]:
        """For every pixel: the way from a point, as dx, dy and length, in pixels."""
        x, y = self.place(point)
        dx, dy = self.x - x, self.y - y
        return dx, dy, np.hypot(dx, dy) + 1e-3

    def full(self, value: float) -> Array:
        return np.full((self.height, self.width), value, dtype=np.float32)

    def noise(self, x: float, y: float) -> Array:
        """Smooth noise over the image, x and y its scale along each axis."""
        shape, scale = (self.height, self.width), self.scale
        return smooth_noise(self.rng, shape, (y * scale, x * scale))


def smooth_noise(
    rng: np.random.Generator, shape: tuple[int, int], sigma: tuple[float, float]
) -> Array:
    """Gaussian-filtered white noise of mean 0 and deviation 1; sigma in pixels along each axis."""
    fy, fx = np.fft.fftfreq(shape[0])[:, None], np.fft.rfftfreq(shape[1])[None, :]
    damping = np.exp(-2 * np.pi**2 * ((fy * sigma[0]) ** 2 + (fx * sigma[1]) ** 2))
    noise = np.fft.irfft2(np.fft.rfft2(rng.standard_normal(shape)) * damping, s=shape)
    return standardised(noise.astype(np.float32))


def standardised(field: Array) -> Array:
    standard: Array = (field - field.mean()) / (field.std() + 1e-6)
    return standard


def ramp(field: Array, low: float, high: float) -> Array:
    """Rise smoothly from 0 at low to 1 at high."""
    t: Array = np.clip((field - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)


def sample(field: NDArray[Any], x: Array, y: Array) -> NDArray[Any]:
    """Look the field up at points: the nearest pixel's value, clamped at the border."""
    rows, columns = field.shape
    j = np.clip(np.rint(y), 0, rows - 1).astype(np.intp)
    i = np.clip(np.rint(x), 0, columns - 1).astype(np.intp)
    return field[j, i]


# Flows: the directions that strokes follow


@dataclass(frozen=True)
class Flow:
    """A unit vector for every pixel."""

    u: Array
    v: Array

    @classmethod
    def along(cls, u: Array, v: Array) -> "Flow":
        length = np.hypot(u, v) + 1e-6
        return cls(u / length, v / length)

    @classmethod
    def at_angle(cls, angle: Array) -> "Flow":
        return cls(np.cos(angle), np.sin(angle))

    def streaked(self, noise: Array, reach: float) -> Array:
        """Noise drawn out along the flow, so that its bands run as the strokes run."""
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
    """A vortex; a negative turn runs against the clock, a pull draws it inward."""

    centre: Point
    radius: float
    turn: float
    pull: float = 0.0


def stirred(frame: Frame, base: Flow, swirls: Sequence[Swirl]) -> Flow:
    """A base flow that gives way to each vortex near it."""
    u, v = base.u.copy(), base.v.copy()
    for swirl in swirls:
        dx, dy, r = frame.offset(swirl.centre)
        weight = 3 * np.exp(-((r / (swirl.radius * frame.scale)) ** 2)) / r
        u += weight * (-swirl.turn * dy - swirl.pull * dx)
        v += weight * (swirl.turn * dx - swirl.pull * dy)
    return Flow.along(u, v)


# Strokes: what a brush makes of a passage


@dataclass(frozen=True)
class Voice:
    """A palette, how loud it is at each pixel, and the tone from 0 to 1 that it has there."""

    palette: Palette
    presence: Array
    tone: Array


@dataclass(frozen=True)
class Brush:
    """The size of its strokes, and how often they cover the shape."""

    width: float
    length: float
    coverage: float
    body: float = 1.0  # thickness of the paint
    lift: float = 0.0  # added to the tone
    spread: float = 0.09  # deviation of the tone from stroke to stroke


@dataclass(frozen=True)
class Passage:
    """One part of the image."""

    shape: Mask
    flow: Flow
    voices: Sequence[Voice]
    brushes: Sequence[Brush]
    size: Array | None = None  # brushes are larger by this factor: perspective
    downward: bool = False  # strokes in order from the top of the image to the bottom
    wander: float = 0.12  # deviation of a stroke's direction, in radians


@dataclass(frozen=True)
class Stroke:
    """A spine (points, 2) of x and y in pixels, and two paints on one brush."""

    spine: Array
    width: float
    body: float
    colour: Array
    second: Array
    grain: NDArray[np.int64]  # which part of the brush's texture


def strokes(
    rng: np.random.Generator, scale: float, part: Passage, brush: Brush
) -> Iterator[Stroke]:
    """All strokes of one brush over one passage, in the order of painting."""
    width = max(brush.width * scale, FINEST)
    length = max(brush.length * scale, 2.5 * FINEST)
    size = np.ones(part.shape.shape, np.float32) if part.size is None else part.size
    x, y = scatter(rng, part.shape / size**2, brush.coverage / (width * length))
    if part.downward:
        order = np.argsort(y, kind="stable")
        x, y = x[order], y[order]
    size = sample(size, x, y)
    widths = np.maximum(width * size * rng.uniform(0.75, 1.25, x.size), 0.8 * FINEST)
    lengths = length * size * rng.uniform(0.65, 1.35, x.size)
    turns = rng.normal(0, part.wander, x.size)
    ahead, in_front = trace(part, x, y, lengths / 2, turns)
    back, behind = trace(part, x, y, -lengths / 2, turns)
    spines = np.concatenate([back[:, ::-1], np.stack([x, y], axis=1)[:, None], ahead], axis=1)
    colours, seconds = (choose_colours(rng, part, brush, x, y) for _ in range(2))
    grains = rng.integers(0, 1 << 16, (x.size, 2))
    for n in np.flatnonzero(in_front + behind >= 2):
        spine = spines[n, REACH - behind[n] : REACH + 1 + in_front[n]]
        yield Stroke(spine, float(widths[n]), brush.body, colours[n], seconds[n], grains[n])


def scatter(rng: np.random.Generator, density: Array, rate: float) -> tuple[Array, Array]:
    """Random points, as x and y: on average rate × density of them in each pixel."""
    levels = np.cumsum(density, dtype=np.float64)
    found = np.searchsorted(levels, levels[-1] * rng.random(math.ceil(rate * levels[-1])), "right")
    rows, columns = np.divmod(found, density.shape[1])
    jitter = rng.random((2, found.size), dtype=np.float32) - 0.5
    return columns.astype(np.float32) + jitter[0], rows.astype(np.float32) + jitter[1]


def trace(
    part: Passage, x: Array, y: Array, length: Array, turn: Array
) -> tuple[Array, NDArray[np.intp]]:
    """Follow the flow from each point: points (strokes, REACH, 2), and how many are inside."""
    step, cos, sin = length / REACH, np.cos(turn), np.sin(turn)
    points = np.empty((x.size, REACH, 2), dtype=np.float32)
    inside = np.ones(x.size, dtype=np.bool_)
    count = np.zeros(x.size, dtype=np.intp)
    for n in range(REACH):
        u, v = sample(part.flow.u, x, y), sample(part.flow.v, x, y)
        x, y = x + step * (cos * u - sin * v), y + step * (sin * u + cos * v)
        points[:, n, 0], points[:, n, 1] = x, y
        inside &= sample(part.shape, x, y)
        count += inside
    return points, count


def choose_colours(
    rng: np.random.Generator, part: Passage, brush: Brush, x: Array, y: Array
) -> Array:
    """Pick a voice for each stroke by its presence there, then a colour by its tone there."""
    levels = np.cumsum([sample(voice.presence, x, y) for voice in part.voices], axis=0)
    chosen = (rng.random(x.size) * levels[-1] >= levels).sum(axis=0)
    wobble = rng.normal(brush.lift, brush.spread, x.size)
    colours = rng.normal(0, 0.018, (x.size, 3)).astype(np.float32)
    for index, voice in enumerate(part.voices):
        mine = chosen == index
        colours[mine] += mixed(voice.palette, (sample(voice.tone, x, y) + wobble)[mine])
    return colours


def mixed(palette: Palette, tone: Array) -> Array:
    """Colours at tones from 0 to 1; between two pigments mostly the nearer one."""
    position = np.clip(tone, 0, 1) * (len(palette) - 1)
    below = np.minimum(position.astype(np.intp), len(palette) - 2)
    share = ramp(position - below, 0.25, 0.75)[:, None]
    colours: Array = palette[below] * (1 - share) + palette[below + 1] * share
    return colours


# The canvas: where strokes leave colour and height


class Canvas:
    """A primed canvas: colour (height, width, 3) from 0 to 1, relief in thicknesses of paint."""

    def __init__(self, frame: Frame, ground: Array) -> None:
        self.colour: Array = np.empty((frame.height, frame.width, 3), dtype=np.float32)
        self.colour[:] = ground
        self.relief: Array = 0.12 * np.sin(2.1 * frame.x) * np.sin(2.1 * frame.y)
        self.bristles = 0.5 + 0.25 * smooth_noise(frame.rng, (256, 256), (0.9, 22))
        self.load = smooth_noise(frame.rng, (256, 256), (2.2, 34))

    def wash(self, part: Passage) -> None:
        """Thin the first voice's colours over the shape, so that gaps between strokes belong."""
        voice, shape = part.voices[0], part.shape
        thin = mixed(voice.palette, voice.tone[shape] - 0.12)
        self.colour[shape] += 0.8 * (thin - self.colour[shape])

    def lay(self, stroke: Stroke) -> None:
        """Leave one stroke."""
        rows, columns = self._around(stroke)
        along, across, total = ribbon(stroke.spine, rows, columns)
        far, side = along / total, across / (stroke.width / 2)
        hair = grained(self.bristles, along, across, stroke.grain)
        streak = 0.8 * ramp(grained(self.load, along, across, stroke.grain), 0.2, 1.1)[..., None]
        colour = stroke.colour + streak * (stroke.second - stroke.colour)
        colour *= (0.88 + 0.24 * hair)[..., None]
        height = stroke.body * min(stroke.width / 9, 1.6) * thickness(far, side, hair)
        cover = opacity(far, side, hair, stroke.width)
        self.relief[rows, columns] += cover * (height - 0.6 * self.relief[rows, columns])
        self.colour[rows, columns] += cover[..., None] * (colour - self.colour[rows, columns])

    def _around(self, stroke: Stroke) -> tuple[slice, slice]:
        """Rows and columns of the canvas that the stroke may touch."""
        margin = stroke.width / 2 + 1
        low = np.floor(stroke.spine.min(axis=0) - margin).astype(int)
        high = np.ceil(stroke.spine.max(axis=0) + margin).astype(int) + 1
        left, top = np.maximum(low, 0)
        right, bottom = np.minimum(high, self.relief.shape[::-1])
        return slice(top, bottom), slice(left, right)

    def lit(self) -> Array:
        """Colours under a light from the upper left."""
        down, right = np.gradient(self.relief)
        slope = np.tanh(1.1 * (down + right))
        gloss = 0.16 * np.maximum(slope - 0.35, 0) ** 1.5
        lit: Array = self.colour * (1 + 0.3 * slope)[..., None] + gloss[..., None]
        return lit.clip(0, 1)


def ribbon(spine: Array, rows: slice, columns: slice) -> tuple[Array, Array, float]:
    """For every pixel: the way along the spine, the signed way across it; and its length."""
    start, step = spine[:-1, :, None, None], np.diff(spine, axis=0)[:, :, None, None]
    lengths = np.hypot(step[:, 0], step[:, 1]) + 1e-4
    dx = np.arange(columns.start, columns.stop, dtype=np.float32) - start[:, 0]
    dy = np.arange(rows.start, rows.stop, dtype=np.float32)[:, None] - start[:, 1]
    share = np.clip((dx * step[:, 0] + dy * step[:, 1]) / lengths**2, 0, 1)
    dx, dy = dx - share * step[:, 0], dy - share * step[:, 1]
    squared = dx * dx + dy * dy
    nearest = np.argmin(squared, axis=0)[None]
    signs = np.sign(step[:, 0] * dy - step[:, 1] * dx)
    before = np.cumsum(lengths, axis=0) - lengths
    along = np.take_along_axis(before + share * lengths, nearest, axis=0)[0]
    across = np.take_along_axis(np.sqrt(squared) * signs, nearest, axis=0)[0]
    return along, across, float(lengths.sum())


def grained(texture: Array, along: Array, across: Array, corner: NDArray[np.int64]) -> Array:
    """A texture that runs with the stroke, read from a corner of its own."""
    row = ((2 * across).astype(np.intp) + corner[0]) % texture.shape[0]
    column = (along.astype(np.intp) + corner[1]) % texture.shape[1]
    grain: Array = texture[row, column]
    return grain


def opacity(far: Array, side: Array, hair: Array, width: float) -> Array:
    """Cover from 0 to 1: ragged at the sides, running dry towards the end."""
    taper = np.minimum(1, 0.55 + 3 * far) * (1 - 0.35 * far**3)
    edge: Array = (taper - np.abs(side)) * (width / 2) + 2.2 * (hair - 0.5)
    dry = ramp(hair + 1.15 - 1.25 * far**2, 0.1, 0.6)
    within: Array = (edge + 0.5).clip(0, 1)
    return 0.97 * dry * within


def thickness(far: Array, side: Array, hair: Array) -> Array:
    """Height of the paint: furrowed by the hairs, ridged at the sides and where it stops."""
    ridge = 0.5 * np.exp(-(((np.abs(side) - 0.75) / 0.2) ** 2))
    heap = 0.6 * np.exp(-(((far - 0.93) / 0.1) ** 2))
    height: Array = 0.45 + 1.5 * (hair - 0.5) + ridge + heap
    return height


# Palettes


def pigments(codes: str) -> Palette:
    """A palette from hexadecimal colours."""
    return np.frombuffer(bytes.fromhex(codes), np.uint8).reshape(-1, 3).astype(np.float32) / 255


GROUND = pigments("966034")[0]

NIGHT = pigments("080c2c 101c58 1a368c 285cb2 5494c6 a6cecc")
STREAK = pigments("3070a0 6eacb8 bed0a8 f0de88 faf4d6")
DUSK = pigments("241e58 483c84 686eac 78a0aa")
HALO = pigments("1c528c 3c8296 8cb878 ecce60 f6b42c ec861e")
STAR = pigments("2054a0 60a8b4 e2d678 facc4a fff8dc")
MOON = pigments("f4aa32 fcce5c ffe48c fff0ba fffae2")
HILL = pigments("0c0e28 181c48 263268 2c5470 60806e")
WATER = pigments("081234 102c60 1a4e86 327aa0 78b0b2")
GLITTER = pigments("b0541e ec8c1c fabe3c fcdc78 fff4ce")
WHEAT = pigments("462614 804616 c0741a e6a42a f6cc56 fcf0be")
SHADE = pigments("0e183a 183a58 246054 68843c")
POPPY = pigments("821814 ce301a ee602c")
LEAF = pigments("060e1e 0a242c 164238 3a6834 8c9438 e8c45a")
BARK = pigments("0c0816 281820 583224 aa6c38")

MORNING = pigments("146088 2c88a4 5cb2b8 96d0be cee4bc f6f0ce")
CLOUD = pigments("7896be cebec4 f8cea0 fce6be fffaec")
MINT = pigments("286e96 469696 82bea0 c8dc96")
BLAZE = pigments("78c4b0 cedc8c f8dc60 fcbe32 f4921e e8681a")
SUN = pigments("f69618 fcbe28 ffdc50 ffee8c fffad6")
RANGE = pigments("2c2868 424c96 5476b0 709eb0 aac4a0")
GREEN = pigments("10363c 1c6042 488e3c 8cb442 d2d464")
LAVENDER = pigments("2c1c54 54388c 805cb4 b092d0 e2c8dc")
OLIVE = pigments("0e2432 16463e 3c743c 7c9c40 c8c454 fae896")


# Motifs: passages that scenes are made of


def sky(
    frame: Frame,
    palettes: tuple[Palette, Palette, Palette],
    swirls: Sequence[Swirl],
    lights: Sequence[Voice],
) -> Passage:
    """Wind that the swirls stir; the palettes are for its body, its bright bands, its accents."""
    wave = 0.45 * np.sin(9 * frame.x / frame.width + 0.6) + 0.42 * frame.noise(70, 40)
    flow = stirred(frame, Flow.at_angle(wave), swirls)
    bands = flow.streaked(frame.noise(11, 11), 120 * frame.scale)
    threads = flow.streaked(frame.noise(3, 3), 50 * frame.scale)
    tone = 0.40 + 0.18 * bands + 0.10 * threads
    body, bright, accent = palettes
    voices = [
        Voice(body, frame.full(1), tone),
        Voice(bright, 1.6 * ramp(bands, 0.5, 1.8), 0.40 + 0.22 * threads + 0.08 * bands),
        Voice(accent, frame.full(0.12), tone + 0.1),
        *lights,
    ]
    brushes = [
        Brush(24, 90, 1.6, body=0.7),
        Brush(12, 62, 1.4),
        Brush(7, 46, 1.2, spread=0.13),
        Brush(4.5, 28, 0.35, body=1.3, lift=0.12, spread=0.15),
    ]
    return Passage(frame.y < 0.66 * frame.height, flow, voices, brushes)


def halo(frame: Frame, centre: Point, radius: float, palette: Palette, core: float) -> Voice:
    """Rings of light around a core: the palette's end at the core, its beginning far out."""
    r = frame.offset(centre)[2] / frame.scale
    out = np.maximum(r - core, 0) / (radius - core)
    rings = 0.10 * np.cos(2 * np.pi * np.maximum(r - core, 0) / 22)
    return Voice(palette, 12 * np.exp(-((1.45 * out) ** 4)), 0.95 - 0.95 * out + rings)


def disc(frame: Frame, centre: Point, radius: float, palette: Palette) -> Passage:
    """A moon, a star, a lamp or a poppy, laid on thick and round."""
    dx, dy, r = frame.offset(centre)
    far, right = r / (radius * frame.scale), dx / (radius * frame.scale)
    width = min(12.0, 0.45 * radius)
    return Passage(
        shape=far < 1,
        flow=Flow.along(-dy - 0.1 * dx, dx - 0.1 * dy),
        voices=[Voice(palette, frame.full(1), 1 - 0.6 * far**2 - 0.2 * right)],
        brushes=[
            Brush(width, 2.5 * width, 2.5, body=1.2),
            Brush(0.6 * width, 2.2 * width, 2, body=1.5, spread=0.13),
        ],
    )


def hill(frame: Frame, palette: Palette, base: float, rise: float, lift: float) -> Passage:
    """A ridge around the height `base`, lighter by `lift`; its strokes run down the slope."""
    ridge = smooth_noise(frame.rng, (1, frame.width), (0, 70 * frame.scale)).clip(-1.5, 1.5)
    crest = (base - rise * ridge) * frame.height
    below = (frame.y - crest) / (0.1 * frame.height)
    flow = Flow.at_angle(np.arctan(np.gradient(crest, axis=1)) + 0.5 * ramp(below, 0, 1.5))
    tone = 0.55 + lift - 0.45 * below + 0.14 * flow.streaked(frame.noise(5, 5), 50 * frame.scale)
    return Passage(
        shape=(below > 0) & (frame.y < 0.68 * frame.height),
        flow=flow,
        voices=[Voice(palette, frame.full(1), tone), Voice(DUSK, frame.full(0.15), tone)],
        brushes=[Brush(14, 50, 2), Brush(8, 36, 1.6), Brush(5, 24, 0.5, lift=0.14)],
    )


def lake(frame: Frame, moon: Point, lamps: Sequence[Point]) -> Passage:
    """Water with the moon's path on it, and the lamps of the far shore."""
    flow = Flow.at_angle(0.10 * frame.noise(40, 12))
    ripples = flow.streaked(frame.noise(7, 3), 40 * frame.scale)
    deep = frame.y / frame.height - 0.635
    off = np.abs(frame.offset(moon)[0]) / frame.width
    path = 3.5 * np.exp(-((off / (0.05 + 0.28 * np.abs(deep))) ** 2)) * ramp(ripples, -0.8, 0.9)
    voices = [
        Voice(WATER, frame.full(1), 0.46 + 0.2 * ripples - 0.5 * deep),
        Voice(GLITTER, path, 0.62 + 0.24 * ripples - 2.2 * off),
        Voice(DUSK, frame.full(0.12), 0.5 + 0.2 * ripples),
    ]
    for lamp in lamps:
        column = np.exp(-((frame.offset(lamp)[0] / (7 * frame.scale)) ** 2))
        gleam = 3 * column * np.exp(-((deep / 0.07) ** 2))
        voices.append(Voice(GLITTER, gleam, 0.45 + 0.15 * ripples))
    brushes = [
        Brush(14, 60, 2),
        Brush(8, 38, 1.8),
        Brush(5.5, 26, 0.9, lift=0.08, body=1.2, spread=0.13),
    ]
    shape = (deep > 0) & (frame.y < 0.90 * frame.height)
    return Passage(shape, flow, voices, brushes, wander=0.06)


def furrows(frame: Frame, vanishing: Point) -> Passage:
    """Rows of lavender and green that run to a vanishing point."""
    dx, dy, _ = frame.offset(vanishing)
    row = np.sin(8 * dx / (np.abs(dy) + 1) + 0.4 * frame.noise(30, 30) + 0.5)
    streaks = frame.noise(8, 5)
    voices = [
        Voice(GREEN, frame.full(1), 0.62 + 0.2 * row + 0.12 * streaks),
        Voice(LAVENDER, 5 * ramp(row, -0.1, 0.5), 0.25 + 0.35 * row + 0.14 * streaks),
        Voice(WHEAT, 0.35 * ramp(-row, 0.2, 0.9), frame.full(0.7)),
    ]
    brushes = [
        Brush(15, 50, 2),
        Brush(9, 34, 2),
        Brush(6, 20, 1.3, body=1.4, lift=0.08, spread=0.15),
    ]
    return Passage(
        shape=(frame.y > 0.60 * frame.height) & (frame.y < 0.92 * frame.height),
        flow=Flow.along(dx, dy),
        voices=voices,
        brushes=brushes,
        size=np.clip(0.3 + 2.4 * dy / frame.height, 0.45, 1.2),
        downward=True,
        wander=0.25,
    )


def wheat(frame: Frame, crest: Array, light: float, red: float) -> Passage:
    """A field in the wind, below its crest (a fraction of the height); red is among it."""
    depth = (frame.y / frame.height - crest - 0.006 * frame.noise(20, 400)) / 0.22
    gusts, waves = frame.noise(60, 26), frame.noise(50, 10)
    lean = 0.45 * gusts + 0.45 * np.sin(5 * frame.x / frame.width)
    voices = [
        Voice(WHEAT, frame.full(1), light + 0.19 * waves + 0.13 * gusts - 0.1 * depth),
        Voice(SHADE, 0.2 + 1.2 * ramp(-waves, 0.5, 1.6), 0.45 + 0.2 * gusts),
        Voice(POPPY, red * ramp(frame.noise(24, 9), 1.0, 2.0), frame.full(0.6)),
    ]
    brushes = [
        Brush(18, 60, 2),
        Brush(10, 56, 2.2),
        Brush(6.5, 44, 1.8, body=1.3, lift=0.08, spread=0.16),
        Brush(6, 16, 0.3, body=1.6, lift=0.25, spread=0.15),
    ]
    return Passage(
        shape=depth > 0,
        flow=Flow.at_angle(lean - 1.2),
        voices=voices,
        brushes=brushes,
        size=0.5 + 0.6 * np.clip(depth, 0, 1),
        downward=True,
        wander=0.2,
    )


def poppies(frame: Frame, number: int) -> Iterator[Passage]:
    """Single flowers over the bottom of the image, the nearer the larger."""
    for near in np.sort(frame.rng.random(number)).tolist():
        centre = (frame.rng.random(), 0.87 + 0.12 * near)
        petals = Voice(POPPY, frame.full(1), frame.full(0.7))
        yield clump(frame, centre, frame.rng.uniform(3, 5) + 4 * near, petals, -1)


LIMBS: list[tuple[list[Point], float, float]] = [  # spine from the foot, width at root and tip
    ([(14, 10), (2, -40), (-18, -90), (-14, -150), (6, -220)], 40, 12),
    ([(-17, -95), (-45, -140), (-85, -165), (-120, -205)], 17, 6),
    ([(-14, -150), (-40, -200), (-55, -260)], 14, 5),
    ([(-16, -125), (30, -170), (70, -185)], 15, 6),
]


def tree(frame: Frame, foot: Point, palette: Palette, side: float) -> Iterator[Passage]:
    """A tree that the wind has bent; light comes from the left, or with side −1 from the right."""
    root = np.array(frame.place(foot), dtype=np.float32)
    stretch = np.array([side, 1], dtype=np.float32) * frame.scale
    for spine, wide, narrow in LIMBS:
        yield limb(frame, root + np.array(spine, dtype=np.float32) * stretch, wide, narrow)
    centres = [spine[-1] for spine, _, _ in LIMBS]
    for _ in range(24):
        turn, reach = frame.rng.uniform(0, 2 * math.pi), math.sqrt(frame.rng.random())
        centres.append((124 * reach * math.cos(turn) - 20, 82 * reach * math.sin(turn) - 235))
    for x, y in centres:
        fraction = (
            foot[0] + side * x * frame.scale / frame.width,
            foot[1] + y * frame.scale / frame.height,
        )
        leaf = Voice(palette, frame.full(1), frame.full(0.38 - 0.0011 * x))
        yield clump(frame, fraction, frame.rng.uniform(26, 44), leaf, side)


def limb(frame: Frame, spine: Array, root: float, tip: float) -> Passage:
    """A trunk or a branch along its spine, which is in pixels; its width at root and tip."""
    along, across, total = ribbon(spine, slice(0, frame.height), slice(0, frame.width))
    far = along / total
    half = (root + (tip - root) * far**0.7) * frame.scale / 2
    tone = 0.40 + 0.45 * across / half + 0.1 * frame.noise(3, 3)
    return Passage(
        shape=(np.abs(across) < half) & (far > 0) & (far < 1),
        flow=Flow.along(np.gradient(along, axis=1), np.gradient(along, axis=0)),
        voices=[Voice(BARK, frame.full(1), tone), Voice(DUSK, frame.full(0.12), tone)],
        brushes=[Brush(8, 40, 3), Brush(4.5, 30, 1.5, body=1.3)],
    )


def clump(frame: Frame, centre: Point, radius: float, leaf: Voice, side: float) -> Passage:
    """A curl of leaves, lit from one side and from above."""
    dx, dy, _ = frame.offset(centre)
    x, y = side * dx / (radius * frame.scale), dy / (radius * frame.scale)
    lit = Voice(leaf.palette, leaf.presence, leaf.tone - 0.27 * (0.8 * x + y))
    return Passage(
        shape=np.hypot(x, 1.5 * y) + 0.2 * frame.noise(9, 9) < 1,
        flow=Flow.along(side * (-1.5 * y - 0.3 * x - 0.25), x - 0.3 * y - 0.18),
        voices=[lit, Voice(NIGHT, frame.full(0.10), frame.full(0.4))],
        brushes=[
            Brush(11, 34, 1.8),
            Brush(7, 24, 1.6, body=1.2),
            Brush(5, 16, 0.7, body=1.4, lift=0.12),
        ],
        wander=0.35,
    )


# Scenes


def night(frame: Frame) -> Iterator[Passage]:
    """A harvest moon over a lake, wheat before it, a tree in the wind."""
    moon = (0.27, 0.40)
    lamps = [(x, 0.628) for x in (0.45, 0.49, 0.55, 0.575, 0.66)]
    big_stars = [((0.07, 0.10), 34), ((0.40, 0.07), 27), ((0.90, 0.10), 42)]
    small_stars = [((0.56, 0.47), 20), ((0.07, 0.40), 22), ((0.22, 0.14), 20), ((0.72, 0.05), 18)]
    stars = big_stars + small_stars
    swirls = [
        Swirl((0.55, 0.26), 105, 1.0, pull=0.28),
        Swirl((0.75, 0.22), 82, -1.0, pull=0.25),
        Swirl(moon, 112, 1.4),
        *(Swirl(star, radius, 1.8) for star, radius in stars),
    ]
    moonlight = halo(frame, moon, 128, HALO, 40)
    starlight = [halo(frame, star, radius, STAR, 0) for star, radius in stars]
    across = frame.x / frame.width
    crest = 0.87 - 0.11 * ramp(across, 0.3, 1.0) - 0.04 * ramp(-across, -0.25, 0.05)

    yield sky(frame, (NIGHT, STREAK, DUSK), swirls, [moonlight, *starlight])
    for star, radius in stars:
        yield disc(frame, star, 0.24 * radius, STAR[2:])
    yield disc(frame, moon, 40, MOON)
    yield hill(frame, HILL, base=0.57, rise=0.033, lift=0.16)
    yield hill(frame, HILL, base=0.61, rise=0.024, lift=0.0)
    for lamp in lamps:
        yield disc(frame, lamp, 4.5, GLITTER[1:4])
    yield lake(frame, moon, lamps)
    yield from tree(frame, (0.87, 0.84), LEAF, side=1)
    yield wheat(frame, crest, light=0.56, red=0.7)


def meadow(frame: Frame) -> Iterator[Passage]:
    """A morning sun over lavender, wheat and poppies before it, a tree at the left."""
    sun = (0.66, 0.24)
    swirls = [
        Swirl((0.38, 0.20), 90, -1.0, pull=0.28),
        Swirl((0.93, 0.34), 70, 1.0, pull=0.25),
        Swirl((0.17, 0.42), 60, 1.0, pull=0.25),
        Swirl(sun, 120, -1.4),
    ]
    across = frame.x / frame.width
    crest = 0.80 + 0.07 * ramp(across, 0.1, 0.7) - 0.04 * ramp(across, 0.7, 1.0)

    yield sky(frame, (MORNING, CLOUD, MINT), swirls, [halo(frame, sun, 140, BLAZE, 44)])
    yield disc(frame, sun, 44, SUN)
    yield hill(frame, RANGE, base=0.53, rise=0.045, lift=0.2)
    yield hill(frame, RANGE, base=0.57, rise=0.02, lift=0.0)
    yield furrows(frame, (0.60, 0.52))
    yield from tree(frame, (0.17, 0.84), OLIVE, side=-1)
    yield wheat(frame, crest, light=0.62, red=1.2)
    yield from poppies(frame, 45)


THEMES: dict[str, Callable[[Frame], Iterator[Passage]]] = {"night": night, "meadow": meadow}


def paint(frame: Frame, theme: str) -> Image.Image:
    """Paint a theme's scene."""
    canvas = Canvas(frame, GROUND)
    for part in THEMES[theme](frame):
        canvas.wash(part)
        for brush in part.brushes:
            for stroke in strokes(frame.rng, frame.scale, part, brush):
                canvas.lay(stroke)
    return Image.fromarray(np.rint(255 * canvas.lit()).astype(np.uint8))


# The command line


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}\n")


def pixels(text: str) -> int:
    if not (text.isdecimal() and SMALLEST <= int(text) <= LARGEST):
        raise argparse.ArgumentTypeError(f"{text} is not from {SMALLEST} to {LARGEST} pixels")
    return int(text)


def seed(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text} is not a number from 0 up")
    return int(text)


def image_file(text: str) -> Path:
    path = Path(text)
    if path.suffix.lower() not in (".png", ".jpg", ".jpeg"):
        raise argparse.ArgumentTypeError(f"{path} does not end in .png or .jpg")
    if not path.parent.is_dir():
        raise argparse.ArgumentTypeError(f"{path.parent} is not a folder")
    return path


def main() -> None:
    parser = Parser(prog="paint", description="Paint an image in oils, from a seed.")
    parser.add_argument("-o", "--output", type=image_file, required=True, metavar="FILE")
    parser.add_argument("--theme", choices=sorted(THEMES), default="night")
    parser.add_argument("--seed", type=seed, default=7)
    parser.add_argument("--width", type=pixels, default=768)
    parser.add_argument("--height", type=pixels, default=614)
    options = parser.parse_args()
    frame = Frame(options.width, options.height, np.random.default_rng(options.seed))
    image = paint(frame, options.theme)
    try:
        image.save(options.output, quality=92)
    except OSError as error:
        parser.error(f"cannot write {options.output}: {error.strerror}")
    print(f"wrote {options.output}")


if __name__ == "__main__":
    main()
