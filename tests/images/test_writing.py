"""Writing images completely or not at all, and checking an output before the work."""

import errno
import io
import os
import stat
import struct
import sys
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from PIL import ImageCms, features

from gramstyle import images
from gramstyle.errors import ImageError
from images.samples import (
    ROUNDED,
    WITH_ALPHA,
    WRITABLE,
    colours,
    failing_write,
    image,
    noise,
    on_white,
    opacities,
    output_refusal,
)


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
    # Two roundings: ours of the colour, and Pillow's of the composite.
    np.testing.assert_allclose(seen, pixels, atol=1.01)


def test_a_pillow_image_has_an_srgb_profile():
    profile = images.to_pil(image()).info["icc_profile"]
    assert "sRGB" in ImageCms.getProfileDescription(io.BytesIO(profile))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_value_that_is_not_finite_is_never_written(value, tmp_path):
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
def test_a_lossless_file_is_read_back_as_written(suffix, tmp_path):
    path = tmp_path / f"a{suffix}"
    written = images.Image(image().pixels + np.float32(0.3))
    images.write_image(path, written)
    result = images.read_image(path)
    np.testing.assert_allclose(result.pixels, np.clip(written.pixels, 0, 255), atol=ROUNDED)
    assert result.alpha is None


@pytest.mark.parametrize("suffix", [".jpg", ".jpeg", ".avif"])
def test_lossy_files_have_full_colour_resolution(suffix, tmp_path):
    # Red and blue columns of one pixel would be purple at half colour resolution.
    stripes = np.zeros((32, 32, 3), "f4")
    stripes[:, ::2, 0] = 255
    stripes[:, 1::2, 2] = 255
    path = tmp_path / f"a{suffix}"
    images.write_image(path, images.Image(stripes))
    assert np.abs(images.read_image(path).pixels - stripes).mean() < 8


@pytest.mark.parametrize("suffix", WRITABLE)
def test_white_noise_can_be_written(suffix, tmp_path):
    # Noise is hardest to compress, and a run may start from it.
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
    # Colours are computed for the rounded alpha, so its rounding adds no error.
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
def test_every_file_has_an_srgb_profile_and_the_format_of_its_extension(suffix, tmp_path):
    path = tmp_path / f"A{suffix.upper()}"
    images.write_image(path, image())
    with PIL.Image.open(path) as opened:
        assert opened.format == images.EXTENSIONS[suffix]
        description = ImageCms.getProfileDescription(io.BytesIO(opened.info["icc_profile"]))
    assert "sRGB" in description


def test_the_profile_contains_a_fixed_date():
    # LittleCMS writes the current time into a profile's header: year, month, day, h, m, s.
    profile = images.to_pil(image()).info["icc_profile"]
    assert struct.unpack_from(">6H", profile, 24) == (2000, 1, 1, 0, 0, 0)


def test_an_image_too_wide_for_its_format_is_refused_and_leaves_no_file(tmp_path):
    for name, width in (("a.jpg", 70_000), ("a.webp", 17_000)):
        with pytest.raises(ImageError, match=r"choose another format, such as \.png"):
            images.write_image(tmp_path / name, images.Image(np.zeros((1, width, 3), "f4")))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_on_a_full_disk_the_old_file_is_unchanged_and_no_part_remains(call, tmp_path, monkeypatch):
    path = tmp_path / "a.png"
    path.write_bytes(b"precious")

    def full(*arguments, **options):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os if call == "fsync" else Path, call, full)
    assert "no space left on device; free some space" in failing_write(path)
    assert list(tmp_path.iterdir()) == [path]
    assert path.read_bytes() == b"precious"


@pytest.mark.skipif(sys.platform == "win32", reason="there is no limit on the size of a file")
def test_a_write_stopped_by_the_system_leaves_the_old_file(tmp_path):
    # A limit on the size of files also applies to root, in the middle of the data.
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


def test_a_missing_folder_and_a_file_as_folder_are_refused(tmp_path):
    (tmp_path / "file").touch()
    assert "no such file or directory" in failing_write(tmp_path / "no" / "a.png")
    assert "not a directory" in failing_write(tmp_path / "file" / "a.png")


def test_a_symbolic_link_is_followed_and_remains_a_link(tmp_path):
    (tmp_path / "real").mkdir()
    link, target = tmp_path / "link.png", tmp_path / "real" / "a.png"
    link.symlink_to(target)
    images.check_output(link, [])
    images.write_image(link, image())
    assert link.is_symlink()
    np.testing.assert_array_equal(images.read_image(target).pixels, colours())


@pytest.mark.parametrize("suffix", WRITABLE)
def test_checking_a_valid_output_leaves_no_file(suffix, tmp_path):
    images.check_output(tmp_path / f"a{suffix}", [tmp_path / "photo.jpg", colours()])
    assert list(tmp_path.iterdir()) == []


def test_a_relative_output_is_written_to_the_current_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    images.check_output("a.png", ["photo.jpg"])
    images.write_image("a.png", image())
    assert (tmp_path / "a.png").exists()


def test_an_invalid_output_is_refused_with_its_reason(tmp_path):
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


def test_checking_an_output_tries_to_write_to_its_folder(tmp_path, monkeypatch):
    # Permissions do not stop root, so the test simulates a read-only disk.
    created = os.open

    def read_only(path, flags, *arguments, **options):
        if flags & os.O_CREAT and Path(os.fsdecode(path)).parent == tmp_path:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))
        return created(path, flags, *arguments, **options)

    monkeypatch.setattr(os, "open", read_only)
    assert "read-only file system; choose another folder" in output_refusal(tmp_path / "a.png")


@pytest.mark.parametrize("link", ["symlink_to", "hardlink_to", None])
def test_an_output_that_is_an_input_is_refused_under_any_name(link, tmp_path, monkeypatch):
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
def test_a_format_that_pillow_cannot_encode_is_refused_before_the_work(
    codec, tmp_path, monkeypatch
):
    monkeypatch.setattr(features, "check", lambda feature: feature != codec)
    assert f"cannot encode {codec.upper()}" in output_refusal(tmp_path / f"a.{codec}")
    images.check_output(tmp_path / "a.png", [])


def test_a_format_that_pillow_only_decodes_is_refused_before_the_work(tmp_path, monkeypatch):
    def refuse(*arguments):
        raise OSError("No codec\navailable")

    monkeypatch.setitem(PIL.Image.SAVE, "AVIF", refuse)
    assert "No codec available" in output_refusal(tmp_path / "a.avif")
