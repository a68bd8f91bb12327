"""Jobs with several style images: jobs files, reuse, and jobs that are done elsewhere."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import PIL.Image
import PIL.PngImagePlugin
import pytest

from batch.finished import assert_same_elsewhere, without_settings
from gramstyle.batch import Job
from gramstyle.batch.outcome import attempt
from gramstyle.errors import GramstyleError
from gramstyle.images import read_settings
from gramstyle.model import Model

Read = Callable[[str], tuple[Job, ...]]

TABLE = '[[jobs]]\ncontent = "photos/a.png"\noutput = "out/{content}-{style}.png"\nsize = 32\n'
TABLE += "iterations = 2\n"
BOTH = 'style = ["night.png", "meadow.png"]\n'


def test_a_list_of_styles_is_one_job_named_by_all(folder: Path, read: Read) -> None:
    (job,) = read(f"{TABLE}{BOTH}style_blend = [3, 1]\nstyle_scale = 0.5\n")
    assert job.styles == (folder / "night.png", folder / "meadow.png")
    assert job.name == "out/a-night+meadow.png"
    assert list(job.inputs) == ["content", "style", "style2"]
    assert job.options.style_shares(2) == (0.75, 0.25)
    assert job.options.style_scales == (0.5,)


def test_a_grid_has_lists_of_styles_beside_single_ones(read: Read) -> None:
    jobs = read(
        TABLE.replace("{style}", "{style}-{style_scale}")
        + '[jobs.grid]\nstyle = ["night.png", ["night.png", "meadow.png"]]\n'
        "style_scale = [[0.5, 1], 2]\n"
    )
    assert [job.name for job in jobs] == [
        "out/a-night-0.5-1.png",
        "out/a-night-2.png",
        "out/a-night+meadow-0.5-1.png",
        "out/a-night+meadow-2.png",
    ]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("style = []\n", "style must have from 1 to 64 images, not 0"),
        ('style = ["night.png", 3]\n', "style must be text, not 3"),
        ('style = ["*.png"]\n', "'\\*.png' is a pattern, and a list is blended in one image"),
        ('style = ["night.png", "none.png"]\n', "there is no file"),
        (BOTH + "style_blend = [1]\n", "style_blend has 1 numbers for 2 style images"),
        (BOTH + "style_blend = [1, 0]\n", "each number of style_blend must be above 0"),
        (BOTH + "style_scale = 1\nstyle_size = 9\n", "give style_scale or style_size, not both"),
    ],
)
def test_styles_that_make_no_sense_are_one_line_that_names_the_job(
    lines: str, message: str, read: Read
) -> None:
    with pytest.raises(GramstyleError, match=message) as caught:
        read(TABLE + lines)
    assert str(caught.value).startswith("jobs.toml: job 1: ")
    assert "\n" not in str(caught.value)


def test_an_image_of_several_styles_is_reused_unless_one_of_them_changes(
    folder: Path, read: Read, tiny_model_path: Path
) -> None:
    def state(lines: str = BOTH) -> str:
        (job,) = read(TABLE + lines)
        return attempt(job, model=tiny_model_path).state

    assert [state(), state()] == ["done", "reused"]
    assert state(BOTH + "style_blend = [2, 1]\n") == "done"
    assert state(BOTH + "style_blend = [2, 1]\nstyle_scale = [1, 1.5]\n") == "done"
    assert [state(), state(BOTH + "style_blend = [5, 5]\n")] == ["done", "reused"]
    PIL.Image.new("RGB", (32, 24), "red").save(folder / "meadow.png")
    assert state() == "done"
    (job,) = read(TABLE + BOTH)
    settings = read_settings(job.output)
    assert settings is not None
    assert [each["name"] for each in settings["style"]] == ["night.png", "meadow.png"]


def test_an_image_whose_settings_do_not_know_the_options_of_the_style_is_reused(
    job: Job, tiny_model_path: Path
) -> None:
    assert attempt(job, model=tiny_model_path).state == "done"
    without_settings(job, "style_loss", "style_blend", "style_scale", "style_size")
    assert attempt(job, model=tiny_model_path).state == "reused"
    other = replace(job, options=replace(job.options, style_scale=1.5))
    assert attempt(other, model=tiny_model_path).state == "done"


def test_a_reconstruction_of_a_style_at_another_scale_is_reused(
    job: Job, tiny_model_path: Path
) -> None:
    options = replace(job.options, style_scale=1.5, init="noise")
    reconstruction = replace(job, content=None, options=options)
    states = [attempt(reconstruction, model=tiny_model_path).state for _ in range(2)]
    assert states == ["done", "reused"]


def test_a_job_with_several_styles_done_elsewhere_has_the_same_image(
    folder: Path,
    read: Read,
    tiny_model: Model,
    tiny_model_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("GRAMSTYLE_MODEL", str(tiny_model_path))
    (job,) = read(f"{TABLE}{BOTH}style_blend = [3, 1]\n")
    assert_same_elsewhere(job, folder, tiny_model, tiny_model_path)
