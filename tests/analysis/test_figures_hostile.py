"""The paper's figures in clumsy and hostile hands: odd names, odd files, interruptions."""

import contextlib
import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import PIL.PngImagePlugin
import pytest

from conftest import tiny_convolutions
from gramstyle.analysis.figures import (
    Cell,
    Made,
    draw,
    drawing,
    layouts,
    reconstructions,
    styles,
    tradeoff,
)
from gramstyle.analysis.figures.layouts import RATIOS, RATIOS_NORMALISED, Figure, number
from gramstyle.analysis.figures.sheet import Row, compose, with_inset
from gramstyle.cli import main
from gramstyle.core.arrays import Array
from gramstyle.core.conventions import STYLE_LAYERS
from gramstyle.errors import OptionError
from gramstyle.images import read_image, read_settings, write_image
from gramstyle.model.onnx_file import read_model, write_model
from gramstyle.model.vgg19 import CAFFE
from gramstyle.run.options import Options
from gramstyle.run.prepare import prepare
from gramstyle.run.reconstruct import prepare_content, prepare_style, reconstruct_content
from gramstyle.run.reconstruct import reconstruct_style as reconstruct
from gramstyle.run.transfer import transfer
from gramstyle.system.machine import available_threads

OPTIONS = Options(size=32, iterations=1, convention="paper")
BRIEF = ("--size", "32", "--iterations", "1", "--quiet")


