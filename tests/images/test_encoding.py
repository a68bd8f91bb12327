"""Results of 16 bits, with the profile of another image, and with its resolution."""

import io
import sys

import numpy as np
import PIL.Image
import pytest
from PIL import ImageCms

from gramstyle import images
from gramstyle.errors import ImageError
from gramstyle.images import Encoding, Image
from gramstyle.images.colour.managed import why_not_kept
from images.profiles import (
    GAMMA_ONE,
    WHITE_POINT,
    encoded,
    grey_ink_profile,
    icc,
    linear_grey_profile,
    linear_rgb_profile,
)
from images.samples import MANAGED, WRITABLE, colours, on_white, opacities, output_refusal

# Half a 16-bit step, in levels from 0 to 255, and the rounding of float32.
ROUNDED_16 = 0.5 * 255 / 65535 + 5e-5
DEEP_SUFFIXES = [".png", ".tif", ".tiff"]
DEEP = Encoding(depth=16)


@pytest.fixture
def smooth(rng):
    return Image(rng.uniform(0, 255, (7, 10, 3)).astype("f4"))


@pytest.mark.parametrize("suffix", DEEP_SUFFIXES)
def test_sixteen_bits_are_rounded_once(suffix, smooth, tmp_path):
    path = tmp_path / f"a{suffix}"
    smooth.pixels[0, 0] = -5, 300, 127.5
    images.write_image(path, smooth, encoding=DEEP)
    found = images.read_image(path).pixels
    np.testing.assert_allclose(found, np.clip(smooth.pixels, 0, 255), atol=ROUNDED_16)
    with PIL.Image.open(path) as opened:
        assert opened.format == images.EXTENSIONS[suffix]
        assert "RGB;16" in str(opened.tile)


@pytest.mark.parametrize("suffix", DEEP_SUFFIXES)
def test_alpha_has_sixteen_bits_too(suffix, rng, tmp_path):
    alpha = rng.uniform(0, 1, (7, 10)).astype("f4")
    alpha[0, :3] = 0, 1, 1 / 65535
    pixels = (255 - (255 - rng.uniform(0, 255, (7, 10, 3))) * alpha[..., None]).astype("f4")
    path = tmp_path / f"a{suffix}"
    images.write_image(path, Image(pixels, alpha), encoding=DEEP)
    found = images.read_image(path)
    np.testing.assert_allclose(found.alpha, alpha, atol=0.51 / 65535)
    # Colours are computed for the rounded alpha, so its rounding adds no error.
    np.testing.assert_allclose(found.pixels, pixels, atol=2 * ROUNDED_16)


@pytest.mark.parametrize("suffix", DEEP_SUFFIXES)
def test_settings_profile_and_resolution_are_stored_with_sixteen_bits(suffix, smooth, tmp_path):
    path = tmp_path / f"a{suffix}"
    encoding = Encoding(depth=16, dpi=(300, 240))
    images.write_image(path, smooth, settings={"size": 512, "é": "ü"}, encoding=encoding)
    assert images.read_settings(path) == {"size": 512, "é": "ü"}
    with PIL.Image.open(path) as opened:
        assert tuple(map(float, opened.info["dpi"])) == pytest.approx(
            (300, 240), rel=1e-3
        )  # PNG: whole px/m
        description = ImageCms.getProfileDescription(io.BytesIO(opened.info["icc_profile"]))
    assert "sRGB" in description


def test_the_same_image_is_the_same_file(smooth):
    for extension in (".png", ".tif"):
        first, second = (
            images.encode_image(smooth, extension, settings={"a": 1}, encoding=DEEP)
            for _ in range(2)
        )
        assert first == second


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_value_that_is_not_finite_is_not_written_with_sixteen_bits(value, smooth, tmp_path):
    smooth.pixels[3, 4, 1] = value
    for profile in (None, linear_rgb_profile()):
        with pytest.raises(ImageError, match="NaN or infinite"):
            images.write_image(tmp_path / "a.png", smooth, encoding=Encoding(16, profile))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("suffix", sorted({*WRITABLE} - {*DEEP_SUFFIXES}))
def test_a_format_of_eight_bits_is_refused_before_the_work(suffix, smooth, tmp_path):
    path = tmp_path / f"a{suffix}"
    with pytest.raises(ImageError) as caught:
        images.check_output(path, [], depth=16)
    expected = f"{images.EXTENSIONS[suffix]} stores 8 bits per channel, not 16; choose .png or .tif"
    assert expected in str(caught.value)
    with pytest.raises(ImageError, match=r"choose \.png or \.tif"):
        images.write_image(path, smooth, encoding=DEEP)
    assert not path.exists()
    images.check_output(tmp_path / "a.png", [], depth=16)


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_without_the_packages_sixteen_bits_are_refused_with_the_remedy(
    suffix, tmp_path, monkeypatch
):
    monkeypatch.setitem(sys.modules, "imagecodecs", None)
    with pytest.raises(ImageError, match=r"16 bits need imagecodecs .*; install it with: "):
        images.check_output(tmp_path / f"a{suffix}", [], depth=16)
    images.check_output(tmp_path / f"a{suffix}", [])


