"""Results that engines compute from the weights of a model alone, shared by several runs."""

import threading
from collections.abc import Callable

from gramstyle.core.arrays import Array


class EngineCache:
    """Arrays that the engines of one model share.

    They depend only on the weights, and no engine writes to them, so runs in several threads can
    use one cache. The other arrays of an engine depend on the image; the run releases them.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._arrays: dict[str, Array] = {}

    def array(self, layer: str, make: Callable[[], Array]) -> Array:
        """Return the array of a layer; the first call makes it."""
        with self._lock:
            if layer not in self._arrays:
                self._arrays[layer] = make()
                self._arrays[layer].flags.writeable = False
            return self._arrays[layer]
