"""Modes, bit depths, transparency and colour profiles of the images that are read."""

import struct

import numpy as np
import PIL.Image
import pytest
from PIL import ImageCms

from gramstyle import images
from images.profiles import (
    GAMMA_ONE,
    PRIMARIES,
    WHITE_POINT,
    encoded,
    grey_ink_profile,
    icc,
    lab_in_srgb,
    linear_grey_profile,
    linear_rgb_profile,
)
from images.samples import EXACT, MANAGED, colours, on_white, opacities, png, read, refusal, tiff


@pytest.mark.parametrize("suffix", [".png", ".tif", ".bmp", ".ppm", ".webp", ".jp2"])
def test_a_losslessly_stored_image_is_read_exactly(suffix, tmp_path):
    options = {"lossless": True} if suffix == ".webp" else {}
    result = read(PIL.Image.fromarray(colours()), tmp_path, "a" + suffix, **options)
    assert result.pixels.dtype == np.float32
    assert (result.height, result.width) == (7, 10)
    assert result.alpha is None
    np.testing.assert_array_equal(result.pixels, colours())


@pytest.mark.parametrize(("suffix", "error"), [(".jpg", 3), (".avif", 3)])
def test_a_lossy_image_is_read_within_its_compression_error(suffix, error, tmp_path):
    y, x = np.mgrid[:40, :60]
    smooth = np.stack([60 + 2 * x, 200 - 3 * y, 90 + x + y], -1).astype("u1")
    result = read(PIL.Image.fromarray(smooth), tmp_path, "a" + suffix, quality=95)
    # Quality 95 may cost 3 levels; a swapped channel or a wrong range costs tens.
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
        ("YCbCr", (76, 85, 255), (254, 0, 0)),  # JFIF's red in 8 bits
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
def test_every_opaque_mode_of_pillow_is_converted_to_srgb(mode, value, expected):
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
def test_every_transparent_mode_is_composited_over_white_and_keeps_its_alpha(mode, value, expected):
    result = images.read_image(PIL.Image.new(mode, (2, 3), value))
    np.testing.assert_allclose(result.alpha, 128 / 255, atol=EXACT)
    wanted = on_white(np.array([[expected]]), np.array([[128]]))
    # Premultiplied colours of 8 bits are off by one when divided by their alpha.
    atol = 0.51 if mode.endswith("a") else EXACT
    np.testing.assert_allclose(result.pixels, np.broadcast_to(wanted, (3, 2, 3)), atol=atol)


def test_a_lab_image_is_converted_by_the_definition_of_cielab(tmp_path):
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


def test_a_dark_sixteen_bit_pgm_is_not_brightened(tmp_path):
    # All values are below 256, but the header declares 65535 as white.
    result = read(PIL.Image.fromarray(np.array([[0, 200]], "u2")), tmp_path, "a.pgm")
    np.testing.assert_allclose(result.pixels[0, :, 0], [0, 200 * 255 / 65535], atol=EXACT)


@pytest.mark.parametrize("order", ["<", ">"])
def test_a_sixteen_bit_tiff_may_have_either_byte_order(order, tmp_path):
    path = tmp_path / "a.tif"
    path.write_bytes(tiff(2, 1, 16, 1, struct.pack(order + "2H", 257 * 10, 65535), order=order))
    np.testing.assert_allclose(images.read_image(path).pixels[0, :, 0], [10, 255], atol=EXACT)


def test_the_white_of_a_twelve_bit_tiff_is_4095(tmp_path):
    path = tmp_path / "a.tif"
    path.write_bytes(tiff(2, 1, 12, 1, bytes([0xFF, 0xF8, 0x00])))
    wanted = [255, 2048 * 255 / 4095]
    np.testing.assert_allclose(images.read_image(path).pixels[0, :, 0], wanted, atol=EXACT)


def test_a_tiff_in_which_white_is_0_is_not_read_as_a_negative(tmp_path):
    path = tmp_path / "a.tif"
    path.write_bytes(tiff(2, 1, 16, 0, struct.pack("<2H", 0, 65535)))
    np.testing.assert_array_equal(images.read_image(path).pixels[0, :, 0], [255, 0])


@pytest.mark.parametrize(("values", "white"), [([0.0, 0.25, 1.0], 1), ([0.0, 0.25, 255.0], 255)])
def test_a_float_tiff_may_range_to_1_or_to_255(values, white, tmp_path):
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


def test_integers_outside_0_to_65535_are_refused_with_their_range():
    for low, high in ((-1, 5), (0, 70000)):
        assert f"{low} to {high}" in refusal(PIL.Image.fromarray(np.array([[low, high]], "i4")))


def test_the_first_frame_of_an_animation_is_read(tmp_path):
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
        np.testing.assert_allclose(result.pixels, first, atol=2)  # the loss of JPEG and AVIF


