"""The paper's figures: their cells, and drawing them. Reuse is tested with the batches."""

import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from gramstyle.analysis.figures import Figure, cell, draw, reconstructions, styles, tradeoff
from gramstyle.analysis.figures.layouts import growing
from gramstyle.batch import Change, Job
from gramstyle.core.conventions import CONVENTIONS, STYLE_LAYERS
from gramstyle.errors import GramstyleError, ImageError, NonFiniteError, OptionError
from gramstyle.images import read_settings
from gramstyle.run.options import Options
from gramstyle.run.plan.scales import edges
from gramstyle.run.transfer import Progress, transfer

OPTIONS = Options(size=32, iterations=2, convention="paper")
PHOTO, A, B, CELLS = Path("photo.png"), Path("a.png"), Path("b.png"), Path("cells")


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


def one(options: Options = OPTIONS) -> Figure:
    """A figure of one cell."""
    return Figure((cell("one", PHOTO, A, options),), lambda images: images["one"])


def four() -> Figure:
    """A figure of four cells."""
    figure = tradeoff(PHOTO, A, [1e-4, 1e-3], OPTIONS)
    return replace(figure, cells=figure.cells[:4], compose=lambda cells: cells["conv1_1-0.001"])


def states(figure: Figure) -> list[str]:
    """Draw a figure and return what became of its cells."""
    seen: list[Change] = []
    draw(figure, CELLS, on_change=seen.append)
    return [change.outcome.state for change in seen]


def pixels(folder: Path) -> dict[str, bytes]:
    found = {}
    for path in folder.glob("*.png"):
        with PIL.Image.open(path) as image:
            found[path.stem] = image.tobytes()
    return found


# Which cells a figure has


def test_the_style_sets_grow_by_one_layer_a_row() -> None:
    assert growing(STYLE_LAYERS[:3]) == [
        ("conv1_1",),
        ("conv1_1", "conv2_1"),
        ("conv1_1", "conv2_1", "conv3_1"),
    ]


def test_figure_1_reconstructs_style_from_growing_sets_and_content_from_single_layers() -> None:
    cells = reconstructions(PHOTO, A, OPTIONS).cells
    assert [cell.options.style_layers for cell in cells[:5]] == growing()
    assert [(cell.content, cell.style) for cell in cells[:5]] == [(None, A)] * 5
    assert [cell.options.content_layers for cell in cells[5:]] == [(name,) for name in STYLE_LAYERS]
    assert [(cell.content, cell.style) for cell in cells[5:]] == [(PHOTO, None)] * 5
    assert {cell.options.start for cell in cells} == {"noise"}


def test_figure_2_has_a_cell_for_each_style_image() -> None:
    cells = styles(PHOTO, [A, PHOTO], OPTIONS).cells
    assert [(cell.name, cell.style) for cell in cells] == [("style-B", A), ("style-C", PHOTO)]
    with pytest.raises(OptionError, match="1 to 25 style images, not 26"):
        styles(PHOTO, [A] * 26, OPTIONS)


def test_figure_3_has_a_row_for_each_style_set_and_a_column_for_each_ratio() -> None:
    cells = tradeoff(PHOTO, A, [1e-5, 1e-2], replace(OPTIONS, beta=3.0)).cells
    ratios = [(cell.options.alpha or 0) / cell.options.beta for cell in cells]
    assert ratios == pytest.approx([1e-5, 1e-2] * 5, rel=1e-12)
    assert [cell.options.style_layers for cell in cells[::2]] == growing()
    assert len({cell.name for cell in cells}) == 10


def test_nearly_equal_ratios_have_cells_of_their_own() -> None:
    figure = tradeoff(PHOTO, A, [1e-4, 1.0000001e-4], OPTIONS)
    assert len({cell.name for cell in figure.cells}) == len(figure.cells)


@pytest.mark.parametrize("ratios", [[], [1e-3, 1e-3], [0.0], [-1.0], [float("nan")]])
def test_ratios_that_make_no_sense_are_refused(ratios: list[float]) -> None:
    with pytest.raises(OptionError, match="--ratios"):
        tradeoff(PHOTO, A, ratios, OPTIONS)


# Drawing


def test_a_cell_is_the_transfer_with_the_same_options_and_has_a_record() -> None:
    figure = four()
    sheet = draw(figure, CELLS)
    expected = transfer(PHOTO, A, figure.cells[1].options)
    assert pixels(CELLS)["conv1_1-0.001"] == expected.image.tobytes()
    assert sheet.tobytes() == expected.image.tobytes()
    settings = read_settings(CELLS / "conv1_1-0.001.png")
    assert settings is not None
    assert settings["cell"] == "conv1_1-0.001"
    assert settings["alpha"] == 1e-3
    assert settings["result"]["iterations"] == 2
    lines = (CELLS / "conv1_1-0.001.jsonl").read_text().splitlines()
    assert [json.loads(line)["event"] for line in lines] == ["start", *["iteration"] * 2, "end"]


