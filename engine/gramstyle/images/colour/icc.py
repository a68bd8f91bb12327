"""Make ICC profiles of RGB colour spaces that an image states by numbers."""

import struct
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Point = tuple[float, float]
D65: Point = (0.3127, 0.3290)

# The white of the profile connection space, and Bradford's matrix to the responses of cones.
_D50 = (0.9642, 1.0, 0.8249)
_BRADFORD = np.array(
    [[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]]
)
# The function types of an ICC parametric curve, by their number of parameters.
_FUNCTION_TYPES = {1: 0, 5: 3}


class RGBSpace(NamedTuple):
    """An RGB colour space.

    Attributes
    ----------
    primaries
        The chromaticities (x, y) of red, green and blue.
    white
        The chromaticity (x, y) of white.
    curve
        The parameters of the curve from a value V to light, both 0 to 1: (g,) for V^g; or
        (g, a, b, c, d) for (a V + b)^g where V is at least d, and c V below.
    """

    primaries: tuple[Point, Point, Point]
    white: Point
    curve: tuple[float, ...]


def icc_profile(space: RGBSpace) -> bytes | None:
    """Return an ICC profile of a colour space; None if its numbers describe none."""
    colorants = _colorants(space)
    if colorants is None or not 0.1 <= space.curve[0] <= 10:
        return None
    curve = struct.pack(">4s4xHH", b"para", _FUNCTION_TYPES[len(space.curve)], 0)
    curve += _fixed(*space.curve)
    tags = {
        b"wtpt": b"XYZ \0\0\0\0" + _fixed(*_D50),
        **{
            name: b"XYZ \0\0\0\0" + _fixed(*column)
            for name, column in zip((b"rXYZ", b"gXYZ", b"bXYZ"), colorants.T, strict=True)
        },
        **dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), curve),
    }
    return _assembled(tags)


def _colorants(space: RGBSpace) -> NDArray[np.float64] | None:
    """Return the XYZ of red, green and blue in the columns, adapted to D50 by Bradford."""
    points = np.array([*space.primaries, space.white])
    if not (np.isfinite(points).all() and (points[:, 1] > 0).all() and (abs(points) < 2).all()):
        return None
    x, y = points.T
    xyz = np.array([x / y, np.ones(4), (1 - x - y) / y])
    primaries, white = xyz[:, :3], xyz[:, 3]
    if abs(np.linalg.det(primaries)) < 1e-3:  # the three lie on a line
        return None
    amounts = np.linalg.solve(primaries, white)  # of each primary, that add up to white
    if (amounts <= 0).any():
        return None
    cones, wanted = _BRADFORD @ white, _BRADFORD @ np.array(_D50)
    adapted: NDArray[np.float64] = np.linalg.solve(
        _BRADFORD, (wanted / cones)[:, np.newaxis] * (_BRADFORD @ (primaries * amounts))
    )
    return adapted


def _assembled(tags: dict[bytes, bytes]) -> bytes:
    start = 128 + 4 + 12 * len(tags)
    table, body = struct.pack(">I", len(tags)), b""
    for name, data in tags.items():
        table += struct.pack(">4sII", name, start + len(body), len(data))
        body += data + bytes(-len(data) % 4)
    header = struct.pack(
        ">I4xI4s4s4s6H4s28x12s48x",
        start + len(body), 0x04200000, b"mntr", b"RGB ", b"XYZ ", 2000, 1, 1, 0, 0, 0, b"acsp",
        _fixed(*_D50),
    )  # fmt: skip
    return header + table + body


def _fixed(*numbers: float) -> bytes:
    """Return numbers in the format s15Fixed16."""
    return struct.pack(f">{len(numbers)}i", *(round(float(number) * 65536) for number in numbers))
