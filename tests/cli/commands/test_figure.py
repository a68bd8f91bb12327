"""`gramstyle figure …` and `gramstyle reconstruct …` as their users meet them."""

import contextlib
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from cli.assertions import assert_one_line, files
from conftest import tiny_convolutions
from gramstyle.cli import main
from gramstyle.images import read_settings
from gramstyle.model.onnx_file import write_model
from gramstyle.model.preprocessings import CAFFE
from workers import in_session, until

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
        assert settings["content_layers"] == ["conv2_1"]
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
def test_an_impossible_reconstruction_is_refused_in_one_line(
    folder: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: tuple[str, ...],
    words: tuple[str, ...],
) -> None:
    assert main(["reconstruct", *arguments, "-o", "out.png"]) == 2
    assert_one_line(capsys, *words)
    assert files(folder) == {"photo.png", "painting.jpg"}


def test_a_reconstruction_does_not_overwrite_its_image(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["reconstruct", "content", "photo.png", "-o", "photo.png"]) == 2
    assert_one_line(capsys, "photo.png", "choose another name")


@pytest.mark.parametrize(
    ("kind", "cells"), [("reconstructions", 10), ("tradeoff", 20), ("styles", 1)]
)
def test_a_figure_is_written_with_its_cells_beside_it(
    folder: Path, capsys: pytest.CaptureFixture[str], kind: str, cells: int
) -> None:
    assert figure(kind, "--iterations", "1") == 0
    out, err = capsys.readouterr()
    assert "wrote fig.png" in out
    assert "cells in fig-cells" in out
    assert err.count("\n") == cells
    assert len(list((folder / "fig-cells").glob("*.png"))) == cells
    assert len(list((folder / "fig-cells").glob("*.jsonl"))) == cells
    assert files(folder) == {"photo.png", "painting.jpg", "fig.png", "fig-cells"}
    with PIL.Image.open("fig.png") as sheet:
        assert sheet.width > 32


def test_the_cells_of_a_finished_figure_are_reused(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert figure("tradeoff", "--ratios", "1e-4") == 0
    first = (folder / "fig.png").read_bytes()
    capsys.readouterr()
    assert figure("tradeoff", "--ratios", "1e-4", "--jobs", "2") == 0
    assert capsys.readouterr().err.count("reused") == 5
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
        (("--cells", "fig.png"), ("choose another name",)),
        (("--cells", "loop"), ("loop",)),
        (("--cells", "y" * 300), ("yyy",)),
        (("-o", "x" * 251 + ".png"), ("xxx",)),
        (("-o", ""), ()),
        (("-o", "."), ()),
        (("--model", "long.onnx"), ("conv1_1-1e-05: the metadata of long.onnx",)),
    ],
)
def test_a_figure_that_cannot_be_drawn_is_refused_in_one_line(
    folder: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: tuple[str, ...],
    words: tuple[str, ...],
) -> None:
    Path("loop").symlink_to("loop")
    convolutions = tiny_convolutions()
    more = {"story": "x" * 70_000}  # too much for the settings of an image
    write_model(Path("long.onnx"), convolutions, CAFFE, precision="codebook8", metadata=more)
    with contextlib.suppress(SystemExit):  # argparse's own complaints
        assert figure("tradeoff", *arguments) == 2
    assert_one_line(capsys, *words)
    assert not [name for name in files(folder) if name.startswith("fig.")]
    assert not list(folder.glob("fig-cells/*"))


def test_an_error_is_one_line_that_counts_the_finished_images(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert figure("tradeoff", "--ratios", "1e-3,1e308", "--iterations", "50", "--quiet") == 2
    assert_one_line(
        capsys,
        "conv1_1-1e+308: ",
        "not finite",
        "(1 of 10 images are in fig-cells; repeat the command to resume)",
    )


@pytest.mark.parametrize("owner", ["nobody", "a transfer"])
def test_a_foreign_image_is_not_overwritten(
    folder: Path, owner: str, capsys: pytest.CaptureFixture[str]
) -> None:
    image = folder / "cells/style-B.png"
    image.parent.mkdir()
    if owner == "nobody":
        PIL.Image.new("RGB", (3, 3)).save(image)
    else:
        assert main(["transfer", "photo.png", "painting.jpg", "-o", str(image), *BRIEF]) == 0
        capsys.readouterr()
    before = image.read_bytes()
    assert figure("styles", "--cells", "cells") == 2
    assert_one_line(capsys, "style-B.png is not one of this figure's images")
    assert image.read_bytes() == before


def test_a_folder_in_the_place_of_a_record_is_refused(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "fig-cells/style-B.jsonl").mkdir(parents=True)
    assert figure("styles") == 2
    assert_one_line(capsys, "style-B.jsonl is a folder; move it away")


def test_cells_that_cannot_be_checked_are_not_counted_as_finished(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert figure("styles", "--quiet") == 0
    (folder / "painting.jpg").write_bytes(b"torn")
    assert figure("styles") == 2
    error = capsys.readouterr().err
    assert error.startswith("gramstyle: error: style-B: cannot read")
    assert "to resume" not in error


def test_a_missing_folder_for_the_cells_is_created_with_its_parents(folder: Path) -> None:
    assert figure("styles", "--cells", "new/deeper/cells") == 0
    assert (folder / "new/deeper/cells/style-B.png").exists()


@pytest.mark.usefixtures("folder")
def test_a_sheet_may_be_larger_than_the_images_that_are_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    large = PIL.Image.new("RGB", (10_001, 10_000))
    monkeypatch.setattr("gramstyle.cli.commands.figure.draw", lambda *_args, **_given: large)
    monkeypatch.setattr("gramstyle.cli.commands.figure.write_image", lambda *_: None)
    assert figure("styles") == 0


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs Linux's /proc")
def test_processes_end_with_a_parent_that_was_killed(folder: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "gramstyle", "figure", "styles", "photo.png", "painting.jpg",
         "photo.png", "-o", "fig.png", "--size", "32", "--iterations", "100000", "--jobs", "2"],
        stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL, start_new_session=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    try:
        until(lambda: len(list(folder.glob("fig-cells/*.jsonl"))) == 2)
        process.kill()
        process.wait()
        until(lambda: not in_session(process.pid))
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@pytest.mark.usefixtures("folder")
def test_an_overflow_in_a_process_is_an_error_in_one_line() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "gramstyle", "figure", "tradeoff", "photo.png", "painting.jpg", "-o",
         "fig.png", *BRIEF, "--ratios", "1e300", "--jobs", "2"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    # With two at work, either may be the one that ends first.
    assert re.match(r"gramstyle: error: conv[12]_1-1e\+300: the loss or its gr", done.stderr)
    assert done.stderr.count("\n") == 1
