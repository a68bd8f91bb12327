"""The examples in the API reference: every public name has one, and each gives what it shows.

They run in a folder with photo.jpg and painting.jpg, on a small network in VGG-19's shape.
"""

import doctest
import importlib
import inspect
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import PIL.Image
import pytest

from documented import ROOT

# NumPy's print-outs of arrays have blank lines, which end an example.
FLAGS = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS


def documented_names() -> dict[str, Any]:
    """Return the functions and classes of docs/api by name, without errors and interfaces."""
    found: dict[str, Any] = {}
    for page in sorted((ROOT / "docs" / "api").glob("*.md")):
        for name in re.findall(r"^::: (\S+)$", page.read_text(encoding="utf-8"), re.MULTILINE):
            found |= _members(name)
    return {
        name: each
        for name, each in found.items()
        if inspect.isfunction(each) or (inspect.isclass(each) and not _needs_none(each))
    }


def _members(name: str) -> dict[str, Any]:
    module, _, attribute = name.rpartition(".")
    if hasattr(importlib.import_module(module), attribute):
        each = getattr(importlib.import_module(module), attribute)
        if not isinstance(each, ModuleType):
            return {name: each}
    package = importlib.import_module(name)
    public = getattr(package, "__all__", None)
    if public is None:
        public = [
            key
            for key, value in vars(package).items()
            if not key.startswith("_") and getattr(value, "__module__", None) == name
        ]
    return {f"{name}.{key}": getattr(package, key) for key in public}


def _needs_none(each: type) -> bool:
    return issubclass(each, Exception) or getattr(each, "_is_protocol", False)


NAMES = documented_names()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("examples")
    rng = np.random.default_rng(0)
    for name in ("photo.jpg", "painting.jpg"):
        PIL.Image.fromarray(rng.integers(0, 256, (48, 64, 3), np.uint8)).save(path / name)
    return path


@pytest.mark.parametrize("name", NAMES)
def test_the_example_of_every_public_name_gives_what_it_shows(
    name: str, folder: Path, tiny_model_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.setenv("GRAMSTYLE_MODEL", str(tiny_model_path))
    finder, runner = doctest.DocTestFinder(recurse=False), doctest.DocTestRunner(optionflags=FLAGS)
    (case,) = finder.find(NAMES[name], name)
    assert case.examples, f"{name} has no example"
    wrong: list[str] = []
    runner.run(case, out=wrong.append, clear_globs=True)
    assert not wrong, "".join(wrong)
