"""examples/nodejs, on the graph that the program exports."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from documented import ROOT
from gramstyle.cli import main
from gramstyle.run.options import Options
from gramstyle.run.prepare import prepare

EXAMPLES = ROOT / "examples" / "nodejs"
# The install script of the package would download CUDA libraries from another host.
INSTALL = ("npm", "install", "--ignore-scripts", "--no-audit", "--no-fund")


@pytest.fixture(scope="module")
def scripts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the script and what it needs."""
    for program in ("node", "npm"):
        if shutil.which(program) is None:
            pytest.skip(f"there is no {program}; install Node.js to run examples/nodejs")
    folder = tmp_path_factory.mktemp("javascript")
    for name in ("objective.mjs", "package.json"):
        shutil.copy(EXAMPLES / name, folder)
    done = subprocess.run(INSTALL, cwd=folder, capture_output=True, text=True, timeout=300)
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        pytest.skip(f"npm cannot install onnxruntime-node: {last}")
    return folder


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a photograph of 64×64 and a painting, as PPM."""
    folder = tmp_path_factory.mktemp("images")
    for name, source, size in (
        ("photo.ppm", "chelsea.jpg", (64, 64)),
        ("painting.ppm", "meadow.jpg", (64, 51)),
    ):
        image = PIL.Image.open(ROOT / "docs" / "samples" / source)
        image.resize(size, PIL.Image.Resampling.LANCZOS).save(folder / name)
    return folder


def export(graph: Path, model: Path, *arguments: str | Path) -> None:
    given = ("-o", graph, "--model", model, "--alpha", "0.01", *arguments)
    assert main(["objective", "export", *map(str, given)]) == 0


def node(scripts: Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = ["node", str(scripts / "objective.mjs"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, env=os.environ)


def losses(done: subprocess.CompletedProcess[str]) -> dict[int, float]:
    """The losses that the script printed, by step."""
    assert done.returncode == 0, done.stderr
    found = re.findall(r"^step (\d+): loss (\S+)$", done.stdout, re.MULTILINE)
    return {int(step): float(loss) for step, loss in found}


def first_loss(images: Path, model: Path) -> float:
    """The loss at the photograph, by the engine."""
    photo, painting = images / "photo.ppm", images / "painting.ppm"
    options = Options(size=64, alpha=0.01, engine="numpy")
    with prepare(photo, painting, options, model=model) as prepared:
        return prepared.objective.loss_and_gradient(prepared.start).loss


def test_the_script_starts_at_the_engine_s_loss_and_makes_it_small(
    scripts: Path, images: Path, tiny_model_path: Path, tmp_path: Path
) -> None:
    graph, photo, out = tmp_path / "objective.onnx", images / "photo.ppm", tmp_path / "out.ppm"
    given = ("--content", photo, "--style", images / "painting.ppm", "--size", "64x64")
    export(graph, tiny_model_path, *given)
    found = losses(node(scripts, graph, photo, out, "--steps", "30", "--rate", "1"))
    # Both in float32, through 13 layers, in two orders of summation.
    assert found[0] == pytest.approx(first_loss(images, tiny_model_path), rel=1e-4)
    assert found[30] < found[10] < found[0]
    before, after = (np.asarray(PIL.Image.open(path), float) for path in (photo, out))
    assert after.shape == before.shape
    assert 0.5 < np.abs(after - before).mean() < 30


def test_with_two_graphs_the_script_needs_the_images_alone(
    scripts: Path, images: Path, tiny_model_path: Path, tmp_path: Path
) -> None:
    graph, targets = tmp_path / "objective.onnx", tmp_path / "targets.onnx"
    export(graph, tiny_model_path, "--targets", "inputs", "--targets-model", targets)
    photo, painting = images / "photo.ppm", images / "painting.ppm"
    given = ("--targets", targets, "--style", painting)
    found = losses(
        node(scripts, graph, photo, tmp_path / "out.ppm", *given, "--steps", "10", "--rate", "1")
    )
    assert found[0] == pytest.approx(first_loss(images, tiny_model_path), rel=1e-4)
    assert found[10] < found[0]


def test_the_script_says_how_it_is_called(scripts: Path) -> None:
    done = node(scripts)
    assert done.returncode == 2
    assert done.stderr.startswith("usage: node objective.mjs OBJECTIVE.onnx PHOTO.ppm OUT.ppm")
