"""Whatever goes wrong with an image, in one line that names the image and the remedy."""

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import PIL.Image

from gramstyle.errors import ImageError


@contextmanager
def one_line(start: str, explain: Callable[[Exception], str]) -> Iterator[None]:
    """Raise every exception from inside as an ImageError "`start`: what happened; the remedy".

    An ImageError from inside says both already. All others are caught, not a list of them:
    for damaged data Pillow raises about every built-in type, and no list of them is complete.
    """
    try:
        yield
    except ImageError as problem:
        raise ImageError(f"{start}: {problem}") from problem.__cause__
    except Exception as problem:
        raise ImageError(f"{start}: {explain(problem)}") from problem


def as_path(path: str | os.PathLike[str]) -> Path:
    """Return a path that the system can be asked about."""
    if "\0" in os.fspath(path):
        raise ImageError("the path holds a NUL character; check the path")
    return Path(path)


def text_of(problem: Exception) -> str:
    """Return what an exception says, as part of a line."""
    words = " ".join(str(problem).split())
    return words[:120] or type(problem).__name__


def why_not_read(problem: Exception) -> str:
    """Say what stopped the reading of an image, and the remedy."""
    if isinstance(problem, FileNotFoundError):
        return "there is no such file; check the path"
    if isinstance(problem, MemoryError):
        return "there is not enough memory for it; make the image smaller"
    if isinstance(problem, PIL.Image.DecompressionBombError):
        # Raised by WebP above 179 million pixels, before the file is open, whatever our limit.
        return f"Pillow cannot open it ({text_of(problem)}); convert it to PNG or TIFF"
    if isinstance(problem, OSError) and problem.strerror:
        return f"{problem.strerror.lower()}; check the path and its permissions"
    if isinstance(problem, EOFError) or "truncated" in str(problem).lower():
        return "the file is truncated; get a complete copy"
    if isinstance(problem, SyntaxError):  # Pillow's word for a header that it cannot follow
        reason = f"the file is damaged or of a kind that Pillow cannot decode ({text_of(problem)})"
        return f"{reason}; get a complete copy or convert it to PNG"
    return f"the file is damaged ({text_of(problem)}); get a complete copy"


def why_not_written(problem: Exception) -> str:
    """Say what stopped the writing of an image, and the remedy."""
    if isinstance(problem, MemoryError):
        return "there is not enough memory to encode it; make the image smaller"
    if isinstance(problem, OSError) and problem.strerror:
        full = problem.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        remedy = "free some space" if full else "choose another folder or change its permissions"
        return f"{problem.strerror.lower()}; {remedy}"
    return f"it cannot be encoded ({text_of(problem)}); choose another format, such as .png"
