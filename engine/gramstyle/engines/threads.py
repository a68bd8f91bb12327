"""Worker threads for the CPU engines, each with one BLAS thread and its own scratch arrays."""

import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from math import prod
from typing import TypeVar

import numpy as np

from gramstyle.core.arrays import Array
from gramstyle.system.blas import one_blas_thread

T = TypeVar("T")
Item = TypeVar("Item")


class Workers:
    """A pool of threads. They run in parallel because NumPy and compiled code release the lock.

    Parameters
    ----------
    threads
        The number of threads.
    """

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="gramstyle-strip")
        self._local = threading.local()

    def run(self, function: Callable[[Item], None], items: Iterable[Item]) -> None:
        """Call a function with every item and wait for all calls."""
        for _ in self.map(function, items):
            pass

    def map(self, function: Callable[[Item], T], items: Iterable[Item]) -> Iterator[T]:
        """Call a function with every item and yield the results in the order of the items."""
        with one_blas_thread():
            yield from self._pool.map(function, items)

    def scratch(self, name: str, shape: tuple[int, ...]) -> Array:
        """Return the calling thread's float32 array of this name, its contents undefined."""
        arrays: dict[str, Array] = self._local.__dict__.setdefault("arrays", {})
        size = prod(shape)
        if name not in arrays or arrays[name].size < size:
            arrays[name] = np.empty(size, np.float32)
        return arrays[name][:size].reshape(shape)
