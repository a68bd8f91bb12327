"""Find the colour space that an image file states, in its ICC profile or elsewhere."""

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import PIL.Image

from gramstyle.errors import ImageError
from gramstyle.images.colour.icc import D65, Point, RGBSpace, icc_profile

# The key in a Pillow image's `info` under which `gramstyle.images.opening` stores code points.
CODE_POINTS = "gramstyle_code_points"

# EXIF: the directory of the camera's tags, the colour space, and the interoperability index.
_EXIF, _COLOUR_SPACE, _INTEROPERABILITY, _INDEX = 0x8769, 0xA001, 0xA005, 1
_SRGB, _ADOBE_RGB = 1, 2

_SRGB_PRIMARIES = ((0.64, 0.33), (0.30, 0.60), (0.15, 0.06))
_SRGB_CURVE = (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)
_VIDEO_CURVE = (1 / 0.45, 1 / 1.099, 0.099 / 1.099, 1 / 4.5, 0.081)  # ITU-R BT.709
ADOBE_RGB = RGBSpace(((0.64, 0.33), (0.21, 0.71), (0.15, 0.06)), D65, (563 / 256,))


class CodePoints(NamedTuple):
    """The numbers of ITU-T H.273 for the primaries and the transfer function of an image.

    Attributes
    ----------
    full_range
        Whether the values range from 0 to 255; else black is 16 and white is 235.
    """

    primaries: int
    transfer: int
    full_range: bool = True


# ITU-T H.273, table 2.
_PRIMARIES: Mapping[int, tuple[tuple[Point, Point, Point], Point]] = MappingProxyType({
    1: (_SRGB_PRIMARIES, D65),
    4: (((0.67, 0.33), (0.21, 0.71), (0.14, 0.08)), (0.310, 0.316)),
    5: (((0.64, 0.33), (0.29, 0.60), (0.15, 0.06)), D65),
    6: (((0.63, 0.34), (0.31, 0.595), (0.155, 0.07)), D65),
    7: (((0.63, 0.34), (0.31, 0.595), (0.155, 0.07)), D65),
    9: (((0.708, 0.292), (0.170, 0.797), (0.131, 0.046)), D65),
    11: (((0.68, 0.32), (0.265, 0.69), (0.15, 0.06)), (0.314, 0.351)),
    12: (((0.68, 0.32), (0.265, 0.69), (0.15, 0.06)), D65),
})  # fmt: skip
# ITU-T H.273, table 3.
_CURVES: Mapping[int, tuple[float, ...]] = MappingProxyType({
    1: _VIDEO_CURVE, 4: (2.2,), 5: (2.8,), 6: _VIDEO_CURVE, 8: (1.0,), 13: _SRGB_CURVE,
    14: _VIDEO_CURVE, 15: _VIDEO_CURVE,
})  # fmt: skip
_HDR = MappingProxyType({16: "PQ", 18: "HLG"})


def stated_profiles(image: PIL.Image.Image) -> Iterator[bytes | None]:
    """Yield ICC profiles of the colour spaces that an image states, the most authoritative first.

    None stands for sRGB, which needs no conversion, and comes last. A caller takes the first
    profile that it can use. The order for PNG is that of its specification: cICP, iCCP, sRGB,
    then gAMA and cHRM. AVIF ranks an ICC profile above code points. EXIF is the last resort.

    Raises
    ------
    ImageError
        If the values need a conversion for which there is no profile (HDR, or a narrow range).
    """
    profile, points = image.info.get("icc_profile"), image.info.get(CODE_POINTS)
    if image.format == "AVIF" and profile:
        yield profile
    if points is not None:
        yield from _of_code_points(points)
    if image.format != "AVIF" and profile:
        yield profile
    if "srgb" in image.info:
        yield None
    yield from _of_gamma_and_primaries(image.info)
    if points is not None and points.transfer in _HDR:
        msg = f"its colours are HDR ({_HDR[points.transfer]})"
        raise ImageError(f"{msg}; convert it to an sRGB image of 8 bits")
    if _is_adobe_rgb(image):
        yield icc_profile(ADOBE_RGB)
    yield None


def _of_code_points(points: CodePoints) -> Iterator[bytes | None]:
    if points.primaries not in _PRIMARIES or points.transfer not in _CURVES:
        return
    if not points.full_range:
        raise ImageError("its values have the narrow range of video; convert it to full range")
    primaries, white = _PRIMARIES[points.primaries]
    yield from _of_space(RGBSpace(primaries, white, _CURVES[points.transfer]))


def _of_gamma_and_primaries(info: Mapping[Any, Any]) -> Iterator[bytes | None]:
    """Yield the profile for the chunks gAMA and cHRM of a PNG."""
    gamma, numbers = info.get("gamma"), info.get("chromaticity")
    if not isinstance(gamma, float) or not gamma > 0:
        gamma = None
    primaries, white = _SRGB_PRIMARIES, D65
    if isinstance(numbers, tuple) and len(numbers) == 8:
        given, red, green, blue = zip(numbers[::2], numbers[1::2], strict=True)
        if not _is_srgb((red, green, blue), given):
            primaries, white = (red, green, blue), given
    elif gamma is None:
        return
    # Encoders write 1/2.2, rounded in several ways, for sRGB. libpng treats these alike too.
    usual = gamma is None or (primaries is _SRGB_PRIMARIES and abs(2.2 * gamma - 1) < 0.01)
    curve = _SRGB_CURVE if gamma is None or usual else (1 / gamma,)
    yield from _of_space(RGBSpace(primaries, white, curve))


def _of_space(space: RGBSpace) -> Iterator[bytes | None]:
    if space == RGBSpace(_SRGB_PRIMARIES, D65, _SRGB_CURVE):
        yield None
    elif (profile := icc_profile(space)) is not None:
        yield profile


def _is_srgb(primaries: tuple[Point, ...], white: Point) -> bool:
    pairs = zip((*primaries, white), (*_SRGB_PRIMARIES, D65), strict=True)
    return all(abs(a - b) < 0.002 for given, own in pairs for a, b in zip(given, own, strict=True))


def _is_adobe_rgb(image: PIL.Image.Image) -> bool:
    """Return whether EXIF states Adobe RGB.

    Cameras follow DCF: the colour space is "uncalibrated" and the interoperability index is R03.
    Other programs write 2 for the colour space.
    """
    try:
        exif = image.getexif()
        space = exif.get_ifd(_EXIF).get(_COLOUR_SPACE)
        index = exif.get_ifd(_INTEROPERABILITY).get(_INDEX)
    except Exception:  # broken EXIF raises many types, and the image is usable without it
        return False
    text = index.decode("latin-1") if isinstance(index, bytes) else str(index)
    return space == _ADOBE_RGB or (text.startswith("R03") and space != _SRGB)
