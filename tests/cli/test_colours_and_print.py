"""The options for colours and for print at the command line: files, notes and refusals."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest

from gramstyle.cli import main
from gramstyle.images import read_image, read_settings
from images.profiles import linear_rgb_profile
from run.short_runs import interrupt_after

Run = Callable[..., int]
Capture = pytest.CaptureFixture[str]


def chroma(pixels: Any) -> Any:
    """Cb and Cr by the matrix of ITU-T T.871, in float64."""
    matrix = np.array([[-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]])
    return np.asarray(pixels, np.float64) @ matrix.T


def test_images_so_far_have_the_colours_of_the_content_image(
    transfer: Run, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupt_after(monkeypatch, 2)
    assert transfer("--colours", "content", "--save-every", "1") == 130
    expected = chroma(read_image(images / "photo.png").pixels)
    for name in ("out.png", "out-0001.png"):
        assert np.abs(chroma(read_image(images / name).pixels) - expected).max() <= 1


@pytest.mark.parametrize("colours", ["content", "match"])
def test_a_resumed_run_is_the_same_bit_by_bit(
    colours: str, transfer: Run, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    more = ["--colours", colours, "--depth", "16", "--iterations", "4"]
    assert transfer(*more, "--optimiser", "own") == 0
    expected = (images / "out.png").read_bytes()
    with monkeypatch.context() as patch:
        interrupt_after(patch, 3)
        assert transfer(*more, "--checkpoint", "saved", "--every", "2") == 130
    resume = ["resume", "saved", "-o", "out.png", "--threads", "1"]
    for _ in range(2):  # the second time, the run has ended already
        assert main(resume) == 0
        settings = read_settings(images / "out.png")
        assert settings is not None
        assert (settings["colours"], settings["depth"]) == (colours, 16)
        np.testing.assert_array_equal(read_image("out.png").pixels, read_image(expected).pixels)
    assert main([*resume[:3], "out.jpg"]) == 2


@pytest.mark.parametrize("name", ["out.png", "out.tif"])
def test_sixteen_bits_are_written(name: str, transfer: Run, images: Path) -> None:
    assert transfer("--depth", "16", output=name) == 0
    with PIL.Image.open(images / name) as opened:
        assert "RGB;16" in str(opened.tile)
    deep = read_image(images / name).pixels
    assert np.abs(deep - np.rint(deep)).mean() > 0.1  # a file of 8 bits has whole levels
    assert transfer(output="plain.png") == 0
    np.testing.assert_array_equal(np.rint(deep), read_image("plain.png").pixels)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("out.jpg", "JPEG stores 8 bits per channel, not 16; choose .png or .tif"),
        ("out.webp", "WEBP stores 8 bits per channel"),
        ("out.avif", "AVIF stores 8 bits per channel"),
    ],
)
def test_sixteen_bits_in_another_format_are_refused_before_the_run(
    name: str, words: str, transfer: Run, images: Path, capsys: Capture
) -> None:
    before = sorted(images.iterdir())
    assert transfer("--depth", "16", output=name) == 2
    error = capsys.readouterr().err
    assert words in error
    assert error.count("\n") == 1
    assert sorted(images.iterdir()) == before


def test_the_profile_and_the_resolution_of_the_photograph_are_kept(
    transfer: Run, images: Path, capsys: Capture
) -> None:
    profile = linear_rgb_profile()
    with PIL.Image.open(images / "photo.png") as photo:
        photo.save(images / "print.tif", icc_profile=profile, dpi=(300, 300))
    assert transfer("--profile", "keep", content="print.tif") == 0
    with PIL.Image.open(images / "out.png") as opened:
        assert opened.info["icc_profile"] == profile
        np.testing.assert_allclose(opened.info["dpi"], 300, rtol=1e-3)  # whole pixels per metre
    assert transfer(content="print.tif", output="srgb.jpg") == 0
    with PIL.Image.open(images / "srgb.jpg") as opened:
        assert opened.info["icc_profile"] != profile
        assert opened.info["dpi"] == (300, 300)
    # The same image, up to the 8 bits of linear light, whose dark steps are 13 levels of sRGB.
    difference = read_image("out.png").pixels - read_image("srgb.jpg").pixels
    assert np.abs(difference).mean() < 6
    capsys.readouterr()
    assert transfer("--profile", "keep") == 0
    assert (
        "photo.png has no embedded colour profile; the result is sRGB." in capsys.readouterr().err
    )


@pytest.mark.parametrize(
    "arguments", [("--colours", "mine"), ("--profile", "mine"), ("--depth", "x")]
)
def test_a_value_that_makes_no_sense_has_exit_code_2(
    arguments: tuple[str, str], transfer: Run, capsys: Capture
) -> None:
    with pytest.raises(SystemExit) as stop:
        transfer(*arguments)
    assert stop.value.code == 2
    assert arguments[0] in capsys.readouterr().err


def test_targets_as_inputs_take_no_colours(images: Path, capsys: Capture) -> None:
    command = ["objective", "export", "--targets", "inputs", "--alpha", "1", "-o", "a.onnx"]
    assert main([*command, "--colours", "match"]) == 2
    assert "--colours is for --targets stored" in capsys.readouterr().err
