"""Decode the pixels of an opened image, and correct errors of decoders."""

from contextlib import nullcontext
from types import MappingProxyType

import PIL.Image
from PIL import GifImagePlugin, ImageFile, TiffImagePlugin

from gramstyle.images import libtiff

_WIDTH, _HEIGHT = 256, 257  # TIFF

# The bytes with which Pillow stores a pixel, by mode; all other modes take 4.
_BYTES = MappingProxyType({"1": 1, "L": 1, "P": 1, "I;16": 2, "I;16L": 2, "I;16B": 2, "I;16N": 2})
# The further bytes per pixel that a decoder takes, as measured with an image of 24 megapixels.
_DECODER_BYTES = MappingProxyType({"JPEG": 4, "MPO": 4, "WEBP": 12, "AVIF": 8, "JPEG2000": 16})


def bytes_per_pixel(image: PIL.Image.Image) -> int:
    """Return the bytes with which a decoded image stores a pixel."""
    return _BYTES.get(image.mode, 4)


def bytes_while_decoding(image: PIL.Image.Image) -> int:
    """Return about how many bytes for each pixel decoding takes; 0 for an image in memory."""
    if not isinstance(image, ImageFile.ImageFile):
        return 0
    return bytes_per_pixel(image) + _DECODER_BYTES.get(str(image.format), 0)


def load(image: PIL.Image.Image) -> PIL.Image.Image:
    """Decode the pixels of an image; return it, or a repaired one."""
    tiff = image if isinstance(image, TiffImagePlugin.TiffImageFile) else None
    if tiff is not None and tiff.tile:
        # Pillow checks its own limit again when it allocates a TIFF's pixels, unless they are
        # allocated already. The tags contain the size before rotation.
        tiff.im = PIL.Image.new(tiff.mode, (tiff.tag_v2[_WIDTH], tiff.tag_v2[_HEIGHT])).im
    frame = _first_frame(image)
    with libtiff.without_messages() if tiff is not None else nullcontext():
        image.load()
    if frame is not None:
        return _on_canvas(image, frame)
    if _is_opaque(image):
        return image.convert("RGB")
    return image


def _first_frame(image: PIL.Image.Image) -> tuple[int, int, int, int] | None:
    """Return the place of the first frame of a GIF, if it does not fill the canvas."""
    if not isinstance(image, GifImagePlugin.GifImageFile) or image.tell() or not image.tile:
        return None
    box = image.tile[0].extents
    return None if box == (0, 0, *image.size) else box


def _on_canvas(frame: PIL.Image.Image, box: tuple[int, int, int, int]) -> PIL.Image.Image:
    """Return a frame of a GIF on a transparent canvas; Pillow's has the first palette colour."""
    canvas = PIL.Image.new("RGBA", frame.size, (0, 0, 0, 0))
    canvas.paste(frame.crop(box).convert("RGBA"), box)
    return canvas


def _is_opaque(image: PIL.Image.Image) -> bool:
    """Return whether alpha only fills the fourth byte: in a BMP, if it is 0 everywhere."""
    if image.format != "BMP" or image.mode != "RGBA":
        return False
    return image.getchannel("A").getextrema() == (0, 0)
