"""PNG files and colour transforms of more than 8 bits. The only `import imagecodecs`, on first use.

Pillow cannot write a PNG of 16 bits per colour, reads one with 8, and converts colours of 8 bits.
"""

from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gramstyle.errors import ImageError
from gramstyle.images.image import Plane
from gramstyle.system.installing import remedy

EXTRA = "formats"
# zlib's own default; the levels above take far longer for a few percent.
_LEVEL = 6


def load_imagecodecs() -> ModuleType:
    """Import imagecodecs; raises ImageError if it is not installed."""
    try:
        import imagecodecs
    except ImportError as error:
        raise ImageError(f"16 bits need imagecodecs ({error}); {remedy(EXTRA, error)}") from None
    module: ModuleType = imagecodecs
    return module


def decode_png(data: bytes) -> NDArray[np.uint16]:
    """Return the samples (H, W, channels) of a PNG of 16 bits; a transparent colour becomes alpha.

    Raises the library's own error if the file is damaged.
    """
    samples: NDArray[np.uint16] = load_imagecodecs().png_decode(data)
    return samples


def encode_png(samples: NDArray[np.uint16]) -> bytes:
    """Return samples (H, W, 3) or (H, W, 4) as a PNG of 16 bits without metadata."""
    return bytes(load_imagecodecs().png_encode(samples, level=_LEVEL))


def transformed(colours: Plane, before: bytes, after: bytes) -> Plane:
    """Convert colours, (H, W, 3) float32 from 0 to 1, from one RGB profile to another.

    LittleCMS computes in floating point, with the intent and the flags of `managed`. Raises the
    library's own error if a profile cannot be used.
    """
    imagecodecs = load_imagecodecs()
    cms: Any = imagecodecs.CMS
    converted: Plane = imagecodecs.cms_transform(
        np.ascontiguousarray(colours, np.float32),
        before,
        after,
        colorspace="rgb",
        outcolorspace="rgb",
        outdtype="f4",
        intent=int(cms.INTENT.RELATIVE_COLORIMETRIC),
        flags=int(cms.FLAGS.BLACKPOINTCOMPENSATION),
    )
    return np.clip(converted, 0, 1, out=converted)
