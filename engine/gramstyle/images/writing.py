"""Images out: whole or not at all."""

import io
import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import PIL.Image
from numpy.typing import NDArray
from PIL import features

from gramstyle.errors import ImageError
from gramstyle.images.colour import off_white, srgb_profile
from gramstyle.images.image import Image
from gramstyle.images.problems import as_path, one_line, why_not_written
from gramstyle.images.reading import Source
from gramstyle.images.settings import embedding
from gramstyle.system.files import replace_file

EXTENSIONS: Mapping[str, str] = MappingProxyType(
    {
        ".jpg": "JPEG",
        ".jpeg": "JPEG",
        ".png": "PNG",
        ".webp": "WEBP",
        ".tif": "TIFF",
        ".tiff": "TIFF",
        ".avif": "AVIF",
    }
)

_CODECS = {"JPEG": "jpg", "PNG": "zlib", "WEBP": "webp", "TIFF": "libtiff", "AVIF": "avif"}
_PREDICTOR = 317  # TIFF tag; 2 stores differences of neighbours, a fifth less for a painting
_OPTIONS: dict[str, dict[str, Any]] = {
    # Without optimize: on a noisy image it overflows Pillow's buffer and the save fails.
    "JPEG": {"quality": 95, "subsampling": "4:4:4"},
    "PNG": {},
    # Lossy WebP always halves the resolution of colour (4:2:0), which blurs brush strokes.
    "WEBP": {"lossless": True},
    "TIFF": {"compression": "tiff_adobe_deflate"},
    "AVIF": {"quality": 95, "subsampling": "4:4:4"},
}


def check_output(path: str | os.PathLike[str], inputs: Sequence[Source]) -> None:
    """Refuse, before any work is done, a path that an image could not be written to in the end.

    Parameters
    ----------
    path : str or PathLike
        The file to write.
    inputs : sequence of path, PIL.Image.Image or ndarray
        What will be read; none of them may be the same file, by whatever name or link.

    Raises
    ------
    ImageError
        If the folder is missing or cannot be written to, if the extension is unknown, if this
        Pillow cannot encode it, if `path` is a folder or if it is one of the inputs.
    """
    with one_line(f"cannot write {os.fspath(path)!r}", why_not_written):
        format_name = _format(path)
        target = _target(path)
        if not target.parent.exists():
            raise ImageError(f"there is no folder {str(target.parent)!r}; create it first")
        if any(_is_file_of(source, target) for source in inputs):
            raise ImageError("it is one of the images to read; choose another name")
        if not features.check(_CODECS[format_name]):
            raise ImageError(f"this Pillow cannot encode {format_name}; choose .png")
        # Some builds of Pillow have a decoder alone, and some folders only seem writable.
        _encoded(Image(np.zeros((1, 1, 3), np.float32)), format_name, {})
        with tempfile.NamedTemporaryFile(dir=target.parent, prefix=".gramstyle-"):
            pass


def write_image(
    path: str | os.PathLike[str],
    image: Image,
    *,
    settings: Mapping[str, object] | None = None,
) -> None:
    """Write an image, as the extension says, whole or not at all.

    JPEG has quality 95 with full colour resolution, AVIF the like; PNG, TIFF and WebP lose
    nothing but what 8 bits cannot hold. All are tagged with the sRGB profile. Alpha is kept
    but in JPEG, which shows the image on white.

    Parameters
    ----------
    path : str or PathLike
        The file; its extension is one of `EXTENSIONS`. A file that is there is replaced in one
        step and keeps its permissions; a symbolic link is followed.
    image : Image
    settings : mapping, optional
        JSON-able values to keep in the file; `read_settings` reads them back.

    Raises
    ------
    ImageError
        If the image cannot be encoded or the file not be written. The file at `path` is then
        what it was before, and no other is left behind.
    """
    with one_line(f"cannot write {os.fspath(path)!r}", why_not_written):
        format_name = _format(path)
        target = _target(path)
        replace_file(target, _encoded(image, format_name, settings))


def to_pil(image: Image) -> PIL.Image.Image:
    """Return an image as a Pillow image of 8 bits.

    Parameters
    ----------
    image : Image
        Values beyond 0 to 255 are clipped; the others are rounded, halves to even.

    Returns
    -------
    PIL.Image.Image
        Mode RGB, or RGBA if the image has alpha; with the sRGB profile in its `info`. With
        alpha its colours are those that look like `pixels` when laid on white.

    Raises
    ------
    ImageError
        If a value is NaN or infinite.
    """
    channels = image.pixels
    if image.alpha is not None:
        # With the alpha that will be read back, not the one before rounding.
        alpha = _rounded(image.alpha * 255)
        colour = off_white(channels, alpha.astype(np.float32) / np.float32(255))
        channels = np.dstack((colour, alpha))
    shown = PIL.Image.fromarray(_rounded(channels))
    shown.info["icc_profile"] = srgb_profile()
    return shown


def _rounded(values: NDArray[np.float32]) -> NDArray[np.uint8]:
    if not np.isfinite(values).all():
        raise ImageError("the image has a value that is NaN or infinite; repeat the run")
    rounded = np.rint(values)
    return np.clip(rounded, 0, 255, out=rounded).astype(np.uint8)


def _encoded(image: Image, format_name: str, settings: Mapping[str, object] | None) -> bytes:
    """Return the bytes of an image file.

    In memory, since Pillow writes to a real file past Python, and then a full disk is an
    "encoder error" of no known cause.
    """
    if format_name == "JPEG":
        image = Image(image.pixels)
    options = _OPTIONS[format_name] | ({} if settings is None else embedding(format_name, settings))
    if format_name == "TIFF":
        options["tiffinfo"] = {_PREDICTOR: 2, **options.get("tiffinfo", {})}
    data = io.BytesIO()
    to_pil(image).save(data, format_name, icc_profile=srgb_profile(), **options)
    return data.getvalue()


def _format(path: str | os.PathLike[str]) -> str:
    suffix = as_path(path).suffix.lower()
    if suffix not in EXTENSIONS:
        msg = f"the extension {suffix!r} is unknown" if suffix else "it has no extension"
        raise ImageError(f"{msg}; choose one of {', '.join(EXTENSIONS)}")
    return EXTENSIONS[suffix]


def _target(path: str | os.PathLike[str]) -> Path:
    """Return the file to write to: where a symbolic link points, not the link."""
    target = Path(path).resolve()
    if target.is_dir():
        raise ImageError("it is a folder; name a file in it")
    if target.exists() and not target.is_file():
        raise ImageError("it is not a regular file; choose another name")
    return target


def _is_file_of(source: Source, target: Path) -> bool:
    """Say whether a source is read from the file `target`, under whatever name."""
    path = getattr(source, "filename", "") if isinstance(source, PIL.Image.Image) else source
    if not isinstance(path, (str, os.PathLike)) or not os.fspath(path):
        return False
    try:
        return target.samefile(path)  # follows links and knows hard ones
    except (OSError, ValueError):  # one of the two cannot exist, so they differ
        return False
