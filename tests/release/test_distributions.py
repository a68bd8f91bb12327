"""The wheel and the sdist: what is in them, and that both install and run in clean environments."""

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest

from documented import ROOT

# These tests have limits of their own.
pytestmark = [pytest.mark.release, pytest.mark.timeout(0)]

SAMPLES = ROOT / "docs" / "samples"
TRANSFER = ("transfer", SAMPLES / "chelsea.jpg", SAMPLES / "meadow.jpg", "--size", "32")


def newest_python() -> str | None:
    """The newest Python on this machine that is newer than the one that runs, if there is any."""
    for minor in range(20, sys.version_info.minor, -1):
        found = shutil.which(f"python3.{minor}")
        # A version manager leaves commands on the path that run nothing.
        if found and subprocess.run([found, "--version"], capture_output=True).returncode == 0:
            return found
    return None


@dataclass(frozen=True)
class Installed:
    """An environment that one of the distributions was installed into."""

    folder: Path

    def run(self, *arguments: str | Path, program: str = "gramstyle") -> tuple[int, str]:
        """Run a program of the environment away from the checkout; its exit code and output."""
        # PYTHONPATH would put the checkout in the place of what was installed.
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        done = subprocess.run(
            [self.folder / "bin" / program, *arguments],
            cwd=self.folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=3600,
        )
        return done.returncode, done.stdout + done.stderr


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The two distributions; the wheel is built from the sdist, so that one must be complete."""
    pytest.importorskip("build", reason="make test-release installs it")
    folder = tmp_path_factory.mktemp("dist")
    subprocess.run([sys.executable, "-m", "build", "--outdir", folder, ROOT], check=True)
    (sdist,), (wheel,) = folder.glob("*.tar.gz"), folder.glob("*.whl")
    return {"sdist": sdist, "wheel": wheel}


def installed(folder: Path, python: str, distribution: Path, extras: str) -> Installed:
    subprocess.run([python, "-m", "venv", folder], check=True)
    pip = [folder / "bin" / "python", "-m", "pip", "install", "--quiet"]
    requirement = f"gramstyle{extras} @ {distribution.as_uri()}"
    subprocess.run([*pip, requirement], check=True, timeout=3600)
    return Installed(folder)


def test_the_wheel_holds_every_file_of_the_package_and_nothing_else(built: dict[str, Path]) -> None:
    package = ROOT / "engine" / "gramstyle"
    expected = {
        path.relative_to(package.parent).as_posix()
        for path in package.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    names = set(zipfile.ZipFile(built["wheel"]).namelist())
    assert {name for name in names if ".dist-info/" not in name} == expected
    assert any(name.endswith("licenses/LICENSE") for name in names)


def test_the_sdist_holds_what_it_takes_to_test_and_document_and_no_weights(
    built: dict[str, Path],
) -> None:
    with tarfile.open(built["sdist"]) as archive:
        names = {name.split("/", 1)[1] for name in archive.getnames()}
    for name in (
        "engine/gramstyle/core/losses.py", "tests/core/test_losses.py", "examples/minimal.py",
        "docs/derivations.md", "tools/paint.py", "mkdocs.yml", "Makefile", "pyproject.toml",
        "README.md", "CONTRIBUTING.md", "SECURITY.md", "CITATION.cff", "LICENSE", "CHANGELOG.md",
    ):  # fmt: skip
        assert name in names
    assert not [name for name in names if name.endswith("vgg19.onnx")]


def test_without_extras_the_program_starts_and_names_the_package_that_a_transfer_needs(
    built: dict[str, Path], tmp_path: Path, tiny_model_path: Path
) -> None:
    environment = installed(tmp_path / "plain", sys.executable, built["wheel"], "")
    assert environment.run("--version") == (0, "gramstyle 0.1.0\n")
    assert environment.run("-c", "import gramstyle.core", program="python") == (0, "")
    status, said = environment.run(*TRANSFER, "-o", "out.png", "--model", tiny_model_path)
    assert status == 2
    assert 'pip install "onnxruntime>=' in said
    assert len(said.splitlines()) == 1


@pytest.mark.parametrize(
    ("distribution", "python"),
    [("wheel", sys.executable), ("sdist", sys.executable), ("wheel", newest_python())],
    ids=["wheel", "sdist", "wheel-on-the-newest-python"],
)
def test_with_extras_the_program_makes_an_image(
    built: dict[str, Path],
    tmp_path: Path,
    tiny_model_path: Path,
    distribution: str,
    python: str | None,
) -> None:
    if python is None:
        pytest.skip("there is no newer Python on this machine")
    environment = installed(tmp_path / "full", python, built[distribution], "[cpu,fast]")
    out = environment.folder / "out.png"
    arguments = (*TRANSFER, "-o", out, "--model", tiny_model_path, "--iterations", "2")
    status, said = environment.run(*arguments)
    assert status == 0, said
    assert out.is_file()
    assert environment.run("conformance", "run", "--against", "numpy_plain")[0] == 0
