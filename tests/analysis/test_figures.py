"""The paper's figures: their cells, what is kept, and the sheets."""

import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from gramstyle.analysis.figures import Cell, Made, draw, reconstructions, styles, tradeoff
from gramstyle.analysis.figures.layouts import Figure, growing, number
from gramstyle.analysis.figures.sheet import Row, compose, with_inset
from gramstyle.core.conventions import STYLE_LAYERS
from gramstyle.errors import GramstyleError, ImageError, NonFiniteError, OptionError
from gramstyle.images import read_settings
from gramstyle.run.options import Options
from gramstyle.run.transfer import Progress, transfer

OPTIONS = Options(size=32, iterations=2, convention="paper")


@pytest.fixture
def pair(tmp_path: Path, rng: np.random.Generator) -> tuple[Path, Path]:
    """A photograph and a painting, each in a file."""
    paths = tmp_path / "photo.png", tmp_path / "painting.png"
    for path, shape in zip(paths, ((24, 32, 3), (30, 32, 3)), strict=True):
        PIL.Image.fromarray(rng.integers(0, 256, shape, np.uint8)).save(path)
    return paths


@pytest.fixture(autouse=True)
def model(tiny_model_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRAMSTYLE_MODEL", str(tiny_model_path))


def small(pair: tuple[Path, Path]) -> Figure:
    """A figure of four cells."""
    figure = tradeoff(*pair, [1e-4, 1e-3], OPTIONS)
    return replace(figure, cells=figure.cells[:4], compose=lambda cells: cells["conv1_1-0.001"])


def pixels(folder: Path) -> dict[str, bytes]:
    found = {}
    for path in folder.glob("*.png"):
        with PIL.Image.open(path) as image:
            found[path.stem] = image.tobytes()
    return found


def test_the_style_sets_grow_by_one_layer_a_row() -> None:
    assert growing(STYLE_LAYERS[:3]) == [
        ("conv1_1",),
        ("conv1_1", "conv2_1"),
        ("conv1_1", "conv2_1", "conv3_1"),
    ]


def test_figure_1_reconstructs_style_from_growing_sets_and_content_from_single_layers(
    pair: tuple[Path, Path],
) -> None:
    photo, painting = pair
    cells = reconstructions(photo, painting, OPTIONS).cells
    assert [cell.options.style_layers for cell in cells[:5]] == growing()
    assert [(cell.content, cell.style) for cell in cells[:5]] == [(None, painting)] * 5
    assert [cell.options.content_layer for cell in cells[5:]] == list(STYLE_LAYERS)
    assert [(cell.content, cell.style) for cell in cells[5:]] == [(photo, None)] * 5
    assert {cell.options.start for cell in cells} == {"noise"}


def test_figure_3_has_a_row_for_each_style_set_and_a_column_for_each_ratio(
    pair: tuple[Path, Path],
) -> None:
    cells = tradeoff(*pair, [1e-5, 1e-2], replace(OPTIONS, beta=3.0)).cells
    ratios = [(cell.options.alpha or 0) / cell.options.beta for cell in cells]
    assert ratios == pytest.approx([1e-5, 1e-2] * 5, rel=1e-12)
    assert [cell.options.style_layers for cell in cells[::2]] == growing()
    assert len({cell.name for cell in cells}) == 10


@pytest.mark.parametrize("ratios", [[], [1e-3, 1e-3], [0.0], [-1.0], [float("nan")]])
def test_ratios_that_make_no_sense_are_refused(
    pair: tuple[Path, Path], ratios: list[float]
) -> None:
    with pytest.raises(OptionError, match="--ratios"):
        tradeoff(*pair, ratios, OPTIONS)


def test_figure_2_has_a_cell_for_each_painting(pair: tuple[Path, Path]) -> None:
    photo, painting = pair
    cells = styles(photo, [painting, photo], OPTIONS).cells
    assert [(cell.name, cell.style) for cell in cells] == [
        ("style-B", painting),
        ("style-C", photo),
    ]
    with pytest.raises(OptionError, match="1 to 25 paintings, not 26"):
        styles(photo, [painting] * 26, OPTIONS)


def test_a_cell_is_the_transfer_of_the_same_options_and_carries_its_record(
    pair: tuple[Path, Path], tmp_path: Path
) -> None:
    figure = small(pair)
    sheet = draw(figure, tmp_path / "cells")
    expected = transfer(*pair, figure.cells[1].options)
    assert pixels(tmp_path / "cells")["conv1_1-0.001"] == expected.image.tobytes()
    assert sheet.tobytes() == expected.image.tobytes()
    settings = read_settings(tmp_path / "cells/conv1_1-0.001.png")
    assert settings is not None
    assert settings["alpha"] == 1e-3
    assert settings["result"]["iterations"] == 2
    lines = (tmp_path / "cells/conv1_1-0.001.jsonl").read_text().splitlines()
    assert [json.loads(line)["event"] for line in lines] == ["start", *["iteration"] * 2, "end"]


def test_a_figure_that_was_stopped_goes_on_with_the_cells_that_are_missing(
    pair: tuple[Path, Path], tmp_path: Path
) -> None:
    figure, folder = small(pair), tmp_path / "cells"
    begun: list[str] = []

    def stop(name: str, progress: Progress) -> None:
        begun.append(name)
        if name == figure.cells[2].name:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        draw(figure, folder, callback=stop)
    before = pixels(folder)
    times = {path: path.stat().st_mtime_ns for path in folder.glob("*.png")}
    assert sorted(before) == sorted(cell.name for cell in figure.cells[:2])

    seen: list[Made] = []
    draw(figure, folder, made=seen.append)
    assert [(made.name, made.kept) for made in seen] == [
        (cell.name, i < 2) for i, cell in enumerate(figure.cells)
    ]
    assert [made.done for made in seen] == [1, 2, 3, 4]
    assert {path: path.stat().st_mtime_ns for path in times} == times
    assert pixels(folder).keys() == {cell.name for cell in figure.cells}


@pytest.mark.parametrize("change", ["iterations", "seed", "alpha", "painting", "model"])
def test_a_cell_that_was_made_in_another_way_is_made_again(
    pair: tuple[Path, Path], tmp_path: Path, change: str, rng: np.random.Generator
) -> None:
    cell = Cell("one", *pair, replace(OPTIONS, alpha=1e-3))
    figure = Figure((cell,), lambda images: images["one"])
    folder, seen = tmp_path / "cells", list[Made]()
    draw(figure, folder)
    model = Path(os.environ["GRAMSTYLE_MODEL"])
    if change == "painting":
        PIL.Image.fromarray(rng.integers(0, 256, (30, 32, 3), np.uint8)).save(pair[1])
    elif change == "model":
        from conftest import tiny_convolutions
        from gramstyle.model.onnx_file import write_model
        from gramstyle.model.vgg19 import CAFFE

        model = tmp_path / "other.onnx"
        write_model(model, tiny_convolutions(1), CAFFE, precision="codebook8", metadata={})
    else:
        value = {"iterations": 1, "seed": 1, "alpha": 1e-2}[change]
        other = replace(cell, options=replace(cell.options, **{change: value}))
        figure = replace(figure, cells=(other,))
    draw(figure, folder, model=model, made=seen.append)
    draw(figure, folder, model=model, made=seen.append)
    assert [made.kept for made in seen] == [False, True]


def test_an_image_of_somebody_else_is_not_overwritten(
    pair: tuple[Path, Path], tmp_path: Path
) -> None:
    folder = tmp_path / "cells"
    folder.mkdir()
    PIL.Image.new("RGB", (3, 3)).save(folder / "conv1_1-0.001.png")
    kept = (folder / "conv1_1-0.001.png").read_bytes()
    with pytest.raises(ImageError, match=r"conv1_1-0\.001\.png is none of this figure's"):
        draw(small(pair), folder)
    assert (folder / "conv1_1-0.001.png").read_bytes() == kept


def test_several_jobs_give_the_images_of_one(pair: tuple[Path, Path], tmp_path: Path) -> None:
    figure, seen = small(pair), list[Made]()
    figure = replace(figure, cells=figure.cells[:2])
    draw(figure, tmp_path / "one")
    draw(figure, tmp_path / "two", jobs=2, made=seen.append)
    assert pixels(tmp_path / "two") == pixels(tmp_path / "one")
    assert sorted(made.name for made in seen) == sorted(cell.name for cell in figure.cells)


def test_all_cells_are_checked_before_any_is_made(pair: tuple[Path, Path], tmp_path: Path) -> None:
    good = Cell("good", *pair, OPTIONS)
    bad = Cell("bad", tmp_path / "missing.png", pair[1], OPTIONS)
    figure = Figure((good, bad), lambda images: images["good"])
    with pytest.raises(ImageError, match=r"^bad: .*missing\.png"):
        draw(figure, tmp_path / "cells")
    assert pixels(tmp_path / "cells") == {}


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_cell_that_fails_on_the_way_is_named_and_finished_ones_are_kept(
    pair: tuple[Path, Path], tmp_path: Path, jobs: int
) -> None:
    good = Cell("good", *pair, OPTIONS)
    bad = Cell("bad", *pair, replace(OPTIONS, iterations=50, beta=1e308))
    figure = Figure((good, bad), lambda images: images["good"])
    draw(replace(figure, cells=(good,)), tmp_path / "cells")
    with pytest.raises(NonFiniteError, match=r"^bad: the loss"):
        draw(figure, tmp_path / "cells", jobs=jobs)
    assert pixels(tmp_path / "cells").keys() == {"good"}


def test_a_process_that_dies_is_said_to_have_died(
    pair: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    figure = Figure((Cell("one", Fatal(pair[0]), pair[1], OPTIONS),), lambda p: p["one"])
    monkeypatch.setattr("gramstyle.analysis.figures.drawing.is_made", lambda *_: False)
    with pytest.raises(GramstyleError, match=r"^one: its process ended with code 9"):
        draw(figure, tmp_path / "cells", jobs=2)


class Fatal(type(Path())):  # type: ignore[misc]
    """A path that ends the process that reads from it."""

    def __fspath__(self) -> str:
        os._exit(9)


def test_jobs_below_one_are_refused(pair: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="jobs must be at least 1, not 0"):
        draw(small(pair), tmp_path / "cells", jobs=0)


@pytest.mark.parametrize(
    ("ratio", "label"), [(1e-5, "10^-5"), (10.0, "10^1"), (2.5e-4, "0.00025"), (1.0, "10^0")]
)
def test_ratios_that_are_powers_of_ten_are_labelled_so(ratio: float, label: str) -> None:
    assert number(ratio) == label


def test_a_sheet_shows_every_image_in_its_row_and_column() -> None:
    colours = [[(255, 0, 0), (0, 255, 0)], [(0, 0, 255), (200, 9, 9)]]
    rows = [
        Row(f"row {r}", [PIL.Image.new("RGB", (40, 30), colour) for colour in line], ["10^-5", "b"])
        for r, line in enumerate(colours)
    ]
    sheet = np.asarray(compose(rows, title="title"))
    centres = {}
    for line in colours:
        for colour in line:
            ys, xs = np.nonzero((sheet == colour).all(axis=2))
            assert len(ys) == 40 * 30  # nothing was drawn over it
            centres[colour] = (ys.mean(), xs.mean())
    (red, green), (blue, grey) = [[centres[colour] for colour in line] for line in colours]
    assert red[0] == green[0] < blue[0] == grey[0]
    assert red[1] == blue[1] < green[1] == grey[1]


def test_a_sheet_has_ink_for_its_labels_and_headings_only_where_they_are() -> None:
    image = PIL.Image.new("RGB", (40, 30), "white")
    bare = np.asarray(compose([Row("", [image], [""])]))
    assert (bare == 255).all()
    labelled = np.asarray(compose([Row("conv1_1", [image], ["10^-5"])]))
    assert (labelled < 128).any()
    assert labelled.shape[0] > bare.shape[0]
    assert labelled.shape[1] > bare.shape[1]


def test_the_inset_lies_in_the_lower_left_corner() -> None:
    result = np.asarray(
        with_inset(PIL.Image.new("RGB", (100, 80), "blue"), PIL.Image.new("RGB", (60, 60), "red"))
    )
    assert tuple(result[-1, 0]) == (255, 0, 0)
    assert tuple(result[0, 0]) == tuple(result[-1, -1]) == (0, 0, 255)
    # Three tenths of the height.
    assert (result[:, 0] == (255, 0, 0)).all(axis=1).sum() == 24
