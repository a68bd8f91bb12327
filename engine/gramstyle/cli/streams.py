"""The standard streams of the program. A stream that fails discards further output."""

import errno
import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TextIO

from gramstyle.errors import GramstyleError


class AnswerError(GramstyleError):
    """An answer that could not be written to stdout."""


class ReaderGoneError(AnswerError):
    """The program that read stdout has ended, as `head` does when it has enough."""


class TolerantStream(io.TextIOBase):
    r"""A text stream that raises nothing and remembers its first failure.

    Characters that its encoding lacks are written as escape sequences such as ``\xd7``.

    Attributes
    ----------
    failure
        Why the stream discards its output; None if everything has been written.
    """

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = stream
        self.failure: Exception | None = None
        if stream is None:  # the program was started with the stream closed
            self.failure = OSError(errno.EBADF, os.strerror(errno.EBADF))

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """The encoding, from which rich chooses the characters of a bar."""
        return getattr(self._stream, "encoding", None) or "utf-8"

    def isatty(self) -> bool:
        """Return whether a terminal shows the text."""
        try:
            return self._stream is not None and self._stream.isatty()
        except ValueError:  # closed
            return False

    def fileno(self) -> int:
        """Return the descriptor of the stream."""
        if self._stream is None:
            raise io.UnsupportedOperation("fileno")
        return self._stream.fileno()

    def writable(self) -> bool:
        """Return True."""
        return True

    def write(self, text: str) -> int:
        """Write a text and flush it, unless the stream has failed."""
        if self.failure is None and self._stream is not None:
            encoding = self.encoding
            try:
                self._stream.write(text.encode(encoding, "backslashreplace").decode(encoding))
                self._stream.flush()
            except (OSError, ValueError) as failure:
                self._discard_from_now_on(failure)
        return len(text)

    def write_bytes(self, data: bytes) -> None:
        """Write bytes and flush them, unless the stream has failed."""
        if self.failure is None and self._stream is not None:
            try:
                self._stream.buffer.write(data)
                self._stream.buffer.flush()
            except (OSError, ValueError) as failure:
                self._discard_from_now_on(failure)

    def _discard_from_now_on(self, failure: Exception) -> None:
        self.failure = failure
        # Python would fail again when it flushes the stream at the end of the process.
        with suppress(OSError, ValueError), open(os.devnull, "wb") as nothing:  # noqa: PTH123
            os.dup2(nothing.fileno(), self.fileno())


@contextmanager
def tolerant_streams() -> Iterator[None]:
    """Make the standard streams tolerant during the block, for everything that writes to them."""
    _open_descriptors()
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = TolerantStream(sys.stdout), TolerantStream(sys.stderr)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before


def check_answered() -> None:
    """Raise AnswerError if something could not be written to stdout."""
    failure = sys.stdout.failure if isinstance(sys.stdout, TolerantStream) else None
    if isinstance(failure, BrokenPipeError):
        raise ReaderGoneError("the program that reads the output has ended")
    if failure is not None:
        reason = getattr(failure, "strerror", None) or failure
        raise AnswerError(f"cannot write to standard output: {reason}; send it to another place")


def _open_descriptors() -> None:
    """Open the null device in place of closed streams, and let writing block.

    The next file that is opened would otherwise get the number of a closed stream, and libraries
    would write their messages into it.
    """
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
        else:
            if number and hasattr(os, "set_blocking"):
                with suppress(OSError):
                    os.set_blocking(number, True)
