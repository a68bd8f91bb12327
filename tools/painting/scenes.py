"""The compositions, and the function that paints one."""

from collections.abc import Callable, Iterator

import numpy as np
from PIL import Image

from . import palettes as colours
from .canvas import Canvas
from .fields import Frame, smoothstep
from .flows import Swirl
from .motifs import disc, furrows, halo, hill, lake, poppies, sky, tree, wheat
from .strokes import Region, strokes


def night(frame: Frame) -> Iterator[Region]:
    """A harvest moon over a lake; in front of it wheat and a tree in the wind."""
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
    moonlight = halo(frame, moon, 128, colours.HALO, 40)
    starlight = [halo(frame, star, radius, colours.STAR, 0) for star, radius in stars]
    across = frame.x / frame.width
    crest = 0.87 - 0.11 * smoothstep(across, 0.3, 1.0) - 0.04 * smoothstep(-across, -0.25, 0.05)

    yield sky(frame, (colours.NIGHT, colours.STREAK, colours.DUSK), swirls, [moonlight, *starlight])
    for star, radius in stars:
        yield disc(frame, star, 0.24 * radius, colours.STAR[2:])
    yield disc(frame, moon, 40, colours.MOON)
    yield hill(frame, colours.HILL, base=0.57, rise=0.033, lift=0.16)
    yield hill(frame, colours.HILL, base=0.61, rise=0.024, lift=0.0)
    for lamp in lamps:
        yield disc(frame, lamp, 4.5, colours.GLITTER[1:4])
    yield lake(frame, moon, lamps)
    yield from tree(frame, (0.87, 0.84), colours.LEAF, side=1)
    yield wheat(frame, crest, light=0.56, red=0.7)


def meadow(frame: Frame) -> Iterator[Region]:
    """A morning sun over lavender; in front of it wheat, poppies and a tree at the left."""
    sun = (0.66, 0.24)
    swirls = [
        Swirl((0.38, 0.20), 90, -1.0, pull=0.28),
        Swirl((0.93, 0.34), 70, 1.0, pull=0.25),
        Swirl((0.17, 0.42), 60, 1.0, pull=0.25),
        Swirl(sun, 120, -1.4),
    ]
    across = frame.x / frame.width
    crest = 0.80 + 0.07 * smoothstep(across, 0.1, 0.7) - 0.04 * smoothstep(across, 0.7, 1.0)

    yield sky(
        frame,
        (colours.MORNING, colours.CLOUD, colours.MINT),
        swirls,
        [halo(frame, sun, 140, colours.BLAZE, 44)],
    )
    yield disc(frame, sun, 44, colours.SUN)
    yield hill(frame, colours.RANGE, base=0.53, rise=0.045, lift=0.2)
    yield hill(frame, colours.RANGE, base=0.57, rise=0.02, lift=0.0)
    yield furrows(frame, (0.60, 0.52))
    yield from tree(frame, (0.17, 0.84), colours.OLIVE, side=-1)
    yield wheat(frame, crest, light=0.62, red=1.2)
    yield from poppies(frame, 45)


def ember(frame: Frame) -> Iterator[Region]:
    """A red evening sun over ridges and a lake; in front of them wheat and poppies."""
    sun = (0.44, 0.36)
    swirls = [
        Swirl(sun, 130, 1.3),
        Swirl((0.12, 0.16), 84, -1.0, pull=0.28),
        Swirl((0.82, 0.20), 100, 1.0, pull=0.28),
    ]
    across = frame.x / frame.width
    crest = 0.84 - 0.06 * smoothstep(across, 0.2, 0.8) + 0.05 * smoothstep(across, 0.7, 1.0)

    yield sky(
        frame,
        (colours.EMBER, colours.FLAME, colours.ROSE),
        swirls,
        [halo(frame, sun, 150, colours.GLOW, 52)],
    )
    yield disc(frame, sun, 52, colours.GLOW[2:])
    yield hill(frame, colours.RIDGE, base=0.50, rise=0.05, lift=0.3)
    yield hill(frame, colours.RIDGE, base=0.58, rise=0.035, lift=0.05)
    yield lake(frame, sun, [])
    yield wheat(frame, crest, light=0.5, red=1.6)
    yield from poppies(frame, 70)


THEMES: dict[str, Callable[[Frame], Iterator[Region]]] = {
    "night": night,
    "meadow": meadow,
    "ember": ember,
}


def paint(frame: Frame, theme: str) -> Image.Image:
    """Paint the scene of a theme."""
    canvas = Canvas(frame, colours.GROUND)
    for region in THEMES[theme](frame):
        canvas.underpaint(region)
        for brush in region.brushes:
            for stroke in strokes(frame.rng, frame.scale, region, brush):
                canvas.draw(stroke)
    return Image.fromarray(np.rint(255 * canvas.shaded()).astype(np.uint8))
