"""TIFF files of more than 8 bits per colour. The only `import tifffile`, on first use.

Pillow reads 16-bit RGB with 8 bits, and refuses floating-point RGB and 16-bit grey with alpha.
"""

import io
import logging
import math
from collections.abc import Mapping
from types import ModuleType
from typing import IO, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import TiffImagePlugin

from gramstyle.errors import ImageError
from gramstyle.images.deep.codecs import EXTRA, load_imagecodecs
from gramstyle.images.opening import without_warnings
from gramstyle.system.installing import remedy

# TIFF tags.
_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC = 256, 257, 258, 259, 262
_ORIENTATION, _SAMPLES, _EXTRA_SAMPLES, _FORMAT = 274, 277, 338, 339
_DNG_VERSION, _SUBFILE_TYPE = 50706, 254
_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB = 0, 1, 2
_INTEGERS, _FLOATS = 1, 3
_UNUSED, _PREMULTIPLIED = 0, 1
# None, LZW, deflate (both numbers) and PackBits: lossless, and their decoders never return more
# than the strip has room for.
_COMPRESSIONS = frozenset([1, 5, 8, 32946, 32773])
# The largest file whose offsets fit into 32 bits, less room for the directory.
_CLASSIC_BYTES = 4 * 10**9

logging.getLogger("tifffile").addHandler(logging.NullHandler())


class DeepTiff(NamedTuple):
    """What the tags of a TIFF file of more than 8 bits say.

    Attributes
    ----------
    width, height
        The stored size in pixels, before the image is turned upright.
    samples
        The number of channels: 2 (grey and alpha), 3 or 4.
    kind
        NumPy's kind of the samples: "u" (16 bits) or "f" (16, 32 or 64 bits).
    bytes
        The bytes of a sample.
    extra
        What the last channel is: 0 unused, 1 alpha that the colours are multiplied by, 2 alpha.
    inverted
        Whether white is 0.
    orientation
        EXIF's orientation, 1 to 8.
    """

    width: int
    height: int
    samples: int
    kind: str
    bytes: int
    extra: int
    inverted: bool
    orientation: int


def deep_tiff(tags: Mapping[int, Any]) -> DeepTiff | None:
    """Return what the tags say, if this module reads such a file; else None."""
    bits, formats = _numbers(tags.get(_BITS)), _numbers(tags.get(_FORMAT, 1))
    samples, photometric = tags.get(_SAMPLES, 1), tags.get(_PHOTOMETRIC)
    colours = 3 if photometric == _RGB else 1
    sizes = {1: (16,), 3: (16, 32, 64)}.get(formats[0] if formats else 0, ())
    if (
        photometric not in (_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB)
        or tags.get(_COMPRESSION, 1) not in _COMPRESSIONS
        or samples not in ((3, 4) if colours == 3 else (2,))
        or len(set(bits)) != 1
        or len(set(formats)) != 1
        or bits[0] not in sizes
    ):
        return None
    extra = _numbers(tags.get(_EXTRA_SAMPLES, ()))
    return DeepTiff(
        width=int(tags.get(_WIDTH, 0)),
        height=int(tags.get(_HEIGHT, 0)),
        samples=samples,
        kind="u" if formats[0] == _INTEGERS else "f",
        bytes=bits[0] // 8,
        extra=extra[0] if samples > colours and extra else 2,
        inverted=photometric == _WHITE_IS_ZERO,
        orientation=int(tags.get(_ORIENTATION, 1)),
    )


def directory_of(file: IO[bytes]) -> Mapping[int, Any] | None:
    """Return the tags of the first image of a TIFF file that Pillow would refuse; None otherwise.

    Camera's raw files and reduced versions of other images are left to Pillow's reader, which
    refuses them with a better message.
    """
    file.seek(0)
    prefix = file.read(16)
    file.seek(0)
    if prefix[:4] not in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        return None
    prefix = prefix if b"+" in prefix[:4] else prefix[:8]  # + marks a BigTIFF
    try:
        directory = TiffImagePlugin.ImageFileDirectory_v2(prefix)
        file.seek(directory.next)
        with without_warnings():
            directory.load(file)
            tags = dict(directory)
        key = deep_tiff(tags)
    except Exception:  # Pillow's reader says what is wrong
        return None
    finally:
        file.seek(0)
    known = key is not None and key.kind == "u" and key.samples > 2  # Pillow opens these
    if key is None or known or _DNG_VERSION in tags or tags.get(_SUBFILE_TYPE, 0):
        return None
    return tags


def load_tifffile() -> ModuleType:
    """Import tifffile; raises ImageError if it or imagecodecs is not installed."""
    load_imagecodecs()  # which decompresses for it
    try:
        import tifffile
    except ImportError as error:
        raise ImageError(f"such a TIFF needs tifffile ({error}); {remedy(EXTRA, error)}") from None
    module: ModuleType = tifffile
    return module


def read_deep_tiff(file: IO[bytes], expected: DeepTiff) -> NDArray[Any]:
    """Return the samples (H, W, channels) of the first image of a TIFF file.

    Raises
    ------
    ImageError
        If the file does not have what its tags say, or tifffile is missing.
    Exception
        The library's own error if the file is damaged.
    """
    tifffile = load_tifffile()
    file.seek(0)
    with without_warnings(), tifffile.TiffFile(file) as tiff:
        page = tiff.pages[0]
        _check(page, expected, tiff.filehandle.size)
        samples: NDArray[Any] = page.asarray(maxworkers=1)
    if page.planarconfig == 2:
        samples = np.moveaxis(samples, 0, -1)
    return samples.reshape(expected.height, expected.width, expected.samples)


def write_deep_tiff(samples: NDArray[np.uint16], **metadata: Any) -> bytes:
    """Return samples (H, W, 3) or (H, W, 4) as a TIFF of 16 bits, deflated.

    Parameters
    ----------
    samples
        The fourth channel is alpha, which the colours are not multiplied by.
    metadata
        As for `tifffile.imwrite`.
    """
    data = io.BytesIO()
    load_tifffile().imwrite(
        data,
        samples,
        photometric="rgb",
        extrasamples=["unassalpha"] if samples.shape[2] == 4 else None,
        compression="adobe_deflate",
        predictor=True,
        bigtiff=samples.nbytes > _CLASSIC_BYTES,
        metadata=None,
        **metadata,
    )
    return data.getvalue()


def _check(page: Any, expected: DeepTiff, size: int) -> None:
    """Refuse a page before memory is allocated for it, unless it is what the tags say."""
    found = (page.imagewidth, page.imagelength, page.imagedepth, page.samplesperpixel)
    if found != (expected.width, expected.height, 1, expected.samples) or page.dtype != np.dtype(
        f"{expected.kind}{expected.bytes}"
    ):
        raise ImageError("its tags contradict each other; get a complete copy")
    offsets, counts = page.dataoffsets, page.databytecounts
    whole = len(offsets) == len(counts) == math.prod(page.chunked)
    room = math.prod(page.chunks) <= 4 * (expected.width + 64) * (expected.height + 64) * 4
    there = all(o > 0 and n > 0 and o + n <= size for o, n in zip(offsets, counts, strict=False))
    if not (whole and room and there):
        raise ImageError("the file is truncated; get a complete copy")


def _numbers(value: Any) -> tuple[int, ...]:
    """Return the values of a tag, which may be one number."""
    return value if isinstance(value, tuple) else () if value is None else (value,)
