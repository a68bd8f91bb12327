"""Jobs with masks: jobs files, reuse, and jobs that are done elsewhere."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import PIL.Image
import PIL.PngImagePlugin
import pytest

from batch.finished import assert_same_elsewhere, without_settings
from gramstyle.batch import Job
from gramstyle.batch.outcome import attempt
from gramstyle.errors import GramstyleError
from gramstyle.model import Model
from gramstyle.run.options.values import options_from

Read = Callable[[str], tuple[Job, ...]]

TABLE = '[[jobs]]\ncontent = "photos/a.png"\nstyle = ["night.png", "meadow.png"]\n'
TABLE += 'output = "out/{content}.png"\nsize = 32\niterations = 2\n'
REGIONS = 'style_regions = ["left.png", "right.png"]\nprotect = "keep.png"\n'


@pytest.fixture(autouse=True)
def masks(folder: Path) -> None:
    left = np.zeros((24, 32), np.uint8)
    left[:, :16] = 255
    keep = left.copy()
    keep[12:] = 0
    for name, mask in (("left", left), ("right", 255 - left), ("keep", keep)):
        PIL.Image.fromarray(mask).save(folder / f"{name}.png")


def test_masks_are_paths_relative_to_the_jobs_file_and_inputs_of_the_job(
    folder: Path, read: Read
) -> None:
    (job,) = read(TABLE + REGIONS)
    assert job.options.style_regions == (str(folder / "left.png"), str(folder / "right.png"))
    roles = ["content", "style", "style2", "protect", "region", "region2"]
    assert sorted(job.inputs) == sorted(roles)
    assert job.inputs["region2"] == folder / "right.png"


def test_a_placeholder_and_a_grid_name_masks(folder: Path, read: Read) -> None:
    table = TABLE.replace("{content}.png", "{protect}-{style_regions}.png")
    grid = '[jobs.grid]\nstyle_regions = [["left.png", "right.png"], "right.png, left.png"]\n'
    jobs = read(f'{table}protect = "keep.png"\n{grid}')
    assert [job.name for job in jobs] == ["out/keep-left-right.png", "out/keep-right-left.png"]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ('style_regions = ["left.png"]\n', "style_regions has 1 mask for 2 style images"),
        ('style_regions = ["left.png", "none.png"]\n', "style_regions: there is no file"),
        ("style_regions = [1, 2]\n", "style_regions must be a list of text"),
        ("protect = 1\n", "protect must be text, not 1"),
        ('content_labels = "left.png"\n', "content_labels needs style_labels"),
    ],
)
def test_masks_that_make_no_sense_are_one_line_that_names_the_job(
    lines: str, message: str, read: Read
) -> None:
    with pytest.raises(GramstyleError, match=message) as caught:
        read(TABLE + lines)
    assert str(caught.value).startswith("jobs.toml: job 1: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["style_regions", "style_labels", "content_labels", "protect"])
def test_only_python_has_masks_that_are_not_files(name: str) -> None:
    with pytest.raises(GramstyleError, match=f"{name} must be "):
        options_from({name: {"a": 1}})


def test_an_image_is_reused_unless_a_mask_changes(
    folder: Path, read: Read, tiny_model_path: Path
) -> None:
    def state(lines: str = REGIONS) -> str:
        (job,) = read(TABLE + lines)
        return attempt(job, model=tiny_model_path).state

    assert [state(), state(), state(""), state()] == ["done", "reused", "done", "done"]
    PIL.Image.new("L", (32, 24), 200).save(folder / "left.png")
    assert [state(), state()] == ["done", "reused"]
    # Another file with the same values and another name is the same mask.
    (folder / "left.png").rename(folder / "other.png")
    assert state(REGIONS.replace("left", "other")) == "reused"


def test_an_image_whose_settings_do_not_know_the_masks_is_reused(
    job: Job, tiny_model_path: Path
) -> None:
    assert attempt(job, model=tiny_model_path).state == "done"
    without_settings(job, "style_regions", "style_labels", "content_labels", "protect")
    assert attempt(job, model=tiny_model_path).state == "reused"


def test_a_job_with_masks_done_elsewhere_has_the_same_image(
    folder: Path,
    read: Read,
    tiny_model: Model,
    tiny_model_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("GRAMSTYLE_MODEL", str(tiny_model_path))
    (job,) = read(TABLE + REGIONS)
    assert_same_elsewhere(job, folder, tiny_model, tiny_model_path)
