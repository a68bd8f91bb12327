"""Images of more than 8 bits per colour: reading in full precision, and files that are refused."""

import contextlib
import io
import re
import struct
import sys

import numpy as np
import PIL.Image
import pytest
import tifffile

from gramstyle import images
from gramstyle.errors import ImageError
from gramstyle.images import strips as strip_sizes
from gramstyle.images.deep import reading as deep
from images.profiles import encoded, linear_grey_profile, linear_rgb_profile
from images.samples import EXACT, on_white, png, refusal, stored_for

# A thousandth of an 8-bit level is a quarter of a 16-bit one.
DEEP = EXACT


def levels(rng, channels=3, height=7, width=10):
    return rng.integers(0, 65536, (height, width, channels)).astype("u2")


def tiff(samples, **options):
    data = io.BytesIO()
    given = {"photometric": "rgb", "metadata": None, **options}
    tifffile.imwrite(data, samples, **given)
    return data.getvalue()


def png16(samples, *chunks):
    kind = {2: 4, 3: 2, 4: 6}[samples.shape[2]]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in samples)
    return png(samples.shape[1], samples.shape[0], 16, kind, rows, *chunks)


def chunk_of(data, wanted):
    (place,) = [slice(start, end) for kind, start, end in deep.chunks_of(data) if kind == wanted]
    return data[place]


def seen(samples, white=65535):
    """Colours on white and alpha, by the definition, in float64."""
    values = samples.astype("f8") * (255 / white)
    alpha = values[..., -1] / 255 if samples.shape[2] in (2, 4) else None
    colour = values[..., :3] if samples.shape[2] > 2 else np.repeat(values[..., :1], 3, axis=2)
    return (colour if alpha is None else on_white(colour, values[..., -1])), alpha


def assert_read(data, samples, white=65535):
    result = images.read_image(data)
    colour, alpha = seen(samples, white)
    np.testing.assert_allclose(result.pixels, colour, atol=DEEP)
    if alpha is None:
        assert result.alpha is None
    else:
        np.testing.assert_allclose(result.alpha, alpha, atol=DEEP / 255)


@pytest.mark.parametrize("channels", [2, 3, 4])
def test_a_png_of_sixteen_bits_is_read_in_full(channels, rng):
    samples = levels(rng, channels)
    assert_read(png16(samples), samples)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("compression", [None, "adobe_deflate", "lzw", "packbits"])
@pytest.mark.parametrize("channels", [3, 4])
def test_a_tiff_of_sixteen_bits_is_read_in_full(channels, compression, order, rng):
    samples = levels(rng, channels)
    extra = ["unassalpha"] if channels == 4 else None
    predictor = compression in ("adobe_deflate", "lzw")
    data = tiff(
        samples, compression=compression, predictor=predictor, byteorder=order, extrasamples=extra
    )
    assert_read(data, samples)


@pytest.mark.parametrize("options", [{"tile": (16, 16)}, {"rowsperstrip": 2}, {"bigtiff": True}])
def test_tiles_strips_and_large_files_are_read(options, rng):
    samples = levels(rng, height=35, width=20)
    assert_read(tiff(samples, **options), samples)


def test_a_tiff_may_store_each_channel_by_itself(rng):
    samples = levels(rng)
    data = tiff(np.moveaxis(samples, 2, 0), planarconfig="separate")
    assert_read(data, samples)


@pytest.mark.parametrize("photometric", ["minisblack", "miniswhite"])
def test_sixteen_bit_grey_with_alpha_is_read_from_a_tiff(photometric, rng):
    samples = levels(rng, 2)
    data = tiff(
        samples, photometric=photometric, extrasamples=["unassalpha"], planarconfig="contig"
    )
    if photometric == "miniswhite":
        samples[..., 0] = 65535 - samples[..., 0]
    assert_read(data, samples)


