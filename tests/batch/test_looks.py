"""Presets and recipes in a jobs file."""

from collections.abc import Callable
from pathlib import Path

import pytest

from gramstyle import GramstyleError, preset
from gramstyle.batch import Job, read_jobs
from gramstyle.run.presets import PRESETS

Read = Callable[[str], tuple[Job, ...]]
IMAGES = 'content = "photos/a.png"\nstyle = "night.png"\n'


def test_a_job_may_name_a_preset_whose_values_its_own_replace(read: Read) -> None:
    (job,) = read(f'[[jobs]]\n{IMAGES}output = "out/{{preset}}.png"\npreset = "fast"\nsize = 32')
    assert job.options == preset("fast", size=32)
    assert job.name == "out/fast.png"


def test_the_jobs_of_a_grid_may_differ_in_their_presets(read: Read) -> None:
    names = list(PRESETS)
    jobs = read(f'[[jobs]]\n{IMAGES}output = "out/{{preset}}.png"\n[jobs.grid]\npreset = {names}')
    assert [job.options for job in jobs] == [preset(name) for name in names]


def test_values_of_the_file_come_before_its_recipe_and_that_before_the_presets(
    read: Read, folder: Path
) -> None:
    (folder / "looks").mkdir()
    (folder / "looks/oil.toml").write_text('preset = "fast"\nsize = 96\ntv = 2\nalpha = 0.5')
    (job,) = read(
        f'[defaults]\nrecipe = "looks/oil.toml"\ncontent_strength = 2\n'
        f'[[jobs]]\n{IMAGES}output = "out/{{recipe}}.png"\ntv = 3'
    )
    assert job.options == preset("fast", size=96, tv=3, content_strength=2)
    assert job.name == "out/oil.png"


def test_a_job_takes_the_images_that_it_does_not_name_from_its_recipe(
    read: Read, folder: Path
) -> None:
    (folder / "looks").mkdir()
    (folder / "looks/oil.toml").write_text(
        'content = "../photos/b.png"\nstyle = ["../night.png", "../meadow.png"]\n'
        'init = "../photos/c.png"'
    )
    (job,) = read('[[jobs]]\nrecipe = "looks/oil.toml"\noutput = "out/{content}.png"')
    assert job.content == folder / "photos/b.png"
    assert job.styles == (folder / "night.png", folder / "meadow.png")
    assert job.inputs["init"] == folder / "photos/c.png"
    (own,) = read('[[jobs]]\nrecipe = "looks/oil.toml"\ncontent = "photos/a.png"\n'
                  'output = "out/x.png"')  # fmt: skip
    assert own.content == folder / "photos/a.png"


WRONG = {
    'preset = "fist"': "job 1: there is no preset 'fist'; did you mean fast?",
    "preset = 3": "job 1: there is no preset 3",
    "recipe = 3": "job 1: recipe must be text",
    'recipe = ""': "job 1: recipe is not a path",
    'recipe = "none.toml"': "none.toml: No such file",
    'recipe = "wrong.toml"': "job 1: wrong.toml: size must be a whole number",
    'recipe = "machine.toml"': "job 1: machine.toml: threads is not an option of a recipe",
}


@pytest.mark.parametrize(("line", "words"), WRONG.items())
def test_a_wrong_preset_or_recipe_is_refused_in_one_line(
    line: str, words: str, read: Read, folder: Path
) -> None:
    (folder / "wrong.toml").write_text('size = "big"')
    (folder / "machine.toml").write_text("threads = 2")
    with pytest.raises(GramstyleError) as refused:
        read(f'[[jobs]]\n{IMAGES}output = "out/a.png"\n{line}')
    assert words in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_placeholder_needs_the_preset_that_it_names(read: Read) -> None:
    with pytest.raises(GramstyleError, match="the job has no preset"):
        read(f'[[jobs]]\n{IMAGES}output = "out/{{preset}}.png"')


def test_the_device_of_the_batch_replaces_an_engine_that_does_not_run_on_it(folder: Path) -> None:
    (folder / "r.toml").write_text('engine = "winograd"')
    (folder / "jobs.toml").write_text(f'[[jobs]]\n{IMAGES}output = "out/a.png"\nrecipe = "r.toml"')
    (job,) = read_jobs(folder / "jobs.toml", machine={"device": "cuda"})
    assert (job.options.device, job.options.runs_on) == ("cuda", "cupy")
    (job,) = read_jobs(folder / "jobs.toml")
    assert job.options.runs_on == "winograd"
