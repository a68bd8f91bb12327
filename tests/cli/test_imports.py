"""What the program imports: a package that takes long to load, only where it is used."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from gramstyle.cli.program import SECTIONS

# Packages that the help needs no more than an `import gramstyle` does.
COMPUTING = {"PIL", "numpy", "onnx", "rich", "threadpoolctl"}
# Packages for other engines, optimisers, formats or commands than those of a plain transfer.
ELSEWHERE = {
    "asyncio",  # a cluster
    "av",  # videos
    "cupy",  # a GPU
    "dask",  # a cluster
    "distributed",  # a cluster
    "h5py",  # weights of Keras
    "imagecodecs",  # images of more than 8 bits in some formats
    "jinja2",  # plots and clusters
    "matplotlib",  # plots
    "onnxruntime",  # the engines numpy, hybrid and onnx
    "pytest",  # conformance tests
    "safetensors",  # weights
    "scipy.linalg",  # linear algebra in functions that Numba compiles
    "scipy.optimize",  # the optimiser lbfgsb; Numba imports scipy for its version
    "shtab",  # completion
    "ssl",  # downloads
    "tifffile",  # images of more than 8 bits
    "tkinter",  # plots in windows
    "torch",  # conformance
}


def imported_by(program: str, folder: Path | None = None) -> set[str]:
    """Return the names of the modules that a program imports in a new process."""
    listing = "import sys\nprint('modules', *sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", f"{program}\n{listing}"],
        capture_output=True, text=True, check=True, cwd=folder,
    )  # fmt: skip
    return set(done.stdout.splitlines()[-1].split()[1:])


def running(*words: str) -> str:
    return (
        "from gramstyle.cli import main\n"
        f"try: assert main({list(words)}) == 0\nexcept SystemExit as end: assert end.code == 0"
    )


@pytest.mark.parametrize(
    "program",
    ["import gramstyle", running("--help"), running("--version")],
    ids=["import", "help", "version"],
)
def test_the_package_and_its_help_import_nothing_that_computes(program: str) -> None:
    assert sorted(imported_by(program) & (COMPUTING | ELSEWHERE | {"numba"})) == []


COMMANDS = [name for names in SECTIONS.values() for name in names]
# Commands whose help needs packages that others must not import.
OWN = {"batch": {"asyncio", "ssl"}, "model": {"ssl"}}


@pytest.fixture(scope="module")
def imported_by_help() -> dict[str, set[str]]:
    """The modules that the help of each command is the first to import, in one process.

    The commands of `OWN` come last, so that no other command is spared by what they import; model
    imports a part of what batch does, and comes before it.
    """
    order = sorted(COMMANDS, key=lambda command: len(OWN.get(command, ())))
    program = "".join(
        f"{running(command, '--help')}\nprint('modules', {command!r}, *sys.modules)\n"
        for command in order
    )
    done = subprocess.run(
        [sys.executable, "-c", f"import sys\n{program}"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    found, before = {}, set[str]()
    for line in done.stdout.splitlines():
        if line.startswith("modules "):
            _, command, *names = line.split()
            found[command] = set(names) - before
            before.update(names)
    return found


@pytest.mark.parametrize("command", COMMANDS)
def test_the_help_of_a_command_imports_no_package_of_another_one(
    command: str, imported_by_help: dict[str, set[str]]
) -> None:
    found = imported_by_help[command]
    assert sorted(found & (ELSEWHERE | {"numba"}) - OWN.get(command, set())) == []


def test_a_transfer_imports_no_package_that_it_does_not_use(
    tmp_path: Path, tiny_model_path: Path, rng: np.random.Generator
) -> None:
    for name in ("content.png", "style.png"):
        pixels = rng.integers(0, 256, (32, 40, 3), dtype=np.uint8)
        PIL.Image.fromarray(pixels).save(tmp_path / name)
    program = running(
        "transfer", "content.png", "style.png", "-o", "out.png", "--size", "40", "--iterations",
        "2", "--model", str(tiny_model_path),
    )  # fmt: skip
    found = imported_by(program, tmp_path)
    assert (tmp_path / "out.png").is_file()
    assert "numba" in found  # the default engine's, so that this test sees what is imported
    assert sorted(found & ELSEWHERE) == []
