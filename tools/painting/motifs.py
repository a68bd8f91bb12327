"""Motifs: functions that build the regions of a scene."""

import math
from collections.abc import Iterator, Sequence

import numpy as np

from . import palettes as colours
from .fields import Array, Frame, Point, distances, smooth_noise, smoothstep
from .flows import Flow, Swirl, add_swirls
from .palettes import Palette
from .strokes import Brush, Paint, Region


def sky(
    frame: Frame,
    palettes: tuple[Palette, Palette, Palette],
    swirls: Sequence[Swirl],
    lights: Sequence[Paint],
) -> Region:
    """A windy sky with swirls; the palettes colour its body, its bright bands and its accents."""
    wave = 0.45 * np.sin(9 * frame.x / frame.width + 0.6) + 0.42 * frame.noise(70, 40)
    flow = add_swirls(frame, Flow.at_angle(wave), swirls)
    bands = flow.streaks(frame.noise(11, 11), 120 * frame.scale)
    threads = flow.streaks(frame.noise(3, 3), 50 * frame.scale)
    tone = 0.40 + 0.18 * bands + 0.10 * threads
    body, bright, accent = palettes
    paints = [
        Paint(body, frame.full(1), tone),
        Paint(bright, 1.6 * smoothstep(bands, 0.5, 1.8), 0.40 + 0.22 * threads + 0.08 * bands),
        Paint(accent, frame.full(0.12), tone + 0.1),
        *lights,
    ]
    brushes = [
        Brush(24, 90, 1.6, body=0.7),
        Brush(12, 62, 1.4),
        Brush(7, 46, 1.2, spread=0.13),
        Brush(4.5, 28, 0.35, body=1.3, lift=0.12, spread=0.15),
    ]
    return Region(frame.y < 0.66 * frame.height, flow, paints, brushes)


def halo(frame: Frame, centre: Point, radius: float, palette: Palette, core: float) -> Paint:
    """Rings of light around a core: the palette ends at the core and begins far from it."""
    r = frame.offset(centre)[2] / frame.scale
    out = np.maximum(r - core, 0) / (radius - core)
    rings = 0.10 * np.cos(2 * np.pi * np.maximum(r - core, 0) / 22)
    return Paint(palette, 12 * np.exp(-((1.45 * out) ** 4)), 0.95 - 0.95 * out + rings)


def disc(frame: Frame, centre: Point, radius: float, palette: Palette) -> Region:
    """A sun, a moon, a star or a lamp, painted thick and round."""
    dx, dy, r = frame.offset(centre)
    far, right = r / (radius * frame.scale), dx / (radius * frame.scale)
    width = min(12.0, 0.45 * radius)
    return Region(
        mask=far < 1,
        flow=Flow.along(-dy - 0.1 * dx, dx - 0.1 * dy),
        paints=[Paint(palette, frame.full(1), 1 - 0.6 * far**2 - 0.2 * right)],
        brushes=[
            Brush(width, 2.5 * width, 2.5, body=1.2),
            Brush(0.6 * width, 2.2 * width, 2, body=1.5, spread=0.13),
        ],
    )


def hill(frame: Frame, palette: Palette, base: float, rise: float, lift: float) -> Region:
    """A ridge around the height `base`, lighter by `lift`, whose strokes run down the slope."""
    ridge = smooth_noise(frame.rng, (1, frame.width), (0, 70 * frame.scale)).clip(-1.5, 1.5)
    crest = (base - rise * ridge) * frame.height
    below = (frame.y - crest) / (0.1 * frame.height)
    flow = Flow.at_angle(np.arctan(np.gradient(crest, axis=1)) + 0.5 * smoothstep(below, 0, 1.5))
    tone = 0.55 + lift - 0.45 * below + 0.14 * flow.streaks(frame.noise(5, 5), 50 * frame.scale)
    return Region(
        mask=(below > 0) & (frame.y < 0.68 * frame.height),
        flow=flow,
        paints=[Paint(palette, frame.full(1), tone), Paint(colours.DUSK, frame.full(0.15), tone)],
        brushes=[Brush(14, 50, 2), Brush(8, 36, 1.6), Brush(5, 24, 0.5, lift=0.14)],
    )


