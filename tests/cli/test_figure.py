"""`gramstyle figure …` and `gramstyle reconstruct …` as their users meet them."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from gramstyle.cli import main
from gramstyle.images import read_settings

Run = Callable[..., int]

BRIEF = ("--size", "32", "--iterations", "2")


@pytest.fixture
def folder(
    tmp_path: Path,
    rng: np.random.Generator,
    tiny_model_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Path:
    """A folder with a photograph and a painting; the working directory."""
    for name, shape in (("photo.png", (24, 32, 3)), ("painting.jpg", (30, 32, 3))):
        PIL.Image.fromarray(rng.integers(0, 256, shape, np.uint8)).save(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GRAMSTYLE_MODEL", str(tiny_model_path))
    return tmp_path


def figure(kind: str, *arguments: str) -> int:
    return main(["figure", kind, "photo.png", "painting.jpg", "-o", "fig.png", *BRIEF, *arguments])


def assert_one_line(capsys: pytest.CaptureFixture[str], *words: str) -> None:
    error = capsys.readouterr().err
    assert error.startswith("gramstyle: error: ")
    assert error.count("\n") == 1
    for word in words:
        assert word in error


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


@pytest.mark.parametrize("kind", ["content", "style"])
def test_a_reconstruction_is_written_with_its_settings(folder: Path, kind: str) -> None:
    layers = ("--layer", "conv2_1") if kind == "content" else ("--layers", "conv1_1,conv2_1")
    command = ["reconstruct", kind, "photo.png", "-o", "out.png", *BRIEF, *layers]
    assert main([*command, "--quiet"]) == 0
    with PIL.Image.open("out.png") as image:
        assert image.size == (32, 24)
    settings = read_settings("out.png")
    assert settings is not None
    assert settings["init"] == "noise"
    assert settings[{"content": "style", "style": "content"}[kind]] is None
    if kind == "content":
        assert settings["content_layer"] == "conv2_1"
    else:
        assert settings["style_layers"] == ["conv1_1", "conv2_1"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("content", "photo.png", "--layer", "conv9_1"), ("unknown layer 'conv9_1'", "conv1_1")),
        (("style", "photo.png", "--layers", "conv1_1,conv1_1"), ("style_layers", "none twice")),
        (("style", "photo.png", "--style-weights", "1,2"), ("2 style_weights for 5",)),
        (("content", "nowhere.png"), ("nowhere.png",)),
        (("content", "photo.png", "--iterations", "0"), ("iterations must be at least 1",)),
        (("style", "photo.png", "--size", "8"), ("too small",)),
    ],
)
def test_a_reconstruction_of_what_cannot_be_is_refused_in_one_line(
    folder: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: tuple[str, ...],
    words: tuple[str, ...],
) -> None:
    assert main(["reconstruct", *arguments, "-o", "out.png"]) == 2
    assert_one_line(capsys, *words)
    assert names(folder) == {"photo.png", "painting.jpg"}


def test_a_reconstruction_does_not_overwrite_its_image(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["reconstruct", "content", "photo.png", "-o", "photo.png"]) == 2
    assert_one_line(capsys, "photo.png", "choose another name")


@pytest.mark.parametrize(
    ("kind", "cells"), [("reconstructions", 10), ("tradeoff", 20), ("styles", 1)]
)
def test_a_figure_is_written_and_its_cells_are_kept_beside_it(
    folder: Path, capsys: pytest.CaptureFixture[str], kind: str, cells: int
) -> None:
    assert figure(kind, "--iterations", "1") == 0
    out, err = capsys.readouterr()
    assert "wrote fig.png" in out
    assert "cells in fig-cells" in out
    assert err.count("\n") == cells
    assert len(list((folder / "fig-cells").glob("*.png"))) == cells
    assert len(list((folder / "fig-cells").glob("*.jsonl"))) == cells
    assert names(folder) == {"photo.png", "painting.jpg", "fig.png", "fig-cells"}
    with PIL.Image.open("fig.png") as sheet:
        assert sheet.width > 32


def test_a_figure_that_is_there_is_laid_out_again_without_work(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert figure("tradeoff", "--ratios", "1e-4") == 0
    first = (folder / "fig.png").read_bytes()
    capsys.readouterr()
    assert figure("tradeoff", "--ratios", "1e-4", "--jobs", "2") == 0
    assert capsys.readouterr().err.count("was there") == 5
    assert (folder / "fig.png").read_bytes() == first


def test_the_columns_are_the_papers_on_the_plain_network(folder: Path) -> None:
    assert figure("tradeoff", "--quiet") == 0
    found = {path.stem.split("-", 1)[1] for path in (folder / "fig-cells").glob("conv3_1-*.png")}
    assert {float(ratio) for ratio in found} == {1e-5, 1e-4, 1e-3, 1e-2}


def test_the_columns_are_others_on_a_normalised_network(folder: Path) -> None:
    # Two images, since a filter that one leaves at 0 everywhere cannot be rescaled.
    photographs = ("photo.png", "painting.jpg")
    command = ["model", "normalise", *photographs, "--to", "norm.onnx", "--size", "32", "--quiet"]
    assert main(command) == 0
    assert figure("tradeoff", "--quiet", "--model", "norm.onnx") == 0
    found = {path.stem.split("-", 1)[1] for path in (folder / "fig-cells").glob("conv3_1-*.png")}
    assert {float(ratio) for ratio in found} == {1e-8, 1e-7, 1e-6, 1e-5}


def test_quiet_is_quiet(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert figure("styles", "--quiet") == 0
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--ratios", "1,x"), ("--ratios", "is not a list")),
        (("--ratios", "0"), ("--ratios", "above 0")),
        (("--jobs", "0"), ("jobs must be at least 1",)),
        (("--cells", "."), ("--cells .", "choose a folder of its own")),
        (("--cells", "photo.png"), ("photo.png",)),
        (("--size", "8"), ("too small",)),
        (("--model", "nowhere.onnx"), ("nowhere.onnx",)),
        (("-o", "photo.png"), ("photo.png", "choose another name")),
        (("-o", "nowhere/fig.png"), ("nowhere",)),
        (("--jobs", "2", "--size", "8"), ("too small",)),
    ],
)
def test_a_figure_that_cannot_be_drawn_is_refused_in_one_line(
    folder: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: tuple[str, ...],
    words: tuple[str, ...],
) -> None:
    with contextlib.suppress(SystemExit):  # argparse's own complaints
        assert figure("tradeoff", *arguments) == 2
    assert_one_line(capsys, *words)
    assert not [name for name in names(folder) if name.startswith("fig.")]


def test_what_stops_a_figure_is_one_line_that_says_how_many_images_are_there(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert figure("tradeoff", "--ratios", "1e-3,1e308", "--iterations", "50", "--quiet") == 2
    assert_one_line(capsys, "conv1_1-1e+308: ", "not finite", "1 of 10 images are in fig-cells")


def alive(group: int) -> list[int]:
    """The processes of a group that still run; an orphan may stay behind as a zombie."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            state, _parent, of_group = path.read_text().rpartition(")")[2].split()[:3]
            if int(of_group) == group and state != "Z":
                found.append(int(path.parent.name))
    return found


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs Linux's /proc")
@pytest.mark.parametrize("jobs", ["1", "2"])
def test_ctrl_c_ends_a_figure_and_its_processes_and_keeps_what_is_finished(
    folder: Path, jobs: str
) -> None:
    # Python honours a SIGINT that its parent ignores, as shells' background jobs do.
    process = subprocess.Popen(
        [sys.executable, "-c",
         "import signal; signal.signal(signal.SIGINT, signal.default_int_handler);"
         "import sys; from gramstyle.cli import main; sys.exit(main())",
         "figure", "tradeoff", "photo.png", "painting.jpg", "-o", "fig.png",
         "--size", "32", "--iterations", "40", "--jobs", jobs],
        stderr=subprocess.PIPE, text=True, start_new_session=True, env=os.environ,
    )  # fmt: skip
    deadline = time.monotonic() + 60
    # With the third of two jobs there, one has been counted.
    while len(list(folder.glob("fig-cells/*.png"))) < 3:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 130
    assert error.splitlines()[-1].startswith("gramstyle: stopped")
    assert "of 20 images are in fig-cells" in error
    assert "Traceback" not in error
    assert not (folder / "fig.png").exists()
    for path in folder.glob("fig-cells/*.png"):
        settings = read_settings(path)
        assert settings is not None
        assert "stopped" not in settings["result"]["reason"]
    deadline = time.monotonic() + 10
    while alive(process.pid):
        assert time.monotonic() < deadline
        time.sleep(0.05)
