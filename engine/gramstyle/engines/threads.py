"""Threads that work on strips side by side, each with one BLAS thread and scratch of its own."""

import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from math import prod
from typing import TypeVar

import numpy as np
from threadpoolctl import ThreadpoolController

from gramstyle.core.arrays import Array

T = TypeVar("T")
Item = TypeVar("Item")


class Workers:
    """A few threads; NumPy and compiled code release the interpreter's lock inside.

    Parameters
    ----------
    threads
        How many strips are worked on at once.
    """

    def __init__(self, threads: int) -> None:
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="gramstyle-strip")
        self._blas = ThreadpoolController()
        self._local = threading.local()

    def run(self, task: Callable[[Item], None], items: Iterable[Item]) -> None:
        """Do a task for every item."""
        for _ in self.map(task, items):
            pass

    def map(self, task: Callable[[Item], T], items: Iterable[Item]) -> Iterator[T]:
        """Yield the tasks' results in the order of the items, whichever thread did them."""
        with self._blas.limit(limits=1, user_api="blas"):
            yield from self._pool.map(task, items)

    def scratch(self, name: str, shape: tuple[int, ...]) -> Array:
        """Return the calling thread's own float32 array of that name, its contents undefined."""
        kept: dict[str, Array] = self._local.__dict__.setdefault("arrays", {})
        size = prod(shape)
        if name not in kept or kept[name].size < size:
            kept[name] = np.empty(size, np.float32)
        return kept[name][:size].reshape(shape)
