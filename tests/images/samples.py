"""Small images, image files, and assertions that a path or a file is refused."""

import io
import struct
import zlib

import numpy as np
import PIL.Image
import pytest

from gramstyle import images
from gramstyle.errors import ImageError
from images.profiles import linear_rgb_profile

# Lossless decoding gives integers, or a short computation in float32 with a relative error of
# 6e-8; a thousandth of a level allows for a few such steps.
EXACT = 1e-3


# Colour management rounds to 8 bits, and the tables of LittleCMS are off by up to one more level.
MANAGED = 1.5


# Half a level, since the writer rounds to 8 bits, and some rounding in float32.
ROUNDED = 0.5 + EXACT


FORMATS = ["jpg", "png", "webp", "tif", "avif", "bmp", "gif", "ppm", "jp2"]


WRITABLE = sorted(images.EXTENSIONS)


WITH_ALPHA = [".avif", ".png", ".tif", ".tiff", ".webp"]


def colours(height=7, width=10):
    """Rows, columns and channels that all differ, so that every rotation and swap shows."""
    y, x = np.mgrid[:height, :width]
    return np.stack([x * 255 // width, y * 255 // height, (3 * x + 5 * y) % 256], -1).astype("u1")


def opacities(height=7, width=10):
    alpha = (np.arange(height * width).reshape(height, width) * 29 % 256).astype("u1")
    alpha[0, :3] = 0, 255, 128
    return alpha


def on_white(colour, alpha):
    share = alpha[..., None] / 255.0
    return colour * share + 255.0 * (1 - share)


def read(image, tmp_path, name="a.png", **options):
    path = tmp_path / name
    image.save(path, **options)
    return images.read_image(path)


def image(height=7, width=10, alpha=None):
    return images.Image(colours(height, width).astype("f4"), alpha)


def refusal(source, **options):
    with pytest.raises(ImageError) as caught:
        images.read_image(source, **options)
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith("cannot read ")
    assert "; " in message, "there is no remedy"
    return message


def output_refusal(path, inputs=()):
    with pytest.raises(ImageError) as caught:
        images.check_output(path, inputs)
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(f"cannot write {str(path)!r}: ")
    assert "; " in message, "there is no remedy"
    return message


def png(width, height, bits, colour_type, rows, *chunks):
    def chunk(kind, data):
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", width, height, bits, colour_type, 0, 0, 0)
    return b"".join(
        [
            b"\x89PNG\r\n\x1a\n",
            chunk(b"IHDR", header),
            *(chunk(*pair) for pair in chunks),
            chunk(b"IDAT", zlib.compress(rows)),
            chunk(b"IEND", b""),
        ]
    )


def tiff(width, height, bits, photometric, data, sample_format=1, order="<"):
    """A TIFF of one uncompressed strip, of kinds that Pillow cannot write."""
    tags = {
        256: width,
        257: height,
        258: bits,
        259: 1,
        262: photometric,
        273: 8,
        277: 1,
        278: height,
        279: len(data),
        339: sample_format,
    }
    mark = b"II" if order == "<" else b"MM"
    entries = b"".join(struct.pack(order + "HHII", tag, 4, 1, tags[tag]) for tag in sorted(tags))
    head = mark + struct.pack(order + "HI", 42, 8 + len(data))
    return head + data + struct.pack(order + "H", len(tags)) + entries + b"\0\0\0\0"


def stored_for(orientation, upright):
    """Return the stored array of an upright image for an EXIF orientation."""
    height, width = upright.shape[:2]
    tall = orientation >= 5
    stored = np.zeros((width, height, 3) if tall else upright.shape, "u1")
    for row in range(stored.shape[0]):
        for column in range(stored.shape[1]):
            y, x = {
                1: (row, column),
                2: (row, width - 1 - column),
                3: (height - 1 - row, width - 1 - column),
                4: (height - 1 - row, column),
                5: (column, row),
                6: (column, width - 1 - row),
                7: (height - 1 - column, width - 1 - row),
                8: (height - 1 - column, row),
            }[orientation]
            stored[row, column] = upright[y, x]
    return stored


def sample(kind):
    """A small file of each format, with alpha, EXIF and a profile if the format supports them."""
    image = PIL.Image.fromarray(colours())
    rgba = PIL.Image.fromarray(np.dstack((colours(), opacities())))
    exif = PIL.Image.Exif()
    exif[0x0112], exif[0x0131] = 6, "gramstyle"
    rich = {"exif": exif, "icc_profile": linear_rgb_profile()}
    source, options = {
        "jpg": (image, {"format": "JPEG", **rich}),
        "png": (rgba, {"format": "PNG", **rich}),
        "webp": (rgba, {"format": "WEBP", **rich}),
        "tif": (rgba, {"format": "TIFF", "compression": "tiff_adobe_deflate", **rich}),
        "avif": (rgba, {"format": "AVIF", **rich}),
        "bmp": (image, {"format": "BMP"}),
        "gif": (image.quantize(16), {"format": "GIF"}),
        "ppm": (image, {"format": "PPM"}),
        "jp2": (image, {"format": "JPEG2000"}),
    }[kind]
    data = io.BytesIO()
    source.save(data, **options)
    return data.getvalue()


def noise(height, width):
    return 255 * np.random.default_rng(0).integers(0, 2, (height, width, 3)).astype("f4")


def failing_write(path):
    with pytest.raises(ImageError) as caught:
        images.write_image(path, images.Image(noise(60, 50)))
    message = str(caught.value)
    assert message.startswith(f"cannot write {str(path)!r}: ")
    assert "\n" not in message
    return message
