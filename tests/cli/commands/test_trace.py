"""`gramstyle trace`: the table, the files, and one line when something is wrong."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import PIL.Image
import pytest

import gramstyle.cli.commands.trace
from cli.assertions import assert_one_line, files
from gramstyle.analysis.trace import trace
from gramstyle.cli import main
from gramstyle.core.conventions import CONTENT_LAYER
from gramstyle.run.options import Options
from gramstyle.run.prepare import prepare

Run = Callable[..., int]

INPUTS = {"photo.png", "painting.jpg"}
IMAGES = ("feature-maps-conv1_1.png", "gram-conv1_1.png", "gradient-style-conv1_1.png",
          "gradients.png")  # fmt: skip


@pytest.fixture
def run(folder: Path, tiny_model_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run `gramstyle trace photo.png painting.jpg` in that folder, on a small image."""
    monkeypatch.chdir(folder)
    monkeypatch.setenv("GRAMSTYLE_MODEL", str(tiny_model_path))

    def call(*arguments: str, content: str = "photo.png") -> int:
        small = ("--size", "40", "--threads", "2")
        return main(["trace", content, "painting.jpg", *small, *arguments])

    return call


def rows(output: str) -> dict[str, list[str]]:
    """The table's rows by layer."""
    found = (line.split() for line in output.splitlines() if "×" in line)
    return {line[0]: line[1:] for line in found}


def test_the_table_is_the_pass_from_the_deepest_layer_to_the_pixels(
    run: Run, capsys: pytest.CaptureFixture[str], tiny_model_path: Path
) -> None:
    assert run("--init", "noise", "--seed", "5") == 0
    output, error = capsys.readouterr()
    assert error == ""
    options = Options(size=40, threads=2, init="noise", seed=5, engine="numpy")
    with prepare("photo.png", "painting.jpg", options, model=tiny_model_path) as prepared:
        expected = trace(prepared.objective, prepared.start)
    found = rows(output)
    assert list(found) == [row.layer for row in expected.rows]
    for row in expected.rows:
        numbers = (row.response, row.seed, row.before, row.after)
        cells = ["×".join(map(str, row.shape))]
        cells += [f"{number:.2e}" for number in numbers if number is not None]
        cells += [] if row.open is None else [f"{100 * row.open:.1f}"]
        assert found[row.layer][: len(cells)] == cells
    at = expected.evaluation
    lines = {line[-4]: line for line in map(str.split, output.splitlines()) if len(line) >= 4}
    losses = {"L_total": at.loss, **{f"L_{name}": loss for name, loss in at.terms.items()}}
    for name, loss in losses.items():
        assert lines[name][-3] == f"{loss:.4e}"
    for layer, E in at.layers["style"].items():
        assert lines[layer][-3] == f"{E:.4e}"
    (legend,) = (line for line in output.splitlines() if line.startswith("F: "))
    for word in ("seed", "dF", "dZ", "open", "ms"):
        assert word in legend


