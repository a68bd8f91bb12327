"""A model that is opened once and used by many runs."""

import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Self

from gramstyle.engines.cache import EngineCache
from gramstyle.errors import ModelError
from gramstyle.model import Model, load_model, read_model


class OpenModel:
    """A model in memory, with the results that the engines have computed from its weights.

    Later runs with the same model start without this preparation. Their results are the same to
    the last bit. Runs in several threads can use one open model. The file is read once; it makes
    no difference if the file is replaced later.

    Use it in a `with` block, which frees the memory at its end.

    Parameters
    ----------
    path
        The model file, which the first run reads.
    model
        The model in that file, if it has been read already.

    Attributes
    ----------
    path
        The path of the model file.

    Examples
    --------
    >>> from gramstyle import Options, open_model, transfer
    >>> options = Options(size=32, iterations=1)
    >>> with open_model() as model:
    ...     first = transfer("photo.jpg", "painting.jpg", options, model=model)
    ...     second = transfer("painting.jpg", "photo.jpg", options, model=model)
    ...
    >>> first.image.size, second.image.size
    ((32, 24), (32, 24))
    """

    def __init__(self, path: Path, model: Model | None = None) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._model = model
        self._cache: EngineCache | None = EngineCache()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Free the memory. Runs that have started continue; later ones are refused."""
        with self._lock:
            self._model = self._cache = None

    def parts(self) -> tuple[Model, EngineCache]:
        """Return the model, read on the first call, and what belongs to it.

        Raises
        ------
        ModelError
            If the file cannot be used, or this open model is closed.
        """
        with self._lock:
            if self._cache is None:
                raise ModelError(
                    f"the open model {self.path} is closed; use it inside its with block"
                )
            if self._model is None:
                self._model = read_model(self.path)
            return self._model, self._cache

    @property
    def sha256(self) -> str | None:
        """The hash of the file that was read; None before."""
        model = self._model
        return None if model is None else model.sha256


# What runs accept as their model: a path, an open model, or None for the default file.
ModelSource = str | os.PathLike[str] | OpenModel


def open_model(
    path: str | os.PathLike[str] | None = None, *, notify: Callable[[str], None] | None = None
) -> OpenModel:
    """Read a model once for many runs.

    Parameters
    ----------
    path
        The path of the model file; `gramstyle.model.locate_model` finds one by default.
    notify
        Called with one sentence before a model is built.

    Returns
    -------
    OpenModel
        To pass as `model` to `transfer`, `reconstruct_content`, `reconstruct_style` and `texture`.

    Raises
    ------
    ModelError
        If the file cannot be used, or none can be found or built.

    Examples
    --------
    >>> from gramstyle import Options, open_model, transfer
    >>> with open_model() as model:
    ...     for name in ("photo.jpg", "painting.jpg"):
    ...         image, record = transfer(name, "painting.jpg", Options(size=32), model=model)
    ...         image.save(f"painted-{name}")
    """
    model = load_model(path, notify=notify)
    return OpenModel(model.path, model)


def opened(
    model: ModelSource | None,
    *,
    notify: Callable[[str], None] | None = None,
    check: Callable[[], object] | None = None,
) -> tuple[Model, EngineCache | None]:
    """Return the model that a run uses, and the cache of an open model.

    Parameters
    ----------
    model
        A path, an open model, or None for the default file.
    notify, check
        As for `gramstyle.model.load_model`.

    Raises
    ------
    ModelError
        If the model cannot be used.
    """
    if isinstance(model, OpenModel):
        return model.parts()
    if not isinstance(model, str | os.PathLike | None):
        raise ModelError(f"model must be a path or open_model(...), not {type(model).__name__}")
    return load_model(model, notify=notify, check=check), None
