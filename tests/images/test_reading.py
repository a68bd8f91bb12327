"""Orientation, arrays, hostile files and the limit on the size of an image."""

import contextlib
import logging
import os
import struct
import threading
import tracemalloc
import warnings
import zlib

import numpy as np
import PIL.Image
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import features

from gramstyle import images
from gramstyle.errors import ImageError
from images.samples import (
    EXACT,
    FORMATS,
    colours,
    on_white,
    opacities,
    png,
    read,
    refusal,
    sample,
    stored_for,
)


@pytest.mark.parametrize("suffix", [".png", ".webp", ".tif", ".jpg"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_rotated_photograph_is_read_upright(orientation, suffix, tmp_path):
    # Blocks of 16, as JPEG's, so that quality 100 keeps their colours.
    upright = colours(3, 4).repeat(16, axis=0).repeat(16, axis=1)
    exif = PIL.Image.Exif()
    exif[0x0112] = orientation
    options = {".webp": {"lossless": True}, ".jpg": {"quality": 100, "subsampling": 0}}
    image = PIL.Image.fromarray(stored_for(orientation, upright))
    result = read(image, tmp_path, "a" + suffix, exif=exif, **options.get(suffix, {}))
    # JPEG rounds by two levels; neighbouring blocks differ by more than 60.
    np.testing.assert_allclose(result.pixels, upright, atol=2)


def test_alpha_is_rotated_with_its_image(tmp_path):
    exif = PIL.Image.Exif()
    exif[0x0112] = 6
    stored = np.dstack((colours(), opacities()))
    result = read(PIL.Image.fromarray(stored), tmp_path, exif=exif)
    # Orientation 6: the first stored row is the right edge.
    np.testing.assert_allclose(result.alpha, np.rot90(opacities(), -1) / 255, atol=EXACT)
    assert result.pixels.shape == (10, 7, 3)


@pytest.mark.parametrize("exif", [b"XX", b"MM\0*\0", b"MM\0*\0\0\0\x08\0\x02\x01\x12"])
def test_broken_exif_is_ignored(exif, tmp_path):
    path = tmp_path / "a.webp"
    PIL.Image.fromarray(colours()).save(path, lossless=True, exif=exif)
    np.testing.assert_array_equal(images.read_image(path).pixels, colours())
    assert images.read_settings(path) is None


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


def test_an_image_shares_no_memory_with_its_source_array():
    for array in (np.zeros((2, 2, 3), "f4"), np.ones((2, 2, 4), "f4"), np.zeros((2, 2, 3), "u1")):
        result = images.read_image(array)
        before = result.pixels.copy()
        array[...] = 1 - array
        np.testing.assert_array_equal(result.pixels, before)
        assert result.pixels.flags.writeable
        assert result.pixels.flags.c_contiguous


@pytest.mark.parametrize("shape", [(4,), (2, 2, 2), (3, 8, 8), (1, 2, 2, 3), ()])
def test_an_array_of_another_shape_is_refused_with_its_shape(shape):
    message = refusal(np.zeros(shape, "u1"), name="the artwork")
    assert message.startswith("cannot read the artwork: ")
    assert str(shape) in message


@pytest.mark.parametrize("kind", ["bool", "int64", "int8", "uint32", "complex64", "object"])
def test_an_array_of_another_type_is_refused_with_its_type(kind):
    assert kind in refusal(np.zeros((2, 2, 3), kind))


@pytest.mark.parametrize(("low", "high"), [(0.0, 255.0), (-0.5, 0.5), (0.0, 1.001)])
def test_a_float_array_beyond_one_is_refused_with_its_range(low, high):
    array = np.full((2, 2, 3), low)
    array[0, 0, 0] = high
    assert f"{low:g}..{high:g}" in refusal(array)


def test_an_image_without_pixels_is_refused():
    for source in (np.zeros((0, 4, 3), "u1"), PIL.Image.new("RGB", (0, 4))):
        assert "no pixels" in refusal(source)


def test_an_unreadable_path_is_refused_with_its_reason(tmp_path):
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
def test_a_pipe_is_refused_without_blocking(tmp_path):
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
def test_a_file_of_an_unknown_format_is_refused(content, tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(content)
    assert "not an image of a known format" in refusal(path)


def test_the_format_is_recognised_by_content_and_not_by_name(tmp_path):
    path = tmp_path / "photo.txt"
    PIL.Image.fromarray(colours()).save(path, "PNG")
    np.testing.assert_array_equal(images.read_image(path).pixels, colours())


@pytest.mark.parametrize("suffix", ["jpg", "png", "tif", "bmp", "ppm", "gif"])
def test_a_truncated_file_is_reported_as_such(suffix, tmp_path):
    path = tmp_path / f"a.{suffix}"
    PIL.Image.fromarray(colours(64, 64)).save(path)
    whole = path.read_bytes()
    if suffix == "tif":  # the directory comes first, so the cut is in the pixels
        assert whole.index(b"II*\0\x08") == 0
    path.write_bytes(whole[: len(whole) // 2])
    message = refusal(path)
    assert "truncated" in message or "damaged" in message
    assert "complete copy" in message


def test_a_text_chunk_that_inflates_to_gigabytes_is_refused(tmp_path):
    bomb = zlib.compress(bytes(3_000_000))
    path = tmp_path / "a.png"
    path.write_bytes(png(1, 1, 8, 0, b"\0\0", (b"zTXt", b"Comment\0\0" + bomb)))
    assert "too large" in refusal(path)


@pytest.fixture(scope="module")
def damaged_file(tmp_path_factory):
    return tmp_path_factory.mktemp("damaged") / "a.image"


@pytest.mark.parametrize("kind", FORMATS)
def test_a_damaged_file_is_read_or_refused(kind, damaged_file):
    whole = sample(kind)

    # Headers are short and most critical, so half of the changes are in them.
    position = st.one_of(st.integers(0, 60), st.integers(0, len(whole) - 1))
    changes = st.lists(st.tuples(position, st.integers(0, 255)), max_size=6)

    @settings(max_examples=150)
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


def test_an_image_above_the_limit_is_refused_before_it_is_decoded(tmp_path):
    # The header declares 40 gigapixels, and there is no data at all.
    path = tmp_path / "bomb.png"
    path.write_bytes(png(200_000, 200_000, 8, 2, b""))
    message = refusal(path)
    assert "200000 × 200000" in message
    assert "100,000,000" in message
    assert "raise it with --max-pixels / max_pixels" in message


@pytest.mark.parametrize("kind", FORMATS)
def test_the_limit_is_exact_in_every_format(kind, tmp_path):
    path = tmp_path / "a.image"
    path.write_bytes(sample(kind))
    images.read_image(path, max_pixels=70)
    assert "the limit is 69" in refusal(path, max_pixels=69)


def test_the_limit_applies_to_arrays_and_pillow_images():
    for source in (colours(), PIL.Image.fromarray(colours())):
        images.read_image(source, max_pixels=70)
        assert "the limit is 69" in refusal(source, max_pixels=69)


@pytest.mark.parametrize("limit", [50, 10])  # Pillow warns above it and fails above twice it
@pytest.mark.parametrize("kind", FORMATS)
def test_a_limit_above_pillows_own_works_and_leaves_pillows_unchanged(
    kind, limit, tmp_path, monkeypatch
):
    path = tmp_path / "a.image"
    path.write_bytes(sample(kind))
    monkeypatch.setattr(PIL.Image, "MAX_IMAGE_PIXELS", limit)
    version = int(features.version("pil").split(".")[0])
    if limit == 10 and version < 13:
        pytest.skip("Pillow 12 also checks each strip of an image, which is above this small limit")
    if kind == "webp" and limit == 10:
        # Since version 13, Pillow's WebP reader checks the limit itself when it opens a file.
        assert "convert it to PNG or TIFF" in refusal(path, max_pixels=70)
    else:
        images.read_image(path, max_pixels=70)
    assert limit == PIL.Image.MAX_IMAGE_PIXELS


def test_a_rotated_compressed_tiff_is_allocated_in_its_stored_shape(tmp_path):
    exif = PIL.Image.Exif()
    exif[0x0112] = 6
    image = PIL.Image.fromarray(stored_for(6, colours()))
    result = read(image, tmp_path, "a.tif", exif=exif, compression="tiff_lzw")
    np.testing.assert_array_equal(result.pixels, colours())


def noisy_metadata():
    """A valid image with a Pillow warning: an animation without frames."""
    return png(1, 1, 8, 0, b"\0\5", (b"acTL", struct.pack(">II", 0, 0)))


def test_pillows_warnings_do_not_reach_the_user(tmp_path, capfd):
    path = tmp_path / "a.png"
    path.write_bytes(noisy_metadata())
    with pytest.warns(UserWarning, match="APNG"), PIL.Image.open(path):
        pass
    before = list(warnings.filters)
    images.read_image(path)  # pytest would turn a warning into an error
    assert warnings.filters == before
    assert capfd.readouterr() == ("", "")


def test_messages_of_libtiff_do_not_reach_the_user(tmp_path, capfd):
    path = tmp_path / "odd.tif"
    pixels = np.zeros((8, 8, 3), np.uint8)
    # A private tag, of which libtiff says that it knows no such tag.
    PIL.Image.fromarray(pixels).save(path, compression="tiff_lzw", tiffinfo={65000: 7})
    data = path.read_bytes()
    path.write_bytes(data[:8] + bytes([data[8] ^ 0xFF]) + data[9:])  # in the compressed pixels
    with contextlib.suppress(ImageError):
        images.read_image(path)
    os.write(2, b"still open")
    assert capfd.readouterr().err == "still open"


def test_errors_that_pillow_logs_do_not_reach_the_user(tmp_path, capfd, monkeypatch):
    monkeypatch.setattr(logging.getLogger(), "handlers", [])  # pytest's own
    path = tmp_path / "many.tif"
    PIL.Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(path)
    samples = struct.pack("<HHIHH", 277, 3, 1, 3, 0)  # SamplesPerPixel
    assert samples in path.read_bytes()
    more = struct.pack("<HHIHH", 277, 3, 1, 300, 0)
    path.write_bytes(path.read_bytes().replace(samples, more))
    with pytest.raises(ImageError):
        images.read_image(path)
    assert capfd.readouterr().err == ""


def test_a_length_of_gigabytes_in_a_small_file_takes_no_memory(tmp_path):
    path = tmp_path / "long.jp2"
    signature = b"\0\0\0\x0cjP  \r\n\x87\n" + b"\0\0\0\x14ftypjp2 \0\0\0\0jp2 "
    path.write_bytes(signature + struct.pack(">I4s", 2**31 - 1, b"jp2h") + bytes(100))
    images.read_image(np.zeros((1, 1, 3), np.uint8))  # Pillow's modules are imported
    tracemalloc.start()
    try:
        with pytest.raises(ImageError, match="get a complete copy"):
            images.read_image(path)
        assert tracemalloc.get_traced_memory()[1] < 2**24
    finally:
        tracemalloc.stop()


def test_two_threads_that_read_at_once_leave_the_warning_filters_unchanged(tmp_path, monkeypatch):
    # The worst order: the second thread begins while the first reads, and ends after it. Without
    # a lock it would save the first thread's filters and restore them for ever. Pillow's init is
    # called in between.
    path = tmp_path / "a.png"
    path.write_bytes(noisy_metadata())
    before = list(warnings.filters)
    second_began, first_ended = threading.Event(), threading.Event()
    first = threading.Thread(target=lambda: (images.read_image(path), first_ended.set()))
    second = threading.Thread(target=images.read_image, args=(path,))

    def init():
        if threading.current_thread() is first:
            second.start()
            second_began.wait(0.3)  # times out if the second waits for the first to end
        else:
            second_began.set()
            first_ended.wait(0.3)

    monkeypatch.setattr(PIL.Image, "init", init)
    first.start()
    first.join()
    second.join()
    assert first_ended.is_set()
    assert warnings.filters == before