@pytest.mark.parametrize("suffix", [".png", ".tif", ".webp"])
def test_a_kept_profile_is_embedded_and_the_colours_are_converted_to_it(suffix, tmp_path):
    path, profile = tmp_path / f"a{suffix}", linear_rgb_profile()
    images.write_image(
        path, Image(encoded(colours() / 255).astype("f4")), encoding=Encoding(profile=profile)
    )
    with PIL.Image.open(path) as opened:
        assert opened.info["icc_profile"] == profile
        # Eight bits of sRGB resolve light up to 2.2 levels apart, and the table of LittleCMS.
        np.testing.assert_allclose(np.asarray(opened), colours(), atol=1.2 + MANAGED)


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_with_sixteen_bits_the_conversion_to_a_profile_has_them_too(suffix, smooth, tmp_path):
    path, profile = tmp_path / f"a{suffix}", linear_rgb_profile()
    images.write_image(path, smooth, encoding=Encoding(16, profile))
    with PIL.Image.open(path) as opened:
        assert opened.info["icc_profile"] == profile
    # Near black, a 16-bit step of light is 0.05 of an 8-bit level of sRGB.
    np.testing.assert_allclose(images.read_image(path).pixels, smooth.pixels, atol=0.06)


@pytest.mark.parametrize("depth", [8, 16])
def test_a_kept_profile_leaves_alpha_as_it_is(depth, tmp_path):
    shown = on_white(colours(), opacities()).astype("f4")
    path, alpha = tmp_path / "a.png", (opacities() / 255).astype("f4")
    images.write_image(path, Image(shown, alpha), encoding=Encoding(depth, linear_rgb_profile()))
    found = images.read_image(path)
    np.testing.assert_allclose(found.alpha, alpha, atol=1e-6)
    # In linear light of 8 bits, the darkest shades are up to 13 levels of sRGB apart. With 16, the
    # five digits of the primaries put the most saturated colours just outside of the profile.
    np.testing.assert_allclose(found.pixels, shown, atol=7 if depth == 8 else 0.3)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif"])
def test_a_resolution_is_stored(suffix, smooth, tmp_path):
    path = tmp_path / f"a{suffix}"
    images.write_image(path, smooth, encoding=Encoding(dpi=(300, 240)), settings={"a": 1})
    with PIL.Image.open(path) as opened:
        assert tuple(map(float, opened.info["dpi"])) == pytest.approx((300, 240), rel=1e-3)
    assert images.read_settings(path) == {"a": 1}
    assert images.read_original(path).print_data.dpi == pytest.approx((300, 240), rel=1e-3)


@pytest.mark.parametrize("suffix", [".webp", ".avif"])
def test_formats_without_a_resolution_are_written_without_it(suffix, smooth, tmp_path):
    images.write_image(tmp_path / f"a{suffix}", smooth, encoding=Encoding(dpi=(300, 240)))
    assert images.read_original(tmp_path / f"a{suffix}").print_data.dpi is None


def test_the_profile_and_the_resolution_of_an_image_are_read_upright(tmp_path):
    path, exif, profile = tmp_path / "a.jpg", PIL.Image.Exif(), linear_rgb_profile()
    exif[0x0112] = 6
    PIL.Image.fromarray(colours()).save(path, dpi=(300, 240), exif=exif, icc_profile=profile)
    found = images.read_original(path).print_data
    assert found.profile == profile
    assert found.dpi == (240, 300)


@pytest.mark.parametrize(
    "dpi", [(0, 0), (float("nan"), 72), (72,), "72", None, (1e9, 1e9), (-72, 72)]
)
def test_a_resolution_that_no_printer_has_is_ignored(dpi):
    image = PIL.Image.fromarray(colours())
    image.info["dpi"] = dpi
    assert images.read_original(image).print_data.dpi is None


def test_the_reason_why_a_profile_cannot_be_kept_names_it():
    assert why_not_kept(linear_rgb_profile()) == ""
    assert why_not_kept(None) == "has no embedded colour profile"
    assert why_not_kept(b"no profile") == "has a damaged colour profile"
    assert "profile for CMYK" in why_not_kept(grey_ink_profile())
    assert "profile for GRAY" in why_not_kept(linear_grey_profile())
    # A profile of a scanner: a table from its colours, and none to them.
    only_from = icc(b"RGB ", {**WHITE_POINT, b"rTRC": GAMMA_ONE})
    assert "to which no image can be converted" in why_not_kept(only_from)


def test_without_an_encoding_the_bytes_are_those_of_pillow_alone(smooth, tmp_path):
    written = images.encode_image(smooth, ".png", settings={"a": 1})
    assert written == images.encode_image(smooth, ".png", settings={"a": 1}, encoding=Encoding())
    shown = images.to_pil(smooth)
    plain = io.BytesIO()
    shown.save(plain, "PNG", icc_profile=shown.info["icc_profile"])
    assert len(plain.getvalue()) + 12 + len(b'gramstyle\0\0\0\0\0{"a":1}') == len(written)


def test_a_bad_output_with_sixteen_bits_still_has_its_own_message(tmp_path):
    assert "the extension" in output_refusal(tmp_path / "a.xyz")
