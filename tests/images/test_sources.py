"""Images as bytes, streams and open files, and sources and targets of a wrong type."""

import io
import os
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from gramstyle import images
from gramstyle.errors import ImageError
from gramstyle.images import opening
from images.samples import colours, image, output_refusal, refusal, sample


class BytesPath(os.PathLike):
    """A path that is bytes, as `os.scandir` gives for a folder named by bytes."""

    def __init__(self, path):
        self.path = os.fsencode(path)

    def __fspath__(self):
        return self.path


class Pipe(io.RawIOBase):
    """A stream that cannot seek, like standard input."""

    def __init__(self, data):
        self.data = io.BytesIO(data)

    def readable(self):
        return True

    def readinto(self, buffer):
        return self.data.readinto(buffer)


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "a.png"
    PIL.Image.fromarray(colours()).save(path)
    return path


@pytest.mark.parametrize(
    "source",
    [
        str,
        Path,
        BytesPath,
        Path.read_bytes,
        lambda path: bytearray(path.read_bytes()),
        lambda path: memoryview(path.read_bytes()),
        lambda path: memoryview(bytes(x for byte in path.read_bytes() for x in (byte, 0)))[::2],
        lambda path: io.BytesIO(path.read_bytes()),
        lambda path: Pipe(path.read_bytes()),
        lambda path: io.BufferedReader(Pipe(path.read_bytes())),
    ],
    ids=[
        "str",
        "Path",
        "PathLike",
        "bytes",
        "bytearray",
        "memoryview",
        "strided",
        "BytesIO",
        "pipe",
        "stdin",
    ],
)
def test_an_image_may_come_as_a_path_bytes_or_a_stream(source, path):
    np.testing.assert_array_equal(images.read_image(source(path)).pixels, colours())


def test_an_open_file_is_read_from_its_start_and_stays_open(path):
    with path.open("rb") as file:
        for _ in range(2):
            np.testing.assert_array_equal(images.read_image(file).pixels, colours())
        assert not file.closed
    written = io.BytesIO()
    PIL.Image.fromarray(colours()).save(written, "PNG")  # the position is now at the end
    np.testing.assert_array_equal(images.read_image(written).pixels, colours())


@pytest.mark.parametrize("kind", ["jpg", "png", "webp", "tif", "avif", "bmp", "gif", "ppm", "jp2"])
def test_every_format_is_the_same_as_bytes(kind, tmp_path):
    (tmp_path / "a").write_bytes(sample(kind))
    wanted = images.read_image(tmp_path / "a").pixels
    np.testing.assert_array_equal(images.read_image(sample(kind)).pixels, wanted)


def test_a_stream_that_cannot_be_an_image_is_refused_with_its_reason(path, monkeypatch):
    closed = path.open("rb")
    closed.close()
    released = memoryview(b"bytes")
    released.release()
    with path.open() as text:
        for source, reason in (
            (closed, "closed"),
            (released, "is released"),
            (text, "mode 'rb'"),
            (io.StringIO("text"), "mode 'rb'"),
            (io.BytesIO(), "empty"),
            (b"", "empty"),
            (Pipe(b""), "empty"),
            (b"photo.jpg", "not an image"),
        ):
            message = refusal(source, name="content")
            assert message.startswith("cannot read content: ")
            assert reason in message
    monkeypatch.setattr(opening, "_LONGEST_STREAM", 50)
    assert "longer than 50 bytes" in refusal(Pipe(path.read_bytes()))


@pytest.mark.parametrize("source", [None, 7, [[1, 2]], {}, images.MAX_PIXELS, object])
def test_a_source_of_another_type_is_refused_with_its_type(source):
    message = refusal(source, name="the\nphoto")
    assert message.startswith("cannot read the photo: ")
    assert type(source).__name__ in message


@pytest.mark.parametrize("path", [None, 7, b"a.png", io.BytesIO()])
def test_a_target_of_another_type_is_refused_with_its_type(path):
    for write in (
        lambda: images.check_output(path, []),
        lambda: images.write_image(path, image()),
    ):
        with pytest.raises(ImageError, match=type(path).__name__):
            write()


def test_an_output_that_is_an_open_input_is_refused(path):
    with path.open("rb") as file:
        assert "one of the images to read" in output_refusal(path, [path.read_bytes(), file])
