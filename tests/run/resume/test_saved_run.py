"""A checkpoint does not choose output or machine, and an invalid entry is an error of one line."""

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from gramstyle.cli import main
from gramstyle.images import from_pil, write_image
from gramstyle.run import checkpoint
from gramstyle.run.checkpoint import CheckpointError, load, read_manifest
from gramstyle.run.resume import resume
from gramstyle.run.resume.saved_run import read_saved_run


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, tiny_model_path: Path) -> Path:
    """A folder with the checkpoint "saved" of a run that has ended; made once."""
    folder, rng = tmp_path_factory.mktemp("run"), np.random.default_rng(3)
    for name in ("photo.png", "painting.png", "start.png"):
        pixels = rng.integers(0, 256, (40, 48, 3)).astype(np.uint8)
        write_image(folder / name, from_pil(Image.fromarray(pixels)))
    shutil.copy(tiny_model_path, folder / "tiny.onnx")
    images = [str(folder / "photo.png"), str(folder / "painting.png")]
    options = ["--size", "48", "--iterations", "3", "--quiet", "--init", str(folder / "start.png")]
    files = ["-o", str(folder / "out.png"), "--model", str(folder / "tiny.onnx")]
    saved = ["--checkpoint", str(folder / "saved"), "--threads", "1"]
    assert main(["transfer", *images, *files, *options, *saved]) == 0
    return folder


@pytest.fixture
def saved(finished: Path, tmp_path: Path) -> Iterator[Path]:
    """A copy of the checkpoint; the originals are not where they were."""
    shutil.copytree(finished / "saved", tmp_path / "saved")
    shutil.copy(finished / "tiny.onnx", tmp_path / "tiny.onnx")
    elsewhere = finished.with_name("elsewhere")
    finished.rename(elsewhere)
    yield tmp_path / "saved"
    elsewhere.rename(finished)


def change(saved: Path, path: str, value: Any) -> None:
    """Change an entry of the manifest, as an attacker would; the checksum is right."""
    manifest = json.loads(json.dumps(read_manifest(saved)))
    arrays = load(saved, expected=read_saved_run(saved).expected()).arrays
    *above, last = path.split("/")
    entry = manifest
    for name in above:
        entry = entry[int(name)] if name.isdigit() else entry[name]
    if value is ...:
        del entry[last]
    else:
        entry[last] = value
    checkpoint.save(saved, manifest, arrays.items())


def command(saved: Path, *more: str) -> list[str]:
    model = ["--model", str(saved.with_name("tiny.onnx"))]
    return ["resume", str(saved), "-o", str(saved.with_name("new.png")), *model, *more]


