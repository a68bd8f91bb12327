"""Alpha that only fills a byte, GIF frames smaller than their canvas, and raw files of cameras."""

import io
import struct

import numpy as np
import PIL.Image
import pytest

from gramstyle import images
from images.samples import colours, on_white, opacities, refusal


def encoded(image, format_name, **options):
    data = io.BytesIO()
    image.save(data, format_name, **options)
    return data.getvalue()


def bitmap(colour, alpha):
    """A BMP whose header gives each channel its byte, the fourth to alpha; Pillow writes none."""
    height, width = alpha.shape
    masks = struct.pack("<4I", 0xFF0000, 0xFF00, 0xFF, 0xFF000000)
    header = struct.pack("<IiiHHIIiiII", 108, width, height, 1, 32, 3, 0, 0, 0, 0, 0)
    header += masks + bytes(108 - len(header) - len(masks))
    pixels = np.dstack((colour[..., ::-1], alpha))[::-1].tobytes()
    start = 14 + len(header)
    return b"BM" + struct.pack("<IHHI", start + len(pixels), 0, 0, start) + header + pixels


def test_a_bitmap_whose_alpha_is_zero_everywhere_is_opaque():
    data = bitmap(colours(), np.zeros((7, 10), "u1"))
    with PIL.Image.open(io.BytesIO(data)) as image:
        assert image.mode == "RGBA"
    result = images.read_image(data)
    assert result.alpha is None
    np.testing.assert_array_equal(result.pixels, colours())


def test_a_bitmap_with_any_alpha_is_transparent():
    alpha = np.zeros((7, 10), "u1")
    alpha[3, 4] = 255
    result = images.read_image(bitmap(colours(), alpha))
    np.testing.assert_array_equal(result.alpha, alpha / 255)
    np.testing.assert_array_equal(result.pixels, on_white(colours(), alpha))


def test_other_files_may_be_transparent_everywhere():
    data = encoded(PIL.Image.fromarray(np.dstack((colours(), np.zeros((7, 10), "u1")))), "PNG")
    result = images.read_image(data)
    np.testing.assert_array_equal(result.alpha, 0)
    np.testing.assert_array_equal(result.pixels, 255)


def gif(canvas, left, top, **options):
    """A GIF whose only frame, of 3 × 2 pixels, is somewhere on a larger canvas."""
    frame = PIL.Image.new("P", (3, 2))
    frame.putpalette([200, 0, 0, 10, 20, 30, 40, 50, 60])
    frame.putdata([1, 2, 1, 2, 0, 2])
    data = bytearray(encoded(frame, "GIF", optimize=False, **options))
    descriptor = data.index(b"," + struct.pack("<4H", 0, 0, 3, 2))
    data[descriptor + 1 : descriptor + 5] = struct.pack("<2H", left, top)
    data[6:10] = struct.pack("<2H", *canvas)
    return bytes(data)


PALETTE = np.array([(200, 0, 0), (10, 20, 30), (40, 50, 60)])
FRAME = PALETTE[[[1, 2, 1], [2, 0, 2]]]


@pytest.mark.parametrize(("left", "top"), [(0, 0), (1, 2), (3, 0)])
def test_a_gif_is_transparent_where_its_frame_does_not_reach(left, top):
    result = images.read_image(gif((6, 5), left, top))
    inside = np.zeros((5, 6), bool)
    inside[top : top + 2, left : left + 3] = True
    np.testing.assert_array_equal(result.alpha, inside)
    np.testing.assert_array_equal(result.pixels[inside].reshape(2, 3, 3), FRAME)
    np.testing.assert_array_equal(result.pixels[~inside], 255)


def test_a_gif_whose_frame_fills_its_canvas_is_opaque():
    result = images.read_image(gif((3, 2), 0, 0))
    assert result.alpha is None
    np.testing.assert_array_equal(result.pixels, FRAME)


def test_a_small_frame_with_a_transparent_colour_keeps_it():
    result = images.read_image(gif((4, 2), 1, 0, transparency=0))
    np.testing.assert_array_equal(result.alpha, [[0, 1, 1, 1], [0, 1, 0, 1]])


def directory(offset, tags):
    """A TIFF directory without a next one; a value is a number, or bytes of four or more."""
    entries, values = b"", b""
    values_at = offset + 2 + 12 * len(tags) + 4
    for tag, value in sorted(tags.items()):
        if isinstance(value, bytes):
            entries += struct.pack("<HHII", tag, 1, len(value), values_at + len(values))
            values += value
        else:
            entries += struct.pack("<HHII", tag, 4, 1, value)
    return struct.pack("<H", len(tags)) + entries + bytes(4) + values


def raw(tags=None, below=None, mark=b""):
    """A TIFF file of 2 × 2 grey pixels with further tags, and a directory below the first."""
    pixels = mark or b"\1\2\3\4"
    tags = {
        256: 2, 257: 2, 258: 8, 259: 1, 262: 1, 273: 8, 277: 1, 278: 2, 279: 4, **(tags or {}),
    }  # fmt: skip
    first = 8 + len(pixels)
    if below is not None:
        tags[330] = first + len(directory(first, {**tags, 330: 0}))
    data = b"II*\0" + struct.pack("<I", first) + pixels + directory(first, tags)
    return data if below is None else data + directory(tags[330], below)


@pytest.mark.parametrize(
    "data",
    [
        raw({50706: b"\1\4\0\0\0\0\0\0"}),
        raw({254: 1}, below={254: 0, 256: 6000, 257: 4000, 262: 32803}),
        raw({}, below={254: 0, 256: 6000, 257: 4000, 262: 34892}),
        raw(mark=b"CR\2\0\0\0\0\0"),
        raw({254: 1}, below={254: 0, 256: 6000, 257: 4000, 262: 6}),
    ],
    ids=["DNG", "NEF", "linear raw", "CR2", "ARW"],
)
def test_a_cameras_raw_file_is_refused_with_a_remedy(data):
    message = refusal(data)
    assert "a camera's raw file" in message
    assert "to TIFF or JPEG" in message


def test_a_tiff_with_further_images_is_read():
    reduced = {254: 1, 256: 1, 257: 1, 262: 1}
    np.testing.assert_array_equal(images.read_image(raw({254: 0}, below=reduced)).height, 2)
    pages = [PIL.Image.fromarray(colours()), PIL.Image.fromarray(opacities())]
    data = encoded(pages[0], "TIFF", save_all=True, append_images=pages[1:])
    np.testing.assert_array_equal(images.read_image(data).pixels, colours())


def test_a_broken_directory_below_the_first_is_ignored():
    data = raw({330: 2**31})
    np.testing.assert_array_equal(images.read_image(data).pixels[0, :, 0], [1, 2])
