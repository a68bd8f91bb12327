"""Keep the messages of libtiff out of stderr."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_lock = threading.Lock()


@contextmanager
def without_messages() -> Iterator[None]:
    """Discard what is written to the descriptor of stderr during the block.

    libtiff, which decodes the compressed data of a TIFF, prints a line for each odd tag, and
    Pillow offers no way to stop that. What other threads print at the same time is lost too.
    """
    with _lock:
        try:
            kept = os.dup(2)
        except OSError:  # stderr is closed
            yield
            return
        nothing = os.open(os.devnull, os.O_WRONLY)
        try:
            os.dup2(nothing, 2)
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)
            os.close(nothing)
