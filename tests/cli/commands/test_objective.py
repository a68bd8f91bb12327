"""`gramstyle objective export`: files that run by themselves, one line when something is wrong."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import PIL.Image
import pytest

from cli.assertions import assert_one_line, files
from gramstyle.cli import main
from gramstyle.engines.onnx_session import open_session
from gramstyle.images import read_image, resize
from gramstyle.model import Model
from gramstyle.run.options import Options
from gramstyle.run.plan import plan_run
from gramstyle.run.prepare import prepare

Run = Callable[..., int]

INPUTS = {"photo.png", "painting.jpg"}
IMAGES = ("--content", "photo.png", "--style", "painting.jpg")

# float32 sums through 13 layers, one side in ONNX Runtime and the other half in NumPy.
ROUNDING = 1e-4


@pytest.fixture
def run(folder: Path, tiny_model_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run `gramstyle objective export -o out.onnx` in that folder."""
    monkeypatch.chdir(folder)
    monkeypatch.setenv("GRAMSTYLE_MODEL", str(tiny_model_path))

    def call(*arguments: str, output: str = "out.onnx") -> int:
        return main(["objective", "export", "-o", output, "--threads", "2", *arguments])

    return call


def evaluate(path: Path, **feeds: Any) -> dict[str, np.ndarray]:
    session = open_session(path.read_bytes(), threads=1)
    names = [each.name for each in session.get_outputs()]
    return dict(zip(names, session.run(None, feeds), strict=True))


def said(path: Path) -> dict[str, str]:
    return {p.key: p.value for p in onnx.load(path).metadata_props}


def relative(found: np.ndarray, truth: np.ndarray) -> float:
    return float(np.linalg.norm(found - truth) / np.linalg.norm(truth))