def test_a_checkpoint_is_complete_without_the_files_of_the_run(
    saved: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(command(saved)) == 0
    assert saved.with_name("new.png").is_file()
    said = capsys.readouterr().err
    assert "the run has ended after 3 iterations" in said


def test_the_manifest_contains_no_path_but_that_of_the_output(saved: Path) -> None:
    text = json.dumps({**read_manifest(saved), "output": ""})
    assert os.sep not in text
    assert read_manifest(saved)["images"] == {
        "content": "photo.png", "style": "painting.png", "init": "start.png",
    }  # fmt: skip


@pytest.mark.parametrize(
    "values",
    [
        {"scheduler": "tcp://127.0.0.1:8786"},
        {"workers": 3},
        {"threads": 1000},
        {"memory": 1},
        {"device": "cuda"},
        {"max_pixels": 10**12},
    ],
)
def test_an_option_of_the_machine_in_a_checkpoint_is_refused(
    values: dict[str, Any], saved: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ((name, value),) = values.items()
    change(saved, f"options/{name}", value)
    assert main(command(saved)) == 2
    error = capsys.readouterr().err
    assert f"its options: unknown key '{name}'" in error
    assert error.count("\n") == 1


def test_the_output_of_a_checkpoint_is_not_written(
    saved: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    change(saved, "output", str(tmp_path / "chosen by a stranger.png"))
    before = sorted(tmp_path.rglob("*"))
    model = ["--model", str(tmp_path / "tiny.onnx")]
    assert main(["resume", str(saved), *model]) == 2
    error = capsys.readouterr().err
    assert "name the image to write with -o" in error
    assert "stranger.png" in error
    assert sorted(tmp_path.rglob("*")) == before
    assert main(command(saved)) == 0
    assert not (tmp_path / "chosen by a stranger.png").exists()


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("images/content", "../../../../../../../../etc/passwd", "not the name of an image"),
        ("images/content", "/etc/passwd", "not the name of an image"),
        ("images/style", "..", "not the name of an image"),
        ("images/init", "a\\b.png", "not the name of an image"),
        ("inputs", "..", "not a folder of images"),
        ("inputs", "/tmp", "not a folder of images"),  # noqa: S108
        ("options/init", "/etc/passwd", "init is not the name of a start"),
    ],
)
def test_an_image_outside_the_folder_is_not_read(
    path: str, value: str, words: str, saved: Path
) -> None:
    change(saved, path, value)
    with pytest.raises(CheckpointError, match=words):
        resume(saved, model=saved.with_name("tiny.onnx"))


@pytest.mark.parametrize("part", ["file", "folder of the role", "folder of the images"])
def test_a_link_in_the_folder_is_not_followed(part: str, saved: Path, tmp_path: Path) -> None:
    (image,) = saved.glob("inputs-*/content/photo.png")
    place = {"file": image, "folder of the role": image.parent}.get(part, image.parent.parent)
    place.rename(tmp_path / "moved")
    place.symlink_to(tmp_path / "moved")
    with pytest.raises(CheckpointError, match="is a link"):
        resume(saved, model=tmp_path / "tiny.onnx")


NESTED: Any = []
for _ in range(400):
    NESTED = [NESTED]

BAD = [
    ("options", None, "options is None, not a table"),
    ("seconds", 1e30, "seconds is 1e+30, not a number from 0 to 1e+09"),
    ("seconds", -1, "seconds is -1, not a number from 0"),
    ("options", [], "options is [], not a table"),
    ("options", NESTED, "not a table"),
    ("options/beta", None, "its options: beta must be a number, not None"),
    ("options/alpha", "much", "alpha must be a number, not 'much'"),
    ("options/history", 10**9, "history must be at most 1,000, not 1000000000"),
    ("options/history", 2.5, "history must be a whole number, not 2.5"),
    ("options/size", 10**4000, "size must be at most 1,000,000"),
    ("options/size", True, "size must be a whole number, not True"),
    ("options/iterations", -1, "iterations must be at least 1"),
    ("options/engine", "steam", "engine must be one of"),
    ("options/style_layers", {"a": 1}, "style_layers must be a list"),
    ("options/style_layers", [["conv1_1"]], "style_layers must be a list"),
    ("options/seed", NESTED, "seed must be a whole number"),
    ("options/sise", 3, "unknown key 'sise'; did you mean size?"),
    ("machine", ["threads", 5], "machine is 5, not a short text"),
    ("machine", {}, "machine is {}, not a list"),
    ("every", 0, "every is 0, not a whole number from 1 to 1,000,000"),
    ("every", 2.5, "every is 2.5, not a whole number"),
    ("images", {}, "images.content' is missing"),
    ("images/content", 7, "images.content is 7, not a short text"),
    ("images/content", "\x1b[2J.png", "not a short text"),
    ("inputs", None, "inputs is None"),
    ("output", ["x"], "output is ['x'], not a short text"),
    ("output", "x" * 10_000, "not a short text"),
    ("fingerprints", None, "fingerprints is None, not a table"),
    ("fingerprints/model", 5, "fingerprints.model is 5"),
    ("environment", 5, "environment is 5, not a table"),
    ("environment/numpy", {}, "environment.numpy is {}"),
    ("scales", [], "scales is [], not a list of 1 to 100"),
    ("scales/0/width", 10**9, "scales[0].width is 1000000000, not"),
    ("scales/0/depth", 3, "scales[0].depth' is unexpected"),
    ("scales/0/height", ..., "scales[0].height' is missing"),
    ("starts", [], "starts is [], not a list"),
    ("starts", [{}, {}], "not a list of 1 to 1 entries"),
    ("starts/0/iteration", 4, "starts[0].iteration is 4, not a whole number from 0 to 3"),
    ("starts/0/history", 10**9, "starts[0].history is 1000000000"),
    ("starts/0/seconds", "now", "starts[0].seconds is 'now', not a number"),
    ("columns", ["style"], "columns is ['style'], not a table"),
    ("columns/style", ["a"] * 1000, "columns.style is"),
    ("columns/style", ["a", "a"], "not a list of different texts"),
    ("columns/style", ["conv9_9"], "its losses are not those of its options"),
    ("seconds", 10**400, "seconds is 1000"),
    ("seconds", True, "seconds is True, not a number"),
    ("evaluations", -1, "evaluations is -1"),
    ("ended", 7, "ended is 7, not a short text"),
    ("ended", "\x1b]0;title\x07", "not a short text"),
    ("optimiser", 7, "optimiser is 7, not a table"),
    ("optimiser", {"pairs": 10**9}, "entry 'optimiser."),
    ("more", 1, "its entry 'more' is unexpected"),
    ("seconds", ..., "its entry 'seconds' is missing"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("path", "value", "words"), BAD, ids=[f"{path} {n}" for n, (path, _, _) in enumerate(BAD)]
)
def test_an_entry_that_makes_no_sense_is_named_in_one_line(
    path: str, value: Any, words: str, saved: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    change(saved, path, value)
    assert main(command(saved, "--quiet")) == 2
    error = capsys.readouterr().err
    assert error.startswith("gramstyle: error: ")
    assert words in error
    assert error.count("\n") == 1
    assert error[:-1].isprintable()
    assert len(error) < 1200
    assert not saved.with_name("new.png").exists()
