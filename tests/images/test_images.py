import contextlib
import errno
import io
import os
import stat
import struct
import sys
import threading
import warnings
import zlib
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import ImageCms, features

from gramstyle import images
from gramstyle.errors import ImageError, OptionError

# What is decoded without loss is whole numbers, or a short computation in float32, whose
# relative error is 6e-8; a thousandth of a level leaves room for a few such steps.
EXACT = 1e-3
# Colour management rounds to 8 bits in the end, and LittleCMS' tables are off by up to one more.
MANAGED = 1.5
# Half a level, since the writer rounds to 8 bits, and a little for float32.
ROUNDED = 0.5 + EXACT

FORMATS = ["jpg", "png", "webp", "tif", "avif", "bmp", "gif", "ppm", "jp2"]
WRITABLE = sorted(images.EXTENSIONS)
WITH_ALPHA = [".avif", ".png", ".tif", ".tiff", ".webp"]


def colours(height=7, width=10):
    """No two rows, columns or channels alike, so that no turn and no swap goes unseen."""
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
    """A TIFF of one uncompressed strip, for the kinds that Pillow does not write."""
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


def icc(space, tags, connection=b"XYZ "):
    """An ICC profile, version 2.1, made of raw tags."""
    offset = 128 + 4 + 12 * len(tags)
    table, body = struct.pack(">I", len(tags)), b""
    for kind, data in tags.items():
        data += bytes(-len(data) % 4)
        table += kind + struct.pack(">II", offset + len(body), len(data))
        body += data
    header = bytearray(128)
    header[8:12] = b"\x02\x10\0\0"
    header[12:24] = (b"prtr" if space == b"CMYK" else b"mntr") + space + connection
    header[24:36] = struct.pack(">6H", 2000, 1, 1, 0, 0, 0)
    header[36:40] = b"acsp"
    header[68:80] = fixed(*D50)
    header[0:4] = struct.pack(">I", offset + len(body))
    return bytes(header) + table + body


def fixed(*numbers):
    return struct.pack(f">{len(numbers)}i", *(round(number * 65536) for number in numbers))


D50 = (0.9642, 1.0, 0.8249)
WHITE_POINT = {b"wtpt": b"XYZ \0\0\0\0" + fixed(*D50)}
GAMMA_ONE = b"curv\0\0\0\0\0\0\0\0"  # no table: the identity, light is proportional to values
# The primaries of sRGB as seen under D50 (Bradford), from the sRGB standard.
PRIMARIES = {
    b"rXYZ": b"XYZ \0\0\0\0" + fixed(0.43607, 0.22249, 0.01392),
    b"gXYZ": b"XYZ \0\0\0\0" + fixed(0.38515, 0.71687, 0.09708),
    b"bXYZ": b"XYZ \0\0\0\0" + fixed(0.14307, 0.06061, 0.71410),
}


def linear_grey_profile():
    return icc(b"GRAY", {**WHITE_POINT, b"kTRC": GAMMA_ONE})


def linear_rgb_profile():
    curves = {b"rTRC": GAMMA_ONE, b"gTRC": GAMMA_ONE, b"bTRC": GAMMA_ONE}
    return icc(b"RGB ", {**WHITE_POINT, **PRIMARIES, **curves})


def grey_ink_profile():
    """CMYK whose cyan, magenta and yellow print nothing: only black darkens, in L* linearly."""
    ramp = bytes(range(256))
    table = b"".join(bytes([0 if inks & 1 else 255, 128, 128]) for inks in range(16))
    lut = b"mft1\0\0\0\0" + bytes([4, 3, 2, 0]) + fixed(1, 0, 0, 0, 1, 0, 0, 0, 1)
    return icc(b"CMYK", {**WHITE_POINT, b"A2B0": lut + ramp * 4 + table + ramp * 3}, b"Lab ")


def encoded(light):
    """The sRGB transfer function, from light 0..1 to 0..255 (IEC 61966-2-1)."""
    light = np.clip(light, 0, 1)
    return 255 * np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)


def lab_in_srgb(lightness, a, b):
    """CIELAB under D50 to sRGB, by the definitions."""
    y = (lightness + 16) / 116
    f = np.array([y + a / 500, y, y - b / 200])
    xyz = np.array(D50) * np.where(f > 6 / 29, f**3, 3 * (6 / 29) ** 2 * (f - 4 / 29))
    columns = [
        (0.43607, 0.22249, 0.01392),
        (0.38515, 0.71687, 0.09708),
        (0.14307, 0.06061, 0.71410),
    ]
    return encoded(np.linalg.solve(np.array(columns).T, xyz))


# --- colours and modes ------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".png", ".tif", ".bmp", ".ppm", ".webp", ".jp2"])
def test_a_losslessly_stored_image_comes_in_as_it_is(suffix, tmp_path):
    options = {"lossless": True} if suffix == ".webp" else {}
    result = read(PIL.Image.fromarray(colours()), tmp_path, "a" + suffix, **options)
    assert result.pixels.dtype == np.float32
    assert (result.height, result.width) == (7, 10)
    assert result.alpha is None
    np.testing.assert_array_equal(result.pixels, colours())


@pytest.mark.parametrize(("suffix", "error"), [(".jpg", 3), (".avif", 3)])
def test_a_lossy_image_comes_in_as_nearly_what_it_was(suffix, error, tmp_path):
    y, x = np.mgrid[:40, :60]
    smooth = np.stack([60 + 2 * x, 200 - 3 * y, 90 + x + y], -1).astype("u1")
    result = read(PIL.Image.fromarray(smooth), tmp_path, "a" + suffix, quality=95)
    # A swapped channel or a wrong range is off by tens; 3 is what quality 95 may cost.
    assert np.abs(result.pixels - smooth).mean() < error


def test_a_str_a_path_and_an_open_image_are_the_same_source(tmp_path):
    path = tmp_path / "a.png"
    PIL.Image.fromarray(colours()).save(path)
    with PIL.Image.open(path) as image:
        for source in (path, str(path), image):
            np.testing.assert_array_equal(images.read_image(source).pixels, colours())


@pytest.mark.parametrize(
    ("mode", "value", "expected"),
    [
        ("1", 1, (255, 255, 255)),
        ("L", 77, (77, 77, 77)),
        ("RGB", (10, 20, 30), (10, 20, 30)),
        ("RGBX", (10, 20, 30, 40), (10, 20, 30)),
        ("CMYK", (255, 0, 0, 0), (0, 255, 255)),
        ("CMYK", (0, 0, 0, 255), (0, 0, 0)),
        ("YCbCr", (76, 85, 255), (254, 0, 0)),  # JFIF's red, as near as 8 bits go
        ("HSV", (170, 255, 255), (0, 0, 255)),
        ("I;16", 65535, (255, 255, 255)),
        ("I;16", 257 * 100, (100, 100, 100)),
        ("I;16B", 257 * 100, (100, 100, 100)),
        ("I", 200, (200, 200, 200)),
        ("I", 257 * 200, (200, 200, 200)),
        ("F", 0.5, (127.5, 127.5, 127.5)),
        ("F", 200.5, (200.5, 200.5, 200.5)),
    ],
)
def test_every_opaque_mode_of_pillow_has_its_colour(mode, value, expected):
    result = images.read_image(PIL.Image.new(mode, (2, 3), value))
    assert result.alpha is None
    np.testing.assert_allclose(result.pixels, np.broadcast_to(expected, (3, 2, 3)), atol=EXACT)


