"""Compile functions with Numba, and cache the machine code on disk.

The cache is Numba's, in Numba's folder (NUMBA_CACHE_DIR, `__pycache__` or the user's cache), with
three differences. If a file is damaged or cannot be written, the code is compiled again; Numba
would end the program. Machine code is loaded only if its hash is the recorded one. A change to any
module of a package, or to this one, outdates all code of the package; Numba checks only one module.
"""

import errno
import hashlib
import inspect
import logging
import pickle
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from numba import njit
from numba.core.caching import CompileResultCacheImpl, FunctionCache, IndexDataCacheFile
from numba.core.serialize import dumps
from numba.np import linalg

log = logging.getLogger(__name__)


def _defer_blas() -> None:
    """Import Numba's functions of arrays without the BLAS of SciPy.

    Numba would import it with the first compiled function, which would take twice as long. No
    function of this program uses it; others still import it when they are compiled.
    """
    load = getattr(linalg, "ensure_blas", None)
    if load is None:  # another version of Numba
        return
    linalg.ensure_blas = lambda: None
    try:
        import numba.np.arraymath  # noqa: F401
    finally:
        linalg.ensure_blas = load


_defer_blas()


def compiled(function: Callable[..., Any], *, any_order: bool = False) -> Any:
    """Compile a function that releases the interpreter's lock, and cache the machine code.

    If `any_order`, its sums may be computed in any order, with fused products, so that the
    compiler can use vector registers. The order depends on the processor only.
    """
    fastmath = {"reassoc", "contract"} if any_order else False
    dispatcher: Any = njit(nogil=True, fastmath=fastmath)(function)
    try:
        dispatcher._cache = _Cache(function)
    except (RuntimeError, OSError):  # RuntimeError: there is no folder for it
        _warn("no folder for it can be written")
    return dispatcher


def cache_folder(function: Callable[..., Any]) -> Path | None:
    """Return the folder of a function's cached code; None if no folder for it can be written."""
    try:
        return Path(_Cache(function).cache_path)
    except (RuntimeError, OSError):
        return None


def inlined(function: Callable[..., Any]) -> Any:
    """Compile a function that is inlined into its callers."""
    return njit(forceinline=True)(function)


def _expanded(locator: Any) -> Any:
    """Return a locator that refuses `~`, which Numba would create if there is no home directory."""

    class Expanded(locator):
        def ensure_cache_path(self) -> None:
            if self.get_cache_path().startswith("~"):
                raise FileNotFoundError(errno.ENOENT, "there is no home directory")
            super().ensure_cache_path()

    return Expanded


class _Place(CompileResultCacheImpl):
    _locator_classes = [  # noqa: RUF012 - as Numba has it
        _expanded(locator) for locator in CompileResultCacheImpl._locator_classes
    ]


class _Cache(FunctionCache):
    """The cache of one function."""

    _impl_class = _Place

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__(function)
        self._function = function.__qualname__
        place = self._impl
        package = Path(inspect.getfile(function)).parent
        stamp = (place.locator.get_source_stamp(), _sources(package))
        self._cache_file: _CheckedFile = _CheckedFile(self.cache_path, place.filename_base, stamp)

    def load_overload(self, signature: Any, target: Any) -> Any:
        """Return the code for a signature; None if there is none that can be used."""
        try:
            return super().load_overload(signature, target)
        except Exception as error:  # damaged pickles raise exceptions of any type
            log.info("the cached code of %s is compiled again: %r", self._function, error)
            self._cache_file.discard()
            return None

    def save_overload(self, signature: Any, code: Any) -> None:
        """Store the code for a signature, if that is possible."""
        try:
            super().save_overload(signature, code)
        except Exception as error:  # as above, since the index is read first
            _warn(f"{self.cache_path}: {error}")


class _CheckedFile(IndexDataCacheFile):
    """The files of a function: an index (.nbi), and for each signature its code (.nbc), hashed."""

    def save(self, key: Any, data: Any) -> None:
        """Store the code for a key, together with the key."""
        content = dumps((key, data))
        super().save(key, (hashlib.sha256(content).digest(), content))

    def load(self, key: Any) -> Any:
        """Return the code for a key, None if there is none; raises an error if it is damaged."""
        found = super().load(key)
        if found is None:
            return None
        digest, content = found
        if hashlib.sha256(content).digest() != digest:
            raise ValueError("it does not have the recorded hash")
        # Two processes that store the code for two keys at once may choose the same file.
        stored, data = pickle.loads(content)  # noqa: S301 - written by a program of this user
        if stored != key:
            raise ValueError("it belongs to another signature")
        return data

    def discard(self) -> None:
        """Remove the index, so that the code is stored again."""
        try:
            Path(self._index_path).unlink(missing_ok=True)
        except OSError as error:
            _warn(f"{self._index_path}: {error.strerror}")


@cache
def _sources(package: Path) -> str:
    """Return a hash of this module and a package's, whose functions are inlined into each other."""
    paths = (Path(__file__), *sorted(package.glob("*.py")))
    sources = (path.read_bytes() for path in paths)
    return hashlib.sha256(b"\0".join(sources)).hexdigest()


_warned: list[str] = []


def _warn(reason: str) -> None:
    """Warn, once in a process, that code is not cached."""
    if not _warned:
        log.warning(
            "compiled code cannot be cached (%s), so every run compiles it again; set "
            "NUMBA_CACHE_DIR to a folder that can be written", reason
        )  # fmt: skip
    _warned.append(reason)
