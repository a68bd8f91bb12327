"""Colour spaces that files state outside ICC profiles, compared with LittleCMS."""

import io
import struct
import zlib

import numpy as np
import PIL.Image
import pytest
from PIL import ImageCms

from gramstyle import images
from images.profiles import GAMMA_ONE, PRIMARIES, WHITE_POINT, encoded, fixed, icc
from images.samples import MANAGED, colours, on_white, png, read, refusal

# The colorants of published profiles, under D50: Adobe's, Apple's, and that of ITU-R BT.2020.
ADOBE_RGB = ((0.60974, 0.31111, 0.01947), (0.20528, 0.62567, 0.06087), (0.14919, 0.06322, 0.74457))
DISPLAY_P3 = ((0.51512, 0.2412, -0.00105), (0.29198, 0.69225, 0.04189), (0.1571, 0.06657, 0.78407))
BT2020 = ((0.67348, 0.27904, -0.00194), (0.16566, 0.67534, 0.02998), (0.12505, 0.04561, 0.79683))
SRGB = tuple(
    tuple(number / 65536 for number in struct.unpack(">3i", tag[8:])) for tag in PRIMARIES.values()
)


def gamma_curve(gamma):
    return b"curv\0\0\0\0" + struct.pack(">IH", 1, round(gamma * 256))


def sampled_curve(function):
    """A curve as a table of 4096 values."""
    values = np.rint(65535 * function(np.linspace(0, 1, 4096))).astype(">u2")
    return b"curv\0\0\0\0" + struct.pack(">I", 4096) + values.tobytes()


def srgb_light(values):
    """The light of sRGB values, both 0 to 1 (IEC 61966-2-1)."""
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def bt709_light(values):
    """The light of values of BT.709, both 0 to 1."""
    return np.where(values < 0.081, values / 4.5, ((values + 0.099) / 1.099) ** (1 / 0.45))


def profile(colorants, curve):
    points = zip((b"rXYZ", b"gXYZ", b"bXYZ"), colorants, strict=True)
    tags = {name: b"XYZ \0\0\0\0" + fixed(*point) for name, point in points}
    return icc(b"RGB ", {**WHITE_POINT, **tags, b"rTRC": curve, b"gTRC": curve, b"bTRC": curve})


def managed(pixels, colorants, curve):
    """What LittleCMS makes of colours in a colour space, without what gramstyle computes."""
    converted = ImageCms.profileToProfile(
        PIL.Image.fromarray(pixels),
        ImageCms.ImageCmsProfile(io.BytesIO(profile(colorants, curve))),
        ImageCms.createProfile("sRGB"),
        renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
        flags=ImageCms.Flags.BLACKPOINTCOMPENSATION,
    )
    return np.asarray(converted, dtype=float)


ADOBE = managed(colours(), ADOBE_RGB, gamma_curve(563 / 256))
P3 = managed(colours(), DISPLAY_P3, sampled_curve(srgb_light))
LINEAR = encoded(colours() / 255)


def exif(space, index):
    """EXIF with a colour space and an interoperability index, which Pillow does not write."""
    camera, interoperability = 8 + 2 + 12 + 4, 8 + 2 + 12 + 4 + 2 + 24 + 4
    return (
        b"Exif\0\0MM\0*\0\0\0\x08"
        + struct.pack(">HHHIII", 1, 0x8769, 4, 1, camera, 0)
        + struct.pack(
            ">H HHIHH HHII I", 2, 0xA001, 3, 1, space, 0, 0xA005, 4, 1, interoperability, 0
        )
        + struct.pack(">HHHI4sI", 1, 1, 2, 4, index + b"\0", 0)
    )


def png_of(*chunks, pixels=None):
    pixels = colours() if pixels is None else pixels
    rows = b"".join(b"\0" + row.tobytes() for row in pixels)
    height, width = pixels.shape[:2]
    return png(width, height, 8, 2 if pixels.ndim == 3 else 0, rows, *chunks)


def chrm(white, *primaries):
    numbers = [round(100_000 * number) for point in (white, *primaries) for number in point]
    return b"cHRM", struct.pack(">8I", *numbers)


