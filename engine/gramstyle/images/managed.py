"""Colour management by LittleCMS: the transform from the colour space of an image to sRGB."""

import io
from functools import cache

import PIL.Image
from PIL import ImageCms

from gramstyle.images.colour_space import stated_profiles

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
    for profile in stated_profiles(image):
        if profile is None:
            return None
        transform = _transform(profile, mode)
        if transform is not None:
            return transform
    return None


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
