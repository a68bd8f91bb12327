"""Helpers for tests with damaged and hostile files."""

import io
import tracemalloc
from collections.abc import Callable, Iterable
from typing import TypeVar

import pytest
from hypothesis import strategies as st

from gramstyle.errors import ModelError

Result = TypeVar("Result")

# Bytes that the refusal of a file may take; the data that hostile files announce take gigabytes.
LITTLE_MEMORY = 2**20

# Relative positions of bits to flip.
POSITIONS = st.lists(st.floats(0, 1, exclude_max=True), min_size=1, max_size=4)


def damaged(data: bytes, positions: list[float], cut: bool) -> bytes:
    """Return the data with flipped bits, cut at the first position if `cut`."""
    data = flipped(data, positions)
    return data[: int(positions[0] * len(data))] if cut else data


def flipped(data: bytes, positions: Iterable[float]) -> bytes:
    """Return the data with the bits at these relative positions flipped."""
    damaged = bytearray(data)
    for position in positions:
        bit = int(position * 8 * len(data))
        damaged[bit // 8] ^= 1 << bit % 8
    return bytes(damaged)


def outcome(action: Callable[[], Result]) -> Result | Exception:
    """Return the result of an action, or its exception; no memory or recursion error is allowed."""
    try:
        return action()
    except (MemoryError, RecursionError):
        raise
    except Exception as error:
        if isinstance(error, ModelError) and not str(error).isprintable():
            pytest.fail(f"{error!r} is not one line")
        return error


def error_line(action: Callable[[], object]) -> str:
    """Return the message of the ModelError that an action raises, which must be one line."""
    with pytest.raises(ModelError) as caught:
        action()
    message = str(caught.value)
    assert message.isprintable()
    return message


def peak_memory(action: Callable[[], object]) -> int:
    tracemalloc.start()
    try:
        action()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


class RecordingStream(io.BytesIO):
    """A stream that records the position and size of every read."""

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self.reads: list[tuple[int, int]] = []

    def read(self, size: int | None = -1, /) -> bytes:
        start, data = self.tell(), super().read(size)
        self.reads.append((start, len(data)))
        return data

    def readinto(self, buffer: memoryview, /) -> int:  # type: ignore[override]
        self.reads.append((self.tell(), len(buffer)))
        return super().readinto(buffer)
