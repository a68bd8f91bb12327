"""Convert what Pillow decodes, in any of its modes, to sRGB and alpha."""

import io
from collections.abc import Mapping
from functools import cache
from typing import Any

import numpy as np
import PIL.Image
from numpy.typing import NDArray
from PIL import ImageCms

from gramstyle.errors import ImageError
from gramstyle.images.image import Plane

_BITS_PER_SAMPLE, _PHOTOMETRIC = 258, 262  # TIFF tags
_WHITE_IS_ZERO = 0
_MODE_OF_PROFILE = {"GRAY": "L", "RGB ": "RGB", "CMYK": "CMYK"}
_PROFILE_DATE = slice(24, 36)


@cache
def srgb_profile() -> bytes:
    """Return an ICC profile of sRGB that is always the same bytes, so equal images are equal files.

    LittleCMS writes the current time into the profile; this function replaces it with
    1 January 2000.
    """
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    profile[_PROFILE_DATE] = b"\x07\xd0\0\x01\0\x01\0\0\0\0\0\0"
    return bytes(profile)


def to_srgb(image: PIL.Image.Image) -> tuple[Plane, Plane | None]:
    """Return an image as sRGB, (H, W, 3) from 0 to 255, and its alpha, (H, W) 0 to 1 or None."""
    profile = image.info.get("icc_profile")
    if image.mode.startswith(("I", "F")):
        values, alpha = _deep_grey(image)
        return _grey_in_srgb(values, profile), alpha
    image, alpha = _without_alpha(image)
    if image.mode == "L":
        return _grey_in_srgb(np.asarray(image), profile), alpha
    converted = _through_profile(image, profile) or image.convert("RGB")
    return np.asarray(converted, dtype=np.float32), alpha


def on_white(colour: Plane, alpha: Plane | None) -> Plane:
    """Composite colours, (H, W, 3) from 0 to 255, over white with an alpha of (H, W)."""
    if alpha is None:
        return colour
    darkness = 255 - colour
    darkness *= alpha[:, :, np.newaxis]  # in place: in float32 a photograph takes a gigabyte
    return np.subtract(255, darkness, out=darkness)


def undo_on_white(pixels: Plane, alpha: Plane) -> Plane:
    """Invert `on_white`: return the colours that look like `pixels` on white.

    Where no colour from 0 to 255 does, the result lies outside that range.
    """
    darkness = 255 - pixels
    darkness /= np.maximum(alpha, 1 / 255)[:, :, np.newaxis]  # alpha is 0 or at least 1/255
    darkness[alpha == 0] = 0  # any colour is invisible there; white compresses best
    return np.subtract(255, darkness, out=darkness)


def _without_alpha(image: PIL.Image.Image) -> tuple[PIL.Image.Image, Plane | None]:
    """Split an 8-bit image into an image of mode L, RGB or CMYK and its alpha."""
    grey = image.mode in ("1", "L", "LA", "La")
    opaque_mode = "L" if grey else "CMYK" if image.mode == "CMYK" else "RGB"
    # LAB has no alpha, but Pillow adds an alpha of 0 when it converts LAB to RGBA.
    if image.mode in ("CMYK", "LAB") or not image.has_transparency_data:
        return image.convert(opaque_mode), None
    image = image.convert("LA" if grey else "RGBA")
    alpha = np.asarray(image.getchannel("A"), dtype=np.float32) / np.float32(255)
    return image.convert(opaque_mode), alpha


def _deep_grey(image: PIL.Image.Image) -> tuple[Plane, Plane | None]:
    """Return grey of more than 8 bits (modes I;16, I and F), scaled to 0..255, and its alpha.

    Pillow's own conversion clips these values at 255 instead of scaling them.
    """
    samples: NDArray[Any] = np.asarray(image)
    # A PNG can declare one shade transparent.
    shade = image.info.get("transparency")
    alpha = (samples != shade).astype(np.float32) if isinstance(shade, int) else None
    if image.mode == "F":
        return scaled(samples, _white_of_floats(samples)), alpha
    if image.mode == "I":
        # Pillow itself scales every PGM to 65535, however dark the image is.
        white = 65535.0 if image.format == "PPM" else _white_of_integers(samples)
        return scaled(samples, white), alpha
    tags: Mapping[int, Any] = getattr(image, "tag_v2", {})  # of a TIFF
    white = 2.0 ** _first(tags.get(_BITS_PER_SAMPLE, 16)) - 1  # some TIFFs have 12 bits
    if tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO:  # Pillow inverts only 8-bit images
        samples = white - samples
    return scaled(samples, white), alpha


