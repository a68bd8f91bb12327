"""ICC profiles made by hand, and their conversion to sRGB by the definitions."""

import struct

import numpy as np


def icc(space, tags, connection=b"XYZ "):
    """An ICC profile, version 2.1, made of raw tags."""
    offset = 128 + 4 + 12 * len(tags)
    table, body = struct.pack(">I", len(tags)), b""
    for kind, data in tags.items():
        data += bytes(-len(data) % 4)
        table += kind + struct.pack(">II", offset + len(body), len(data))
        body += data
    header = bytearray(128)
    header[8:12] = b"\x02\x10\0\0"
    header[12:24] = (b"prtr" if space == b"CMYK" else b"mntr") + space + connection
    header[24:36] = struct.pack(">6H", 2000, 1, 1, 0, 0, 0)
    header[36:40] = b"acsp"
    header[68:80] = fixed(*D50)
    header[0:4] = struct.pack(">I", offset + len(body))
    return bytes(header) + table + body


def fixed(*numbers):
    return struct.pack(f">{len(numbers)}i", *(round(number * 65536) for number in numbers))


D50 = (0.9642, 1.0, 0.8249)


WHITE_POINT = {b"wtpt": b"XYZ \0\0\0\0" + fixed(*D50)}


GAMMA_ONE = b"curv\0\0\0\0\0\0\0\0"  # no table: the identity, light is proportional to values


# The primaries of sRGB as seen under D50 (Bradford), from the sRGB standard.
PRIMARIES = {
    b"rXYZ": b"XYZ \0\0\0\0" + fixed(0.43607, 0.22249, 0.01392),
    b"gXYZ": b"XYZ \0\0\0\0" + fixed(0.38515, 0.71687, 0.09708),
    b"bXYZ": b"XYZ \0\0\0\0" + fixed(0.14307, 0.06061, 0.71410),
}


def linear_grey_profile():
    return icc(b"GRAY", {**WHITE_POINT, b"kTRC": GAMMA_ONE})


def linear_rgb_profile():
    curves = {b"rTRC": GAMMA_ONE, b"gTRC": GAMMA_ONE, b"bTRC": GAMMA_ONE}
    return icc(b"RGB ", {**WHITE_POINT, **PRIMARIES, **curves})


def grey_ink_profile():
    """A CMYK profile in which only black prints, linearly in L*."""
    ramp = bytes(range(256))
    table = b"".join(bytes([0 if inks & 1 else 255, 128, 128]) for inks in range(16))
    lut = b"mft1\0\0\0\0" + bytes([4, 3, 2, 0]) + fixed(1, 0, 0, 0, 1, 0, 0, 0, 1)
    return icc(b"CMYK", {**WHITE_POINT, b"A2B0": lut + ramp * 4 + table + ramp * 3}, b"Lab ")


def encoded(light):
    """The sRGB transfer function, from light 0..1 to 0..255 (IEC 61966-2-1)."""
    light = np.clip(light, 0, 1)
    return 255 * np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)


def lab_in_srgb(lightness, a, b):
    """CIELAB under D50 to sRGB, by the definitions."""
    y = (lightness + 16) / 116
    f = np.array([y + a / 500, y, y - b / 200])
    xyz = np.array(D50) * np.where(f > 6 / 29, f**3, 3 * (6 / 29) ** 2 * (f - 4 / 29))
    columns = [
        (0.43607, 0.22249, 0.01392),
        (0.38515, 0.71687, 0.09708),
        (0.14307, 0.06061, 0.71410),
    ]
    return encoded(np.linalg.solve(np.array(columns).T, xyz))