@pytest.mark.parametrize(
    ("mode", "value", "expected"),
    [
        ("LA", (100, 128), (100, 100, 100)),
        ("La", (50, 128), (100, 100, 100)),  # colour times alpha
        ("RGBA", (0, 100, 200, 128), (0, 100, 200)),
        ("RGBa", (0, 50, 100, 128), (0, 100, 200)),
    ],
)
def test_every_transparent_mode_lies_on_white_with_its_alpha_apart(mode, value, expected):
    result = images.read_image(PIL.Image.new(mode, (2, 3), value))
    np.testing.assert_allclose(result.alpha, 128 / 255, atol=EXACT)
    wanted = on_white(np.array([[expected]]), np.array([[128]]))
    # Premultiplied colours of 8 bits are off by one when divided by their alpha.
    atol = 0.51 if mode.endswith("a") else EXACT
    np.testing.assert_allclose(result.pixels, np.broadcast_to(wanted, (3, 2, 3)), atol=atol)


def test_a_lab_image_has_the_colour_that_its_numbers_define(tmp_path):
    image = PIL.Image.new("LAB", (4, 4))
    image.frombytes(bytes([153, 20, 256 - 30]) * 16)  # L* = 60, a* = 20, b* = -30
    for result in (images.read_image(image), read(image, tmp_path, "a.tif")):
        np.testing.assert_allclose(result.pixels[1, 1], lab_in_srgb(60, 20, -30), atol=MANAGED)
        assert result.alpha is None


def test_sixteen_bit_grey_is_scaled_and_not_clipped(tmp_path):
    shades = np.array([[0, 1, 255, 256, 32768, 65535]], "u2")
    for name in ("a.png", "a.tif", "a.pgm", "a.jp2"):
        result = read(PIL.Image.fromarray(shades), tmp_path, name)
        np.testing.assert_allclose(result.pixels[..., 0], shades * (255 / 65535), atol=EXACT)


def test_a_dark_sixteen_bit_pgm_stays_dark(tmp_path):
    # All values are below 256, yet the header says that 65535 is white.
    result = read(PIL.Image.fromarray(np.array([[0, 200]], "u2")), tmp_path, "a.pgm")
    np.testing.assert_allclose(result.pixels[0, :, 0], [0, 200 * 255 / 65535], atol=EXACT)


@pytest.mark.parametrize("order", ["<", ">"])
def test_sixteen_bit_tiff_of_either_byte_order_is_read_alike(order, tmp_path):
    path = tmp_path / "a.tif"
    path.write_bytes(tiff(2, 1, 16, 1, struct.pack(order + "2H", 257 * 10, 65535), order=order))
    np.testing.assert_allclose(images.read_image(path).pixels[0, :, 0], [10, 255], atol=EXACT)


def test_twelve_bit_tiff_has_its_white_at_4095(tmp_path):
    path = tmp_path / "a.tif"
    path.write_bytes(tiff(2, 1, 12, 1, bytes([0xFF, 0xF8, 0x00])))
    wanted = [255, 2048 * 255 / 4095]
    np.testing.assert_allclose(images.read_image(path).pixels[0, :, 0], wanted, atol=EXACT)


def test_tiff_in_which_white_is_zero_is_not_a_negative(tmp_path):
    path = tmp_path / "a.tif"
    path.write_bytes(tiff(2, 1, 16, 0, struct.pack("<2H", 0, 65535)))
    np.testing.assert_array_equal(images.read_image(path).pixels[0, :, 0], [255, 0])


