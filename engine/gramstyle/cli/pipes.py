"""Standard input as an image to read, and standard output as the image to write: the name `-`."""

import os
import sys
from pathlib import Path

from gramstyle.cli.streams import TolerantStream, check_answered
from gramstyle.errors import ImageError, OptionError
from gramstyle.images import Encoding, Image, encode_image

DASH = Path("-")
# The format of an image on standard output, which has no extension.
FORMAT = ".png"
# The bytes of a pixel in the largest files, without metadata: four channels of 16 bits.
BYTES_PER_PIXEL, METADATA_BYTES = 8, 2**24


def path_or_dash(text: str) -> Path:
    """Return a path, or DASH for `-`; `./-` is the file of that name."""
    path = Path(text)
    return path.absolute() if path == DASH and text != "-" else path


def shown(path: Path) -> str:
    """Return what messages call an image: its path, or standard output."""
    return "standard output" if path == DASH else str(path)


def refuse_dash(paths: list[Path], *, command: str) -> None:
    """Refuse standard input and output where files are needed."""
    if DASH in paths:
        raise OptionError(f"{command} needs files; name a file instead of -")


def input_images(*sources: Path, max_pixels: int) -> list[Path | bytes]:
    """Return the sources of a run, with the bytes of standard input in the place of `-`.

    Raises
    ------
    OptionError
        If two images are to be read from standard input, or there is none.
    ImageError
        If there are more bytes than an image of the largest size may have.
    """
    if sources.count(DASH) > 1:
        raise OptionError("only one image can be read from standard input; name a file")
    return [_read(max_pixels) if source == DASH else source for source in sources]


def _read(max_pixels: int) -> bytes:
    limit = BYTES_PER_PIXEL * max_pixels + METADATA_BYTES
    if sys.stdin is None:
        raise OptionError("standard input is closed; name a file instead of -")
    try:
        data: bytes = sys.stdin.buffer.read(limit + 1)
    except OSError as error:
        raise ImageError(
            f"cannot read standard input: {error.strerror}; name a file instead of -"
        ) from None
    if not data:
        raise ImageError("standard input is empty; pass an image, or name a file instead of -")
    if len(data) > limit:
        raise ImageError(
            f"standard input has more than {limit // 10**6} MB, and an image of {max_pixels:,} "
            "pixels has less; raise --max-pixels, or name a file instead of -"
        )
    return data


def check_standard_output() -> None:
    """Refuse to write an image to a terminal, or to a stream that is closed."""
    check_answered()
    if sys.stdout.isatty():
        raise OptionError("standard output is a terminal; redirect it, or name a file with -o")


def is_standard_output(path: Path) -> bool:
    """Return whether a path names the file, pipe or device that standard output is."""
    try:
        return os.path.samestat(os.fstat(sys.stdout.fileno()), path.stat())
    except (OSError, ValueError):  # there is no such file, or no descriptor
        return False


def write_standard_output(image: Image, settings: dict[str, object], encoding: Encoding) -> None:
    """Write an image to standard output; raises ImageError if that fails."""
    data = encode_image(image, FORMAT, settings=settings, encoding=encoding)
    stream = sys.stdout
    assert isinstance(stream, TolerantStream)  # noqa: S101 - as main made it
    stream.write_bytes(data)
    if stream.failure is not None:
        reason = getattr(stream.failure, "strerror", None) or stream.failure
        raise ImageError(f"cannot write to standard output: {reason}")