@pytest.mark.parametrize(("extra", "seen_as"), [("assocalpha", "alpha"), ("unspecified", "none")])
def test_a_fourth_channel_may_be_premultiplied_alpha_or_no_alpha(extra, seen_as, rng):
    samples = levels(rng, 4)
    samples[..., 3] = np.maximum(samples[..., 3], 5000)
    stored = samples.copy()
    if seen_as == "alpha":
        stored[..., :3] = np.rint(samples[..., :3] * (samples[..., 3:] / 65535))
    result = images.read_image(tiff(stored, extrasamples=[extra]))
    colour, alpha = seen(samples if seen_as == "alpha" else samples[..., :3])
    # A premultiplied colour has been rounded to 16 bits: half a step, times its alpha again.
    np.testing.assert_allclose(result.pixels, colour, atol=DEEP + 0.5 * 255 / 65535)
    assert (result.alpha is None) == (alpha is None)


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8"])
def test_floating_point_colours_from_0_to_1_are_read(dtype, rng):
    samples = rng.uniform(0, 1, (7, 10, 3)).astype(dtype)
    samples[0, 0] = 0, 0.5, 1
    assert_read(tiff(samples), samples, white=1)


@pytest.mark.parametrize(("low", "high"), [(-0.5, 1), (0, 1.5), (0, 255)])
def test_floating_point_colours_beyond_0_to_1_are_refused_with_their_range(low, high):
    samples = np.full((3, 4, 3), low, "f4")
    samples[1, 1, 1] = high
    message = refusal(tiff(samples))
    assert f"{low:g} to {high:g}; scale floating-point colours to 0..1" in message


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_floating_point_colours_that_are_not_finite_are_refused(value):
    samples = np.full((3, 4, 3), 0.5, "f4")
    samples[1, 1, 1] = value
    assert "NaN or infinite" in refusal(tiff(samples))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("form", ["png", "png, EXIF at the end", "tiff"])
def test_a_deep_image_is_turned_upright(form, orientation, rng, monkeypatch):
    monkeypatch.setattr(strip_sizes, "_PIXELS", 30)  # a few rows at a time
    upright = rng.integers(0, 256, (7, 10, 3)).astype("u1")
    stored = stored_for(orientation, upright).astype("u2") * 257
    exif = PIL.Image.Exif()
    exif[0x0112] = orientation
    block = exif.tobytes().removeprefix(b"Exif\0\0")
    if form == "tiff":
        data = tiff(stored, extratags=[(274, 3, 1, orientation, True)])
    elif form == "png":
        data = png16(stored, (b"eXIf", block))
    else:
        sample = png(1, 1, 8, 0, b"\0\0", (b"eXIf", block))
        plain = png16(stored)
        data = plain[:-12] + chunk_of(sample, b"eXIf") + plain[-12:]
    np.testing.assert_allclose(images.read_image(data).pixels, upright, atol=DEEP)


@pytest.mark.parametrize("form", ["png", "tiff"])
def test_a_profile_is_converted_in_more_than_eight_bits(form, rng, tmp_path):
    samples = levels(rng, height=30)
    profile = linear_rgb_profile()
    if form == "tiff":
        data = tiff(samples, iccprofile=profile)
    else:
        written = io.BytesIO()
        PIL.Image.new("RGB", (1, 1)).save(written, "PNG", icc_profile=profile)
        plain = png16(samples)
        data = plain[:33] + chunk_of(written.getvalue(), b"iCCP") + plain[33:]
    wanted = encoded(samples / 65535)
    # The primaries of the profile have five digits, and the curve amplifies that near black.
    np.testing.assert_allclose(images.read_image(data).pixels, wanted, atol=0.25)


def test_grey_with_alpha_may_have_a_profile(rng):
    samples = levels(rng, 2)
    samples[..., 1] = 65535
    data = tiff(samples, photometric="minisblack", extrasamples=["unassalpha"],
                planarconfig="contig", iccprofile=linear_grey_profile())  # fmt: skip
    wanted = encoded(samples[..., :1] / 65535)
    # The curve is sampled at 256 shades, and is steepest near black.
    result = images.read_image(data).pixels
    np.testing.assert_allclose(
        result[samples[..., 0] > 3000], wanted[samples[..., 0] > 3000].repeat(3, 1), atol=1.5
    )


