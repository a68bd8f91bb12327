"""Originals, which are converted and resized in strips: the same bits in less memory."""

import io
import subprocess
import sys

import numpy as np
import PIL.Image
import pytest

from gramstyle import images
from gramstyle.errors import ImageError
from gramstyle.images import reading, strips
from images.profiles import linear_rgb_profile
from images.samples import EXACT, colours, opacities, refusal, stored_for

MODES = ("1", "L", "P", "LA", "RGB", "RGBA", "CMYK", "YCbCr", "LAB", "HSV", "I;16", "I", "F")


def source(mode):
    """A Pillow image of 13 × 17 pixels of a mode."""
    colour = colours(17, 13)
    if mode in ("I;16", "I", "F"):
        kind = {"I;16": "u2", "I": "i4", "F": "f4"}[mode]
        return PIL.Image.fromarray(np.arange(17 * 13).reshape(17, 13).astype(kind))
    return PIL.Image.fromarray(np.dstack((colour, opacities(17, 13)))).convert(mode)


def read_in_strips(monkeypatch, rows, read):
    with monkeypatch.context() as patched:
        patched.setattr(strips, "_PIXELS", rows * 13)
        return read()


def assert_equal(a, b):
    np.testing.assert_array_equal(a.pixels, b.pixels)
    assert (a.alpha is None) == (b.alpha is None)
    if a.alpha is not None:
        np.testing.assert_array_equal(a.alpha, b.alpha)


@pytest.mark.parametrize("mode", MODES)
def test_an_image_is_the_same_in_strips_of_any_height(mode, monkeypatch):
    whole = images.read_image(source(mode))
    for rows in (1, 5, 17):
        parts = read_in_strips(monkeypatch, rows, lambda: images.read_image(source(mode)))
        assert_equal(parts, whole)


@pytest.mark.parametrize("size", [(5, 7), (40, 30), (13, 7), (5, 17), (13, 17), (1, 1)])
@pytest.mark.parametrize("mode", ["RGB", "RGBA", "I;16"])
def test_resizing_in_strips_gives_the_bits_of_pillow(mode, size, monkeypatch):
    whole = images.read_image(source(mode))

    def pillow(plane, most):
        image = PIL.Image.fromarray(np.ascontiguousarray(plane))
        resized = image.resize(size, PIL.Image.Resampling.LANCZOS)
        return np.clip(np.asarray(resized), 0, most)

    planes = [pillow(whole.pixels[..., channel], 255) for channel in range(3)]
    alpha = None if whole.alpha is None else pillow(whole.alpha, 1)
    wanted = images.Image(np.stack(planes, axis=-1), alpha)
    for read in (
        lambda: images.read_original(source(mode)).resized(*size),
        lambda: images.resize(whole, *size),
    ):
        assert_equal(read_in_strips(monkeypatch, 3, read), wanted)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_rotated_image_is_upright_in_strips(orientation, monkeypatch):
    upright, exif, data = colours(17, 13), PIL.Image.Exif(), io.BytesIO()
    exif[0x0112] = orientation
    PIL.Image.fromarray(stored_for(orientation, upright)).save(data, "PNG", exif=exif)
    result = read_in_strips(monkeypatch, 4, lambda: images.read_image(data))
    np.testing.assert_array_equal(result.pixels, upright)
    original = images.read_original(data)
    assert (original.width, original.height) == (13, 17)


def test_colours_are_managed_in_strips(monkeypatch):
    data = io.BytesIO()
    source("RGBA").save(data, "PNG", icc_profile=linear_rgb_profile())
    whole = images.read_image(data)
    assert_equal(read_in_strips(monkeypatch, 2, lambda: images.read_image(data)), whole)


def test_the_range_of_floats_is_that_of_all_strips(monkeypatch):
    values = np.full((17, 13), 0.5, "f4")
    values[16, 3] = 255
    image = read_in_strips(monkeypatch, 2, lambda: images.read_image(PIL.Image.fromarray(values)))
    np.testing.assert_allclose(image.pixels[0, 0], 0.5, atol=EXACT)
    values[16, 3] = np.nan
    message = read_in_strips(monkeypatch, 2, lambda: refusal(PIL.Image.fromarray(values)))
    assert "NaN" in message


def test_an_original_of_an_array_gives_new_memory():
    array = colours()
    result = images.read_original(array).resized(10, 7)
    array[...] = 0
    np.testing.assert_array_equal(result.pixels, colours())


def bomb(width, height):
    """A PNG that is small for its number of pixels."""
    data = io.BytesIO()
    PIL.Image.new("RGBA", (width, height), (9, 8, 7, 255)).save(data, "PNG", compress_level=1)
    return data.getvalue()


@pytest.mark.parametrize(("mode", "most"), [("L", 1), ("RGB", 4), ("RGBA", 4)])
def test_an_image_that_takes_too_much_memory_is_refused_before_it_is_decoded(mode, most):
    data = io.BytesIO()
    PIL.Image.new(mode, (100, 80)).save(data, "PNG")
    assert images.read_original(data, max_bytes=100 * 80 * most).bytes == 100 * 80 * most
    cut = data.getvalue()[:60]  # there is nothing to decode
    with pytest.raises(ImageError, match="raise --memory") as caught:
        images.read_original(cut, max_bytes=100 * 80 * most - 1)
    assert "100 × 80 pixels" in str(caught.value)


def test_an_image_larger_than_the_memory_of_the_machine_is_refused(monkeypatch):
    # Pillow's pixels take 4 bytes each, floating point 16.
    monkeypatch.setattr(reading, "physical_memory", lambda: 20 * 100 * 80)
    images.read_image(bomb(100, 80))
    message = refusal(bomb(100, 81))
    assert "100 × 81 pixels" in message
    assert message.endswith("make it smaller")


# The peak memory of a process in bytes, over what it took before it read the image.
PEAK = """
import resource, sys
from gramstyle.images import read_original
read_original(bytes.fromhex(sys.argv[1])).resized(32, 24)
unit = 1 if sys.platform == "darwin" else 1024
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
with open(sys.argv[2], "rb") as file:
    read_original(file).resized(512, 384)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * unit)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows does not report this peak")
def test_reading_a_large_image_for_a_small_size_takes_little_memory(tmp_path):
    path, pixels = tmp_path / "a.png", 3000 * 2000
    path.write_bytes(bomb(3000, 2000))
    done = subprocess.run(
        [sys.executable, "-c", PEAK, bomb(64, 48).hex(), path],
        capture_output=True,
        text=True,
        check=True,
    )
    # Pillow stores 4 bytes per pixel; in floating point there would be 16 more.
    assert int(done.stdout) < 4 * pixels + 60e6
