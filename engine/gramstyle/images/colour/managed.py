"""Colour management by LittleCMS: from the colour space of an image to sRGB, and back."""

import io
from functools import cache

import PIL.Image
from PIL import ImageCms

from gramstyle.images.colour.space import stated_profiles

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


def srgb_transform(image: PIL.Image.Image, mode: str) -> ImageCms.ImageCmsTransform | None:
    """Return the transform to sRGB of the colours of an image; None if they are sRGB.

    Parameters
    ----------
    image
        The image, which may state a colour space.
    mode
        The mode of the colours: L, RGB or CMYK. A transform for L may expect RGB, see its
        `input_mode`.

    Raises
    ------
    ImageError
        If the image states colours that cannot be converted (HDR).
    """
    return _first_usable(image, mode)[1]


def source_profile(image: PIL.Image.Image, mode: str) -> bytes | None:
    """Return the ICC profile that `srgb_transform` converts from; None if the colours are sRGB.

    Raises
    ------
    ImageError
        As for `srgb_transform`.
    """
    return _first_usable(image, mode)[0]


def _first_usable(
    image: PIL.Image.Image, mode: str
) -> tuple[bytes | None, ImageCms.ImageCmsTransform | None]:
    for profile in stated_profiles(image):
        if profile is None:
            break
        transform = _transform(profile, mode)
        if transform is not None:
            return profile, transform
    return None, None


def _transform(profile: object, mode: str) -> ImageCms.ImageCmsTransform | None:
    """Return the transform from an ICC profile to sRGB; None if the profile cannot be used.

    An image whose profile is absent, broken or made for another colour space is not refused: the
    caller treats it as sRGB, as nearly all such images are. LittleCMS and Pillow report an
    unusable profile with exceptions of many types, so all are caught.
    """
    # LittleCMS precomputes tables, which shifts dark greys by up to 10 of 255 levels and rich
    # CMYK black by 2. The ramp of 256 greys is small enough to compute without tables.
    precision = ImageCms.Flags.NOOPTIMIZE if mode == "L" else ImageCms.Flags.HIGHRESPRECALC
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))  # type: ignore[arg-type]
        own = _MODE_OF_PROFILE[source.profile.xcolor_space]
        if own != mode and (mode, own) != ("L", "RGB"):
            return None
        transform = ImageCms.buildTransform(
            source,
            ImageCms.createProfile("sRGB"),
            own,
            "RGB",
            # Colours inside sRGB stay exact; black point compensation maps black to black.
            renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
            flags=ImageCms.Flags.BLACKPOINTCOMPENSATION | precision,
        )
    except Exception:
        return None
    return transform


def why_not_kept(profile: bytes | None) -> str:
    """Return why a result cannot have an image's profile, after the image's name; empty if it can.

    A result is RGB, and must be converted to the profile: those of scanners only convert from it.
    """
    if profile is None:
        return "has no embedded colour profile"
    try:
        space = ImageCms.ImageCmsProfile(io.BytesIO(profile)).profile.xcolor_space.strip()
    except Exception:  # LittleCMS and Pillow report it with exceptions of many types
        return "has a damaged colour profile"
    if space != "RGB":
        return f"has a colour profile for {space}, which an RGB image cannot have"
    try:
        _transform_from_srgb(profile)
    except Exception:
        return "has a colour profile to which no image can be converted"
    return ""


def from_srgb(image: PIL.Image.Image, profile: bytes) -> PIL.Image.Image:
    """Convert an sRGB image of mode RGB or RGBA to an RGB profile, with 8 bits."""
    converted = _transform_from_srgb(profile).apply(image.convert("RGB"))
    if image.mode == "RGBA":
        converted.putalpha(image.getchannel("A"))
    return converted


def _transform_from_srgb(profile: bytes) -> ImageCms.ImageCmsTransform:
    return ImageCms.buildTransform(
        ImageCms.createProfile("sRGB"),
        ImageCms.ImageCmsProfile(io.BytesIO(profile)),
        "RGB",
        "RGB",
        renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
        flags=ImageCms.Flags.BLACKPOINTCOMPENSATION | ImageCms.Flags.HIGHRESPRECALC,
    )
