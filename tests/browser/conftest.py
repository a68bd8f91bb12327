"""The folder for browsers: exported with the real model, and its modules for Node.js."""

import shutil
from importlib import resources
from pathlib import Path

import pytest

from gramstyle.browser import fetch_runtime
from gramstyle.cli import main

PAGE = Path(str(resources.files("gramstyle.browser") / "page"))


@pytest.fixture(scope="session")
def tarball(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """ONNX Runtime's package, which npm fetches."""
    if shutil.which("npm") is None:
        pytest.skip("there is no npm; install Node.js to fetch ONNX Runtime for browsers")
    path = tmp_path_factory.mktemp("tarball") / "runtime.tgz"
    path.write_bytes(fetch_runtime(tmp_path_factory.mktemp("npm")))
    return path


@pytest.fixture(scope="session")
def site(tarball: Path, real_model_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with the real model."""
    folder = tmp_path_factory.mktemp("web") / "site"
    given = ("--web", folder, "--runtime", tarball, "--model", real_model_path)
    assert main(["objective", "export", *map(str, given)]) == 0
    return folder


@pytest.fixture(scope="session")
def modules(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The modules of the page, in a folder where Node.js takes them as such."""
    if shutil.which("node") is None:
        pytest.skip("there is no node; install Node.js to run the modules of the page")
    folder = tmp_path_factory.mktemp("modules")
    for path in PAGE.glob("*.js"):
        shutil.copy(path, folder)
    (folder / "package.json").write_text('{"type": "module"}')
    return folder
