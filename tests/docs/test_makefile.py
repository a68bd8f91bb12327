"""`make demo` with a program that takes the place of gramstyle."""

import shutil
import subprocess
from pathlib import Path

import pytest

from gramstyle.model.locate import checkout_model

MODEL, MAKE = checkout_model(), shutil.which("make")
pytestmark = pytest.mark.skipif(MODEL is None or MAKE is None, reason="needs make and a checkout")


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A folder with the Makefile, where everything that the demo needs is there."""
    assert MODEL is not None
    shutil.copy(MODEL.parents[1] / "Makefile", tmp_path)
    (tmp_path / "engine").mkdir()
    for name in (
        *("pyproject.toml", "docs/samples/chelsea.jpg", "docs/samples/meadow.jpg"),
        *(".venv/.created", ".venv/.runtime", "models/vgg19.onnx"),
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    return tmp_path


def make_demo(checkout: Path, code: int) -> int:
    """Run `make demo`; the program writes its image and ends with this code."""
    program = checkout / "bin" / "gramstyle"
    program.parent.mkdir(exist_ok=True)
    program.write_text(
        f'#!/bin/sh\nfor name; do last=$name; done\necho "image" > "$last"\nexit {code}\n'
    )
    program.chmod(0o755)
    assert MAKE is not None
    return subprocess.run([MAKE, "demo", "BIN=bin"], cwd=checkout, check=False).returncode


@pytest.mark.parametrize("code", [130, 143, 2])
def test_make_demo_keeps_the_image_of_a_stopped_run_and_renders_it_again_later(
    checkout: Path, code: int
) -> None:
    assert make_demo(checkout, code) != 0
    assert {path.name for path in (checkout / "demo").iterdir()} == {"stopped.png"}
    assert make_demo(checkout, 0) == 0
    assert {path.name for path in (checkout / "demo").iterdir()} == {"chelsea.png"}
