"""Write images, completely or not at all."""

import io
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import PIL.Image
from numpy.typing import NDArray
from PIL import features

from gramstyle.errors import ImageError
from gramstyle.images.colour.managed import from_srgb, srgb_profile
from gramstyle.images.colour.srgb import undo_on_white
from gramstyle.images.deep.writing import deep_levels, deep_png, deep_tiff_file
from gramstyle.images.encoding import Encoding, check_depth
from gramstyle.images.image import Image
from gramstyle.images.problems import as_path, explain_write_failure, label, raise_image_error
from gramstyle.images.reading import Source
from gramstyle.images.settings import embedding
from gramstyle.system.files import is_same_file, real_path, replace_file
from gramstyle.system.replaceable import check_replaceable

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
# The formats for which Pillow stores a resolution.
_WITH_DPI = ("JPEG", "PNG", "TIFF")
_EIGHT_BITS = Encoding()
_PREDICTOR = 317  # TIFF tag; 2 stores differences of neighbours, which saves a fifth on paintings
_OPTIONS: dict[str, dict[str, Any]] = {
    # Without optimize, which overflows Pillow's buffer on a noisy image and makes the save fail.
    "JPEG": {"quality": 95, "subsampling": "4:4:4"},
    "PNG": {},
    # Lossy WebP always halves the resolution of colour (4:2:0), which blurs brush strokes.
    "WEBP": {"lossless": True},
    "TIFF": {"compression": "tiff_adobe_deflate"},
    "AVIF": {"quality": 95, "subsampling": "4:4:4"},
}


def check_output(path: str | os.PathLike[str], inputs: Sequence[Source], *, depth: int = 8) -> None:
    """Check, before a run, that an image can be written to a path.

    Parameters
    ----------
    path : str or PathLike
        The file to write.
    inputs : sequence of sources
        The images that the run reads, as for `read_image`. None of them may be the same file,
        under any name or link.
    depth : int, optional
        The bits per channel, 8 or 16.

    Raises
    ------
    ImageError
        If the folder is missing, the file cannot be written, the extension is unknown, this
        Pillow cannot encode the format, or `path` is a folder or one of the inputs; if the format
        does not store so many bits, or a package that writes them is missing.

    Examples
    --------
    >>> from pathlib import Path
    >>> from gramstyle.images import check_output
    >>> check_output(Path("result.png"), [Path("photo.jpg")])
    """
    with raise_image_error(f"cannot write {label(path, 'image')}", explain_write_failure):
        format_name = _format(path)
        check_depth(depth, format_name)
        target = _target(path)
        if not target.parent.exists():
            raise ImageError(f"there is no folder {str(target.parent)!r}; create it first")
        if any(_is_file_of(source, target) for source in inputs):
            raise ImageError("it is one of the images to read; choose another name")
        if not features.check(_CODECS[format_name]):
            raise ImageError(f"this Pillow cannot encode {format_name}; choose .png")
        # Some builds of Pillow have only the decoder.
        _encoded(Image(np.zeros((1, 1, 3), np.float32)), format_name, {}, Encoding(depth))
        check_replaceable(target)


def write_image(
    path: str | os.PathLike[str],
    image: Image,
    *,
    settings: Mapping[str, object] | None = None,
    encoding: Encoding = _EIGHT_BITS,
) -> None:
    """Write an image completely or not at all, in the format of the file's extension.

    JPEG and AVIF are written with quality 95 and full colour resolution. PNG, TIFF and WebP are
    lossless except for rounding. Every file contains a colour profile, by default sRGB. Alpha is
    written too, except to JPEG, which shows the image on white.

    Parameters
    ----------
    path : str or PathLike
        The file; its extension is one of `EXTENSIONS`. An existing file is replaced in one step
        and keeps its permissions; a symbolic link is followed. A file that cannot be replaced,
        such as one that is mounted in a container, is overwritten.
    image : Image
        Pixels of shape (H, W, 3), from 0 to 255 (values outside are clipped, the others
        rounded), and alpha of shape (H, W), from 0 to 1, or None.
    settings : mapping, optional
        JSON values to store in the file, at most 60,000 characters; `read_settings` reads them.
    encoding : Encoding, optional
        Bits per channel, colour profile and resolution; by default 8 bits, sRGB and none.

    Raises
    ------
    ImageError
        If the image cannot be encoded (NaN, infinity, too large for the format, unknown
        extension, more bits than the format stores) or the file cannot be written. The file at
        `path` is then unchanged, and no other file is left behind.

    See Also
    --------
    read_image : Read an image.
    check_output : Check a path before the work.

    Examples
    --------
    >>> from gramstyle.images import read_image, read_settings, write_image
    >>> image = read_image("photo.jpg")  # doctest: +SKIP
    >>> write_image("copy.png", image, settings={"size": 512})  # doctest: +SKIP
    >>> read_settings("copy.png")  # doctest: +SKIP
    {'size': 512}
    """
    with raise_image_error(f"cannot write {label(path, 'image')}", explain_write_failure):
        format_name = _format(path)
        target = _target(path)
        check_depth(encoding.depth, format_name)
        replace_file(target, _encoded(image, format_name, settings, encoding))


