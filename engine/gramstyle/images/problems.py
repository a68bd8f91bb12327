"""Turn every failure of reading or writing an image into one line that says what to do."""

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import PIL.Image

from gramstyle.errors import ImageError


@contextmanager
def raise_image_error(start: str, explain: Callable[[Exception], str]) -> Iterator[None]:
    """Raise every exception from the block as an ImageError "`start`: what happened; the remedy".

    An ImageError from the block already says both. All other exceptions are caught rather than a
    list of types: on damaged data Pillow raises almost every built-in type.
    """
    try:
        yield
    except ImageError as problem:
        raise ImageError(f"{start}: {problem}") from problem.__cause__
    except Exception as problem:
        raise ImageError(f"{start}: {explain(problem)}") from problem


def label(source: object, name: str) -> str:
    """Return what messages call a source or target: a path in quotes, with line breaks escaped."""
    if isinstance(source, (str, os.PathLike)):
        return repr(os.fsdecode(source))
    return " ".join(name.split())


def as_path(path: str | os.PathLike[str]) -> Path:
    """Return a path that can be passed to the system; refuse a NUL character and other types."""
    if not isinstance(path, (str, os.PathLike)):
        raise ImageError(f"its path is of type {type(path).__name__}; pass a str or a Path")
    text = os.fsdecode(path)
    if "\0" in text:
        raise ImageError("the path contains a NUL character; check the path")
    return Path(text)


def one_line(problem: Exception) -> str:
    """Return an exception's message on one line, shortened; its type if it has no message."""
    words = " ".join(str(problem).split())
    return words[:120] or type(problem).__name__


def explain_read_failure(problem: Exception) -> str:
    """Return why an image could not be read, and the remedy."""
    if isinstance(problem, FileNotFoundError):
        return "there is no such file; check the path"
    if isinstance(problem, MemoryError):
        return "there is not enough memory for it; make the image smaller"
    if isinstance(problem, PIL.Image.DecompressionBombError):
        # Pillow's WebP reader raises it above 179 million pixels, before the file is open and
        # independently of our own limit.
        return f"Pillow cannot open it ({one_line(problem)}); convert it to PNG or TIFF"
    if isinstance(problem, OSError) and problem.strerror:
        return f"{problem.strerror.lower()}; check the path and its permissions"
    if isinstance(problem, EOFError) or "truncated" in str(problem).lower():
        return "the file is truncated; get a complete copy"
    if isinstance(problem, SyntaxError):  # Pillow raises it for a header that it cannot parse
        reason = f"the file is damaged or of a kind that Pillow cannot decode ({one_line(problem)})"
        return f"{reason}; get a complete copy or convert it to PNG"
    return f"the file is damaged ({one_line(problem)}); get a complete copy"


def explain_write_failure(problem: Exception) -> str:
    """Return why an image could not be written, and the remedy."""
    if isinstance(problem, MemoryError):
        return "there is not enough memory to encode it; make the image smaller"
    if isinstance(problem, OSError) and problem.strerror:
        full = problem.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        remedy = "free some space" if full else "choose another folder or change its permissions"
        return f"{problem.strerror.lower()}; {remedy}"
    return f"it cannot be encoded ({one_line(problem)}); choose another format, such as .png"