def test_the_file_gives_the_loss_and_gradient_that_a_transfer_has(
    run: Run,
    folder: Path,
    tiny_model_path: Path,
    rng: np.random.Generator,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(*IMAGES, "--size", "48x36", "--alpha", "0.1") == 0
    assert capsys.readouterr().out == "wrote out.onnx (0.1 MB)\n"
    assert files(folder) == INPUTS | {"out.onnx"}
    x = rng.uniform(0, 255, (3, 36, 48)).astype(np.float32)
    found = evaluate(folder / "out.onnx", x=x[None])
    options = Options(size=48, alpha=0.1, engine="numpy")
    images = folder / "photo.png", folder / "painting.jpg"
    with prepare(*images, options, model=tiny_model_path) as prepared:
        expected = prepared.objective.loss_and_gradient(x.astype(np.float64))
    assert found["loss"] == pytest.approx(expected.loss, rel=ROUNDING)
    assert relative(found["gradient"][0], expected.gradient) < ROUNDING


def test_the_photograph_is_resized_to_the_exact_size(run: Run, folder: Path) -> None:
    assert run(*IMAGES, "--size", "35x41") == 0
    session = open_session((folder / "out.onnx").read_bytes(), threads=1)
    assert [each.shape for each in session.get_inputs()] == [[1, 3, 41, 35]]


def test_the_file_says_what_it_is_made_of(run: Run, folder: Path, tiny_model: Model) -> None:
    assert run(*IMAGES, "--size", "48x36", "--beta", "2", "--pooling", "max") == 0
    found = said(folder / "out.onnx")
    assert found["licence"] == "none"
    assert found["model.sha256"] == tiny_model.sha256
    assert found["program"].startswith("gramstyle ")
    assert (found["size"], found["targets"]) == ("48x36", "stored")
    assert found["preprocessing.channels"] == "BGR"
    objective = json.loads(found["objective"])
    assert (objective["beta"], objective["pooling"], objective["convention"]) == (2, "max", None)
    assert objective["alpha"] == 24 / (48 * 36)
    assert objective["content"]["name"] == "photo.png"
    assert len(objective["content"]["pixels"]) == len(objective["style"]["pixels"]) == 64
    # A photograph of the size asked for is the one that a transfer of this size sees.
    plan = plan_run(folder / "photo.png", None, Options(size=48), model=tiny_model.path)
    settings = plan.settings
    assert settings.content is not None
    assert objective["content"]["pixels"] == settings.content.pixels


def test_the_file_has_the_blended_targets_of_several_style_images_and_names_them(
    run: Run, folder: Path, rng: np.random.Generator, tiny_model_path: Path
) -> None:
    PIL.Image.fromarray(rng.integers(0, 99, (30, 30, 3), np.uint8)).save(folder / "second.png")
    style = ("--style", "painting.jpg", "second.png", "--style-blend", "3,1")
    scales = ("--style-scale", "0.5,1", "--alpha", "0.1")
    assert run("--content", "photo.png", *style, *scales, "--size", "48x36") == 0
    x = rng.uniform(0, 255, (3, 36, 48)).astype(np.float32)
    found = evaluate(folder / "out.onnx", x=x[None])
    options = Options(size=48, alpha=0.1, engine="numpy", style_blend=(3, 1), style_scale=(0.5, 1))
    styles = [folder / "painting.jpg", folder / "second.png"]
    with prepare(folder / "photo.png", styles, options, model=tiny_model_path) as prepared:
        expected = prepared.objective.loss_and_gradient(x.astype(np.float64))
    assert found["loss"] == pytest.approx(expected.loss, rel=ROUNDING)
    assert relative(found["gradient"][0], expected.gradient) < ROUNDING
    objective = json.loads(said(folder / "out.onnx")["objective"])
    assert [each["name"] for each in objective["style"]] == ["painting.jpg", "second.png"]
    assert objective["style_blend"] == [0.75, 0.25]


def test_the_file_contains_the_regions_of_a_style_and_names_their_masks(
    run: Run, folder: Path, rng: np.random.Generator, tiny_model_path: Path
) -> None:
    left = np.linspace(300, -50, 48).clip(0, 255).astype(np.uint8)[np.newaxis].repeat(36, axis=0)
    for name, pixels in (("left", left), ("right", 255 - left)):
        PIL.Image.fromarray(pixels).save(folder / f"{name}.png")
    regions = ("--style-regions", "left.png,right.png", "--alpha", "0.1")
    style = ("--style", "painting.jpg", "photo.png")
    assert run("--content", "photo.png", *style, *regions, "--size", "48x36") == 0
    x = rng.uniform(0, 255, (3, 36, 48)).astype(np.float32)
    found = evaluate(folder / "out.onnx", x=x[None])
    masks = (folder / "left.png", folder / "right.png")
    options = Options(size=48, alpha=0.1, engine="numpy", style_regions=masks)
    styles = [folder / "painting.jpg", folder / "photo.png"]
    with prepare(folder / "photo.png", styles, options, model=tiny_model_path) as prepared:
        expected = prepared.objective.loss_and_gradient(x.astype(np.float64))
    assert found["loss"] == pytest.approx(expected.loss, rel=ROUNDING)
    assert relative(found["gradient"][0], expected.gradient) < ROUNDING
    objective = json.loads(said(folder / "out.onnx")["objective"])
    assert objective["style_regions"] == ["left.png", "right.png"]


def test_two_files_compute_together_what_one_with_its_targets_inside_does(
    run: Run, folder: Path, rng: np.random.Generator
) -> None:
    pair = ("--targets", "inputs", "--targets-model", "targets.onnx", "--alpha", "0.1")
    assert run(*IMAGES, "--size", "48x36", "--alpha", "0.1", output="stored.onnx") == 0
    assert run(*pair) == 0
    assert files(folder) == INPUTS | {"stored.onnx", "out.onnx", "targets.onnx"}
    x = rng.uniform(0, 255, (1, 3, 36, 48)).astype(np.float32)
    photo = np.asarray(PIL.Image.open("photo.png"), np.float32).transpose(2, 0, 1)[None]
    painting = resize(read_image("painting.jpg"), 36, 48).pixels.transpose(2, 0, 1)[None]
    of_photo = evaluate(folder / "targets.onnx", x=photo)
    targets = evaluate(folder / "targets.onnx", x=np.ascontiguousarray(painting))
    targets["conv4_2.P"] = of_photo["conv4_2.P"]
    found = evaluate(folder / "out.onnx", x=x, **targets)
    expected = evaluate(folder / "stored.onnx", x=x)
    assert found["loss"] == pytest.approx(expected["loss"], rel=ROUNDING)
    assert relative(found["gradient"], expected["gradient"]) < ROUNDING


def test_without_a_photograph_the_file_takes_any_size(run: Run, folder: Path) -> None:
    assert run("--style", "painting.jpg", "--style-layers", "conv1_1,conv2_1") == 0
    for height, width in ((20, 30), (33, 17)):
        x = np.full((1, 3, height, width), 100, np.float32)
        assert evaluate(folder / "out.onnx", x=x)["gradient"].shape == x.shape


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "name --content, --style or both, or take --targets inputs"),
        (("--content", "photo.png"), "add --size WxH"),
        (("--size", "48"), "argument --size: '48' is not a size like 640x480"),
        (("--size", "0x48"), "'0x48' is not a size like 640x480"),
        ((*IMAGES, "--size", "8x8"), "too small for layer conv5_1"),
        (("--style", "painting.jpg", "--size", "8x48"), "both edges must be at least 16 pixels"),
        ((*IMAGES, "--targets", "inputs"), "--targets inputs takes no images"),
        (
            ("--targets", "inputs", "--alpha", "1", "--style-scale", "2"),
            "--style-scale is for --targets stored",
        ),
        (
            ("--targets", "inputs", "--alpha", "1", "--style-regions", "photo.png"),
            "--style-regions is for --targets stored",
        ),
        (("--style", "painting.jpg", "--style-regions", "photo.png"), "add --size WxH: the masks"),
        (("--targets", "inputs"), "add --alpha A or --size WxH"),
        ((*IMAGES, "--size", "48x36", "--targets-model", "t.onnx"), "is for --targets inputs"),
        ((*IMAGES, "--size", "48x36", "--content-layer", "conv9_9"), "unknown layer 'conv9_9'"),
        (("--content", "none.png", "--size", "48x36"), "none.png"),
        (
            ("--targets", "inputs", "--alpha", "1", "--targets-model", "out.onnx"),
            "out.onnx would overwrite",
        ),
        (("--targets", "inputs", "--alpha", "1", "--targets-model", "no/t.onnx"), "no folder no"),
    ],
)
def test_what_cannot_be_done_is_one_line_and_nothing_is_written(
    arguments: tuple[str, ...],
    words: str,
    run: Run,
    folder: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    try:
        code = run(*arguments)
    except SystemExit as stop:  # argparse's own way out
        code = int(str(stop.code))
    assert code == 2
    assert_one_line(capsys, words)
    assert files(folder) == INPUTS


@pytest.mark.parametrize("output", ["photo.png", "painting.jpg"])
def test_an_image_is_not_overwritten(
    output: str, run: Run, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (folder / output).read_bytes()
    assert run(*IMAGES, "--size", "48x36", output=output) == 2
    assert_one_line(capsys, f"{output} would overwrite")
    assert (folder / output).read_bytes() == before


def test_the_model_is_not_overwritten(
    run: Run, folder: Path, tiny_model_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = tiny_model_path.read_bytes()
    assert run(*IMAGES, "--size", "48x36", output=str(tiny_model_path)) == 2
    assert_one_line(capsys, "would overwrite")
    assert tiny_model_path.read_bytes() == before
