"""Convert images that Pillow has decoded, in any mode, to sRGB and alpha."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
import PIL.Image
from numpy.typing import NDArray
from PIL import ImageCms

from gramstyle.errors import ImageError
from gramstyle.images.colour.managed import srgb_transform
from gramstyle.images.image import Plane
from gramstyle.images.strips import strips

_BITS_PER_SAMPLE, _PHOTOMETRIC = 258, 262  # TIFF tags
_WHITE_IS_ZERO = 0

Conversion = Callable[[PIL.Image.Image], tuple[Plane, Plane | None]]


def converter(image: PIL.Image.Image) -> Conversion:
    """Return the function that converts an image, or a part cut out of it, to sRGB.

    The function returns sRGB, (H, W, 3) from 0 to 255, and alpha, (H, W) from 0 to 1 or None. A
    conversion needs several copies of its pixels, so the caller converts a part at a time.
    """
    if image.mode.startswith(("I", "F")):
        levels, curves = _deep_grey(image), grey_curves(image)

        def deep(part: PIL.Image.Image) -> tuple[Plane, Plane | None]:
            values, alpha = levels(part)
            return grey_in_srgb(values, curves), alpha

        return deep
    mode = _opaque_mode(image)
    if mode == "L":
        return partial(_grey, curves=grey_curves(image))
    return partial(_colour, transform=srgb_transform(image, mode))


def _grey(part: PIL.Image.Image, curves: NDArray[np.float32] | None) -> tuple[Plane, Plane | None]:
    part, alpha = _without_alpha(part)
    return grey_in_srgb(np.asarray(part), curves), alpha


def _colour(
    part: PIL.Image.Image, transform: ImageCms.ImageCmsTransform | None
) -> tuple[Plane, Plane | None]:
    part, alpha = _without_alpha(part)
    converted = part.convert("RGB") if transform is None else transform.apply(part)
    return np.asarray(converted, dtype=np.float32), alpha


def on_white(colour: Plane, alpha: Plane | None) -> Plane:
    """Composite colours, (H, W, 3) from 0 to 255, over white with an alpha of (H, W)."""
    if alpha is None:
        return colour
    darkness = 255 - colour
    darkness *= alpha[:, :, np.newaxis]  # in place: in float32 a photograph takes a gigabyte
    return np.subtract(255, darkness, out=darkness)


def undo_on_white(pixels: Plane, alpha: Plane, *, least: float = 1 / 255) -> Plane:
    """Invert `on_white`: return the colours that look like `pixels` on white.

    Where no colour from 0 to 255 does, the result lies outside that range. `least` is the smallest
    alpha above 0, one step of 8 or 16 bits.
    """
    darkness = 255 - pixels
    darkness /= np.maximum(alpha, least)[:, :, np.newaxis]
    darkness[alpha == 0] = 0  # any colour is invisible there; white compresses best
    return np.subtract(255, darkness, out=darkness)


def opaque(image: PIL.Image.Image) -> PIL.Image.Image:
    """Return an image in RGB, on white where it is transparent."""
    if not image.has_transparency_data:
        return image.convert("RGB")
    image = image.convert("RGBA")
    white = PIL.Image.new("RGBA", image.size, "white")
    return PIL.Image.alpha_composite(white, image).convert("RGB")


def _opaque_mode(image: PIL.Image.Image) -> str:
    """Return the mode in which Pillow holds the colours of an 8-bit image."""
    if image.mode in ("1", "L", "LA", "La"):
        return "L"
    return "CMYK" if image.mode == "CMYK" else "RGB"


def _without_alpha(image: PIL.Image.Image) -> tuple[PIL.Image.Image, Plane | None]:
    """Split an 8-bit image into an image of mode L, RGB or CMYK and its alpha."""
    mode = _opaque_mode(image)
    # LAB has no alpha, but Pillow adds an alpha of 0 when it converts LAB to RGBA.
    if image.mode in ("CMYK", "LAB") or not image.has_transparency_data:
        return image.convert(mode), None
    image = image.convert("LA" if mode == "L" else "RGBA")
    alpha = np.asarray(image.getchannel("A"), dtype=np.float32) / np.float32(255)
    return image.convert(mode), alpha


def _deep_grey(
    image: PIL.Image.Image,
) -> Callable[[PIL.Image.Image], tuple[Plane, Plane | None]]:
    """Return how to read grey of more than 8 bits (modes I;16, I, F): scaled to 0..255, and alpha.

    Pillow's own conversion clips these values at 255 instead of scaling them.
    """
    tags: Mapping[int, Any] = getattr(image, "tag_v2", {})  # of a TIFF
    # Pillow inverts only 8-bit images.
    inverted = image.mode not in ("I", "F") and tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO
    if image.mode == "F":
        white = _white_of_floats(image)
    elif image.mode == "I":
        # Pillow itself scales every PGM to 65535, however dark the image is.
        white = 65535.0 if image.format == "PPM" else _white_of_integers(image)
    else:
        white = 2.0 ** _first(tags.get(_BITS_PER_SAMPLE, 16)) - 1  # some TIFFs have 12 bits
    # A PNG can declare one shade transparent.
    shade = image.info.get("transparency")

    def levels(part: PIL.Image.Image) -> tuple[Plane, Plane | None]:
        samples: NDArray[Any] = np.asarray(part)
        alpha = (samples != shade).astype(np.float32) if isinstance(shade, int) else None
        return scaled(white - samples if inverted else samples, white), alpha

    return levels


def _white_of_integers(image: PIL.Image.Image) -> float:
    """Return the value of white, 255 or 65535, in an image of 32-bit integers."""
    low, high = _range(image)
    if low < 0 or high > 65535:
        msg = f"its values range from {low:.0f} to {high:.0f}, not from 0 to 255 or 65535"
        raise ImageError(f"{msg}; save it with 8 or 16 bits per channel")
    return 255.0 if high <= 255 else 65535.0


def _white_of_floats(image: PIL.Image.Image) -> float:
    """Return the value of white, 1 or 255, in a floating-point image."""
    low, high = _range(image)
    if low >= 0 and high <= 1:
        return 1.0
    if low >= 0 and high <= 255:
        return 255.0
    msg = f"its values range from {low:g} to {high:g}; scale them to 0..1 or 0..255"
    raise ImageError(msg)


def _range(image: PIL.Image.Image) -> tuple[float, float]:
    """Return the smallest and the largest value; refuse NaN, which Pillow's extrema ignore."""
    ranges = [
        finite_range(np.asarray(image.crop((0, top, image.width, bottom))))
        for top, bottom in strips(image.width, image.height)
    ]
    return min(low for low, _ in ranges), max(high for _, high in ranges)


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


