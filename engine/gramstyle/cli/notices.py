"""Show the warnings of the logger `gramstyle` on stderr, as lines of the program."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gramstyle.cli.speaking import Speaker


@contextmanager
def notices(*, quiet: bool) -> Iterator[None]:
    """Show each warning in one line, unless quiet."""
    from gramstyle.cli.speaking import Speaker  # needs rich, which --help does not

    handler, logger = _Handler(Speaker(quiet=quiet)), logging.getLogger("gramstyle")
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)


class _Handler(logging.Handler):
    def __init__(self, say: "Speaker") -> None:
        super().__init__(logging.WARNING)
        self._say = say

    def emit(self, record: logging.LogRecord) -> None:
        """Print a record; an error while printing never ends a run."""
        with suppress(Exception):
            self._say.tell(f"gramstyle: {record.getMessage()}")