@pytest.mark.parametrize(
    "options",
    [
        Options(convention="author", style_layers=("conv2_1", "conv1_1")),
        Options(convention="paper", seed=3, style_weights=(3.0, 0, 0, 0, 1.0)),
        Options(init="style", pooling="max", content_layer="pool3"),
    ],
    ids=["author", "paper", "neither"],
)
def test_a_cell_can_be_rendered_again_from_its_settings_alone(options: Options) -> None:
    sheet = draw(one(replace(options, size=32, iterations=3)), CELLS)
    settings = read_settings("cells/one.png")
    assert settings is not None
    names = Options.__dataclass_fields__
    given = {k: tuple(v) if isinstance(v, list) else v for k, v in settings.items() if k in names}
    assert transfer(PHOTO, A, Options(**given)).image.tobytes() == sheet.tobytes()


def test_a_large_cell_is_rendered_at_one_scale_and_says_so() -> None:
    assert len(edges(240, first=CONVENTIONS[None].first_scale)) == 2
    draw(one(Options(size=240, iterations=1)), CELLS)
    settings = read_settings("cells/one.png")
    assert settings is not None
    assert settings["scales"] == 1
    assert "scale_edges" not in settings


def test_a_figure_that_was_stopped_resumes_with_the_missing_cells() -> None:
    figure = four()

    def stop(cell: Job, progress: Progress) -> None:
        if cell.name == figure.cells[2].name:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        draw(figure, CELLS, callback=stop)
    assert sorted(pixels(CELLS)) == sorted(cell.name for cell in figure.cells[:2])
    times = {path: path.stat().st_mtime_ns for path in CELLS.glob("*.png")}

    seen: list[Change] = []
    draw(figure, CELLS, on_change=seen.append)
    assert [(change.outcome.job.name, change.outcome.state) for change in seen] == [
        (cell.name, "reused" if i < 2 else "done") for i, cell in enumerate(figure.cells)
    ]
    assert [(change.done, change.jobs) for change in seen] == [(i, 4) for i in (1, 2, 3, 4)]
    assert {path: path.stat().st_mtime_ns for path in times} == times
    assert pixels(CELLS).keys() == {cell.name for cell in figure.cells}


def test_a_stopped_cell_leaves_the_record_of_the_image_that_exists() -> None:
    draw(one(), CELLS)
    before = Path("cells/one.jsonl").read_bytes()

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        draw(one(replace(OPTIONS, seed=1)), CELLS, callback=stop)
    assert [path.name for path in CELLS.glob("*.jsonl")] == ["one.jsonl"]
    assert Path("cells/one.jsonl").read_bytes() == before


def test_a_cell_is_reused_unless_its_options_change() -> None:
    assert states(one()) == ["done"]
    assert states(one(replace(OPTIONS, max_pixels=10**9))) == ["reused"]
    assert states(one(replace(OPTIONS, seed=1))) == ["done"]


def test_several_jobs_give_the_images_of_one() -> None:
    figure, seen = four(), list[Change]()
    figure = replace(figure, cells=figure.cells[:2])
    draw(figure, Path("one"))
    draw(figure, Path("two"), jobs=2, on_change=seen.append)
    assert pixels(Path("two")) == pixels(Path("one"))
    assert len(list(Path("two").glob("*.jsonl"))) == 2
    names = sorted(change.outcome.job.name for change in seen)
    assert names == sorted(cell.name for cell in figure.cells)


def test_all_cells_are_checked_before_the_first_begins() -> None:
    good, bad = cell("good", PHOTO, A, OPTIONS), cell("bad", Path("missing.png"), A, OPTIONS)
    figure = Figure((good, bad), lambda images: images["good"])
    with pytest.raises(ImageError, match=r"^bad: .*missing\.png"):
        draw(figure, CELLS)
    assert pixels(CELLS) == {}


@pytest.mark.parametrize("jobs", [1, 2])
def test_an_error_names_its_cell_and_finished_cells_stay(jobs: int) -> None:
    good = cell("good", PHOTO, A, OPTIONS)
    bad = cell("bad", PHOTO, A, replace(OPTIONS, iterations=50, beta=1e308))
    figure = Figure((good, bad), lambda images: images["good"])
    draw(replace(figure, cells=(good,)), CELLS)
    with pytest.raises(NonFiniteError, match=r"^bad: the loss"):
        draw(figure, CELLS, jobs=jobs)
    assert pixels(CELLS).keys() == {"good"}


def test_fewer_than_one_job_is_refused() -> None:
    with pytest.raises(OptionError, match="jobs must be at least 1, not 0"):
        draw(four(), CELLS, jobs=0)


def test_a_figure_is_not_drawn_twice_at_once_into_one_folder() -> None:
    refused: list[str] = []

    def draw_too(*_: object) -> None:
        with pytest.raises(GramstyleError) as caught:
            draw(one(), CELLS)
        refused.append(str(caught.value))

    draw(one(), CELLS, callback=draw_too)
    assert f"another process (process id {os.getpid()}) renders into" in refused[0]
