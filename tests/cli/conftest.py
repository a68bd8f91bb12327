"""A folder with images, a short run in it, and a terminal that is not there."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from gramstyle.cli import main
from gramstyle.cli.streams import TolerantStream

Run = Callable[..., int]


@pytest.fixture
def images(
    tmp_path: Path,
    rng: np.random.Generator,
    tiny_model_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Path:
    """A folder with photo.png and painting.png; the working directory."""
    for name, shape in (("photo.png", (24, 32, 3)), ("painting.png", (28, 20, 3))):
        PIL.Image.fromarray(rng.integers(0, 256, shape, np.uint8)).save(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GRAMSTYLE_MODEL", str(tiny_model_path))
    return tmp_path


@pytest.fixture
def folder(tmp_path: Path, rng: np.random.Generator) -> Path:
    """A folder with photo.png and painting.jpg."""
    for name, shape in (("photo.png", (36, 48, 3)), ("painting.jpg", (40, 30, 3))):
        PIL.Image.fromarray(rng.integers(0, 256, shape, np.uint8)).save(tmp_path / name)
    return tmp_path


@pytest.fixture
def spare(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of temporary files."""
    folder = tmp_path_factory.mktemp("spare")
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    return folder


@pytest.fixture
def transfer(images: Path) -> Run:
    """Run `gramstyle transfer` in that folder, briefly, with these arguments in addition."""

    def call(*more: str, content: str = "photo.png", output: str = "out.png") -> int:
        brief = ("--size", "32", "--iterations", "3", "--engine", "numpy", "--threads", "1")
        return main(["transfer", content, "painting.png", "-o", output, *brief, *more])

    return call


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the standard streams terminals that show bars."""
    monkeypatch.setattr(TolerantStream, "isatty", lambda _self: True)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "200")
    for name in ("CI", "NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
