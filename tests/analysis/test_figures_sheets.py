"""The sheets of the figures: which image stands where, labels, insets and transparency."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from gramstyle.analysis.figures import Figure, layouts, reconstructions, styles, tradeoff
from gramstyle.analysis.figures.layouts import RATIOS, RATIOS_NORMALISED, number
from gramstyle.analysis.figures.sheet import Row, compose, with_inset
from gramstyle.core.arrays import Array
from gramstyle.core.conventions import STYLE_LAYERS
from gramstyle.run.options import Options

OPTIONS = Options(size=32, iterations=1, convention="paper")
PHOTO, A, B = Path("photo.png"), Path("a.png"), Path("b.png")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder with a photograph and two paintings; the working directory."""
    monkeypatch.chdir(tmp_path)
    for path, shape in ((PHOTO, (24, 32, 3)), (A, (30, 32, 3)), (B, (32, 20, 3))):
        PIL.Image.fromarray(rng.integers(0, 256, shape, np.uint8)).save(path)


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


def test_figure_1_shows_style_above_and_content_below(rows: list[Row]) -> None:
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


def test_figure_2_shows_the_photograph_first_and_each_painting_as_an_inset(
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


def test_figure_3_has_headings_over_its_first_row_only(rows: list[Row]) -> None:
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


@pytest.mark.parametrize(
    ("ratio", "label"),
    [
        (1e-5, "10^-5"),
        (10.0, "10^1"),
        (1.0, "10^0"),
        (2.5e-4, "0.00025"),
        (1.001e-4, "0.0001"),
        (1.005, "1"),
    ],
)
def test_only_powers_of_ten_are_labelled_as_powers(ratio: float, label: str) -> None:
    assert number(ratio) == label


def test_the_original_images_have_the_size_and_the_limit_of_the_cells(rows: list[Row]) -> None:
    figure = reconstructions(PHOTO, A, replace(OPTIONS, size=16))
    figure.compose(coloured(figure))
    assert [row.images[0].size for row in rows] == [(16, 15), (16, 12)]
    with pytest.raises(Exception, match="the limit is 700"):
        reconstructions(PHOTO, A, replace(OPTIONS, max_pixels=700)).compose(coloured(figure))


def found(sheet: PIL.Image.Image, colour: tuple[int, int, int]) -> tuple[Array, Array]:
    ys, xs = np.nonzero((np.asarray(sheet) == colour).all(axis=2))
    assert len(ys)
    return ys, xs


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
            assert len(ys) == 40 * 30  # nothing covers it
            centres[colour] = (ys.mean(), xs.mean())
    (red, green), (blue, grey) = [[centres[colour] for colour in line] for line in colours]
    assert red[0] == green[0] < blue[0] == grey[0]
    assert red[1] == blue[1] < green[1] == grey[1]


def test_a_sheet_without_labels_has_no_ink_and_no_space_for_them() -> None:
    image = PIL.Image.new("RGB", (40, 30), "white")
    bare = np.asarray(compose([Row("", [image], [""])]))
    assert (bare == 255).all()
    labelled = np.asarray(compose([Row("conv1_1", [image], ["10^-5"])]))
    assert (labelled < 128).any()
    assert labelled.shape[0] > bare.shape[0]
    assert labelled.shape[1] > bare.shape[1]


def test_the_inset_is_in_the_lower_left_corner() -> None:
    result = np.asarray(
        with_inset(PIL.Image.new("RGB", (100, 80), "blue"), PIL.Image.new("RGB", (60, 60), "red"))
    )
    assert tuple(result[-1, 0]) == (255, 0, 0)
    assert tuple(result[0, 0]) == tuple(result[-1, -1]) == (0, 0, 255)
    # Three tenths of the height.
    assert (result[:, 0] == (255, 0, 0)).all(axis=1).sum() == 24


def test_images_of_other_shapes_get_the_height_of_the_highest_and_are_centred() -> None:
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


def test_an_exponent_is_smaller_and_higher_and_follows_its_base() -> None:
    blank = PIL.Image.new("RGB", (200, 200), "white")
    flat, raised = (ink(Row("", [blank], [text])) for text in ("108", "10^8"))
    assert np.ptp(raised[1]) < np.ptp(flat[1])  # smaller
    assert raised[0].min() < flat[0].min() - 3  # higher, not just smaller: its top is 6 above
    base = ink(Row("", [blank], ["10"]))
    assert np.ptp(raised[1]) > np.ptp(base[1]) + 3  # behind, not over it


def test_the_label_of_a_row_is_beside_its_middle() -> None:
    blank = PIL.Image.new("RGB", (100, 200), "white")
    ys, _ = ink(Row("label", [blank], [""]))
    assert abs(ys.mean() - 106) < 10  # 6 of margin, half of 200; letters are 17 high


def test_a_wide_inset_covers_at_most_half_of_the_width_and_is_framed() -> None:
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


def test_a_transparent_image_shows_the_white_of_the_sheet() -> None:
    glass = PIL.Image.new("RGBA", (40, 30), (255, 0, 0, 51))
    sheet = compose([Row("", [glass], [""])])
    assert len(found(sheet, (255, 204, 204))[0]) == 40 * 30
