"""Masks and label maps: their values, their sizes, and what is refused."""

import io

import numpy as np
import PIL.Image
import pytest

from gramstyle.errors import ImageError
from gramstyle.images import MOST_LABELS, Mask, read_labels, read_mask


def png(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    PIL.Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def test_greys_of_any_kind_are_values_from_0_to_255() -> None:
    grey = np.arange(0, 250, 10, np.uint8).reshape(5, 5)
    coloured = np.repeat(grey[:, :, np.newaxis], 3, axis=2)
    opaque = np.dstack([coloured, np.full_like(grey, 255)])
    for source in (grey, png(grey), png(coloured), png(opaque), grey / 255):
        np.testing.assert_array_equal(read_mask(source).values, grey)
    deep = grey.astype(np.uint16) * 257
    np.testing.assert_array_equal(read_mask(deep).values, grey)


@pytest.mark.parametrize("size", [(3, 2), (13, 9), (40, 31)])
def test_a_resized_mask_stays_between_0_and_1_and_is_exact_away_from_its_edge(
    size: tuple[int, int],
) -> None:
    values = np.zeros((12, 20), np.uint8)
    values[:, 10:] = 255
    T = Mask(values).resized(*size)
    assert T.dtype == np.float32
    assert T.shape == size[::-1]
    # A triangle reaches one pixel of the larger grid.
    centres = (np.arange(size[0]) + 0.5) * 20 / size[0]
    away = np.maximum(20 / size[0], 1)
    np.testing.assert_array_equal(T[:, centres < 10 - away], 0)
    np.testing.assert_array_equal(T[:, centres > 10 + away], 1)
    assert T.min() >= 0
    assert T.max() <= 1
    assert (np.diff(T, axis=1) >= 0).all()


def test_a_mask_in_its_own_size_is_its_values() -> None:
    values = np.arange(256, dtype=np.uint8).reshape(16, 16)
    np.testing.assert_array_equal(Mask(values).resized(16, 16), values / np.float32(255))
    assert (Mask.full().resized(7, 5) == 1).all()


def test_each_colour_of_a_label_map_is_a_region() -> None:
    pixels = np.zeros((6, 9, 3), np.uint8)
    pixels[:, 3:6] = (255, 0, 0)
    pixels[:, 6:] = (0, 128, 255)
    labels = read_labels(png(pixels))
    assert labels.colours == ("#000000", "#0080ff", "#ff0000")
    for colour, columns in (("#000000", (0, 3)), ("#ff0000", (3, 6)), ("#0080ff", (6, 9))):
        expected = np.zeros((6, 9), np.uint8)
        expected[:, slice(*columns)] = 255
        np.testing.assert_array_equal(labels.mask(colour).values, expected)
    assert sum(labels.mask(colour).values.astype(int) for colour in labels.colours).max() == 255


def test_a_label_map_with_the_colours_of_a_photograph_is_refused(rng: np.random.Generator) -> None:
    pixels = rng.integers(0, 256, (20, 20, 3)).astype(np.uint8)
    with pytest.raises(ImageError, match=r"it has 400 colours.*at most 64; paint it without") as e:
        read_labels(pixels, name="labels")
    assert "\n" not in str(e.value)
    few = np.arange(MOST_LABELS, dtype=np.uint8)[np.newaxis]
    assert len(read_labels(few).colours) == MOST_LABELS


@pytest.mark.parametrize("read", [read_mask, read_labels])
def test_transparent_masks_are_refused(read) -> None:
    pixels = np.full((4, 4, 4), 255, np.uint8)
    pixels[0, 0, 3] = 0
    with pytest.raises(ImageError, match=r"it is transparent.*fill its background"):
        read(png(pixels))


@pytest.mark.parametrize("read", [read_mask, read_labels])
def test_damaged_masks_are_refused_in_one_line(read, tmp_path) -> None:
    (tmp_path / "mask.png").write_bytes(png(np.arange(1600, dtype=np.uint8).reshape(40, 40))[:100])
    with pytest.raises(ImageError, match=r"cannot read .*mask\.png") as e:
        read(tmp_path / "mask.png")
    assert "\n" not in str(e.value)
    with pytest.raises(ImageError, match=r"not a number|NaN|finite"):
        read(np.full((4, 4), np.nan))
