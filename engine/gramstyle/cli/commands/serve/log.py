"""The log of `gramstyle serve` on stderr: a line with the time for each event."""

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager

_LOGGER, _FORMAT = "gramstyle.serve", "%(asctime)s %(message)s"


@contextmanager
def service_log(*, quiet: bool) -> Iterator[None]:
    """Show what happens to jobs, and errors with their tracebacks; errors only if quiet."""
    logger, handler = logging.getLogger(_LOGGER), logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter(_FORMAT))
    before = logger.level, logger.propagate
    logger.setLevel(logging.WARNING if quiet else logging.INFO)
    logger.propagate = False  # else warnings would appear twice
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.level, logger.propagate = before