def _white_of_integers(samples: NDArray[Any]) -> float:
    """Return the value of white, 255 or 65535, in an image of 32-bit integers."""
    low, high = int(samples.min()), int(samples.max())
    if low < 0 or high > 65535:
        msg = f"its values range from {low} to {high}, not from 0 to 255 or 65535"
        raise ImageError(f"{msg}; save it with 8 or 16 bits per channel")
    return 255.0 if high <= 255 else 65535.0


def _white_of_floats(samples: NDArray[Any]) -> float:
    """Return the value of white, 1 or 255, in a floating-point image."""
    low, high = finite_range(samples)
    if low >= 0 and high <= 1:
        return 1.0
    if low >= 0 and high <= 255:
        return 255.0
    msg = f"its values range from {low:g} to {high:g}; scale them to 0..1 or 0..255"
    raise ImageError(msg)


def finite_range(samples: NDArray[Any]) -> tuple[float, float]:
    """Return the smallest and the largest value; refuse NaN and infinity."""
    low, high = float(samples.min()), float(samples.max())  # one NaN makes both NaN
    if not (np.isfinite(low) and np.isfinite(high)):
        raise ImageError("it contains values that are NaN or infinite; replace them")
    return low, high


def scaled(samples: NDArray[Any], white: float) -> Plane:
    """Scale samples from 0..`white` to float32 0..255; white becomes exactly 255."""
    return samples.astype(np.float32) * np.float32(255) / np.float32(white)


def _first(value: Any) -> int:
    return int(value[0] if isinstance(value, tuple) else value)


def _grey_in_srgb(values: NDArray[Any], profile: object) -> Plane:
    """Return grey values, (H, W) from 0 to 255, as sRGB.

    A profile of grey is a curve. Pillow's interface to LittleCMS converts only 8 bits, so this
    function samples the curve at 256 shades and interpolates, which preserves 16 bits. The
    result is accurate to half a grey level, the rounding of the 256 samples.
    """
    ramp = PIL.Image.fromarray(np.arange(256, dtype=np.uint8).reshape(1, 256))
    converted = _through_profile(ramp, profile)
    if converted is None:
        grey = values.astype(np.float32)
        return np.repeat(grey[:, :, np.newaxis], 3, axis=2)
    curves = np.asarray(converted, dtype=np.float32)[0]
    if values.dtype == np.uint8:
        looked_up: Plane = curves[values]
        return looked_up
    planes = [np.interp(values, np.arange(256), curve).astype(np.float32) for curve in curves.T]
    return np.stack(planes, axis=-1)


def _through_profile(image: PIL.Image.Image, profile: object) -> PIL.Image.Image | None:
    """Convert an image to sRGB by its ICC profile; return None where that is impossible.

    An image whose profile is absent, broken or made for another colour space is not refused: the
    caller treats it as sRGB, as nearly all such images are. LittleCMS and Pillow report an
    unusable profile with exceptions of many types, so all are caught.
    """
    if not profile:
        return None
    # LittleCMS precomputes tables, which shifts dark greys by up to 10 of 255 levels and rich
    # CMYK black by 2. The ramp of 256 greys is small enough to compute without tables.
    precision = ImageCms.Flags.NOOPTIMIZE if image.mode == "L" else ImageCms.Flags.HIGHRESPRECALC
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))  # type: ignore[arg-type]
        mode = _MODE_OF_PROFILE[source.profile.xcolor_space]
        if image.mode == "L" and mode == "RGB":
            image = image.convert("RGB")
        if image.mode != mode:
            return None
        return ImageCms.profileToProfile(
            image,
            source,
            ImageCms.createProfile("sRGB"),
            # Colours inside sRGB stay exact; black point compensation maps black to black.
            renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
            outputMode="RGB",
            flags=ImageCms.Flags.BLACKPOINTCOMPENSATION | precision,
        )
    except Exception:
        return None
