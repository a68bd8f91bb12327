"""The commands that messages name are those of the environment that runs."""

import importlib.metadata
import shutil
import sys
from pathlib import Path

import pytest

from gramstyle.system import installing
from gramstyle.system.installing import install_command, remedy, requirements

STATED = [
    "numpy>=2.0",
    "onnxruntime>=1.20; extra == 'cpu'",
    'numba>=0.61 ; (python_version < "4") and extra == "fast"',
    "cupy-cuda12x[ctk]>=14; extra == 'cuda12'",
    "cupy-cuda12x[ctk]>=14; extra == 'onnx-cuda12'",
    "onnxruntime-gpu[cuda,cudnn]<1.27,>=1.21; extra == 'onnx-cuda12'",
]


class Stated:
    requires = STATED


@pytest.fixture
def bin_folder(monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of this environment's programs; its pip is the first one on the PATH."""
    folder = Path("/home/me/.venv/bin")
    monkeypatch.setattr(installing, "distribution", lambda _: Stated)
    monkeypatch.setattr(sys, "executable", str(folder / "python"))
    monkeypatch.setattr(shutil, "which", lambda name: str(folder / name))
    return folder


@pytest.mark.parametrize(
    ("extra", "expected"),
    [
        ("cpu", ["onnxruntime>=1.20"]),
        ("fast", ["numba>=0.61"]),
        ("cuda12", ["cupy-cuda12x[ctk]>=14"]),
        ("onnx-cuda12", ["cupy-cuda12x[ctk]>=14", "onnxruntime-gpu[cuda,cudnn]<1.27,>=1.21"]),
    ],
)
def test_the_packages_are_those_that_the_installed_gramstyle_states(
    extra: str, expected: list[str], bin_folder: Path
) -> None:
    assert requirements(extra) == expected


@pytest.mark.parametrize(
    "extra",
    ["cpu", "cuda12", "cuda13", "onnx-cuda12", "onnx-cuda13", "distributed", "fast", "plots"],
)
def test_every_extra_that_a_message_names_has_packages(extra: str) -> None:
    stated = importlib.metadata.distribution("gramstyle").requires or []
    assert requirements(extra)
    assert all(any(each.startswith(name) for each in stated) for name in requirements(extra))


def test_the_command_names_the_packages_and_not_gramstyle(bin_folder: Path) -> None:
    assert install_command("cpu") == 'pip install "onnxruntime>=1.20"'


@pytest.mark.parametrize("first", ["/usr/bin/pip", None])
def test_the_pip_of_another_environment_is_not_named(
    first: str | None, bin_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: first)
    assert install_command("fast") == f'{bin_folder}/python -m pip install "numba>=0.61"'


def test_an_environment_without_pip_is_filled_by_uv(
    bin_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(installing, "find_spec", lambda _: None)
    expected = f'uv pip install --python {bin_folder}/python "numba>=0.61"'
    assert install_command("fast") == expected


def test_a_path_with_spaces_is_quoted(bin_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/my own/bin/python")
    assert install_command("fast").startswith('"/my own/bin/python" -m pip install ')


def test_a_package_that_is_installed_and_fails_is_reinstalled(bin_folder: Path) -> None:
    assert remedy("cpu", ModuleNotFoundError()) == f"install it with: {install_command('cpu')}"
    broken = ImportError("libgomp.so.1: cannot open shared object file")
    expected = 'reinstall it with: pip install --force-reinstall "onnxruntime>=1.20"'
    assert remedy("cpu", broken) == expected
