"""Settings stored in image files."""

import struct

import PIL.Image
import pytest

from gramstyle import images
from gramstyle.errors import ImageError
from images.samples import WRITABLE, colours, image

SETTINGS = {
    "style_weight": 1e5,
    "layers": ["conv4_2"],
    "title": "Sternennacht – 星月夜",
    "seed": None,
}


# Compact JSON, sorted, in ASCII.
SETTINGS_TEXT = (
    '{"layers":["conv4_2"],"seed":null,"style_weight":100000.0,'
    '"title":"Sternennacht \\u2013 \\u661f\\u6708\\u591c"}'
)


@pytest.mark.parametrize("suffix", WRITABLE)
def test_settings_are_read_back_as_they_were_written(suffix, tmp_path):
    path = tmp_path / f"a{suffix}"
    images.write_image(path, image(), settings=SETTINGS)
    assert images.read_settings(path) == SETTINGS
    images.write_image(path, image())
    assert images.read_settings(path) is None


def test_a_png_stores_settings_in_an_international_text_chunk(tmp_path):
    path = tmp_path / "a.png"
    images.write_image(path, image(), settings=SETTINGS)
    # Keyword, no compression, no language, no translation: the layout of the PNG standard.
    assert b"iTXtgramstyle\0\0\0\0\0" + SETTINGS_TEXT.encode() in path.read_bytes()


def test_a_jpeg_stores_settings_in_exif_as_the_standard_requires(tmp_path):
    path = tmp_path / "a.jpg"
    images.write_image(path, image(), settings=SETTINGS)
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
    comment = b"ASCII\0\0\0" + SETTINGS_TEXT.encode()
    assert (kind, block[place : place + length]) == (7, comment)  # UNDEFINED


@pytest.mark.parametrize("bad", [{"a": object()}, {"a": float("nan")}, {"a": "x" * 70_000}])
def test_settings_that_cannot_be_stored_are_refused_and_nothing_is_written(bad, tmp_path):
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
def test_settings_that_are_not_a_json_object_are_ignored(text, tmp_path):
    from PIL.PngImagePlugin import PngInfo

    path, chunk = tmp_path / "a.png", PngInfo()
    chunk.add_itxt("gramstyle", text)
    PIL.Image.fromarray(colours()).save(path, pnginfo=chunk)
    assert images.read_settings(path) is None


def test_a_comment_of_another_program_is_ignored(tmp_path):
    exif = PIL.Image.Exif()
    exif[0x0131] = "another"
    exif[0x8769] = {0x9286: b'ASCII\0\0\0{"a":1}'}
    path = tmp_path / "a.jpg"
    PIL.Image.fromarray(colours()).save(path, exif=exif)
    assert images.read_settings(path) is None


def test_reading_settings_of_a_file_that_is_not_an_image_is_an_error(tmp_path):
    path = tmp_path / "a.png"
    for content in (None, b"", b"hello"):
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(ImageError, match=r"cannot read .*; "):
            images.read_settings(path)
