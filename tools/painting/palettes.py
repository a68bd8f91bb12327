"""Palettes: arrays (pigments, 3) of red, green, blue from 0 to 1, from dark to light."""

import numpy as np

from .fields import Array, smoothstep

Palette = Array


def pigments(codes: str) -> Palette:
    """Return the palette of some hexadecimal colours."""
    return np.frombuffer(bytes.fromhex(codes), np.uint8).reshape(-1, 3).astype(np.float32) / 255


def colours_at(palette: Palette, tone: Array) -> Array:
    """Return colours at tones from 0 to 1; between two pigments mostly the nearer one."""
    position = np.clip(tone, 0, 1) * (len(palette) - 1)
    below = np.minimum(position.astype(np.intp), len(palette) - 2)
    upper = smoothstep(position - below, 0.25, 0.75)[:, None]
    colours: Array = palette[below] * (1 - upper) + palette[below + 1] * upper
    return colours


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

EMBER = pigments("3c0a1e 7a1426 b83220 e06a26 f2a64a fadc9c")
FLAME = pigments("8c1c3c d0482c f09040 fcc878 fff0d0")
ROSE = pigments("50143c 94285a d06078 f0a89c")
GLOW = pigments("a8282a de5c28 f49a34 fcc650 fee48c fff4c8")
RIDGE = pigments("14081c 301232 5a2246 8c3a54 c4606a")
