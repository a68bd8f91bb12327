"""Open image files, bytes and streams, and read only their headers."""

import io
import logging
import os
import stat
import struct
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

import PIL.Image
from PIL import ImageFile

from gramstyle.errors import ImageError
from gramstyle.images.colour.code_points import read_code_points
from gramstyle.images.colour.space import CODE_POINTS
from gramstyle.images.problems import as_path
from gramstyle.images.raw import refuse_raw

Encoded = str | os.PathLike[str] | bytes | bytearray | memoryview | IO[bytes]

# The formats that may be decoded. Pillow supports many more, some of which start other programs
# (EPS).
_READABLE = ("JPEG", "PNG", "WEBP", "TIFF", "AVIF", "BMP", "GIF", "PPM", "JPEG2000")

# Pillow logs errors about odd tags. If a program configures no logging, Python would print them.
logging.getLogger("PIL").addHandler(logging.NullHandler())

# A stream that cannot seek is read into memory; a longer one is refused.
_LONGEST_STREAM = 2 * 10**9

# warnings.catch_warnings changes the state of the whole process, so only one thread may use it. A
# reader that suppresses warnings may be called while the file is opened, which does so too.
_warnings_lock = threading.RLock()


@contextmanager
def without_warnings() -> Iterator[None]:
    """Suppress Pillow's warnings: most concern odd metadata, which the user cannot repair."""
    with _warnings_lock, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@contextmanager
def open_image(source: Encoded) -> Iterator[ImageFile.ImageFile]:
    """Open an encoded image and read only its header.

    Parameters
    ----------
    source
        A path, bytes, or an open binary file, which is read from its start. A stream that cannot
        seek, such as standard input, is read into memory.
    """
    with binary_file(source) as file, identified(file) as image:
        yield image


@contextmanager
def identified(file: IO[bytes]) -> Iterator[ImageFile.ImageFile]:
    """Open the image in a file, as `open_image`."""
    with without_warnings(), _identified(file) as image:
        yield image


@contextmanager
def binary_file(source: Encoded) -> Iterator[IO[bytes]]:
    """Open a source as a binary file at its start; parameters as for `open_image`."""
    if isinstance(source, (str, os.PathLike)):
        with _regular_file(source) as file:
            yield file
        return
    file = _seekable(source)
    if not file.read(1):
        raise ImageError("it is empty; get a complete copy")
    file.seek(0)
    yield file


@contextmanager
def _regular_file(path: str | os.PathLike[str]) -> Iterator[IO[bytes]]:
    path = as_path(path)
    status = path.stat()
    if stat.S_ISDIR(status.st_mode):
        raise ImageError("it is a folder; name an image in it")
    if not stat.S_ISREG(status.st_mode):  # opening a pipe could block forever
        raise ImageError("it is not a regular file; save the image to disk first")
    if not status.st_size:
        raise ImageError("the file is empty; get a complete copy")
    with io.FileIO(path) as raw, _Reader(raw) as file:
        yield file


class _Reader(io.BufferedReader):
    """A file that returns no more bytes than it has, without allocating the requested number.

    A decoder may request gigabytes if a damaged file states this length.
    """

    def read(self, size: int | None = -1) -> bytes:
        if size is not None and size > io.DEFAULT_BUFFER_SIZE:
            size = min(size, max(0, os.fstat(self.fileno()).st_size - self.tell()))
        return super().read(size)


def _seekable(source: bytes | bytearray | memoryview | IO[bytes]) -> IO[bytes]:
    """Return bytes or an open file as a binary file at its start."""
    if isinstance(source, memoryview):
        source = _bytes_of(source)
    if isinstance(source, (bytes, bytearray)):
        return io.BytesIO(source)
    if getattr(source, "closed", False):
        raise ImageError("the file is closed; pass an open one, or its path")
    if isinstance(source, io.TextIOBase):
        raise ImageError("the file is open in text mode; open it with mode 'rb'")
    if not callable(getattr(source, "read", None)):
        msg = f"it is of type {type(source).__name__}; pass a path, bytes, an open binary file, "
        raise ImageError(f"{msg}a Pillow image or a NumPy array")
    try:
        source.seek(0)
    except (AttributeError, OSError):  # io.UnsupportedOperation is an OSError
        data = source.read(_LONGEST_STREAM + 1)
        if len(data) > _LONGEST_STREAM:
            msg = f"the stream is longer than {_LONGEST_STREAM:,} bytes; pass the path of a file"
            raise ImageError(msg) from None
        return io.BytesIO(data)
    return source


def _bytes_of(view: memoryview) -> bytes:
    """Return the bytes that a view shows, which need not be contiguous."""
    try:
        return view.tobytes()
    except ValueError:
        raise ImageError("the memoryview is released; pass it before that") from None


def _identified(file: IO[bytes]) -> ImageFile.ImageFile:
    """Do what PIL.Image.open does, except for its check of PIL.Image.MAX_IMAGE_PIXELS.

    That limit belongs to the whole process, so lifting it for one image, even briefly, lifts it
    for every thread. `gramstyle.images.reading` checks each image against its caller's own limit
    instead.
    """
    PIL.Image.init()
    prefix = file.read(16)
    problem: Exception | None = None
    for format_name in _READABLE:
        factory, accepts = PIL.Image.OPEN[format_name]
        accepted = accepts is None or accepts(prefix)
        if isinstance(accepted, str):
            msg = f"this Pillow has no {format_name} decoder; convert the image to PNG"
            raise ImageError(msg)
        if accepted:
            points = read_code_points(file, format_name)
            file.seek(0)
            try:
                image = factory(file, "")  # without a name, Pillow does not map it into memory
            except (SyntaxError, IndexError, KeyError, TypeError, struct.error) as exception:
                problem = exception
                continue
            refuse_raw(image, prefix)
            if points is not None:
                image.info[CODE_POINTS] = points
            return image
    if problem is not None:
        raise problem
    raise ImageError("it is not an image of a known format; convert it to PNG or JPEG")