def lake(frame: Frame, moon: Point, lamps: Sequence[Point]) -> Region:
    """Water that reflects the moon and the lamps of the far shore."""
    flow = Flow.at_angle(0.10 * frame.noise(40, 12))
    ripples = flow.streaks(frame.noise(7, 3), 40 * frame.scale)
    deep = frame.y / frame.height - 0.635
    off = np.abs(frame.offset(moon)[0]) / frame.width
    path = (
        3.5 * np.exp(-((off / (0.05 + 0.28 * np.abs(deep))) ** 2)) * smoothstep(ripples, -0.8, 0.9)
    )
    paints = [
        Paint(colours.WATER, frame.full(1), 0.46 + 0.2 * ripples - 0.5 * deep),
        Paint(colours.GLITTER, path, 0.62 + 0.24 * ripples - 2.2 * off),
        Paint(colours.DUSK, frame.full(0.12), 0.5 + 0.2 * ripples),
    ]
    for lamp in lamps:
        column = np.exp(-((frame.offset(lamp)[0] / (7 * frame.scale)) ** 2))
        gleam = 3 * column * np.exp(-((deep / 0.07) ** 2))
        paints.append(Paint(colours.GLITTER, gleam, 0.45 + 0.15 * ripples))
    brushes = [
        Brush(14, 60, 2),
        Brush(8, 38, 1.8),
        Brush(5.5, 26, 0.9, lift=0.08, body=1.2, spread=0.13),
    ]
    mask = (deep > 0) & (frame.y < 0.90 * frame.height)
    return Region(mask, flow, paints, brushes, wander=0.06)


def furrows(frame: Frame, vanishing: Point) -> Region:
    """Rows of lavender and green that run to a vanishing point."""
    dx, dy, _ = frame.offset(vanishing)
    row = np.sin(8 * dx / (np.abs(dy) + 1) + 0.4 * frame.noise(30, 30) + 0.5)
    streaks = frame.noise(8, 5)
    paints = [
        Paint(colours.GREEN, frame.full(1), 0.62 + 0.2 * row + 0.12 * streaks),
        Paint(colours.LAVENDER, 5 * smoothstep(row, -0.1, 0.5), 0.25 + 0.35 * row + 0.14 * streaks),
        Paint(colours.WHEAT, 0.35 * smoothstep(-row, 0.2, 0.9), frame.full(0.7)),
    ]
    brushes = [
        Brush(15, 50, 2),
        Brush(9, 34, 2),
        Brush(6, 20, 1.3, body=1.4, lift=0.08, spread=0.15),
    ]
    return Region(
        mask=(frame.y > 0.60 * frame.height) & (frame.y < 0.92 * frame.height),
        flow=Flow.along(dx, dy),
        paints=paints,
        brushes=brushes,
        size=np.clip(0.3 + 2.4 * dy / frame.height, 0.45, 1.2),
        downward=True,
        wander=0.25,
    )


def wheat(frame: Frame, crest: Array, light: float, red: float) -> Region:
    """A field in the wind, below its crest (fractions of the height); `red` weights the poppies."""
    depth = (frame.y / frame.height - crest - 0.006 * frame.noise(20, 400)) / 0.22
    gusts, waves = frame.noise(60, 26), frame.noise(50, 10)
    lean = 0.45 * gusts + 0.45 * np.sin(5 * frame.x / frame.width)
    paints = [
        Paint(colours.WHEAT, frame.full(1), light + 0.19 * waves + 0.13 * gusts - 0.1 * depth),
        Paint(colours.SHADE, 0.2 + 1.2 * smoothstep(-waves, 0.5, 1.6), 0.45 + 0.2 * gusts),
        Paint(colours.POPPY, red * smoothstep(frame.noise(24, 9), 1.0, 2.0), frame.full(0.6)),
    ]
    brushes = [
        Brush(18, 60, 2),
        Brush(10, 56, 2.2),
        Brush(6.5, 44, 1.8, body=1.3, lift=0.08, spread=0.16),
        Brush(6, 16, 0.3, body=1.6, lift=0.25, spread=0.15),
    ]
    return Region(
        mask=depth > 0,
        flow=Flow.at_angle(lean - 1.2),
        paints=paints,
        brushes=brushes,
        size=0.5 + 0.6 * np.clip(depth, 0, 1),
        downward=True,
        wander=0.2,
    )