def encode_image(
    image: Image,
    extension: str,
    *,
    settings: Mapping[str, object] | None = None,
    encoding: Encoding = _EIGHT_BITS,
) -> bytes:
    """Return an image as the bytes of a file, as `write_image` writes it.

    Parameters
    ----------
    image, settings, encoding
        As for `write_image`.
    extension
        One of `EXTENSIONS`.

    Raises
    ------
    ImageError
        If the image cannot be encoded.

    Examples
    --------
    >>> import numpy as np
    >>> from gramstyle.images import Image, encode_image
    >>> image = Image(pixels=np.zeros((2, 3, 3), np.float32))
    >>> encode_image(image, ".png")[1:4]
    b'PNG'
    """
    with raise_image_error("cannot encode the image", explain_write_failure):
        format_name = _format(f"image{extension}")
        check_depth(encoding.depth, format_name)
        return _encoded(image, format_name, settings, encoding)


def to_pil(image: Image) -> PIL.Image.Image:
    """Return an image as a Pillow image of 8 bits.

    Parameters
    ----------
    image : Image
        Values outside 0..255 are clipped; the others are rounded, halves to even.

    Returns
    -------
    PIL.Image.Image
        Mode RGB, or RGBA if the image has alpha, with the sRGB profile in `info`. The colours of
        an RGBA image look like `pixels` when it is composited over white.

    Raises
    ------
    ImageError
        If a value is NaN or infinite.

    Examples
    --------
    >>> import numpy as np
    >>> from gramstyle.images import Image, to_pil
    >>> to_pil(Image(pixels=np.full((2, 3, 3), 255, np.float32))).getpixel((0, 0))
    (255, 255, 255)
    """
    channels = image.pixels
    if image.alpha is not None:
        # Use the rounded alpha, which a reader of the file will see.
        alpha = _rounded(image.alpha * 255)
        colour = undo_on_white(channels, alpha.astype(np.float32) / np.float32(255))
        channels = np.dstack((colour, alpha))
    shown = PIL.Image.fromarray(_rounded(channels))
    shown.info["icc_profile"] = srgb_profile()
    return shown


def _rounded(values: NDArray[np.float32]) -> NDArray[np.uint8]:
    if not np.isfinite(values).all():
        raise ImageError("the image has a value that is NaN or infinite; repeat the run")
    rounded = np.rint(values)
    return np.clip(rounded, 0, 255, out=rounded).astype(np.uint8)


def _encoded(
    image: Image, format_name: str, settings: Mapping[str, object] | None, encoding: Encoding
) -> bytes:
    """Return the bytes of an image file.

    Pillow encodes into memory: to a real file it writes without Python's file object, and
    reports a full disk as an "encoder error" without a cause.
    """
    if format_name == "JPEG":
        image = Image(image.pixels)
    profile = encoding.profile
    options = _OPTIONS[format_name] | ({} if settings is None else embedding(format_name, settings))
    options["icc_profile"] = srgb_profile() if profile is None else profile
    if encoding.dpi is not None and format_name in _WITH_DPI:
        options["dpi"] = encoding.dpi
    if encoding.depth == 16:
        write = deep_png if format_name == "PNG" else deep_tiff_file
        return write(deep_levels(image, profile), **options)
    if format_name == "TIFF":
        options["tiffinfo"] = {_PREDICTOR: 2, **options.get("tiffinfo", {})}
    data = io.BytesIO()
    shown = to_pil(image)
    if profile is not None:
        shown = from_srgb(shown, profile)
    shown.save(data, format_name, **options)
    return data.getvalue()


def _format(path: str | os.PathLike[str]) -> str:
    suffix = as_path(path).suffix.lower()
    if suffix not in EXTENSIONS:
        msg = f"the extension {suffix!r} is unknown" if suffix else "it has no extension"
        raise ImageError(f"{msg}; choose one of {', '.join(EXTENSIONS)}")
    return EXTENSIONS[suffix]


def _target(path: str | os.PathLike[str]) -> Path:
    """Return the file to write: the target of a symbolic link rather than the link."""
    target = real_path(path)
    if target.is_dir():
        raise ImageError("it is a folder; name a file in it")
    if target.exists() and not target.is_file():
        raise ImageError("it is not a regular file; choose another name")
    return target


def _is_file_of(source: Source, target: Path) -> bool:
    """Return whether a source is read from the file `target`, under any name."""
    path = source
    if isinstance(source, PIL.Image.Image):
        path = getattr(source, "filename", "")
    elif not isinstance(source, (str, os.PathLike)):
        path = getattr(source, "name", "")  # of an open file
    if not isinstance(path, (str, os.PathLike)) or not os.fspath(path):
        return False
    return is_same_file(target, path)
