"""The number of threads of BLAS, the library of NumPy's matrix products, in this process."""

import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

from threadpoolctl import ThreadpoolController

_lock = threading.Lock()
_users = 0
_before: tuple[int, ...] = ()


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Limit BLAS to one thread while any thread of this process is in such a block.

    The limit holds for the whole process. Its users are counted: the first one sets it, and the
    last one restores the number of threads that there was before.
    """
    global _users, _before
    with _lock:
        if _users == 0:
            _before = tuple(library.num_threads for library in _libraries())
            _set([1] * len(_before))
        _users += 1
    try:
        yield
    finally:
        with _lock:
            _users -= 1
            if _users == 0:
                _set(_before)


def _set(numbers: Iterable[int]) -> None:
    for library, number in zip(_libraries(), numbers, strict=True):
        # threadpoolctl 3.8 ignores every thread but the one that was first to set a number. The
        # last user may be another thread than the first, and the lock keeps them apart.
        release = getattr(library, "clear_controlling_thread", None)
        if release is not None:
            release(force=True)
        library.set_num_threads(number)
        if release is not None:
            release(force=True)


@cache
def _libraries() -> tuple[Any, ...]:
    # Finding the libraries of a process takes longer than a small matrix product.
    return tuple(ThreadpoolController().select(user_api="blas").lib_controllers)