def test_lines_fit_a_terminal_of_80_columns_but_for_the_legend(
    run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run() == 0
    lines = capsys.readouterr().out.splitlines()
    assert "…" not in "".join(lines)
    assert all(len(line) <= 80 for line in lines if not line.startswith("F: "))


def test_the_start_is_the_photograph_unless_the_convention_says_otherwise(
    run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    seeds = {}
    for arguments in ((), ("--convention", "author"), ("--convention", "paper")):
        assert run(*arguments) == 0
        seeds[arguments] = rows(capsys.readouterr().out)["conv4_2"][2]
    # On the photograph itself content wants nothing.
    assert [seed == "0.00e+00" for seed in seeds.values()] == [True, True, False]


def test_layers_that_are_named_are_shown_alone_and_the_pixels(
    run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("--layer", "conv1_1,pool3") == 0
    assert list(rows(capsys.readouterr().out)) == ["pool3", "conv1_1", "pixels"]


def test_the_json_file_holds_the_table_and_the_losses(
    run: Run, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("--json", "table.json", "--init", "style") == 0
    held = json.loads((folder / "table.json").read_text())
    shown = rows(capsys.readouterr().out)
    assert [row["layer"] for row in held["rows"]] == list(shown)
    assert f"{held['rows'][-1]['before']:.2e}" == shown["pixels"][1]
    assert held["settings"]["content"]["name"] == "photo.png"
    weights = {name: loss["weight"] for name, loss in held["settings"]["loss"].items()}
    total = sum(weights[name] * loss for name, loss in held["terms"].items())
    assert held["loss"] == pytest.approx(total, rel=1e-12)  # the same sum
    assert files(folder) == {*INPUTS, "table.json"}


def test_the_size_is_small_unless_it_is_given(run: Run, folder: Path) -> None:
    arguments = ["trace", "photo.png", "painting.jpg", "--json", "table.json"]
    assert main(arguments) == 0
    held = json.loads((folder / "table.json").read_text())
    assert held["rows"][-1]["shape"] == [3, 192, 256]
    assert run("--json", "table.json") == 0
    held = json.loads((folder / "table.json").read_text())
    assert held["rows"][-1]["shape"] == [3, 30, 40]


def test_save_makes_the_folder_writes_the_images_and_replaces_them(
    run: Run, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("--save", "seen", "--layer", "conv1_1") == 0
    written = {*IMAGES, "backward.png", "trace.json"}
    assert files(folder / "seen") == written
    assert "wrote 6 files, the images to seen" in capsys.readouterr().out
    before = {name: (folder / "seen" / name).read_bytes() for name in written - {"trace.json"}}
    for name in written:
        (folder / "seen" / name).write_bytes(b"old")
    (folder / "seen" / "mine.txt").write_bytes(b"mine")
    assert run("--save", "seen", "--layer", "conv1_1") == 0
    assert files(folder / "seen") == {*written, "mine.txt"}
    assert before == {name: (folder / "seen" / name).read_bytes() for name in before}
    assert json.loads((folder / "seen" / "trace.json").read_text())["rows"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--layer", "conv1_9"), ("'conv1_9'", "conv1_1, conv1_2", "conv5_1")),
        (("--layer", "conv1_1,conv5_2"), ("'conv5_2'", "conv5_1")),
        (("--layer", "pixels"), ("'pixels'",)),
        (("--layer", ","), ("--layer",)),
        (("--save", "photo.png"), ("photo.png", "folder")),
        (("--save", "no/where"), ("no/where", "no folder")),
        (("--save", "photo.png/seen"), ("photo.png",)),
        (("--json", "nowhere/x.json"), ("nowhere", "folder")),
        (("--json", "photo.png"), ("photo.png", "overwrite")),
        (("--json", "./painting.jpg"), ("painting.jpg", "overwrite")),
        (("--json", "."), (".",)),
        (("--init", "nothing.png"), ("nothing.png",)),
        (("--style-layers", "conv9_1"), ("'conv9_1'",)),
        (("--size", "4"), ("photo.png", "too small")),
        (("--size", "0"), ("size",)),
        (("--alpha", "inf"), ("alpha",)),
        (("--alpha", "1e300", "--init", "noise"), ("not finite", "--alpha")),
        (("--model", "photo.png"), ("photo.png", "ONNX")),
        (("--max-pixels", "99"), ("photo.png", "--max-pixels")),
    ],
)
def test_what_cannot_be_used_is_one_line_and_leaves_nothing(
    run: Run,
    folder: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: tuple[str, ...],
    words: tuple[str, ...],
) -> None:
    before = {name: (folder / name).read_bytes() for name in INPUTS}
    assert run(*arguments) == 2
    assert_one_line(capsys, *words)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_neither_the_model_nor_the_start_is_overwritten(
    run: Run, folder: Path, tiny_model_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = tiny_model_path.read_bytes()
    assert run("--json", str(tiny_model_path)) == 2
    assert_one_line(capsys, "overwrite")
    assert tiny_model_path.read_bytes() == model
    start = folder / "start.png"
    start.write_bytes((folder / "photo.png").read_bytes())
    assert run("--json", "start.png", "--init", "start.png") == 2
    assert_one_line(capsys, "start.png", "overwrite")
    assert start.read_bytes() == (folder / "photo.png").read_bytes()


def test_images_that_would_overwrite_an_input_are_not_written(
    run: Run,
    folder: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    drawn = {"backward.png": b"1", "gradients.png": b"2"}
    monkeypatch.setattr(gramstyle.cli.commands.trace, "trace_images", lambda *_: drawn)
    (folder / "photo.png").rename(folder / "gradients.png")
    before = (folder / "gradients.png").read_bytes()
    assert run("--save", ".", content="gradients.png") == 2
    assert "gradients.png would overwrite" in capsys.readouterr().err
    assert files(folder) == {"gradients.png", "painting.jpg"}
    assert (folder / "gradients.png").read_bytes() == before


def test_a_folder_in_an_image_s_place_stops_before_anything_is_written(
    run: Run,
    folder: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    drawn = {"backward.png": b"1", "gradients.png": b"2"}
    monkeypatch.setattr(gramstyle.cli.commands.trace, "trace_images", lambda *_: drawn)
    (folder / "seen" / "gradients.png").mkdir(parents=True)
    assert run("--save", "seen") == 2
    assert "gradients.png: it exists and is not a file" in capsys.readouterr().err
    assert files(folder / "seen") == {"gradients.png"}


def test_matplotlib_is_missed_before_the_pass_and_only_where_it_is_needed(
    run: Run,
    folder: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert run("--json", "table.json") == 0
    capsys.readouterr()

    def not_now(*_: object, **__: object) -> None:
        raise AssertionError("something was computed before")

    monkeypatch.setattr(gramstyle.cli.commands.trace, "plan_run", not_now)
    assert run("--save", "seen") == 2
    assert_one_line(capsys, 'pip install "matplotlib>=')
    assert files(folder) == {*INPUTS, "table.json"}


def test_the_help_names_every_option_with_its_default(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["trace", "--help-all"])
    assert stop.value.code == 0
    text = " ".join(capsys.readouterr().out.split())
    for option in (
        *("--layer", "--init", "--size", "--seed", "--pooling", "--convention", "--alpha"),
        *("--beta", "--content-layers", "--style-layers", "--style-weights", "--model"),
        *("--threads", "--max-pixels", "--save", "--json"),
    ):
        assert option in text
    for value in (256, Options().seed, CONTENT_LAYER, f"{Options().beta:g}"):
        assert f"(default {value})" in text


def test_the_gram_matrices_of_each_region_are_drawn(run: Run, folder: Path) -> None:
    PIL.Image.new("L", (48, 36), 255).save(folder / "mask.png")
    assert run("--style-regions", "mask.png", "--layer", "conv1_1", "--save", "trace") == 0
    names = {path.name for path in (folder / "trace").iterdir()}
    assert "gram-conv1_1-region1.png" in names
    assert "gram-conv1_1.png" not in names
