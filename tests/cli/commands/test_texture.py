"""`gramstyle texture`: its files, its size, and its errors of one line."""

from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from gramstyle.cli import main
from gramstyle.images import read_settings


@pytest.fixture
def painting(tmp_path: Path, rng: np.random.Generator) -> Path:
    pixels = rng.integers(0, 256, (36, 48, 3)).astype(np.uint8)
    PIL.Image.fromarray(pixels).save(tmp_path / "painting.png")
    return tmp_path / "painting.png"


def command(painting: Path, model: Path, *more: str) -> list[str]:
    output = ["-o", str(painting.with_name("out.png"))]
    return ["texture", str(painting), *output, "--model", str(model), "--iterations", "2", *more]


def test_a_texture_has_its_size_and_its_settings(
    painting: Path, tiny_model_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    more = ("--size", "64x32", "--tileable", "--style-loss", "covariance", "--record")
    arguments = command(painting, tiny_model_path, *more, str(painting.with_name("run.gif")))
    assert main(arguments) == 0
    assert "(64×32) after 2 iterations" in capsys.readouterr().out
    with PIL.Image.open(painting.with_name("out.png")) as image:
        assert image.size == (64, 32)
    settings = read_settings(painting.with_name("out.png"))
    assert settings is not None
    assert settings["content"] is None
    assert settings["padding"] == "circular"
    assert settings["style_loss"] == "covariance"
    assert painting.with_name("run.gif").exists()


def test_one_number_is_a_square(painting: Path, tiny_model_path: Path) -> None:
    assert main(command(painting, tiny_model_path, "--size", "40", "--quiet")) == 0
    with PIL.Image.open(painting.with_name("out.png")) as image:
        assert image.size == (40, 40)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (("--size", "40x40", "--tileable"), "the next larger size is 48x48"),
        (("--size", "40.5"), "is not a size like 640x480"),
        (("--size", "0x40"), "is not a size like 640x480"),
        (("--size", "48", "--colours", "content"), "there is no argument '--colours' here"),
        (("--size", "48", "--colours", "style"), "there is no argument '--colours' here"),
        (("--size", "8"), "too small"),
    ],
)
def test_a_wrong_texture_is_one_line_and_nothing_is_written(
    more: tuple[str, ...],
    words: str,
    painting: Path,
    tiny_model_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    try:
        code = main(command(painting, tiny_model_path, *more))
    except SystemExit as stop:
        code = stop.code  # type: ignore[assignment]
    assert code == 2
    assert words in capsys.readouterr().err.splitlines()[-1]
    assert not painting.with_name("out.png").exists()


def test_the_help_has_no_option_that_needs_a_content_image(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit):
        main(["texture", "--help-all"])
    shown = capsys.readouterr().out
    assert "--style-loss" in shown
    for each in ("--colours", "content", "photograph", "--convention"):
        assert each not in shown
