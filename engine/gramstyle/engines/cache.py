"""Results that engines compute from the weights of a model alone, shared by several runs."""

import threading
from collections.abc import Callable, Hashable

from gramstyle.core.arrays import Array
from gramstyle.engines.onnx_session import Session


class EngineCache:
    """What the engines of one model share: arrays, and a network that is loaded into a runtime.

    It depends only on the weights, and no engine changes it, so runs in several threads can use one
    cache. The other arrays of an engine depend on the image; the run releases them.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._arrays: dict[str, Array] = {}
        self._session: tuple[Hashable, Session] | None = None

    def array(self, layer: str, make: Callable[[], Array]) -> Array:
        """Return the array of a layer; the first call makes it."""
        with self._lock:
            if layer not in self._arrays:
                self._arrays[layer] = make()
                self._arrays[layer].flags.writeable = False
            return self._arrays[layer]

    def session(self, key: Hashable, make: Callable[[], Session]) -> Session:
        """Return a session of the loaded network with this key.

        Only the network of the last key stays loaded, because each takes as much memory as the
        weights.
        """
        with self._lock:
            if self._session is None or self._session[0] != key:
                self._session = None
                self._session = key, make()
            return self._session[1].sharing_network()
