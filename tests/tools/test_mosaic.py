"""The mosaic of a texture."""

import sys
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from tools import mosaic


def test_a_mosaic_is_four_copies_of_the_texture(
    tmp_path: Path, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels = rng.integers(0, 256, (3, 5, 3)).astype(np.uint8)
    PIL.Image.fromarray(pixels).save(tmp_path / "texture.png")
    names = [str(tmp_path / "texture.png"), "-o", str(tmp_path / "mosaic.png")]
    monkeypatch.setattr(sys, "argv", ["mosaic", *names])
    mosaic.main()
    with PIL.Image.open(tmp_path / "mosaic.png") as image:
        np.testing.assert_array_equal(np.asarray(image), np.tile(pixels, (2, 2, 1)))