def poppies(frame: Frame, number: int) -> Iterator[Region]:
    """Single flowers over the bottom of the image, larger where they are nearer."""
    for near in np.sort(frame.rng.random(number)).tolist():
        centre = (frame.rng.random(), 0.87 + 0.12 * near)
        petals = Paint(colours.POPPY, frame.full(1), frame.full(0.7))
        yield clump(frame, centre, frame.rng.uniform(3, 5) + 4 * near, petals, -1)


LIMBS: list[tuple[list[Point], float, float]] = [  # spine from the foot; width at root and at tip
    ([(14, 10), (2, -40), (-18, -90), (-14, -150), (6, -220)], 40, 12),
    ([(-17, -95), (-45, -140), (-85, -165), (-120, -205)], 17, 6),
    ([(-14, -150), (-40, -200), (-55, -260)], 14, 5),
    ([(-16, -125), (30, -170), (70, -185)], 15, 6),
]


def tree(frame: Frame, foot: Point, palette: Palette, side: float) -> Iterator[Region]:
    """A tree bent by the wind, lit from the left, or from the right with side −1."""
    root = np.array(frame.to_pixels(foot), dtype=np.float32)
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
        leaf = Paint(palette, frame.full(1), frame.full(0.38 - 0.0011 * x))
        yield clump(frame, fraction, frame.rng.uniform(26, 44), leaf, side)


def limb(frame: Frame, spine: Array, root: float, tip: float) -> Region:
    """A trunk or a branch along a spine in pixels, with its width at root and at tip."""
    along, across, total = distances(spine, slice(0, frame.height), slice(0, frame.width))
    far = along / total
    half = (root + (tip - root) * far**0.7) * frame.scale / 2
    tone = 0.40 + 0.45 * across / half + 0.1 * frame.noise(3, 3)
    return Region(
        mask=(np.abs(across) < half) & (far > 0) & (far < 1),
        flow=Flow.along(np.gradient(along, axis=1), np.gradient(along, axis=0)),
        paints=[
            Paint(colours.BARK, frame.full(1), tone),
            Paint(colours.DUSK, frame.full(0.12), tone),
        ],
        brushes=[Brush(8, 40, 3), Brush(4.5, 30, 1.5, body=1.3)],
    )


def clump(frame: Frame, centre: Point, radius: float, leaf: Paint, side: float) -> Region:
    """A curl of leaves, lit from one side and from above."""
    dx, dy, _ = frame.offset(centre)
    x, y = side * dx / (radius * frame.scale), dy / (radius * frame.scale)
    lit = Paint(leaf.palette, leaf.weight, leaf.tone - 0.27 * (0.8 * x + y))
    return Region(
        mask=np.hypot(x, 1.5 * y) + 0.2 * frame.noise(9, 9) < 1,
        flow=Flow.along(side * (-1.5 * y - 0.3 * x - 0.25), x - 0.3 * y - 0.18),
        paints=[lit, Paint(colours.NIGHT, frame.full(0.10), frame.full(0.4))],
        brushes=[
            Brush(11, 34, 1.8),
            Brush(7, 24, 1.6, body=1.2),
            Brush(5, 16, 0.7, body=1.4, lift=0.12),
        ],
        wander=0.35,
    )