def test_sixteen_bit_colour_comes_in_with_the_eight_bits_that_pillow_keeps(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(png(1, 1, 16, 2, b"\0" + struct.pack(">3H", 0x1234, 0xABCD, 0xFFFF)))
    np.testing.assert_array_equal(images.read_image(path).pixels[0, 0], [0x12, 0xAB, 0xFF])


@pytest.mark.parametrize(("values", "white"), [([0.0, 0.25, 1.0], 1), ([0.0, 0.25, 255.0], 255)])
def test_a_float_tiff_may_count_to_one_or_to_255(values, white, tmp_path):
    result = read(PIL.Image.fromarray(np.array([values], "f4")), tmp_path, "a.tif")
    np.testing.assert_allclose(result.pixels[0, :, 0], np.array(values) * 255 / white, atol=EXACT)


@pytest.mark.parametrize(
    ("values", "found"), [([-1.0, 3.0], "-1 to 3"), ([0.0, 300.0], "0 to 300")]
)
def test_a_float_tiff_beyond_255_is_refused_with_its_range(values, found, tmp_path):
    path = tmp_path / "a.tif"
    PIL.Image.fromarray(np.array([values], "f4")).save(path)
    assert found in refusal(path)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_an_image_with_a_value_that_is_not_finite_is_refused(value):
    plane = np.array([[0.5, value]], "f4")
    assert "NaN or infinite" in refusal(PIL.Image.fromarray(plane))
    assert "NaN or infinite" in refusal(plane)


def test_integers_that_no_image_has_are_refused_with_their_range():
    for low, high in ((-1, 5), (0, 70000)):
        assert f"{low} to {high}" in refusal(PIL.Image.fromarray(np.array([[low, high]], "i4")))


def test_of_an_animation_the_first_frame_comes_in(tmp_path):
    first, second = (
        PIL.Image.new("RGB", (6, 4), (255, 0, 0)),
        PIL.Image.new("RGB", (6, 4), (0, 0, 255)),
    )
    for name, options in (
        ("a.gif", {}),
        ("a.webp", {"lossless": True}),
        ("a.png", {}),
        ("a.tif", {}),
        ("a.avif", {"quality": 100}),
        ("a.mpo", {"quality": 100}),
    ):
        result = read(first, tmp_path, name, save_all=True, append_images=[second], **options)
        np.testing.assert_allclose(result.pixels, first, atol=2)  # what JPEG and AVIF lose


# --- transparency -----------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".png", ".tif", ".webp"])
def test_colours_lie_on_white_and_alpha_is_kept(suffix, tmp_path):
    image = PIL.Image.fromarray(np.dstack((colours(), opacities())))
    options = {"lossless": True, "exact": True} if suffix == ".webp" else {}
    result = read(image, tmp_path, "a" + suffix, **options)
    np.testing.assert_allclose(result.alpha, opacities() / 255, atol=EXACT)
    np.testing.assert_allclose(result.pixels, on_white(colours(), opacities()), atol=EXACT)


@pytest.mark.parametrize("mode", ["CMYK", "LAB"])
def test_a_mode_without_alpha_is_opaque_whatever_its_metadata_say(mode):
    image = PIL.Image.new("P", (2, 2), 3).convert("RGB").convert(mode)
    image.info["transparency"] = 0  # as left over from a GIF
    assert images.read_image(image).alpha is None


def test_garbage_under_full_transparency_never_comes_in(tmp_path):
    garbage = np.random.default_rng(0).integers(0, 256, (5, 5, 4), "u1")
    garbage[..., 3] = 0
    np.testing.assert_array_equal(read(PIL.Image.fromarray(garbage), tmp_path).pixels, 255)


def test_an_opaque_image_with_an_alpha_channel_keeps_the_channel(tmp_path):
    result = read(PIL.Image.new("RGBA", (2, 2), (9, 8, 7, 255)), tmp_path)
    np.testing.assert_array_equal(result.alpha, 1)
    np.testing.assert_array_equal(result.pixels[0, 0], (9, 8, 7))


@pytest.mark.parametrize(
    ("transparency", "alpha"), [(1, [1, 0, 1]), (b"\xff\x80\x00", [1, 128 / 255, 0])]
)
def test_a_palette_has_transparency_as_one_index_or_as_a_table(transparency, alpha, tmp_path):
    image = PIL.Image.new("P", (3, 1))
    image.putdata([0, 1, 2])
    image.putpalette([10, 20, 30, 0, 0, 200, 40, 50, 60])
    result = read(image, tmp_path, transparency=transparency)
    np.testing.assert_allclose(result.alpha[0], alpha, atol=EXACT)
    table = np.array([[(10, 20, 30), (0, 0, 200), (40, 50, 60)]])
    wanted = on_white(table, np.array([alpha]) * 255)
    np.testing.assert_allclose(result.pixels, wanted, atol=EXACT)


def test_a_palette_with_an_alpha_channel_keeps_both():
    image = PIL.Image.new("RGBA", (2, 1), (10, 20, 200, 128)).convert("PA")
    assert image.mode == "PA"
    result = images.read_image(image)
    np.testing.assert_allclose(result.alpha, 128 / 255, atol=EXACT)
    wanted = on_white(np.array([[(10, 20, 200)] * 2]), np.full((1, 2), 128))
    np.testing.assert_allclose(result.pixels, wanted, atol=EXACT)


@pytest.mark.parametrize(
    ("mode", "shade", "other"), [("L", 40, 90), ("RGB", (1, 2, 3), (4, 5, 6)), ("1", 0, 1)]
)
def test_a_single_transparent_colour_of_a_png_is_transparent(mode, shade, other, tmp_path):
    image = PIL.Image.new(mode, (2, 1), other)
    image.putpixel((0, 0), shade)
    result = read(image, tmp_path, transparency=shade)
    np.testing.assert_array_equal(result.alpha, [[0, 1]])
    np.testing.assert_array_equal(result.pixels[0, 0], 255)


def test_a_single_transparent_shade_of_sixteen_bits_is_compared_in_full(tmp_path):
    path = tmp_path / "a.png"
    rows = b"\0" + struct.pack(">2H", 0x1234, 0x1235)
    path.write_bytes(png(2, 1, 16, 0, rows, (b"tRNS", struct.pack(">H", 0x1234))))
    np.testing.assert_array_equal(images.read_image(path).alpha, [[0, 1]])


# --- orientation ------------------------------------------------------------------------------


def stored_for(orientation, upright):
    """Store an image as EXIF describes it: where row 0 and column 0 are seen."""
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


@pytest.mark.parametrize("suffix", [".png", ".webp", ".tif", ".jpg"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_rotated_photograph_comes_in_upright(orientation, suffix, tmp_path):
    # Blocks of 16, as JPEG's, so that quality 100 keeps their colours.
    upright = colours(3, 4).repeat(16, axis=0).repeat(16, axis=1)
    exif = PIL.Image.Exif()
    exif[0x0112] = orientation
    options = {".webp": {"lossless": True}, ".jpg": {"quality": 100, "subsampling": 0}}
    image = PIL.Image.fromarray(stored_for(orientation, upright))
    result = read(image, tmp_path, "a" + suffix, exif=exif, **options.get(suffix, {}))
    # Two levels are JPEG's own rounding; neighbouring blocks differ by more than 60.
    np.testing.assert_allclose(result.pixels, upright, atol=2)


def test_alpha_is_turned_with_its_image(tmp_path):
    exif = PIL.Image.Exif()
    exif[0x0112] = 6
    stored = np.dstack((colours(), opacities()))
    result = read(PIL.Image.fromarray(stored), tmp_path, exif=exif)
    # 6: the first row is seen at the right.
    np.testing.assert_allclose(result.alpha, np.rot90(opacities(), -1) / 255, atol=EXACT)
    assert result.pixels.shape == (10, 7, 3)


@pytest.mark.parametrize("exif", [b"XX", b"MM\0*\0", b"MM\0*\0\0\0\x08\0\x02\x01\x12"])
def test_a_photograph_with_broken_exif_is_read_without_it(exif, tmp_path):
    path = tmp_path / "a.webp"
    PIL.Image.fromarray(colours()).save(path, lossless=True, exif=exif)
    np.testing.assert_array_equal(images.read_image(path).pixels, colours())
    assert images.read_settings(path) is None


# --- colour profiles --------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".png", ".tif", ".webp"])
def test_colours_of_another_profile_become_srgb(suffix, tmp_path):
    options = {"lossless": True} if suffix == ".webp" else {}
    image = PIL.Image.fromarray(colours())
    result = read(image, tmp_path, "a" + suffix, icc_profile=linear_rgb_profile(), **options)
    np.testing.assert_allclose(result.pixels, encoded(colours() / 255), atol=MANAGED)


def test_a_wider_gamut_becomes_more_vivid_in_srgb(tmp_path):
    # Swapped primaries are as different as profiles get: what was called red is green.
    swapped = {b"rXYZ": PRIMARIES[b"gXYZ"], b"gXYZ": PRIMARIES[b"rXYZ"]}
    curves = {b"rTRC": GAMMA_ONE, b"gTRC": GAMMA_ONE, b"bTRC": GAMMA_ONE}
    profile = icc(b"RGB ", {**WHITE_POINT, **PRIMARIES, **swapped, **curves})
    result = read(PIL.Image.fromarray(colours()), tmp_path, icc_profile=profile)
    wanted = encoded(colours()[..., [1, 0, 2]] / 255)
    np.testing.assert_allclose(result.pixels, wanted, atol=MANAGED)


def test_the_srgb_profile_changes_nothing(tmp_path):
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    result = read(PIL.Image.fromarray(colours()), tmp_path, icc_profile=profile)
    np.testing.assert_array_equal(result.pixels, colours())


def test_colours_and_alpha_pass_through_a_profile_together(tmp_path):
    image = PIL.Image.fromarray(np.dstack((colours(), opacities())))
    result = read(image, tmp_path, icc_profile=linear_rgb_profile())
    wanted = on_white(encoded(colours() / 255), opacities())
    np.testing.assert_allclose(result.alpha, opacities() / 255, atol=EXACT)
    np.testing.assert_allclose(result.pixels, wanted, atol=MANAGED)


@pytest.mark.parametrize("make_profile", [linear_grey_profile, linear_rgb_profile])
def test_grey_with_a_profile_of_either_kind_becomes_srgb(make_profile, tmp_path):
    shades = np.arange(256, dtype="u1").reshape(16, 16)
    result = read(PIL.Image.fromarray(shades), tmp_path, icc_profile=make_profile())
    wanted = np.repeat(encoded(shades / 255)[..., None], 3, axis=2)
    np.testing.assert_allclose(result.pixels, wanted, atol=MANAGED)


def test_sixteen_bit_grey_keeps_its_fine_steps_through_a_profile(tmp_path):
    shades = (np.arange(40000, 40000 + 64 * 40, 40).reshape(8, 8)).astype("u2")
    profile = linear_grey_profile()
    result = read(PIL.Image.fromarray(shades), tmp_path, icc_profile=profile).pixels[..., 0]
    np.testing.assert_allclose(result, encoded(shades / 65535), atol=MANAGED)
    assert len(np.unique(result)) > 30  # in 8 bits there would be the 6 from 205 to 210


@pytest.mark.parametrize("suffix", [".jpg", ".tif"])
def test_cmyk_goes_through_its_own_profile(suffix, tmp_path):
    image = PIL.Image.new("CMYK", (16, 16), (200, 100, 50, 102))  # 40 % black, the rest invisible
    result = read(image, tmp_path, "a" + suffix, icc_profile=grey_ink_profile())
    np.testing.assert_allclose(result.pixels[8, 8], lab_in_srgb(60, 0, 0), atol=2 * MANAGED)


def test_inverted_cmyk_as_photoshop_stores_it_is_turned_round(tmp_path):
    # Pillow writes CMYK JPEG as Adobe does: inverted, and with Adobe's marker.
    image = PIL.Image.new("CMYK", (16, 16), (0, 255, 255, 0))
    path = tmp_path / "a.jpg"
    image.save(path, quality=100)
    assert b"Adobe" in path.read_bytes()
    np.testing.assert_allclose(images.read_image(path).pixels[8, 8], (255, 0, 0), atol=2)


@pytest.mark.parametrize(
    "profile",
    [
        b"no profile at all",
        linear_rgb_profile()[:200],
        linear_grey_profile(),  # for a colour image
        icc(b"RGB ", WHITE_POINT),  # no curves, no primaries
        grey_ink_profile(),
    ],
    ids=["text", "truncated", "grey", "empty", "cmyk"],
)
def test_a_broken_or_foreign_profile_counts_as_srgb(profile, tmp_path, capfd):
    result = read(PIL.Image.fromarray(colours()), tmp_path, icc_profile=profile)
    np.testing.assert_array_equal(result.pixels, colours())
    assert capfd.readouterr() == ("", "")


# --- arrays -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("array", "expected"),
    [
        (np.full((2, 3, 3), 51, "u1"), 51),
        (np.full((2, 3), 51, "u1"), 51),
        (np.full((2, 3, 1), 51, "u1"), 51),
        (np.full((2, 3, 3), 65535, "u2"), 255),
        (np.full((2, 3, 3), 257, ">u2"), 1),
        (np.full((2, 3, 3), 0.5, "f2"), 127.5),
        (np.full((2, 3, 3), 0.5, "f4"), 127.5),
        (np.full((2, 3, 3), 1.0, "f8"), 255),
    ],
)
def test_an_array_is_scaled_by_its_type(array, expected):
    result = images.read_image(array)
    assert result.pixels.shape == (2, 3, 3)
    assert result.pixels.dtype == np.float32
    assert result.alpha is None
    np.testing.assert_allclose(result.pixels, expected, atol=EXACT)


def test_the_fourth_channel_of_an_array_is_alpha():
    result = images.read_image(np.dstack((colours(), opacities())))
    np.testing.assert_allclose(result.alpha, opacities() / 255, atol=EXACT)
    np.testing.assert_allclose(result.pixels, on_white(colours(), opacities()), atol=EXACT)


def test_an_image_shares_nothing_with_the_array_that_it_came_from():
    for array in (np.zeros((2, 2, 3), "f4"), np.ones((2, 2, 4), "f4"), np.zeros((2, 2, 3), "u1")):
        result = images.read_image(array)
        before = result.pixels.copy()
        array[...] = 1 - array
        np.testing.assert_array_equal(result.pixels, before)
        assert result.pixels.flags.writeable
        assert result.pixels.flags.c_contiguous


@pytest.mark.parametrize("shape", [(4,), (2, 2, 2), (3, 8, 8), (1, 2, 2, 3), ()])
def test_an_array_of_another_shape_is_refused_by_its_shape(shape):
    message = refusal(np.zeros(shape, "u1"), name="the artwork")
    assert message.startswith("cannot read the artwork: ")
    assert str(shape) in message


@pytest.mark.parametrize("kind", ["bool", "int64", "int8", "uint32", "complex64", "object"])
def test_an_array_of_another_type_is_refused_by_its_type(kind):
    assert kind in refusal(np.zeros((2, 2, 3), kind))


@pytest.mark.parametrize(("low", "high"), [(0.0, 255.0), (-0.5, 0.5), (0.0, 1.001)])
def test_a_float_array_beyond_one_is_refused_with_its_range(low, high):
    array = np.full((2, 2, 3), low)
    array[0, 0, 0] = high
    assert f"{low:g}..{high:g}" in refusal(array)


def test_an_image_without_pixels_is_refused():
    for source in (np.zeros((0, 4, 3), "u1"), PIL.Image.new("RGB", (0, 4))):
        assert "no pixels" in refusal(source)


@pytest.mark.parametrize("source", [None, b"a.png", 7, [[1, 2]]])
def test_a_source_of_an_unknown_type_is_refused_by_its_type(source):
    assert type(source).__name__ in refusal(source, name="the\nphoto")


# --- hostile files ----------------------------------------------------------------------------


def test_a_missing_file_a_folder_and_an_empty_file_are_named(tmp_path):
    empty = tmp_path / "empty.jpg"
    empty.touch()
    for path, reason in (
        (tmp_path / "no.jpg", "no such file"),
        (tmp_path, "folder"),
        (empty, "empty"),
        (empty / "a.jpg", "not a directory"),
        (tmp_path / ("a" * 300 + ".jpg"), "too long"),
        ("a\0b.jpg", "NUL"),
    ):
        message = refusal(path)
        assert reason in message
        assert repr(str(path)) in message


def test_a_line_break_in_a_name_does_not_break_the_message(tmp_path):
    assert r"two\nlines.jpg" in refusal(tmp_path / "two\nlines.jpg")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no named pipes")
def test_a_pipe_is_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "a.jpg")
    assert "regular" in refusal(tmp_path / "a.jpg")


@pytest.mark.parametrize(
    "content",
    [
        b"hello, world" * 100,
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n",
        b"<svg xmlns='http://www.w3.org/2000/svg' width='5' height='5'/>",
        bytes(1000),
    ],
    ids=["text", "eps", "svg", "zeros"],
)
def test_what_is_no_image_of_ours_is_refused_by_its_content(content, tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(content)
    assert "not an image of a known format" in refusal(path)


def test_an_image_is_known_by_its_content_and_not_by_its_name(tmp_path):
    path = tmp_path / "photo.txt"
    PIL.Image.fromarray(colours()).save(path, "PNG")
    np.testing.assert_array_equal(images.read_image(path).pixels, colours())


@pytest.mark.parametrize("suffix", ["jpg", "png", "tif", "bmp", "ppm", "gif"])
def test_a_truncated_file_is_called_so(suffix, tmp_path):
    path = tmp_path / f"a.{suffix}"
    PIL.Image.fromarray(colours(64, 64)).save(path)
    whole = path.read_bytes()
    if suffix == "tif":  # its directory comes first, so that the cut is in the pixels
        assert whole.index(b"II*\0\x08") == 0
    path.write_bytes(whole[: len(whole) // 2])
    message = refusal(path)
    assert "truncated" in message or "damaged" in message
    assert "complete copy" in message


def test_the_remedy_for_a_truncated_photograph_is_in_the_message(tmp_path):
    path = tmp_path / "x.jpg"
    PIL.Image.fromarray(colours(64, 64)).save(path)
    path.write_bytes(path.read_bytes()[:-300])
    wanted = f"cannot read {str(path)!r}: the file is truncated; get a complete copy"
    assert refusal(path) == wanted


def test_a_text_chunk_that_inflates_to_gigabytes_is_refused(tmp_path):
    bomb = zlib.compress(bytes(3_000_000))
    path = tmp_path / "a.png"
    path.write_bytes(png(1, 1, 8, 0, b"\0\0", (b"zTXt", b"Comment\0\0" + bomb)))
    assert "too large" in refusal(path)


def sample(kind):
    """A small file of each format, with alpha, EXIF and a profile where it holds them."""
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


@pytest.fixture(scope="module")
def damaged_file(tmp_path_factory):
    return tmp_path_factory.mktemp("damaged") / "a.image"


@pytest.mark.parametrize("kind", FORMATS)
def test_a_damaged_file_is_read_or_refused_and_nothing_else(kind, damaged_file):
    whole = sample(kind)

    # Headers are short and matter most, so half of the changes go there.
    position = st.one_of(st.integers(0, 60), st.integers(0, len(whole) - 1))
    changes = st.lists(st.tuples(position, st.integers(0, 255)), max_size=6)

    @settings(max_examples=150, deadline=None, database=None, derandomize=True)
    @given(changes, st.integers(len(whole) // 8, 2 * len(whole)))
    def attempt(changes, length):
        data = bytearray(whole)
        for place, value in changes:
            data[place] = value
        damaged_file.write_bytes(data[:length])
        with contextlib.suppress(ImageError):
            result = images.read_image(damaged_file, max_pixels=1_000_000)
            assert np.isfinite(result.pixels).all()
            assert result.pixels.shape[2] == 3
        with contextlib.suppress(ImageError):
            kept = images.read_settings(damaged_file)
            assert kept is None or isinstance(kept, dict)

    attempt()


# --- size -------------------------------------------------------------------------------------


def test_an_image_above_the_cap_is_refused_before_it_is_decoded(tmp_path):
    # The header promises 40 gigapixels and the data are not there at all.
    path = tmp_path / "bomb.png"
    path.write_bytes(png(200_000, 200_000, 8, 2, b""))
    message = refusal(path)
    assert "200000 × 200000" in message
    assert "100,000,000" in message
    assert "raise it with --max-pixels / max_pixels" in message


@pytest.mark.parametrize("kind", FORMATS)
def test_the_cap_counts_every_pixel(kind, tmp_path):
    path = tmp_path / "a.image"
    path.write_bytes(sample(kind))
    images.read_image(path, max_pixels=70)
    assert "the limit is 69" in refusal(path, max_pixels=69)


def test_the_cap_holds_for_arrays_and_open_images_too():
    for source in (colours(), PIL.Image.fromarray(colours())):
        images.read_image(source, max_pixels=70)
        assert "the limit is 69" in refusal(source, max_pixels=69)


@pytest.mark.parametrize("limit", [50, 10])  # Pillow warns above the one, fails above twice it
@pytest.mark.parametrize("kind", FORMATS)
def test_a_raised_cap_is_above_pillows_own_and_leaves_it_alone(kind, limit, tmp_path, monkeypatch):
    path = tmp_path / "a.image"
    path.write_bytes(sample(kind))
    monkeypatch.setattr(PIL.Image, "MAX_IMAGE_PIXELS", limit)
    if kind == "webp" and limit == 10 and int(features.version("pil").split(".")[0]) >= 13:
        # From 13 on, Pillow's WebP reader asks for itself, and before there is an object.
        assert "convert it to PNG or TIFF" in refusal(path, max_pixels=70)
    else:
        images.read_image(path, max_pixels=70)
    assert limit == PIL.Image.MAX_IMAGE_PIXELS


def test_a_rotated_compressed_tiff_has_room_made_for_it_the_right_way_round(tmp_path):
    exif = PIL.Image.Exif()
    exif[0x0112] = 6
    image = PIL.Image.fromarray(stored_for(6, colours()))
    result = read(image, tmp_path, "a.tif", exif=exif, compression="tiff_lzw")
    np.testing.assert_array_equal(result.pixels, colours())


def noisy_metadata():
    """A good image of which Pillow warns: an animation of no frames."""
    return png(1, 1, 8, 0, b"\0\5", (b"acTL", struct.pack(">II", 0, 0)))


def test_pillows_warnings_do_not_reach_the_user(tmp_path, capfd):
    path = tmp_path / "a.png"
    path.write_bytes(noisy_metadata())
    with pytest.warns(UserWarning, match="APNG"), PIL.Image.open(path):
        pass
    before = list(warnings.filters)
    images.read_image(path)  # a warning would be an error here
    assert warnings.filters == before
    assert capfd.readouterr() == ("", "")


def test_two_threads_that_read_at_once_leave_the_filters_of_warnings_alone(tmp_path, monkeypatch):
    # The worst order: the second begins while the first reads, and ends after it. It would save
    # the filters of the first and put those back for ever. Pillow's init is called in between.
    path = tmp_path / "a.png"
    path.write_bytes(noisy_metadata())
    before = list(warnings.filters)
    second_began, first_ended = threading.Event(), threading.Event()
    first = threading.Thread(target=lambda: (images.read_image(path), first_ended.set()))
    second = threading.Thread(target=images.read_image, args=(path,))

    def init():
        if threading.current_thread() is first:
            second.start()
            second_began.wait(0.3)  # in vain, if the second waits for the first to end
        else:
            second_began.set()
            first_ended.wait(0.3)

    monkeypatch.setattr(PIL.Image, "init", init)
    first.start()
    first.join()
    second.join()
    assert first_ended.is_set()
    assert warnings.filters == before


@pytest.mark.parametrize(
    ("width", "height", "longer_edge", "wanted"),
    [
        (4000, 3000, 1000, (1000, 750)),
        (3000, 4000, 1000, (750, 1000)),
        (100, 50, 400, (400, 200)),
        (7, 7, 7, (7, 7)),
        (10_000, 3, 100, (100, 1)),
        (3, 10_000, 1, (1, 1)),
        (6, 1, 9, (9, 2)),  # 1.5 is rounded up,
        (1, 2, 5, (3, 5)),  # and so is 2.5
        (1000, 667, 512, (512, 342)),  # 341.504
    ],
)
def test_a_fitted_size_has_the_same_shape_to_the_pixel(width, height, longer_edge, wanted):
    assert images.fitted_size(width, height, longer_edge) == wanted


@given(st.integers(1, 10**6), st.integers(1, 10**6), st.integers(1, 10**6))
@settings(max_examples=200, deadline=None, database=None, derandomize=True)
def test_a_fitted_size_is_never_off_by_more_than_half_a_pixel(width, height, longer_edge):
    fitted = images.fitted_size(width, height, longer_edge)
    assert max(fitted) == longer_edge
    for edge, before in zip(fitted, (width, height), strict=True):
        # In whole numbers: |edge - before * longer_edge / longer| <= 1/2, or the edge is 1.
        longer = max(width, height)
        assert edge == 1 or abs(2 * edge * longer - 2 * before * longer_edge) <= longer


@pytest.mark.parametrize("numbers", [(0, 5, 5), (5, 0, 5), (5, 5, 0), (5, 5, -1)])
def test_a_size_below_one_is_an_error(numbers):
    with pytest.raises(OptionError, match="from 1 up"):
        images.fitted_size(*numbers)
    with pytest.raises(OptionError, match="at least 1"):
        images.resize(image(), 0, 5)


def test_a_flat_image_stays_flat_at_any_size():
    flat = images.Image(np.full((7, 10, 3), 100.3, "f4"), np.full((7, 10), 0.3, "f4"))
    for width, height in ((3, 2), (40, 41), (1, 1), (10, 3)):
        result = images.resize(flat, width, height)
        assert result.pixels.shape == (height, width, 3)
        assert result.pixels.dtype == np.float32
        # In 8 bits, 100.3 would be 100.
        np.testing.assert_allclose(result.pixels, 100.3, atol=EXACT)
        np.testing.assert_allclose(result.alpha, 0.3, atol=EXACT)


def test_a_ramp_is_halved_to_the_means_of_its_pixels():
    ramp = np.repeat(np.arange(0, 128, 2, dtype="f4")[None, :, None], 3, axis=2).repeat(8, axis=0)
    result = images.resize(images.Image(ramp), 32, 4)
    # Far from the ends, where the filter has nothing to mirror, a symmetric filter keeps ramps.
    wanted = np.arange(1, 128, 4, dtype="f4")
    np.testing.assert_allclose(result.pixels[:, 4:-4, 1], np.tile(wanted[4:-4], (4, 1)), atol=0.05)


@pytest.mark.parametrize("width", [5, 13, 40])
def test_resizing_is_lanczos_with_three_lobes(width):
    row = np.random.default_rng(0).uniform(60, 190, 20)  # mild enough never to be clipped
    result = images.resize(images.Image(np.tile(row[:, None], (4, 1, 3)).astype("f4")), width, 4)
    step = 20 / width
    distance = np.arange(20) + 0.5 - step * (np.arange(width)[:, None] + 0.5)
    distance /= max(step, 1)  # downwards the filter is as wide as three new pixels
    weights = np.where(abs(distance) < 3, np.sinc(distance) * np.sinc(distance / 3), 0)
    wanted = weights @ row / weights.sum(axis=1)
    np.testing.assert_allclose(result.pixels[2, :, 1], wanted, atol=EXACT)


def test_fine_stripes_become_grey_and_not_coarse_stripes():
    stripes = np.zeros((30, 120, 3), "f4")
    stripes[:, ::2] = 255
    result = images.resize(images.Image(stripes), 50, 30)
    # Without a filter every pixel would be 0 or 255.
    assert np.abs(result.pixels[:, 3:-3] - 127.5).max() < 20


def test_a_sharp_edge_does_not_leave_the_range():
    edge = np.zeros((8, 8, 3), "f4")
    edge[:, 4:] = 255
    result = images.resize(images.Image(edge, edge[..., 0] / 255), 29, 29)
    assert (result.pixels.min(), result.pixels.max()) == (0, 255)
    assert (result.alpha.min(), result.alpha.max()) == (0, 1)


def test_channels_and_alpha_stay_apart_when_resized():
    pixels = np.zeros((4, 4, 3), "f4") + np.array([10, 120, 230], "f4")
    result = images.resize(images.Image(pixels, np.full((4, 4), 0.7, "f4")), 9, 5)
    np.testing.assert_allclose(result.pixels, np.tile([10, 120, 230], (5, 9, 1)), atol=EXACT)
    np.testing.assert_allclose(result.alpha, 0.7, atol=EXACT)


def test_an_invisible_colour_does_not_bleed_out_when_resized():
    # Black garbage beside an opaque white: there is nothing dark to be seen at any size.
    rgba = np.full((8, 8, 4), 255, "u1")
    rgba[:, 4:] = 0
    result = images.resize(images.read_image(rgba), 5, 5)
    np.testing.assert_allclose(result.pixels, 255, atol=EXACT)


def test_the_same_size_is_the_same_image():
    same = image()
    assert images.resize(same, same.width, same.height) is same


# --- out --------------------------------------------------------------------------------------


def test_eight_bits_are_rounded_half_to_even_and_clipped():
    values = np.array([-3, 0.4, 0.5, 1.5, 2.5, 254.5, 254.6, 255.4, 300], "f4")
    image = images.to_pil(images.Image(np.repeat(values[None, :, None], 3, axis=2)))
    assert image.mode == "RGB"
    assert np.asarray(image)[0, :, 2].tolist() == [0, 0, 0, 2, 2, 254, 255, 255, 255]


def test_a_pillow_image_with_alpha_looks_on_white_like_the_pixels():
    alpha = (opacities() / 255).astype("f4")
    pixels = on_white(colours(), opacities()).astype("f4")
    image = images.to_pil(images.Image(pixels, alpha))
    assert image.mode == "RGBA"
    ground = PIL.Image.new("RGBA", image.size, "white")
    seen = np.asarray(PIL.Image.alpha_composite(ground, image))[..., :3]
    # Two roundings: ours of the colour and Pillow's of the composite.
    np.testing.assert_allclose(seen, pixels, atol=1.01)


def test_a_pillow_image_says_that_it_is_srgb():
    profile = images.to_pil(image()).info["icc_profile"]
    assert "sRGB" in ImageCms.getProfileDescription(io.BytesIO(profile))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_a_number_is_never_written(value, tmp_path):
    broken, sheer = image(), image(alpha=np.ones((7, 10), "f4"))
    broken.pixels[3, 4, 1] = value
    sheer.alpha[3, 4] = value
    for bad in (broken, sheer):
        with pytest.raises(ImageError, match="NaN or infinite"):
            images.to_pil(bad)
        with pytest.raises(ImageError, match="NaN or infinite"):
            images.write_image(tmp_path / "a.png", bad)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("suffix", [".png", ".webp", ".tif", ".tiff"])
def test_what_is_written_without_loss_is_read_back(suffix, tmp_path):
    path = tmp_path / f"a{suffix}"
    written = images.Image(image().pixels + np.float32(0.3))
    images.write_image(path, written)
    result = images.read_image(path)
    np.testing.assert_allclose(result.pixels, np.clip(written.pixels, 0, 255), atol=ROUNDED)
    assert result.alpha is None


@pytest.mark.parametrize("suffix", [".jpg", ".jpeg", ".avif"])
def test_lossy_files_keep_their_colours_sharp(suffix, tmp_path):
    # Red and blue columns of one pixel: with colour of half resolution they would be purple.
    stripes = np.zeros((32, 32, 3), "f4")
    stripes[:, ::2, 0] = 255
    stripes[:, 1::2, 2] = 255
    path = tmp_path / f"a{suffix}"
    images.write_image(path, images.Image(stripes))
    assert np.abs(images.read_image(path).pixels - stripes).mean() < 8


@pytest.mark.parametrize("suffix", WRITABLE)
def test_white_noise_can_be_written(suffix, tmp_path):
    # The hardest thing to compress, and what a run may start from.
    path = tmp_path / f"a{suffix}"
    images.write_image(path, images.Image(noise(200, 300)))
    assert images.read_image(path).pixels.shape == (200, 300, 3)


@pytest.mark.parametrize("suffix", WITH_ALPHA)
def test_alpha_is_written_where_the_format_has_it(suffix, tmp_path):
    alpha = np.repeat(np.linspace(0, 1, 32, dtype="f4")[None], 32, axis=0)
    pixels = np.full((32, 32, 3), 255, "f4") - alpha[..., None] * np.float32(225.5)
    path = tmp_path / f"a{suffix}"
    images.write_image(path, images.Image(pixels, alpha))
    result = images.read_image(path)
    lossy = 2 if suffix == ".avif" else 0  # levels
    np.testing.assert_allclose(result.alpha, alpha, atol=(ROUNDED + lossy) / 255)
    # Colours are chosen for the alpha that was rounded, so its rounding adds nothing.
    np.testing.assert_allclose(result.pixels, pixels, atol=ROUNDED + 2 * lossy)


@pytest.mark.parametrize("suffix", [".jpg", ".jpeg"])
def test_a_jpeg_shows_the_image_on_white(suffix, tmp_path):
    path = tmp_path / f"a{suffix}"
    sheer = images.Image(np.full((16, 16, 3), 200, "f4"), np.full((16, 16), 0.5, "f4"))
    images.write_image(path, sheer)
    result = images.read_image(path)
    assert result.alpha is None
    np.testing.assert_allclose(result.pixels, 200, atol=1)


@pytest.mark.parametrize("suffix", [".png", ".webp", ".tif"])
def test_reading_and_writing_again_changes_nothing(suffix, tmp_path):
    path = tmp_path / f"a{suffix}"
    first = images.read_image(np.dstack((colours(), opacities())))
    images.write_image(path, first)
    second = images.read_image(path)
    images.write_image(path, second)
    third = images.read_image(path)
    np.testing.assert_allclose(second.pixels, first.pixels, atol=ROUNDED)
    np.testing.assert_array_equal(third.pixels, second.pixels)
    np.testing.assert_array_equal(third.alpha, second.alpha)


@pytest.mark.parametrize("suffix", WRITABLE)
def test_every_file_says_that_it_is_srgb_and_has_its_own_format(suffix, tmp_path):
    path = tmp_path / f"A{suffix.upper()}"
    images.write_image(path, image())
    with PIL.Image.open(path) as opened:
        assert opened.format == images.EXTENSIONS[suffix]
        description = ImageCms.getProfileDescription(io.BytesIO(opened.info["icc_profile"]))
    assert "sRGB" in description


def test_no_time_of_day_makes_equal_images_different_files():
    # LittleCMS writes the moment into the header of a profile: year, month, day, h, m, s.
    profile = images.to_pil(image()).info["icc_profile"]
    assert struct.unpack_from(">6H", profile, 24) == (2000, 1, 1, 0, 0, 0)


def test_an_image_too_wide_for_its_format_is_refused_and_leaves_nothing(tmp_path):
    for name, width in (("a.jpg", 70_000), ("a.webp", 17_000)):
        with pytest.raises(ImageError, match=r"choose another format, such as \.png"):
            images.write_image(tmp_path / name, images.Image(np.zeros((1, width, 3), "f4")))
    assert list(tmp_path.iterdir()) == []


# --- whole or not at all ----------------------------------------------------------------------


def noise(height, width):
    return 255 * np.random.default_rng(0).integers(0, 2, (height, width, 3)).astype("f4")


def failing_write(path):
    with pytest.raises(ImageError) as caught:
        images.write_image(path, images.Image(noise(60, 50)))
    message = str(caught.value)
    assert message.startswith(f"cannot write {str(path)!r}: ")
    assert "\n" not in message
    return message


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_when_the_disk_is_full_the_old_file_stays_and_no_part_of_the_new(
    call, tmp_path, monkeypatch
):
    path = tmp_path / "a.png"
    path.write_bytes(b"precious")

    def full(*arguments, **options):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os if call == "fsync" else Path, call, full)
    assert "no space left on device; free some space" in failing_write(path)
    assert list(tmp_path.iterdir()) == [path]
    assert path.read_bytes() == b"precious"


@pytest.mark.skipif(sys.platform == "win32", reason="there is no limit on the size of a file")
def test_a_write_that_the_system_cuts_short_leaves_the_old_file(tmp_path):
    # A limit on the size of files stops even the superuser, in the middle of the data.
    import resource

    path = tmp_path / "a.png"
    path.write_bytes(b"precious")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (500, before[1]))
    try:
        message = failing_write(path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert "free some space" in message
    assert list(tmp_path.iterdir()) == [path]
    assert path.read_bytes() == b"precious"


def test_an_interrupted_write_leaves_nothing(tmp_path, monkeypatch):
    def interrupt(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        images.write_image(tmp_path / "a.png", image())
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_not_there_or_is_a_file_cannot_be_written_to(tmp_path):
    (tmp_path / "file").touch()
    assert "no such file or directory" in failing_write(tmp_path / "no" / "a.png")
    assert "not a directory" in failing_write(tmp_path / "file" / "a.png")


def test_the_new_file_is_complete_on_disk_before_it_takes_the_old_ones_place(tmp_path, monkeypatch):
    path = tmp_path / "a.png"
    path.write_bytes(b"precious")
    steps = []
    fsync, replace = os.fsync, Path.replace

    def noted_fsync(handle):
        steps.append(("fsync", os.fstat(handle).st_size, path.read_bytes()))
        fsync(handle)

    def noted_replace(self, target):
        steps.append(("replace", self.stat().st_size, path.read_bytes()))
        assert self.parent == target.parent
        return replace(self, target)

    monkeypatch.setattr(os, "fsync", noted_fsync)
    monkeypatch.setattr(Path, "replace", noted_replace)
    images.write_image(path, image())
    size = path.stat().st_size
    assert steps == [("fsync", size, b"precious"), ("replace", size, b"precious")]


@pytest.mark.skipif(sys.platform == "win32", reason="permissions are POSIX's")
@pytest.mark.parametrize("mask", [0o022, 0o077, 0o002])
def test_the_umask_decides_who_may_read_a_new_file(mask, tmp_path):
    before = os.umask(mask)
    try:
        images.write_image(tmp_path / "a.png", image())
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a.png").stat().st_mode) == 0o666 & ~mask


@pytest.mark.skipif(sys.platform == "win32", reason="permissions are POSIX's")
def test_a_private_file_stays_private_when_it_is_replaced(tmp_path):
    path = tmp_path / "a.png"
    path.touch(mode=0o600)
    images.write_image(path, image())
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_symbolic_link_is_followed_and_stays_one(tmp_path):
    (tmp_path / "real").mkdir()
    link, target = tmp_path / "link.png", tmp_path / "real" / "a.png"
    link.symlink_to(target)
    images.check_output(link, [])
    images.write_image(link, image())
    assert link.is_symlink()
    np.testing.assert_array_equal(images.read_image(target).pixels, colours())


# --- checking before the work -----------------------------------------------------------------


@pytest.mark.parametrize("suffix", WRITABLE)
def test_a_good_output_passes_and_nothing_is_left_in_its_folder(suffix, tmp_path):
    images.check_output(tmp_path / f"a{suffix}", [tmp_path / "photo.jpg", colours()])
    assert list(tmp_path.iterdir()) == []


def test_a_relative_output_is_written_to_the_current_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    images.check_output("a.png", ["photo.jpg"])
    images.write_image("a.png", image())
    assert (tmp_path / "a.png").exists()


def test_a_bad_output_is_refused_with_its_reason(tmp_path):
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "file").touch()
    for path, reason in (
        (tmp_path / "no" / "a.png", "create it first"),
        (tmp_path / "file" / "a.png", "not a directory"),
        (tmp_path / "folder.png", "it is a folder"),
        (tmp_path / "a.bmp", "'.bmp' is unknown; choose one of .jpg, "),
        (tmp_path / "a", "no extension"),
        (tmp_path / ".png", "no extension"),
        ("a\0.png", "NUL"),
    ):
        assert reason in output_refusal(path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no named pipes")
def test_a_pipe_is_not_replaced_by_an_image(tmp_path):
    os.mkfifo(tmp_path / "a.png")
    assert "regular" in output_refusal(tmp_path / "a.png")
    assert "regular" in failing_write(tmp_path / "a.png")
    assert stat.S_ISFIFO((tmp_path / "a.png").stat().st_mode)


def test_a_folder_is_tried_by_writing_to_it(tmp_path, monkeypatch):
    # Access bits say nothing to the superuser or on a read-only disk, so the refusal is made up.
    created = os.open

    def read_only(path, flags, *arguments, **options):
        if flags & os.O_CREAT and Path(os.fsdecode(path)).parent == tmp_path:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))
        return created(path, flags, *arguments, **options)

    monkeypatch.setattr(os, "open", read_only)
    assert "read-only file system; choose another folder" in output_refusal(tmp_path / "a.png")


@pytest.mark.parametrize("link", ["symlink_to", "hardlink_to", None])
def test_an_output_that_is_an_input_is_refused_by_whatever_name(link, tmp_path, monkeypatch):
    source, path = tmp_path / "photo.png", tmp_path / "output.png"
    PIL.Image.fromarray(colours()).save(source)
    if link is None:
        path = tmp_path / "folder" / ".." / "photo.png"
        (tmp_path / "folder").mkdir()
    else:
        getattr(path, link)(source)
    assert "one of the images to read" in output_refusal(path, [colours(), source])
    assert "one of the images to read" in output_refusal(path, [str(source)])
    with PIL.Image.open(source) as opened:
        assert "one of the images to read" in output_refusal(path, [opened])
    monkeypatch.chdir(tmp_path)
    assert "one of the images to read" in output_refusal(path, ["photo.png"])
    images.check_output(tmp_path / "other.png", [source])


@pytest.mark.parametrize("codec", ["webp", "avif"])
def test_a_codec_that_pillow_lacks_is_missed_before_the_work(codec, tmp_path, monkeypatch):
    monkeypatch.setattr(features, "check", lambda feature: feature != codec)
    assert f"cannot encode {codec.upper()}" in output_refusal(tmp_path / f"a.{codec}")
    images.check_output(tmp_path / "a.png", [])


def test_a_decoder_without_its_encoder_is_missed_before_the_work(tmp_path, monkeypatch):
    def refuse(*arguments):
        raise OSError("No codec\navailable")

    monkeypatch.setitem(PIL.Image.SAVE, "AVIF", refuse)
    assert "No codec available" in output_refusal(tmp_path / "a.avif")


# --- settings ---------------------------------------------------------------------------------

KEPT = {"style_weight": 1e5, "layers": ["conv4_2"], "title": "Sternennacht – 星月夜", "seed": None}
# As compact as JSON gets, sorted, and in ASCII.
KEPT_TEXT = (
    '{"layers":["conv4_2"],"seed":null,"style_weight":100000.0,'
    '"title":"Sternennacht \\u2013 \\u661f\\u6708\\u591c"}'
)


@pytest.mark.parametrize("suffix", WRITABLE)
def test_settings_are_read_back_as_they_were_written(suffix, tmp_path):
    path = tmp_path / f"a{suffix}"
    images.write_image(path, image(), settings=KEPT)
    assert images.read_settings(path) == KEPT
    images.write_image(path, image())
    assert images.read_settings(path) is None


def test_a_png_has_its_settings_in_a_chunk_of_international_text(tmp_path):
    path = tmp_path / "a.png"
    images.write_image(path, image(), settings=KEPT)
    # Keyword, no compression, no language, no translation: the layout of the PNG standard.
    assert b"iTXtgramstyle\0\0\0\0\0" + KEPT_TEXT.encode() in path.read_bytes()


def test_a_jpeg_has_its_settings_in_exif_as_the_standard_wants_them(tmp_path):
    path = tmp_path / "a.jpg"
    images.write_image(path, image(), settings=KEPT)
    data = path.read_bytes()
    block = data[data.index(b"Exif\0\0") + 6 :]
    assert block[:8] == b"MM\0*\0\0\0\x08"

    def directory(offset):
        count = struct.unpack_from(">H", block, offset)[0]
        rows = (struct.unpack_from(">HHII", block, offset + 2 + 12 * i) for i in range(count))
        return {tag: (kind, length, value) for tag, kind, length, value in rows}

    first = directory(8)
    kind, length, place = first[0x0131]
    assert (kind, block[place : place + length]) == (2, b"gramstyle\0")  # ASCII
    kind, length, place = directory(first[0x8769][2])[0x9286]
    comment = b"ASCII\0\0\0" + KEPT_TEXT.encode()
    assert (kind, block[place : place + length]) == (7, comment)  # UNDEFINED


def test_settings_do_not_change_the_image(tmp_path):
    for suffix in WRITABLE:
        plain, kept = tmp_path / f"plain{suffix}", tmp_path / f"kept{suffix}"
        images.write_image(plain, image())
        images.write_image(kept, image(), settings=KEPT)
        one, other = images.read_image(plain), images.read_image(kept)
        np.testing.assert_array_equal(one.pixels, other.pixels)


@pytest.mark.parametrize("bad", [{"a": object()}, {"a": float("nan")}, {"a": "x" * 70_000}])
def test_settings_that_no_file_can_hold_are_refused_and_nothing_is_written(bad, tmp_path):
    with pytest.raises(ImageError, match="settings"):
        images.write_image(tmp_path / "a.jpg", image(), settings=bad)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("suffix", WRITABLE)
def test_long_settings_fit_into_every_format(suffix, tmp_path):
    path = tmp_path / f"a{suffix}"
    images.write_image(path, image(), settings={"a": "x" * 59_900})
    assert images.read_settings(path) == {"a": "x" * 59_900}


@pytest.mark.parametrize(
    "text",
    ["", "nonsense", "[1]", "3", "null", '{"a":', "[" * 50_000, '{"a":"' + "x" * 100_000 + '"}'],
    ids=["empty", "words", "list", "number", "null", "broken", "deep", "long"],
)
def test_settings_that_are_not_a_json_object_count_as_none(text, tmp_path):
    from PIL.PngImagePlugin import PngInfo

    path, chunk = tmp_path / "a.png", PngInfo()
    chunk.add_itxt("gramstyle", text)
    PIL.Image.fromarray(colours()).save(path, pnginfo=chunk)
    assert images.read_settings(path) is None


def test_a_comment_of_another_program_counts_as_none(tmp_path):
    exif = PIL.Image.Exif()
    exif[0x0131] = "another"
    exif[0x8769] = {0x9286: b'ASCII\0\0\0{"a":1}'}
    path = tmp_path / "a.jpg"
    PIL.Image.fromarray(colours()).save(path, exif=exif)
    assert images.read_settings(path) is None


def test_settings_of_what_is_no_image_are_an_error(tmp_path):
    path = tmp_path / "a.png"
    for content in (None, b"", b"hello"):
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(ImageError, match=r"cannot read .*; "):
            images.read_settings(path)