def grey_curves(image: PIL.Image.Image) -> NDArray[np.float32] | None:
    """Return the sRGB, (256, 3), of the shades of a grey image; None if they are sRGB.

    A profile of grey is a curve. Pillow's interface to LittleCMS converts only 8 bits, so the
    curve is sampled at 256 shades, which is accurate to half a grey level between them.
    """
    transform = srgb_transform(image, "L")
    if transform is None:
        return None
    ramp = PIL.Image.fromarray(np.arange(256, dtype=np.uint8).reshape(1, 256))
    curves: NDArray[np.float32] = np.asarray(
        transform.apply(ramp.convert(transform.input_mode)), dtype=np.float32
    )[0]
    return curves


def grey_in_srgb(values: NDArray[Any], curves: NDArray[np.float32] | None) -> Plane:
    """Return grey values, (H, W) from 0 to 255, as sRGB; interpolation preserves 16 bits."""
    if curves is None:
        grey = values.astype(np.float32)
        return np.repeat(grey[:, :, np.newaxis], 3, axis=2)
    if values.dtype == np.uint8:
        looked_up: Plane = curves[values]
        return looked_up
    planes = [np.interp(values, np.arange(256), curve).astype(np.float32) for curve in curves.T]
    return np.stack(planes, axis=-1)