@pytest.mark.parametrize("suffix", [".png", ".tif", ".webp"])
def test_colours_are_composited_over_white_and_alpha_is_kept(suffix, tmp_path):
    image = PIL.Image.fromarray(np.dstack((colours(), opacities())))
    options = {"lossless": True, "exact": True} if suffix == ".webp" else {}
    result = read(image, tmp_path, "a" + suffix, **options)
    np.testing.assert_allclose(result.alpha, opacities() / 255, atol=EXACT)
    np.testing.assert_allclose(result.pixels, on_white(colours(), opacities()), atol=EXACT)


@pytest.mark.parametrize("mode", ["CMYK", "LAB"])
def test_a_mode_without_alpha_is_opaque_despite_its_metadata(mode):
    image = PIL.Image.new("P", (2, 2), 3).convert("RGB").convert(mode)
    image.info["transparency"] = 0  # left over from a GIF
    assert images.read_image(image).alpha is None


def test_colours_of_fully_transparent_pixels_are_ignored(tmp_path):
    garbage = np.random.default_rng(0).integers(0, 256, (5, 5, 4), "u1")
    garbage[..., 3] = 0
    np.testing.assert_array_equal(read(PIL.Image.fromarray(garbage), tmp_path).pixels, 255)


def test_an_opaque_alpha_channel_is_kept(tmp_path):
    result = read(PIL.Image.new("RGBA", (2, 2), (9, 8, 7, 255)), tmp_path)
    np.testing.assert_array_equal(result.alpha, 1)
    np.testing.assert_array_equal(result.pixels[0, 0], (9, 8, 7))


@pytest.mark.parametrize(
    ("transparency", "alpha"), [(1, [1, 0, 1]), (b"\xff\x80\x00", [1, 128 / 255, 0])]
)
def test_a_palette_may_have_one_transparent_index_or_a_table(transparency, alpha, tmp_path):
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


@pytest.mark.parametrize("suffix", [".png", ".tif", ".webp"])
def test_colours_are_converted_from_their_profile_to_srgb(suffix, tmp_path):
    options = {"lossless": True} if suffix == ".webp" else {}
    image = PIL.Image.fromarray(colours())
    result = read(image, tmp_path, "a" + suffix, icc_profile=linear_rgb_profile(), **options)
    np.testing.assert_allclose(result.pixels, encoded(colours() / 255), atol=MANAGED)


def test_the_primaries_of_a_profile_are_used(tmp_path):
    # With red and green primaries swapped, the two channels are exchanged.
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


def test_an_image_may_have_both_alpha_and_a_profile(tmp_path):
    image = PIL.Image.fromarray(np.dstack((colours(), opacities())))
    result = read(image, tmp_path, icc_profile=linear_rgb_profile())
    wanted = on_white(encoded(colours() / 255), opacities())
    np.testing.assert_allclose(result.alpha, opacities() / 255, atol=EXACT)
    np.testing.assert_allclose(result.pixels, wanted, atol=MANAGED)


@pytest.mark.parametrize("make_profile", [linear_grey_profile, linear_rgb_profile])
def test_grey_may_have_a_grey_or_a_colour_profile(make_profile, tmp_path):
    shades = np.arange(256, dtype="u1").reshape(16, 16)
    result = read(PIL.Image.fromarray(shades), tmp_path, icc_profile=make_profile())
    wanted = np.repeat(encoded(shades / 255)[..., None], 3, axis=2)
    np.testing.assert_allclose(result.pixels, wanted, atol=MANAGED)


def test_sixteen_bit_grey_keeps_its_precision_with_a_profile(tmp_path):
    shades = (np.arange(40000, 40000 + 64 * 40, 40).reshape(8, 8)).astype("u2")
    profile = linear_grey_profile()
    result = read(PIL.Image.fromarray(shades), tmp_path, icc_profile=profile).pixels[..., 0]
    np.testing.assert_allclose(result, encoded(shades / 65535), atol=MANAGED)
    assert len(np.unique(result)) > 30  # in 8 bits there would be 6, from 205 to 210


@pytest.mark.parametrize("suffix", [".jpg", ".tif"])
def test_cmyk_is_converted_by_its_own_profile(suffix, tmp_path):
    image = PIL.Image.new("CMYK", (16, 16), (200, 100, 50, 102))  # 40 % black
    result = read(image, tmp_path, "a" + suffix, icc_profile=grey_ink_profile())
    np.testing.assert_allclose(result.pixels[8, 8], lab_in_srgb(60, 0, 0), atol=2 * MANAGED)


def test_inverted_cmyk_as_photoshop_stores_it_is_inverted(tmp_path):
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
def test_an_image_with_an_unusable_profile_is_read_as_srgb(profile, tmp_path, capfd):
    result = read(PIL.Image.fromarray(colours()), tmp_path, icc_profile=profile)
    np.testing.assert_array_equal(result.pixels, colours())
    assert capfd.readouterr() == ("", "")
