"""Watch what reading a file does to the system: nothing may be written, started or connected."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

# Python's audit events of actions that no reader needs.
FORBIDDEN = frozenset(
    {
        "os.exec", "os.fork", "os.forkpty", "os.posix_spawn", "os.spawn", "os.system",
        "pickle.find_class", "socket.bind", "socket.connect", "socket.getaddrinfo",
        "subprocess.Popen",
    }
)  # fmt: skip
# Those that change files, besides "open".
CHANGING = frozenset(
    {
        "os.chmod", "os.chown", "os.link", "os.mkdir", "os.remove", "os.rename", "os.rmdir",
        "os.symlink", "os.truncate", "os.utime", "shutil.copyfile", "shutil.move",
        "shutil.rmtree", "tempfile.mkdtemp", "tempfile.mkstemp",
    }
)  # fmt: skip
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


class ForbiddenActionError(BaseException):
    """An action that reading a file must not take; a BaseException, so that readers let it pass."""


class Guard:
    """Refuses forbidden actions of this process while it is closed. It is there to the end."""

    def __init__(self) -> None:
        self._closed = self._may_write = False
        sys.addaudithook(self._watch)

    @contextmanager
    def closed(self, *, may_write: bool = False) -> Iterator[None]:
        """Refuse forbidden actions in the block; raise ForbiddenActionError for the first one."""
        self._closed, self._may_write = True, may_write
        try:
            yield
        finally:
            self._closed = False

    @contextmanager
    def opened(self) -> Iterator[None]:
        """Allow everything in the block."""
        before, self._closed = self._closed, False
        try:
            yield
        finally:
            self._closed = before

    def _watch(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self._closed:
            return
        changes = event in CHANGING or (event == "open" and _writes(arguments))
        if event in FORBIDDEN or (changes and not self._may_write):
            self._closed = False
            raise ForbiddenActionError(f"{event} {arguments!r}"[:300])


def _writes(arguments: tuple[Any, ...]) -> bool:
    path, _mode, flags = arguments
    return path != os.devnull and isinstance(flags, int) and bool(flags & WRITING)