def gama(number):
    return b"gAMA", struct.pack(">I", number)


D65 = (0.3127, 0.329)
CHRM_ADOBE = chrm(D65, (0.64, 0.33), (0.21, 0.71), (0.15, 0.06))
CHRM_SRGB = chrm(D65, (0.64, 0.33), (0.3, 0.6), (0.15, 0.06))
CICP_P3, CICP_SRGB = (b"cICP", bytes([12, 13, 0, 1])), (b"cICP", bytes([1, 13, 0, 1]))
SRGB_CHUNK = (b"sRGB", b"\0")


def iccp(profile):
    return b"iCCP", b"name\0\0" + zlib.compress(profile)


def assert_reads_as(data, wanted):
    np.testing.assert_allclose(images.read_image(data).pixels, wanted, atol=MANAGED)


@pytest.mark.parametrize("suffix", [".png", ".webp"])
@pytest.mark.parametrize(("space", "index"), [(0xFFFF, b"R03"), (2, b"R98"), (2, b"R03")])
def test_adobe_rgb_stated_in_exif_is_converted(space, index, suffix, tmp_path):
    options = {"lossless": True} if suffix == ".webp" else {}
    image = PIL.Image.fromarray(colours())
    result = read(image, tmp_path, "a" + suffix, exif=exif(space, index), **options)
    np.testing.assert_allclose(result.pixels, ADOBE, atol=MANAGED)


def test_adobe_rgb_as_a_camera_states_it_in_a_jpeg_is_converted(tmp_path):
    blocks = colours(3, 4).repeat(16, axis=0).repeat(16, axis=1)
    options = {"quality": 100, "subsampling": 0, "exif": exif(0xFFFF, b"R03")}
    result = read(PIL.Image.fromarray(blocks), tmp_path, "a.jpg", **options)
    wanted = managed(blocks, ADOBE_RGB, gamma_curve(563 / 256))
    # JPEG rounds by two levels, which the curve can double in dark colours.
    np.testing.assert_allclose(result.pixels, wanted, atol=2 * 2 + MANAGED)


@pytest.mark.parametrize(("space", "index"), [(1, b"R98"), (1, b"R03"), (0xFFFF, b"R98")])
def test_other_colour_spaces_in_exif_are_srgb(space, index, tmp_path):
    result = read(PIL.Image.fromarray(colours()), tmp_path, exif=exif(space, index))
    np.testing.assert_array_equal(result.pixels, colours())


def test_an_icc_profile_outranks_exif(tmp_path):
    linear = profile(SRGB, GAMMA_ONE)
    options = {"exif": exif(2, b"R03"), "icc_profile": linear, "lossless": True}
    result = read(PIL.Image.fromarray(colours()), tmp_path, "a.webp", **options)
    np.testing.assert_allclose(result.pixels, LINEAR, atol=MANAGED)


@pytest.mark.parametrize(
    ("chunks", "colorants", "curve"),
    [
        ([gama(100_000)], SRGB, GAMMA_ONE),
        ([gama(55_556)], SRGB, gamma_curve(1.8)),
        ([gama(45_470), CHRM_ADOBE], ADOBE_RGB, gamma_curve(563 / 256)),
        ([CHRM_ADOBE], ADOBE_RGB, sampled_curve(srgb_light)),
        ([CICP_P3], DISPLAY_P3, sampled_curve(srgb_light)),
        ([(b"cICP", bytes([9, 8, 0, 1]))], BT2020, GAMMA_ONE),
        ([(b"cICP", bytes([1, 1, 0, 1]))], SRGB, sampled_curve(bt709_light)),
        ([(b"cICP", bytes([9, 14, 0, 1]))], BT2020, sampled_curve(bt709_light)),
    ],
    ids=["linear", "mac", "adobe", "primaries", "p3", "2020-linear", "709", "2020"],
)
def test_colour_stated_by_png_chunks_is_converted_as_by_littlecms(chunks, colorants, curve):
    assert_reads_as(png_of(*chunks), managed(colours(), colorants, curve))