@pytest.fixture(autouse=True)
def folder(
    tmp_path: Path, rng: np.random.Generator, tiny_model_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """A folder with a photograph and two paintings; the working directory."""
    for name, shape in (("photo", (24, 32)), ("a", (30, 32)), ("b", (32, 20))):
        PIL.Image.fromarray(rng.integers(0, 256, (*shape, 3), np.uint8)).save(
            f"{tmp_path}/{name}.png"
        )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GRAMSTYLE_MODEL", str(tiny_model_path))
    return tmp_path


PHOTO, A, B = Path("photo.png"), Path("a.png"), Path("b.png")


def command(*arguments: str) -> int:
    return main(["figure", "styles", "photo.png", "a.png", *BRIEF, *arguments])


def one(cell: Cell) -> Figure:
    return Figure((cell,), lambda images: images[cell.name])


def is_kept(figure: Figure, folder: Path = Path("cells")) -> bool:
    """Draw a figure of one cell and say whether it was there."""
    seen: list[Made] = []
    draw(figure, folder, made=seen.append)
    return seen[0].kept


def error_line(capsys: pytest.CaptureFixture[str]) -> str:
    error = capsys.readouterr().err
    assert error.startswith("gramstyle: error: ")
    assert error.count("\n") == 1
    return error


# What a cell's record is compared by.


@pytest.mark.parametrize(
    "change",
    [
        {"pooling": "max"},
        {"content_layer": "conv3_1"},
        {"style_layers": ("conv1_1", "conv2_1")},
        {"style_weights": (1.0, 0.0, 0.0, 0.0, 0.0)},
        {"init": "content"},
        {"convention": "author"},
        {"tolerance": 0.5},
        {"history": 3},
        {"beta": 2.0},
        {"size": 40},
    ],
    ids=lambda change: next(iter(change)),
)
def test_every_option_that_changes_an_image_makes_its_cell_anew(change: Mapping[str, Any]) -> None:
    cell = Cell("one", PHOTO, A, replace(OPTIONS, alpha=1e-3))
    draw(one(cell), Path("cells"))
    changed = replace(cell, options=replace(cell.options, **change))
    assert [is_kept(one(changed)), is_kept(one(changed))] == [False, True]


@pytest.mark.parametrize("role", ["content", "style"])
def test_a_cell_of_another_image_is_made_anew(role: str) -> None:
    cell = Cell("one", PHOTO, A, OPTIONS)
    draw(one(cell), Path("cells"))
    assert not is_kept(one(replace(cell, **{role: B})))


def rewritten(path: Path, settings: Mapping[str, Any]) -> None:
    """Give a finished cell another record."""
    with PIL.Image.open(path) as image:
        image.load()
        chunks = PIL.PngImagePlugin.PngInfo()
        chunks.add_itxt("gramstyle", json.dumps(settings))
        image.save(path, pnginfo=chunks)


@pytest.mark.parametrize("name", ["program", "threads", "versions"])
def test_what_made_a_cell_does_not_matter(name: str) -> None:
    figure = one(Cell("one", PHOTO, A, OPTIONS))
    draw(figure, Path("cells"))
    settings = read_settings("cells/one.png")
    assert settings is not None
    rewritten(Path("cells/one.png"), {**settings, name: "another"})
    assert is_kept(figure)


def test_a_record_that_says_more_or_less_is_of_another_run() -> None:
    figure, path = one(Cell("one", PHOTO, A, OPTIONS)), Path("cells/one.png")
    draw(figure, Path("cells"))
    settings = read_settings(path)
    assert settings is not None
    for other in ({**settings, "extra": 1}, {k: v for k, v in settings.items() if k != "seed"}):
        rewritten(path, other)
        assert not is_kept(figure)


def test_the_network_is_known_by_the_hash_of_its_file(tiny_model_path: Path) -> None:
    settings = prepare(PHOTO, A, OPTIONS).settings
    assert settings["model"]["sha256"] == hashlib.sha256(tiny_model_path.read_bytes()).hexdigest()


@pytest.mark.parametrize(
    "text",
    [
        "[1]",
        "{",
        '{"a":' + "[" * 20_000,
        '{"alpha":' + "9" * 5000 + "}",
        "{}",
        '{"cell":"style-C"}',
    ],
)
def test_an_image_whose_record_is_none_is_left_alone(
    text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("fig-cells").mkdir()
    chunks = PIL.PngImagePlugin.PngInfo()
    chunks.add_itxt("gramstyle", text)
    PIL.Image.new("RGB", (3, 3)).save("fig-cells/style-B.png", pnginfo=chunks)
    before = Path("fig-cells/style-B.png").read_bytes()
    assert command("-o", "fig.png") == 2
    assert "is none of this figure's images" in error_line(capsys)
    assert Path("fig-cells/style-B.png").read_bytes() == before


@pytest.mark.parametrize(
    "text",
    [
        '{"cell":"one","alpha":' + "[" * 300 + "]" * 300 + "}",
        '{"cell":"one","alpha":1e999}',
        '{"cell":"one"}',
    ],
)
def test_a_forged_record_is_no_finished_cell(text: str) -> None:
    Path("cells").mkdir()
    chunks = PIL.PngImagePlugin.PngInfo()
    chunks.add_itxt("gramstyle", text)
    PIL.Image.new("RGB", (3, 3)).save("cells/one.png", pnginfo=chunks)
    assert not is_kept(one(Cell("one", PHOTO, A, OPTIONS)))


@pytest.mark.parametrize(
    "options",
    [
        Options(convention="author", style_layers=("conv2_1", "conv1_1")),
        Options(convention="paper", seed=3, style_weights=(3.0, 0, 0, 0, 1.0)),
        Options(init="style", pooling="max", content_layer="pool3"),
    ],
    ids=["author", "paper", "neither"],
)
def test_a_cell_can_be_made_again_from_its_record_alone(options: Options) -> None:
    figure = one(Cell("one", PHOTO, B, replace(options, size=32, iterations=3)))
    sheet = draw(figure, Path("cells"))
    settings = read_settings("cells/one.png")
    assert settings is not None
    names = Options.__dataclass_fields__
    given = {k: tuple(v) if isinstance(v, list) else v for k, v in settings.items() if k in names}
    assert transfer(PHOTO, B, Options(**given)).image.tobytes() == sheet.tobytes()


# Several jobs.


def test_each_of_several_jobs_has_its_share_of_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    cell = Cell("one", PHOTO, A, OPTIONS)
    monkeypatch.setattr(drawing, "available_threads", lambda: 8)
    shares = [drawing._with_share(cell, jobs).options.threads for jobs in (2, 3, 8, 20)]
    assert shares == [4, 2, 1, 1]
    chosen = replace(cell, options=replace(OPTIONS, threads=5))
    assert drawing._with_share(chosen, 4) == chosen


# The sheets.


@pytest.fixture
def rows(monkeypatch: pytest.MonkeyPatch) -> list[Row]:
    """The rows that a layout puts on its sheet."""
    found: list[Row] = []

    def keep(rows: list[Row], *, title: str = "") -> PIL.Image.Image:
        found.extend(rows)
        return PIL.Image.new("RGB", (1, 1 + len(title)))

    monkeypatch.setattr(layouts, "compose", keep)
    return found


def coloured(figure: Figure) -> dict[str, PIL.Image.Image]:
    """An image of one colour for each cell."""
    return {
        cell.name: PIL.Image.new("RGB", (32, 24), (i + 1, 0, 99))
        for i, cell in enumerate(figure.cells)
    }


def same(one: PIL.Image.Image, other: Path | PIL.Image.Image) -> bool:
    image = PIL.Image.open(other) if isinstance(other, Path) else other
    return one.size == image.size and one.convert("RGB").tobytes() == image.tobytes()


def test_figure_1_shows_the_painting_above_and_the_photograph_below(rows: list[Row]) -> None:
    figure = reconstructions(PHOTO, A, OPTIONS)
    images = coloured(figure)
    figure.compose(images)
    style, content = rows
    assert same(style.images[0], A)
    assert same(content.images[0], PHOTO)
    in_order = [images[cell.name] for cell in figure.cells]
    assert [*style.images[1:], *content.images[1:]] == in_order
    assert style.label == "style"
    assert content.label == "content"
    assert list(content.headings) == ["photograph", *STYLE_LAYERS]
    more = [f"+ {layer}" for layer in STYLE_LAYERS[1:]]
    assert list(style.headings) == ["painting", "conv1_1", *more]


def test_figure_2_shows_the_photograph_first_and_each_painting_in_its_image(
    rows: list[Row],
) -> None:
    figure = styles(PHOTO, [A, B], OPTIONS)
    images = coloured(figure)
    figure.compose(images)
    shown = [image for row in rows for image in row.images]
    assert [len(row.images) for row in rows] == [2, 1]
    assert [heading for row in rows for heading in row.headings] == ["A", "B", "C"]
    assert same(shown[0], PHOTO)
    for image, cell, painting in zip(shown[1:], figure.cells, (A, B), strict=True):
        with PIL.Image.open(painting) as inset:
            assert same(image, with_inset(images[cell.name], inset))


def test_figure_3_has_headings_over_its_first_row_alone(rows: list[Row]) -> None:
    figure = tradeoff(PHOTO, A, [1e-4, 2.5e-4], OPTIONS)
    images = coloured(figure)
    sheet = figure.compose(images)
    assert sheet.height == 1 + len("alpha / beta")
    assert [list(row.headings) for row in rows] == [["10^-4", "0.00025"], *[["", ""]] * 4]
    assert [row.label for row in rows] == ["conv1_1", *(f"+ {name}" for name in STYLE_LAYERS[1:])]
    shown = [image for row in rows for image in row.images]
    assert shown == [images[cell.name] for cell in figure.cells]


def test_the_columns_go_from_style_to_content() -> None:
    assert RATIOS == (1e-5, 1e-4, 1e-3, 1e-2)
    assert RATIOS_NORMALISED == (1e-8, 1e-7, 1e-6, 1e-5)


def test_a_ratio_near_a_power_of_ten_is_not_labelled_as_one() -> None:
    assert number(1.001e-4) == "0.0001"
    assert number(1.005) == "1"


def test_what_is_shown_beside_the_cells_has_their_size_and_limit(rows: list[Row]) -> None:
    figure = reconstructions(PHOTO, A, replace(OPTIONS, size=16))
    figure.compose(coloured(figure))
    assert [row.images[0].size for row in rows] == [(16, 15), (16, 12)]
    with pytest.raises(Exception, match="the limit is 700"):
        reconstructions(PHOTO, A, replace(OPTIONS, max_pixels=700)).compose(coloured(figure))


def found(sheet: PIL.Image.Image, colour: tuple[int, int, int]) -> tuple[Array, Array]:
    ys, xs = np.nonzero((np.asarray(sheet) == colour).all(axis=2))
    assert len(ys)
    return ys, xs


def test_images_of_other_shapes_are_as_high_as_the_highest_and_lie_amid_their_column() -> None:
    red, blue, green = (255, 0, 0), (0, 0, 255), (0, 128, 0)
    sheet = compose(
        [
            Row(
                "",
                [PIL.Image.new("RGB", (60, 20), red), PIL.Image.new("RGB", (9, 9), green)],
                ["", ""],
            ),
            Row("", [PIL.Image.new("RGB", (30, 40), blue)], [""]),
        ]
    )
    for colour, width in ((red, 120), (blue, 30), (green, 40)):
        ys, xs = found(sheet, colour)
        assert (np.ptp(ys) + 1, np.ptp(xs) + 1) == (40, width)
    assert found(sheet, red)[1].mean() == found(sheet, blue)[1].mean()
    assert found(sheet, green)[1].min() > found(sheet, red)[1].max()


def ink(row: Row) -> tuple[Array, Array]:
    ys, xs = np.nonzero(np.asarray(compose([row]).convert("L")) < 128)
    return ys, xs


def test_an_exponent_is_smaller_and_higher_and_stands_behind_its_base() -> None:
    blank = PIL.Image.new("RGB", (200, 200), "white")
    flat, raised = (ink(Row("", [blank], [text])) for text in ("108", "10^8"))
    assert np.ptp(raised[1]) < np.ptp(flat[1])  # smaller
    assert raised[0].min() < flat[0].min() - 3  # higher, not just smaller: its top is 6 above
    base = ink(Row("", [blank], ["10"]))
    assert np.ptp(raised[1]) > np.ptp(base[1]) + 3  # behind, not over it


def test_a_row_s_label_stands_beside_its_middle() -> None:
    blank = PIL.Image.new("RGB", (100, 200), "white")
    ys, _ = ink(Row("label", [blank], [""]))
    assert abs(ys.mean() - 106) < 10  # 6 of margin, half of 200; letters are 17 high


def test_a_wide_painting_takes_no_more_than_half_of_the_image_it_made_and_is_framed() -> None:
    red, white = (255, 0, 0), (255, 255, 255)
    image = PIL.Image.new("RGB", (100, 256), "blue")
    result = with_inset(image, PIL.Image.new("RGB", (400, 40), red))
    ys, xs = found(result, red)
    assert (np.ptp(xs) + 1, np.ptp(ys) + 1) == (50, 5)
    assert (xs.min(), ys.max()) == (0, 255)
    framed = np.asarray(result)
    assert (framed[-1, 50:52] == white).all()
    assert (framed[-7:-5, 0] == white).all()
    assert (framed[-8, 0] == (0, 0, 255)).all()


# Reconstructions, and what they are given.


def test_a_reconstruction_takes_the_start_and_the_weight_that_it_is_given() -> None:
    given = replace(OPTIONS, init="content", alpha=0.25)
    prepared = prepare_content(PHOTO, "conv2_1", given)
    assert prepared.settings["alpha"] == 0.25
    with PIL.Image.open(PHOTO) as image:
        np.testing.assert_array_equal(prepared.start, np.asarray(image).transpose(2, 0, 1))


def test_a_reconstruction_uses_the_model_and_calls_back(
    tiny_model_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GRAMSTYLE_MODEL", "nowhere.onnx")
    options = replace(OPTIONS, iterations=3)
    for run, layers in ((reconstruct_content, "conv1_2"), (reconstruct, ("conv1_1",))):
        seen: list[int] = []
        run(  # type: ignore[operator]
            PHOTO, layers, options, model=tiny_model_path,
            callback=lambda progress, seen=seen: seen.append(progress.losses.iteration),
        )  # fmt: skip
        assert seen == [1, 2, 3]


def test_a_reconstruction_says_that_a_model_is_built(
    tiny_model_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def locate(_path: object, *, notify: Callable[[str], None] | None) -> Path:
        assert notify is not None
        notify("building")
        return tiny_model_path

    monkeypatch.setattr("gramstyle.run.prepare.locate_model", locate)
    said: list[str] = []
    prepare_content(PHOTO, "conv1_1", OPTIONS, notify=said.append)
    prepare_style(PHOTO, ("conv1_1",), OPTIONS, notify=said.append)
    assert said == ["building"] * 2


def test_the_author_s_formulas_reach_the_objective() -> None:
    x, losses = np.full((3, 24, 32), 90.0), {}
    for convention in ("paper", "author"):
        given = replace(OPTIONS, convention=convention, pooling="avg", init="content", alpha=1.0)
        objective = prepare(PHOTO, A, given).objective
        losses[convention] = objective.loss_and_gradient(x)
    for layer, E in losses["paper"].style.items():
        assert losses["author"].style[layer] == pytest.approx(4 * E, rel=1e-6)
    # conv4_2 of the tiny network: 7 filters, 3 by 4 positions.
    assert losses["author"].content == pytest.approx(2 / (7 * 12) * losses["paper"].content)


def test_the_record_says_how_many_threads_were_used() -> None:
    assert prepare(PHOTO, A, replace(OPTIONS, threads=3)).settings["threads"] == 3
    assert prepare(PHOTO, A, OPTIONS).settings["threads"] == available_threads()


def test_figures_need_the_layers_of_the_paper_and_say_so_at_once(
    capsys: pytest.CaptureFixture[str],
) -> None:

    write_model(
        Path("short.onnx"), tiny_convolutions()[:4], CAFFE, precision="codebook8", metadata={}
    )
    assert command("-o", "fig.png", "--model", "short.onnx") == 2
    assert "style-B: unknown layer" in error_line(capsys)
    assert not list(Path().glob("fig-cells/*"))


def test_a_folder_that_is_missing_is_made_with_those_above_it() -> None:
    assert command("-o", "fig.png", "--cells", "new/deeper/cells") == 0
    assert Path("new/deeper/cells/style-B.png").exists()


def test_a_torn_cell_is_made_anew() -> None:
    assert command("-o", "fig.png") == 0
    cell = Path("fig-cells/style-B.png")
    data, sheet = cell.read_bytes(), Path("fig.png").read_bytes()
    cell.write_bytes(data[: data.index(b"IDAT") + 200])
    assert command("-o", "fig.png") == 0
    assert Path("fig.png").read_bytes() == sheet


def test_ratios_that_are_nearly_equal_are_cells_of_their_own() -> None:
    figure = tradeoff(PHOTO, A, [1e-4, 1.0000001e-4], OPTIONS)
    assert len({cell.name for cell in figure.cells}) == len(figure.cells)


def test_a_sheet_may_be_larger_than_an_image_that_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    large = PIL.Image.new("RGB", (10_001, 10_000))
    monkeypatch.setattr("gramstyle.cli.figure.draw", lambda *_args, **_given: large)
    monkeypatch.setattr("gramstyle.cli.figure.write_image", lambda *_: None)
    assert command("-o", "fig.png") == 0


def test_the_image_of_a_transfer_is_not_overwritten(capsys: pytest.CaptureFixture[str]) -> None:
    Path("mine").mkdir()
    transferred = ["transfer", "photo.png", "b.png", "-o", "mine/style-B.png", *BRIEF]
    assert main(transferred) == 0
    before = Path("mine/style-B.png").read_bytes()
    assert command("-o", "fig.png", "--cells", "mine") == 2
    assert "style-B.png" in error_line(capsys)
    assert Path("mine/style-B.png").read_bytes() == before


def test_a_stopped_cell_leaves_the_record_of_the_image_that_is_there() -> None:
    cell = Cell("one", PHOTO, A, OPTIONS)
    draw(one(cell), Path("cells"))
    before = Path("cells/one.jsonl").read_bytes()

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        draw(one(replace(cell, options=replace(OPTIONS, seed=1))), Path("cells"), callback=stop)
    assert Path("cells/one.jsonl").read_bytes() == before


def test_a_cell_that_began_elsewhere_is_made_anew() -> None:
    figures = [
        one(Cell("one", PHOTO, A, replace(OPTIONS, init=np.full((24, 32), shade, np.uint8))))
        for shade in (0, 255)
    ]
    draw(figures[0], Path("cells"))
    assert not is_kept(figures[1])


def test_a_cell_of_a_photograph_without_its_transparency_is_made_anew() -> None:
    see_through = np.full((24, 32, 4), 255, np.uint8)
    see_through[:12, :, 3] = 0
    PIL.Image.fromarray(see_through).save(PHOTO)
    figure = one(Cell("one", PHOTO, A, OPTIONS))
    draw(figure, Path("cells"))
    PIL.Image.new("RGB", (32, 24), "white").save(PHOTO)
    assert not is_kept(figure)


def test_a_transparent_image_lies_on_the_sheet_s_white() -> None:
    glass = PIL.Image.new("RGBA", (40, 30), (255, 0, 0, 51))
    sheet = compose([Row("", [glass], [""])])
    assert len(found(sheet, (255, 204, 204))[0]) == 40 * 30


def test_cells_of_the_sheet_s_own_name_are_refused_at_once(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert command("-o", "fig.png", "--cells", "fig.png") == 2
    error_line(capsys)
    assert not Path("fig.png").exists()


@pytest.mark.parametrize("output", ["", "."])
def test_an_output_without_a_name_is_refused_in_one_line(
    output: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command("-o", output) == 2
    error_line(capsys)


@pytest.mark.parametrize("output", ["long", "loop", "cells"])
def test_a_name_that_the_system_refuses_is_refused_in_one_line(
    output: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("loop").symlink_to("loop")
    arguments = {
        "long": ("-o", "x" * 251 + ".png"),
        "loop": ("-o", "fig.png", "--cells", "loop"),
        "cells": ("-o", "fig.png", "--cells", "y" * 300),
    }[output]
    assert command(*arguments) == 2
    error_line(capsys)


def test_a_record_that_cannot_be_written_is_said_in_the_figure_s_words(
    capsys: pytest.CaptureFixture[str],
) -> None:
    Path("fig-cells/style-B.jsonl").mkdir(parents=True)
    assert command("-o", "fig.png") == 2
    assert "--log" not in error_line(capsys)


def test_a_higher_limit_keeps_the_cells() -> None:
    cell = Cell("one", PHOTO, A, OPTIONS)
    draw(one(cell), Path("cells"))
    assert is_kept(one(replace(cell, options=replace(OPTIONS, max_pixels=10**9))))


def test_an_image_under_another_name_keeps_the_cells() -> None:
    cell = Cell("one", PHOTO, A, OPTIONS)
    draw(one(cell), Path("cells"))
    PHOTO.rename("renamed.png")
    assert is_kept(one(replace(cell, content=Path("renamed.png"))))


def test_cells_of_other_options_are_not_counted_as_finished(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert command("-o", "fig.png") == 0
    Path("a.png").write_bytes(b"torn")
    assert command("-o", "fig.png") == 2
    assert "to go on from" not in error_line(capsys)


def test_a_network_s_metadata_cannot_pass_for_its_hash() -> None:

    path = Path("forged.onnx")
    metadata = {"sha256": "0" * 64}
    write_model(path, tiny_convolutions(), CAFFE, precision="codebook8", metadata=metadata)
    settings = prepare(PHOTO, A, OPTIONS, model=path).settings
    assert settings["model"]["sha256"] == read_model(path).sha256


def test_one_layer_s_name_instead_of_a_tuple_is_understood_or_said_to_be_wrong() -> None:
    with pytest.raises(OptionError, match="tuple"):
        prepare_style(PHOTO, "conv1_1", OPTIONS)  # type: ignore[arg-type]


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs Linux's /proc")
def test_workers_end_with_a_parent_that_was_killed(folder: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "gramstyle", "figure", "styles", "photo.png", "a.png",
         "b.png", "-o", "fig.png", "--size", "32", "--iterations", "100000", "--jobs", "2"],
        stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL, start_new_session=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    try:
        deadline = time.monotonic() + 60
        while len(list(folder.glob("fig-cells/*.jsonl"))) < 2:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        process.kill()
        process.wait()
        deadline = time.monotonic() + 1.5
        sizes: list[int] = []
        while time.monotonic() < deadline:
            time.sleep(0.5)
            sizes.append(sum(path.stat().st_size for path in folder.glob("fig-cells/*.jsonl")))
        assert sizes[-1] == sizes[-2]  # nobody writes any more
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def test_a_figure_that_is_drawn_twice_at_once_is_drawn() -> None:
    figure = one(Cell("one", PHOTO, A, OPTIONS))
    others: list[PIL.Image.Image] = []
    sheet = draw(
        figure, Path("cells"), callback=lambda *_: others.append(draw(figure, Path("cells")))
    )
    assert others[0].tobytes() == sheet.tobytes()


def test_a_forged_image_of_another_size_is_made_anew() -> None:
    cell = Cell("one", PHOTO, A, OPTIONS)
    draw(one(cell), Path("cells"))
    settings = read_settings("cells/one.png")
    assert settings is not None
    small = read_image(np.zeros((3, 4, 3), np.uint8))
    write_image("cells/one.png", small, settings=settings)
    assert not is_kept(one(cell))


def test_no_more_processes_share_the_cores_than_there_are_cells(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("gramstyle.analysis.figures.drawing.available_threads", lambda: 8)
    draw(one(Cell("one", PHOTO, A, OPTIONS)), Path("cells"), jobs=8)
    settings = read_settings("cells/one.png")
    assert settings is not None
    assert settings["threads"] == 8


def test_a_network_that_says_too_much_for_an_image_is_refused_before_any_work(
    capsys: pytest.CaptureFixture[str],
) -> None:
    metadata = {"story": "x" * 70_000}
    write_model(
        Path("long.onnx"), tiny_convolutions(), CAFFE, precision="codebook8", metadata=metadata
    )
    assert command("-o", "fig.png", "--model", "long.onnx") == 2
    assert "long.onnx says too much of itself" in error_line(capsys)
    assert not list(Path().glob("fig-cells/*"))


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_what_overflows_is_one_line(jobs: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "gramstyle", "figure", "tradeoff", "photo.png", "a.png", "-o",
         "fig.png", *BRIEF, "--ratios", "1e300", "--jobs", jobs],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    # With two at work, either may be the one that ends first.
    assert re.match(r"gramstyle: error: conv[12]_1-1e\+300: the loss or its gr", done.stderr)
    assert done.stderr.count("\n") == 1