def test_a_transparent_colour_of_a_deep_png_is_compared_in_full():
    rows = b"\0" + struct.pack(">6H", 1, 2, 3, 1, 2, 4)
    data = png(2, 1, 16, 2, rows, (b"tRNS", struct.pack(">3H", 1, 2, 3)))
    np.testing.assert_array_equal(images.read_image(data).alpha, [[0, 1]])


def test_a_deep_image_above_the_limits_is_refused_before_it_is_decoded(monkeypatch, rng):
    def decode(*_):
        raise AssertionError("it was decoded")

    monkeypatch.setattr(deep, "decode_png", decode)
    monkeypatch.setattr(deep, "read_deep_tiff", decode)
    for data in (png16(levels(rng)), tiff(levels(rng)), tiff(levels(rng).astype("f4"))):
        assert "the limit is 69" in refusal(data, max_pixels=69)
        with pytest.raises(ImageError, match="of memory is left"):
            images.read_original(data, max_bytes=300)


@pytest.mark.parametrize("form", ["png", "tiff", "float tiff", "deflated tiff"])
def test_a_truncated_or_damaged_deep_image_is_read_or_refused(form, rng):
    samples = levels(rng, height=20)
    whole = {
        "png": lambda: png16(samples),
        "tiff": lambda: tiff(samples, rowsperstrip=4),
        "float tiff": lambda: tiff((samples / 65535).astype("f4"), rowsperstrip=4),
        "deflated tiff": lambda: tiff(samples, compression="adobe_deflate", rowsperstrip=4),
    }[form]()
    for cut in (20, 60, len(whole) // 2, len(whole) - 40):
        refusal(whole[:cut])
    for _ in range(60):
        data = bytearray(whole)
        for place in rng.integers(8, len(whole), 3):
            data[place] = rng.integers(256)
        with contextlib.suppress(ImageError):
            result = images.read_image(bytes(data), max_pixels=10_000)
            assert np.isfinite(result.pixels).all()
            assert result.pixels.min() >= 0
            assert result.pixels.max() <= 255


def test_a_tiff_whose_strips_are_larger_than_the_image_is_refused(rng):
    # A strip of zeros that inflates to a thousand times its size.
    data = bytearray(
        tiff(np.zeros((500, 500, 3), "u2"), compression="adobe_deflate", rowsperstrip=500)
    )
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        tags = file.pages[0].tags
        for name in ("ImageWidth", "ImageLength", "RowsPerStrip"):
            struct.pack_into(
                "<H" if tags[name].dtype == 3 else "<I", data, tags[name].valueoffset, 5
            )
    refusal(bytes(data))


def test_a_png_whose_header_does_not_come_first_is_refused(rng):
    data = png16(levels(rng))
    header, text = data[8:33], png(1, 1, 8, 0, b"\0\0", (b"tEXt", b"a\0b"))[33:48]
    refusal(data[:8] + text + header + data[33:])


@pytest.fixture
def without_packages(monkeypatch):
    for name in ("imagecodecs", "tifffile"):
        monkeypatch.setitem(sys.modules, name, None)


def test_without_the_packages_eight_bits_are_read_and_a_note_says_so(without_packages):
    data = png(1, 1, 16, 2, b"\0" + struct.pack(">3H", 0x1234, 0xABCD, 0xFFFF))
    original = images.read_original(data)
    np.testing.assert_array_equal(original.image().pixels[0, 0], [0x12, 0xAB, 0xFF])
    assert "of which 8 are read without imagecodecs and tifffile; install" in original.note
    assert images.read_original(png(1, 1, 8, 2, b"\0abc")).note == ""


def test_without_the_packages_a_kind_that_needs_them_is_refused(without_packages, rng):
    message = refusal(tiff(levels(rng).astype("f4") / 65535))
    assert re.search("need imagecodecs .*; install it with: ", message)