@pytest.mark.parametrize(
    "chunks",
    [
        [gama(45_455)],
        [gama(45_455), CHRM_SRGB],
        [gama(45_500), chrm((0.3127, 0.3291), (0.6401, 0.33), (0.3, 0.6), (0.15, 0.0601))],
        [CHRM_SRGB],
        [SRGB_CHUNK, gama(100_000)],
        [CICP_SRGB, gama(100_000)],
        [gama(0)],
        [gama(1)],  # a gamma of 100,000
        [chrm(D65, (0.5, 0.3), (0.5, 0.3), (0.5, 0.3))],  # no triangle
        [chrm((0.3, 0.0), (0.64, 0.33), (0.3, 0.6), (0.15, 0.06))],
        [chrm((0.9, 0.05), (0.64, 0.33), (0.3, 0.6), (0.15, 0.06))],  # white outside the triangle
        [(b"cICP", bytes([2, 2, 0, 1]))],  # unspecified
        [(b"cICP", bytes([9, 8, 9, 1]))],  # not RGB
        [(b"cICP", b"\x09")],
    ],
)
def test_chunks_that_state_srgb_or_nonsense_change_nothing(chunks):
    np.testing.assert_array_equal(images.read_image(png_of(*chunks)).pixels, colours())


def test_png_chunks_are_ranked_cicp_iccp_srgb_gama():
    ranked = [(CICP_P3, P3), (iccp(profile(SRGB, GAMMA_ONE)), LINEAR), (SRGB_CHUNK, colours())]
    chunks = [chunk for chunk, _ in ranked] + [gama(55_556)]
    for number, (_, wanted) in enumerate(ranked):
        assert_reads_as(png_of(*chunks[number:]), wanted)
    assert_reads_as(png_of(iccp(b"broken"), gama(100_000)), LINEAR)


def test_grey_and_transparency_are_converted_too():
    shades = np.arange(256, dtype="u1").reshape(16, 16)
    grey = np.repeat(encoded(shades / 255)[..., None], 3, axis=2)
    assert_reads_as(png_of(gama(100_000), pixels=shades), grey)
    rgba = np.dstack((colours(), np.full(colours().shape[:2], 100, "u1")))
    rows = b"".join(b"\0" + row.tobytes() for row in rgba)
    data = png(rgba.shape[1], rgba.shape[0], 8, 6, rows, gama(100_000))
    assert_reads_as(data, on_white(LINEAR, rgba[..., 3]))


def avif(primaries, transfer, **options):
    """An AVIF file of flat blocks, with code points that Pillow cannot write."""
    data = io.BytesIO()
    blocks = PIL.Image.fromarray(colours(2, 3).repeat(16, axis=0).repeat(16, axis=1))
    blocks.save(data, "AVIF", quality=100, subsampling="4:4:4", **options)
    before, mark, after = data.getvalue().partition(b"colrnclx")
    assert mark
    return before + mark + struct.pack(">HH", primaries, transfer) + after[4:]


def test_code_points_of_avif_are_converted_below_an_icc_profile():
    plain = np.rint(images.read_image(avif(1, 13)).pixels).astype("u1")
    assert np.abs(plain[8::16, 8::16] - colours(2, 3).astype(int)).max() <= 2
    wanted = managed(plain, DISPLAY_P3, sampled_curve(srgb_light))
    assert np.abs(wanted - plain).max() > 10
    assert_reads_as(avif(12, 13), wanted)
    linear = avif(12, 13, icc_profile=profile(SRGB, GAMMA_ONE))
    assert_reads_as(linear, encoded(plain / 255))


@pytest.mark.parametrize(("transfer", "name"), [(16, "PQ"), (18, "HLG")])
def test_hdr_colours_are_refused_unless_a_profile_converts_them(transfer, name):
    cicp = (b"cICP", bytes([9, transfer, 0, 1]))
    for data in (png_of(cicp), avif(9, transfer)):
        message = refusal(data)
        assert f"HDR ({name})" in message
        assert "convert it to an sRGB image" in message
    assert_reads_as(png_of(cicp, iccp(profile(SRGB, GAMMA_ONE))), LINEAR)


def test_the_narrow_range_of_video_is_refused():
    assert "narrow range" in refusal(png_of((b"cICP", bytes([1, 13, 0, 0]))))
