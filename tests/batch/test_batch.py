"""Batches: the jobs file and what is refused in it, doing the jobs, going on, and jobs as bytes."""

import json
import multiprocessing
import os
import pickle
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gramstyle.batch import (
    Change,
    Job,
    Outcome,
    attempt,
    check_layers,
    one_by_one,
    read_jobs,
    run_jobs,
    side_by_side,
)
from gramstyle.batch.expanding import MAX_JOBS
from gramstyle.batch.payload import accept, pack, run_remote
from gramstyle.batch.reading import MAX_BYTES
from gramstyle.errors import GramstyleError, OptionError
from gramstyle.images import read_settings
from gramstyle.model.onnx_file import Model
from gramstyle.run.options import Options
from gramstyle.run.transfer import Progress, chart, transfer

Read = Callable[[str], tuple[Job, ...]]

BRIEF = "size = 32\niterations = 2\n"
ONE = '[[jobs]]\ncontent = "photos/a.png"\nstyle = "night.png"\n'


@pytest.fixture
def folder(tmp_path: Path, rng: np.random.Generator) -> Path:
    """Three photographs, two paintings, and a place for results."""
    (tmp_path / "photos").mkdir()
    (tmp_path / "out").mkdir()
    for name in ("photos/a.png", "photos/b.png", "photos/c.png", "night.png", "meadow.png"):
        PIL.Image.fromarray(rng.integers(0, 256, (24, 32, 3), np.uint8)).save(tmp_path / name)
    (tmp_path / "photos/readme.txt").write_text("no image")
    return tmp_path


@pytest.fixture
def read(folder: Path) -> Read:
    """Read a jobs file with this text."""

    def read_text(text: str) -> tuple[Job, ...]:
        (folder / "jobs.toml").write_text(text, encoding="utf-8")
        return read_jobs(folder / "jobs.toml")

    return read_text


def three(read: Read, more: str = BRIEF) -> tuple[Job, ...]:
    return read(
        '[[jobs]]\ncontent = "photos/*"\nstyle = "night.png"\n'
        f'output = "out/{{content}}.png"\n{more}'
    )


def written(folder: Path) -> set[str]:
    return {path.name for path in (folder / "out").iterdir()}


# The jobs file


def test_a_job_has_the_files_options_over_the_defaults_of_all(folder: Path, read: Read) -> None:
    (job,) = read(
        '[defaults]\nsize = 32\nseed = 7\nstyle = "night.png"\nstyle_layers = ["conv1_1"]\n'
        '[[jobs]]\ncontent = "photos/a.png"\noutput = "out/a.png"\nsize = 48\nalpha = 1\n'
        'init = "meadow.png"\n'
    )
    start = str(folder / "meadow.png")
    assert job.options == Options(size=48, seed=7, style_layers=("conv1_1",), alpha=1.0, init=start)
    assert isinstance(job.options.alpha, float)
    assert job.content == folder / "photos/a.png"
    assert job.style == folder / "night.png"
    assert job.output == folder / "out/a.png"
    assert job.name == "out/a.png"


def test_paths_are_those_of_the_files_folder_wherever_one_stands(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "jobs.toml").write_text(ONE + 'output = "out/a.png"\n')
    monkeypatch.chdir(folder / "photos")
    (job,) = read_jobs(Path("../jobs.toml"))
    assert job.content == folder / "photos/a.png"
    assert job.output.is_absolute()


def test_a_pattern_is_a_job_for_each_image_in_order_and_for_nothing_else(read: Read) -> None:
    assert [job.content.name for job in three(read)] == ["a.png", "b.png", "c.png"]


def test_a_file_that_is_called_like_a_pattern_is_that_file(folder: Path, read: Read) -> None:
    (folder / "photos/a.png").rename(folder / "photos/[a].png")
    (job,) = read(ONE.replace("a.png", "[a].png") + 'output = "out/x.png"\n')
    assert job.content.name == "[a].png"


def test_a_pattern_is_read_literally_where_the_folder_of_the_file_has_brackets(
    folder: Path, read: Read
) -> None:
    other = folder / "[x]"
    other.mkdir()
    for name in ("photos", "out", "night.png"):
        (folder / name).rename(other / name)
    (other / "jobs.toml").write_text(
        '[[jobs]]\ncontent = "photos/?.png"\nstyle = "night.png"\noutput = "out/{content}.png"\n'
    )
    assert len(read_jobs(other / "jobs.toml")) == 3


def test_a_grid_is_every_combination_named_by_its_output(read: Read) -> None:
    jobs = read(
        '[[jobs]]\noutput = "out/{folder}-{content}-{style}-{alpha}-{size}-{style_layers}.png"\n'
        '[jobs.grid]\ncontent = ["photos/[ab].png"]\nstyle = ["night.png", "meadow.png"]\n'
        'alpha = [1.25e-5, 2]\nsize = [32]\nstyle_layers = [["conv1_1"], ["conv1_1", "conv2_1"]]\n'
    )
    expected = [
        f"out/photos-{content}-{style}-{alpha}-32-{layers}.png"
        for content in "ab"
        for style in ("night", "meadow")
        for alpha in ("1.25e-05", "2")
        for layers in ("conv1_1", "conv1_1-conv2_1")
    ]
    assert [job.name for job in jobs] == expected
    assert jobs[1].options == Options(alpha=1.25e-5, size=32, style_layers=("conv1_1", "conv2_1"))


def test_a_grid_goes_over_the_defaults(read: Read) -> None:
    jobs = read(
        f'[defaults]\nseed = 9\n{ONE}output = "out/{{seed}}.png"\n[jobs.grid]\nseed = [1, 2]\n'
    )
    assert [job.options.seed for job in jobs] == [1, 2]


OUT = 'output = "out/a.png"\n'
BAD = {
    "no jobs": ("", "no jobs; begin each with a line [[jobs]]"),
    "jobs as a table": ('[jobs]\ncontent = "a"\n', "no jobs; begin each with a line [[jobs]]"),
    "jobs as numbers": ("jobs = [1]", "job 1: jobs must be a table, not 1"),
    "defaults as a list": ("[[defaults]]\nsize = 3\n" + ONE + OUT, "defaults must be a table"),
    "a table misspelt": ("[default]\n", "unknown key 'default'; did you mean defaults?"),
    "a key misspelt": (
        ONE + OUT + "iteration = 3\n",
        "job 1: unknown key 'iteration'; did you mean iterations?",
    ),
    "a default misspelt": (
        "[defaults]\nsise = 3\n" + ONE + OUT,
        "defaults: unknown key 'sise'; did you mean size?",
    ),
    "a grid's key misspelt": (
        ONE + OUT + "[jobs.grid]\nalpa = [1]\n",
        "job 1: grid: unknown key 'alpa'; did you mean alpha?",
    ),
    "a key of a megabyte": (f"{'k' * 1_000_000} = 1\n", "unknown key 'kkkkk"),
    "the second table": (
        ONE + OUT + ONE + 'output = "out/b.png"\nsize = 0\n',
        "job 2: size must be at least 1, not 0",
    ),
    "text for a number": (
        ONE + OUT + 'size = "big"\n',
        "job 1: size must be a whole number, not 'big'",
    ),
    "a bool for a number": (ONE + OUT + "size = true\n", "size must be a whole number, not True"),
    "a float for a whole number": (
        ONE + OUT + "size = 512.0\n",
        "size must be a whole number, not 512.0",
    ),
    "a date": (ONE + OUT + "alpha = 2026-11-24\n", "alpha must be a number, not datetime"),
    "a number past all floats": (
        ONE + OUT + f"alpha = 1{'0' * 400}\n",
        "alpha must be a number, not 1000",
    ),
    "a number past Python's": (ONE + OUT + f"size = {'1' * 5000}\n", "is not TOML"),
    "infinite": (ONE + OUT + "alpha = inf\n", "alpha must be a number from 0 upwards, not inf"),
    "text for a list": (
        ONE + OUT + 'style_layers = "conv1_1"\n',
        "style_layers must be a list, each item text, not 'conv1_1'",
    ),
    "a list of numbers for one of names": (
        ONE + OUT + "style_layers = [1]\n",
        "style_layers must be a list, each item text",
    ),
    "a list where one value belongs": (
        ONE + OUT + "seed = [1, 2]\n",
        "seed must be a whole number, not [1, 2]",
    ),
    "a number for a name": (ONE + OUT + "engine = 3\n", "engine must be text, not 3"),
    "no such engine": (ONE + OUT + 'engine = "steam"\n', "engine must be one of"),
    "no style": (
        '[[jobs]]\ncontent = "photos/a.png"\n' + OUT,
        "job 1: it has no style; add a line style",
    ),
    "no output": (ONE, "job 1: it has no output"),
    "content is a number": (
        '[[jobs]]\ncontent = 3\nstyle = "night.png"\n' + OUT,
        "content must be text, not 3",
    ),
    "content is nowhere": (
        '[[jobs]]\ncontent = "x.png"\nstyle = "night.png"\n' + OUT,
        "job 1: content: there is no file",
    ),
    "content is a folder": (
        '[[jobs]]\ncontent = "photos"\nstyle = "night.png"\n' + OUT,
        "is a folder; write .../* for its images",
    ),
    "content is a NUL": (
        '[[jobs]]\ncontent = "a\\u0000"\nstyle = "night.png"\n' + OUT,
        "is no path",
    ),
    "content is a very long name": (
        f'[[jobs]]\ncontent = "{"x" * 5000}"\nstyle = "night.png"\n' + OUT,
        "content: cannot read",
    ),
    "a pattern without images": (
        '[[jobs]]\ncontent = "out/*"\nstyle = "night.png"\n' + OUT,
        "content: there is no image 'out/*'",
    ),
    "a pattern of all folders": (
        '[[jobs]]\ncontent = "**/*"\nstyle = "night.png"\n' + OUT,
        "** is not known",
    ),
    "a start that is nowhere": (ONE + OUT + 'init = "x.png"\n', "job 1: init: there is no file"),
    "a grid that is a list": (ONE + OUT + "grid = [1]\n", "grid must be a table"),
    "a grid without a list": (
        ONE + OUT + "[jobs.grid]\nalpha = 1\n",
        "job 1: grid: alpha must be a list of values, not 1",
    ),
    "an empty grid": (
        ONE + OUT + "[jobs.grid]\nalpha = []\n",
        "alpha must be a list of values, not []",
    ),
    "a key in job and grid": (
        ONE + OUT + "seed = 1\n[jobs.grid]\nseed = [1]\n",
        "seed stands in the job and in its grid",
    ),
    "a grid of outputs": (
        ONE + OUT + '[jobs.grid]\noutput = ["a"]\n',
        "grid: unknown key 'output'",
    ),
    "a grid in a grid": (ONE + OUT + "[jobs.grid.grid]\nseed = [1]\n", "grid: unknown key 'grid'"),
    "a grid too large": (
        ONE
        + OUT
        + "[jobs.grid]\n"
        + "".join(
            f"{name} = {list(range(1, 1000))}\n"
            for name in ("seed", "size", "memory", "iterations", "threads", "alpha", "beta")
        ),
        f"more than {MAX_JOBS:,} combinations",
    ),
    "one output of many": (
        ONE + OUT + "[jobs.grid]\nseed = [1, 2]\n",
        "job 1: more than one image would be 'out/a.png'",
    ),
    "one output of two jobs": (
        (ONE + OUT) * 2,
        "job 1 and job 2: more than one image would be 'out/a.png'",
    ),
    "one output by two names": (
        ONE + OUT + ONE + 'output = "out/../out/a.png"\n',
        "job 1 and job 2",
    ),
    "an output that is read": (
        ONE + 'output = "night.png"\n',
        "job 1: 'night.png': it is one of the images to read",
    ),
    "an output that another reads": (
        ONE + 'output = "photos/b.png"\n' + ONE.replace("a.png", "b.png") + OUT,
        "it is one of the images to read",
    ),
    "an output among the pattern's": (
        '[[jobs]]\ncontent = "photos/*"\nstyle = "night.png"\noutput = "photos/{content}-n.jpg"\n',
        "would be one of the images of '*' the next time",
    ),
    "an output of no format": (ONE + 'output = "out/a.txt"\n', "extension '.txt' is unknown"),
    "an output in no folder": (ONE + 'output = "nowhere/a.png"\n', "there is no folder"),
    "an output that is a folder": (ONE + 'output = "out"\n', "out' is not a file"),
    "an empty output": (ONE + 'output = ""\n', "output is no path"),
    "an unknown place": (
        ONE + 'output = "out/{sise}.png"\n',
        "unknown key 'sise'; did you mean size?",
    ),
    "a place without a value": (ONE + 'output = "out/{alpha}.png"\n', "the job says no alpha"),
    "a place by number": (ONE + 'output = "out/{}.png"\n', "unknown key ''"),
    "a place that reaches in": (
        ONE + 'output = "out/{content.parent}.png"\n',
        "unknown key 'content.parent'",
    ),
    "a place of a gigabyte": (
        ONE + 'output = "out/{size:1000000000}.png"\n',
        "with nothing behind it",
    ),
    "half a place": (ONE + 'output = "out/{size.png"\n', "write {{ for a brace"),
    "TOML that ends early": ("[[jobs]\n", "is not TOML"),
    "a key twice": ("[defaults]\nsize = 1\nsize = 2\n", "is not TOML"),
    "nested without end": ("a = " + "[" * 100_000, "nested too deeply"),
    "nested deeply": (
        ONE + OUT + f"seed = {'[' * 100}{']' * 100}\n",
        "seed must be a whole number, not [[[[[[",
    ),
    "a number past TOML's": (
        ONE + OUT + f"size = 0x{'f' * 10_000}\n",
        "size must be a whole number, not a number of thousands",
    ),
    "a line break in a name": (
        '[[jobs]]\ncontent = "a\\nb"\nstyle = "night.png"\n' + OUT,
        "there is no file",
    ),
    "a line break in two outputs": (
        (ONE + 'output = "out/a\\nb.png"\n') * 2,
        "would be 'out/a\\nb.png'",
    ),
}


@pytest.mark.parametrize("text", BAD.values(), ids=BAD)
def test_a_jobs_file_that_makes_no_sense_is_refused_in_one_line(
    read: Read, text: tuple[str, str]
) -> None:
    with pytest.raises(GramstyleError) as caught:
        read(text[0])
    line = str(caught.value)
    assert text[1] in line
    assert "jobs.toml" in line
    assert "\n" not in line
    # A line that a terminal shows in a few rows; the longest of these names every option.
    assert len(line) < 800


@pytest.mark.parametrize("data", [b"\xff\xfe\x00a", bytes(range(256)), b"PK\x03\x04" + bytes(99)])
def test_a_file_that_is_no_text_is_refused(folder: Path, data: bytes) -> None:
    (folder / "jobs.toml").write_bytes(data)
    with pytest.raises(GramstyleError, match=r"jobs\.toml is not TOML"):
        read_jobs(folder / "jobs.toml")


def test_a_huge_file_is_refused_before_it_is_parsed(folder: Path) -> None:
    with (folder / "jobs.toml").open("wb") as file:
        file.truncate(100 * MAX_BYTES)
    with pytest.raises(GramstyleError, match="larger than 4,000,000 bytes"):
        read_jobs(folder / "jobs.toml")


def test_what_is_no_file_is_refused(folder: Path) -> None:
    os.mkfifo(folder / "pipe")  # opening it would wait for ever
    for name in ("pipe", "photos"):
        with pytest.raises(GramstyleError, match=f"{name}: it is not a file"):
            read_jobs(folder / name)
    with pytest.raises(GramstyleError, match=r"nowhere\.toml: No such file"):
        read_jobs(folder / "nowhere.toml")
    with pytest.raises(GramstyleError, match="check the path"):
        read_jobs(Path("a\0b"))


def test_a_hard_link_to_an_input_is_no_output(folder: Path, read: Read) -> None:
    (folder / "out/a.png").hardlink_to(folder / "photos/a.png")
    with pytest.raises(GramstyleError, match="it is one of the images to read"):
        read(ONE + OUT)


def test_an_image_of_somebody_else_is_not_overwritten(folder: Path, read: Read) -> None:
    (folder / "out/a.png").write_bytes((folder / "meadow.png").read_bytes())
    with pytest.raises(GramstyleError, match=r"job 1: 'out/a\.png': .*is none of this batch's"):
        read(ONE + OUT)


def test_layers_that_the_network_lacks_are_found_before_the_first_job(
    read: Read, tiny_model_path: Path
) -> None:
    jobs = read(ONE + OUT + ONE + 'output = "out/b.png"\nstyle_layers = ["conv9_1"]\n')
    check_layers(jobs[:1], tiny_model_path)
    with pytest.raises(OptionError, match="job 2: unknown layer 'conv9_1'"):
        check_layers(jobs, tiny_model_path)


KEYS = st.sampled_from(
    ["content", "style", "output", "grid", "size", "alpha", "style_layers", "init", "tf32", "x"]
)
VALUES = st.recursive(
    st.one_of(
        st.booleans(),
        st.integers(),
        st.floats(),
        st.sampled_from(
            ["photos/a.png", "photos/*", "night.png", "out/{size}.png", "{", "/", "noise"]
        ),
        st.text(max_size=8),
    ),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=8,
)


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.dictionaries(KEYS, VALUES, max_size=5), st.dictionaries(KEYS, VALUES, max_size=3))
def test_whatever_the_tables_hold_there_are_jobs_or_one_line(
    folder: Path, table: dict[str, object], defaults: dict[str, object]
) -> None:
    # Past TOML's own grammar, which is Python's part.
    import gramstyle.batch.reading as reading

    document = {"defaults": defaults, "jobs": [{**table}]}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reading, "_document", lambda _: document)
        line, jobs = "", ()
        try:
            jobs = read_jobs(folder / "jobs.toml")
        except GramstyleError as error:
            line = str(error)
    assert "\n" not in line
    assert bool(line) != bool(jobs)


# Doing the jobs


def test_a_job_is_the_transfer_of_the_same_options_and_carries_its_settings(
    read: Read, tiny_model_path: Path
) -> None:
    (job,) = read(ONE + OUT + BRIEF)
    outcome = attempt(job, model=tiny_model_path)
    expected = transfer(job.content, job.style, job.options, model=tiny_model_path)
    with PIL.Image.open(job.output) as image:
        assert image.tobytes() == expected.image.tobytes()
    assert outcome.state == "made"
    assert outcome.loss == expected.record.summary["loss"]
    assert outcome.reason == expected.record.reason
    found = read_settings(job.output)
    assert found is not None
    assert found["content"]["name"] == "a.png"
    assert found["result"]["iterations"] == 2


def test_every_job_is_told_of_with_how_many_are_done(read: Read, tiny_model_path: Path) -> None:
    jobs, seen, iterations = three(read), list[Change](), list[tuple[str, int]]()

    def count(job: Job, progress: Progress) -> None:
        iterations.append((job.name, progress.losses.iteration))

    def execute(jobs: tuple[Job, ...], /) -> object:
        return one_by_one(jobs, model=tiny_model_path, callback=count)

    outcomes = run_jobs(jobs, execute=execute, on_change=seen.append)
    assert [(change.done, change.jobs) for change in seen] == [(1, 3), (2, 3), (3, 3)]
    assert tuple(change.outcome for change in seen) == outcomes
    assert [outcome.job for outcome in outcomes] == list(jobs)
    assert iterations == [(job.name, i) for job in jobs for i in (1, 2)]


def here(model: Path) -> Callable[..., object]:
    return lambda jobs: one_by_one(jobs, model=model)


def test_a_batch_that_was_stopped_goes_on_with_the_jobs_that_are_missing(
    folder: Path, read: Read, tiny_model_path: Path
) -> None:
    jobs = three(read)

    def stop(change: Change) -> None:
        if change.done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_jobs(jobs, execute=here(tiny_model_path), on_change=stop)
    assert written(folder) == {"a.png", "b.png"}
    times = {path: path.stat().st_mtime_ns for path in (folder / "out").iterdir()}
    outcomes = run_jobs(three(read), execute=here(tiny_model_path))
    assert [outcome.state for outcome in outcomes] == ["kept", "kept", "made"]
    assert {path: path.stat().st_mtime_ns for path in times} == times
    again = run_jobs(jobs, execute=here(tiny_model_path))
    assert [(outcome.state, outcome.loss) for outcome in again] == [
        ("kept", outcome.loss) for outcome in outcomes
    ]


def test_ctrl_c_in_the_middle_of_a_job_is_no_outcome_and_leaves_nothing_of_it(
    folder: Path, read: Read, tiny_model_path: Path
) -> None:
    def stop(progress: Progress) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        attempt(three(read)[0], model=tiny_model_path, callback=stop)
    assert written(folder) == set()


@pytest.mark.parametrize("change", ["seed", "alpha", "photograph", "painting", "torn", "threads"])
def test_an_image_is_kept_only_where_it_would_be_made_in_the_same_way(
    read: Read, tiny_model_path: Path, change: str, rng: np.random.Generator
) -> None:
    (job,) = read(ONE + OUT + BRIEF)
    attempt(job, model=tiny_model_path)
    image = {"photograph": job.content, "painting": job.style}.get(change)
    if image is not None:
        PIL.Image.fromarray(rng.integers(0, 256, (24, 32, 3), np.uint8)).save(image)
    elif change == "torn":
        job.output.write_bytes(job.output.read_bytes()[:-200])
    else:
        value = {"seed": 1, "alpha": 0.5, "threads": 1}[change]
        job = replace(job, options=replace(job.options, **{change: value}))
    expected = "kept" if change == "threads" else "made"
    assert attempt(job, model=tiny_model_path).state == expected
    assert attempt(job, model=tiny_model_path).state == "kept"


def test_a_jobs_image_is_kept_when_its_inputs_are_renamed(
    read: Read, folder: Path, tiny_model_path: Path
) -> None:
    (job,) = read(ONE + OUT + BRIEF)
    attempt(job, model=tiny_model_path)
    moved = job.content.rename(folder / "photos/z.png")
    assert attempt(replace(job, content=moved), model=tiny_model_path).state == "kept"


def no_plan(*_: object, **__: object) -> object:
    raise AssertionError("an image was decoded")


def test_an_image_is_known_again_by_its_files_without_decoding_them(
    read: Read, folder: Path, tiny_model_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (job,) = read(ONE + OUT + BRIEF + 'init = "meadow.png"\n')
    attempt(job, model=tiny_model_path)
    same = replace(job, options=replace(job.options, threads=1, memory=10**10))
    with monkeypatch.context() as patch:
        patch.setattr("gramstyle.batch.attempt.plan", no_plan)
        assert attempt(same, model=tiny_model_path).state == "kept"
    # Painting and start change places.
    options = replace(job.options, init=str(job.style.rename(folder / "other.png")))
    (folder / "meadow.png").rename(job.style)
    assert attempt(replace(job, options=options), model=tiny_model_path).state == "made"


def encoded_anew(path: Path) -> None:
    before = path.read_bytes()
    with PIL.Image.open(path) as image:
        image.load()
        image.save(path, compress_level=0)
    assert path.read_bytes() != before


@pytest.mark.parametrize("change", [None, "photos/a.png", "night.png"])
def test_an_image_made_in_less_memory_is_kept_and_so_is_one_of_the_same_pixels(
    read: Read, folder: Path, tiny_model_path: Path, change: str | None
) -> None:
    (job,) = read(ONE + OUT + BRIEF)
    # Too little for a whole image, beside what a process takes for itself.
    small = replace(job, options=replace(job.options, memory=601_000_000))
    assert attempt(small, model=tiny_model_path).state == "made"
    found = read_settings(job.output)
    assert found is not None
    assert found["tile"] is not None
    if change is not None:
        encoded_anew(folder / change)
    assert attempt(job, model=tiny_model_path).state == "kept"
    # What is asked for is not left to the machine.
    for option in ({"tile": 512}, {"optimiser": "lbfgsb"}):
        other = replace(job, options=replace(job.options, **option))
        assert attempt(other, model=tiny_model_path).state == "made"


def test_an_image_from_a_file_that_was_exchanged_meanwhile_is_not_known_by_it(
    read: Read, folder: Path, tiny_model_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (job,) = read(ONE + OUT + BRIEF)
    before = job.content.read_bytes()

    def exchange(*arguments: object, **more: object) -> object:
        job.content.write_bytes((folder / "photos/b.png").read_bytes())
        return chart(*arguments, **more)

    with monkeypatch.context() as patch:
        patch.setattr("gramstyle.batch.attempt.chart", exchange)
        assert attempt(job, model=tiny_model_path).state == "made"
    job.content.write_bytes(before)
    assert attempt(job, model=tiny_model_path).state == "made"
    assert attempt(job, model=tiny_model_path).state == "kept"


def test_an_image_of_an_earlier_version_is_known_by_its_pixels(
    read: Read, tiny_model_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (job,) = read(ONE + OUT + BRIEF)
    attempt(job, model=tiny_model_path)
    monkeypatch.setattr("gramstyle.batch.fingerprint.installed_version", lambda: "9.9")
    assert attempt(job, model=tiny_model_path).state == "kept"
    monkeypatch.setattr("gramstyle.batch.attempt.plan", no_plan)
    assert "an image was decoded" in attempt(job, model=tiny_model_path).reason


@pytest.mark.parametrize(
    ("trouble", "at_once"),
    [("nonsense", 1), ("tiny", 1), ("overflow", 1), ("gone", 1), ("nonsense", 2)],
)
def test_one_bad_job_does_not_stop_the_others(
    folder: Path, read: Read, tiny_model_path: Path, trouble: str, at_once: int
) -> None:
    jobs = three(read)
    bad = folder / "photos/b.png"
    words = {
        "nonsense": "is not an image of a known format",
        "tiny": "too small",
        "overflow": "not finite",
        "gone": "there is no such file",
    }[trouble]
    if trouble == "nonsense":
        bad.write_bytes(b"nonsense")
    elif trouble == "tiny":
        PIL.Image.new("RGB", (32, 1)).save(bad)
    elif trouble == "gone":
        bad.unlink()
    else:
        options = replace(jobs[1].options, beta=1e308, iterations=50)
        jobs = (jobs[0], replace(jobs[1], options=options), jobs[2])

    def several(jobs: tuple[Job, ...], /) -> object:
        return side_by_side(jobs, model=tiny_model_path, at_once=2)

    with np.errstate(all="ignore"):  # as the program does
        outcomes = run_jobs(jobs, execute=here(tiny_model_path) if at_once == 1 else several)
    states = {outcome.job.name: outcome.state for outcome in outcomes}
    assert states == {"out/a.png": "made", "out/b.png": "failed", "out/c.png": "made"}
    (reason,) = [outcome.reason for outcome in outcomes if outcome.state == "failed"]
    assert words in reason
    assert "mistake" not in reason
    assert "\n" not in reason
    assert written(folder) == {"a.png", "c.png"}


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (MemoryError(), "not enough memory"),
        (ValueError("two\nlines"), "ValueError: two lines; this is a mistake in gramstyle"),
    ],
)
def test_what_nobody_foresaw_is_an_outcome_too(
    read: Read,
    tiny_model_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
    words: str,
) -> None:
    def fail(*_: object, **__: object) -> object:
        raise error

    monkeypatch.setattr("gramstyle.batch.attempt.climb", fail)
    outcome = attempt(three(read)[0], model=tiny_model_path)
    assert outcome.state == "failed"
    assert words in outcome.reason


def test_several_at_once_give_the_images_of_one_by_one(
    folder: Path, read: Read, tiny_model_path: Path
) -> None:
    jobs = three(read)[:2]
    run_jobs(jobs, execute=here(tiny_model_path))
    one = {job.output: PIL.Image.open(job.output).tobytes() for job in jobs}
    for job in jobs:
        job.output.unlink()
    outcomes = list(side_by_side(jobs, model=tiny_model_path, at_once=2))
    assert {outcome.job for outcome in outcomes} == set(jobs)
    assert {job.output: PIL.Image.open(job.output).tobytes() for job in jobs} == one


class Fatal(type(Path())):  # type: ignore[misc]
    """A path that ends the process that reads from it."""

    def __fspath__(self) -> str:
        os._exit(9)


def test_a_process_that_dies_is_a_job_that_failed(read: Read, tiny_model_path: Path) -> None:
    first, second, _ = three(read)
    jobs = [replace(first, content=Fatal(first.content)), second]
    outcomes = {outcome.job.name: outcome for outcome in side_by_side(
        jobs, model=tiny_model_path, at_once=2
    )}  # fmt: skip
    assert "its process ended with code 9" in outcomes["out/a.png"].reason
    assert outcomes["out/b.png"].state == "made"


def test_a_batch_that_is_stopped_closes_what_executes_it(read: Read) -> None:
    closed: list[bool] = []

    def execute(jobs: tuple[Job, ...], /) -> object:
        try:
            for job in jobs:
                yield Outcome(job, "made", 0.0, "")
        finally:
            closed.append(True)

    def stop(change: Change) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_jobs(three(read), execute=execute, on_change=stop)
    assert closed == [True]


def test_closing_what_works_side_by_side_ends_its_processes(
    read: Read, tiny_model_path: Path
) -> None:
    # So many iterations that the second is at work when the first has failed.
    bad, good, _ = three(read, "size = 32\niterations = 1000000\n")
    bad = replace(bad, content=bad.content.with_name("readme.txt"))
    working = side_by_side([bad, good], model=tiny_model_path, at_once=2)
    assert next(working).state == "failed"
    assert len(multiprocessing.active_children()) == 1
    working.close()
    assert multiprocessing.active_children() == []


def test_fewer_than_one_at_once_is_refused(read: Read, tiny_model_path: Path) -> None:
    with pytest.raises(OptionError, match="at least 1, not 0"):
        next(side_by_side(three(read), model=tiny_model_path, at_once=0))


def test_jobs_and_outcomes_cross_between_processes(read: Read) -> None:
    outcome = Outcome(three(read)[0], "made", 1.0, "", 2.0)
    assert pickle.loads(pickle.dumps(outcome)) == outcome  # noqa: S301 - our own


# Jobs as bytes


@pytest.fixture
def has_model(tiny_model_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other machine has the network where gramstyle looks for it."""
    monkeypatch.setenv("GRAMSTYLE_MODEL", str(tiny_model_path))


def without_disk(folder: Path, parcel: bytes) -> bytes:
    """Run a parcel while none of the job's own files are there."""
    away = folder.with_name("away")
    folder.rename(away)
    try:
        return run_remote(parcel)
    finally:
        away.rename(folder)


@pytest.mark.usefixtures("has_model")
@pytest.mark.parametrize("start", ["noise", "meadow.png"])
def test_a_job_done_elsewhere_gives_the_file_that_it_gives_here(
    read: Read, folder: Path, tiny_model_path: Path, tiny_model: Model, start: str
) -> None:
    (job,) = read(ONE + OUT + BRIEF + f'init = "{start}"\nstyle_layers = ["conv1_1"]\n')
    parcel = pack(job, network=tiny_model.sha256)
    answer = without_disk(folder, parcel)
    assert not job.output.exists()
    outcome = accept(job, answer)
    assert outcome.state == "made"
    with PIL.Image.open(job.output) as image:
        elsewhere = image.tobytes()
    found = read_settings(job.output)
    # It is known again as if it had been made here.
    assert attempt(job, model=tiny_model_path).state == "kept"
    job.output.unlink()
    at_home = attempt(job, model=tiny_model_path)
    with PIL.Image.open(job.output) as image:
        assert image.tobytes() == elsewhere
    expected = read_settings(job.output)
    assert found is not None
    assert expected is not None
    for settings_ in (found, expected):
        settings_["result"].pop("seconds")
    assert found == expected
    assert outcome.loss == at_home.loss


@pytest.mark.usefixtures("has_model")
def test_a_bad_job_elsewhere_is_told_of_by_the_names_it_has_here(
    read: Read, folder: Path, tiny_model: Model
) -> None:
    (job,) = read(ONE + OUT + BRIEF)
    job.content.write_bytes(b"nonsense")
    answer = without_disk(folder, pack(job, network=tiny_model.sha256))
    outcome = accept(job, answer)
    assert outcome.state == "failed"
    assert outcome.reason.startswith("worker ")
    assert f"cannot read '{job.content}': it is not an image" in outcome.reason
    assert written(folder) == set()


@pytest.mark.usefixtures("has_model")
def test_a_machine_without_the_network_does_no_job(read: Read) -> None:
    (job,) = read(ONE + OUT + BRIEF)
    answer = run_remote(pack(job, network="0" * 64))
    with pytest.raises(OptionError, match=r"worker .* has not been given the model 0{12}…"):
        accept(job, answer)
    assert not job.output.exists()


def test_a_machine_of_another_version_does_no_job(
    read: Read, monkeypatch: pytest.MonkeyPatch
) -> None:
    (job,) = read(ONE + OUT + BRIEF)
    parcel = pack(job, network="0" * 64)
    monkeypatch.setattr("gramstyle.cluster.worker.installed_version", lambda: "9.9")
    with pytest.raises(OptionError, match=r"worker .* has gramstyle 9\.9 and this is"):
        accept(job, run_remote(parcel))


@pytest.mark.usefixtures("has_model")
def test_a_machine_without_room_for_the_images_fails_the_job(
    read: Read, tiny_model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    (job,) = read(ONE + OUT + BRIEF)
    parcel = pack(job, network=tiny_model.sha256)

    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full)
        answer = run_remote(parcel)
    outcome = accept(job, answer)
    assert outcome.state == "failed"
    assert "No space left on device" in outcome.reason
    assert "set TMPDIR there" in outcome.reason


@pytest.mark.usefixtures("has_model")
def test_an_image_that_came_back_and_cannot_be_written_is_a_failure(
    read: Read, folder: Path, tiny_model: Model
) -> None:
    (job,) = read(ONE + OUT + BRIEF)
    answer = run_remote(pack(job, network=tiny_model.sha256))
    (folder / "out").rmdir()
    outcome = accept(job, answer)
    assert outcome.state == "failed"
    assert "cannot write" in outcome.reason


def test_a_photograph_that_is_gone_when_it_is_packed_is_one_line(read: Read) -> None:
    (job,) = read(ONE + OUT)
    job.content.unlink()
    with pytest.raises(GramstyleError, match=r"cannot read .*a\.png: No such file"):
        pack(job, network="")


def test_a_parcel_is_no_pickle_and_says_what_it_holds(read: Read) -> None:
    import io
    import zipfile

    (job,) = read(ONE + OUT)
    with zipfile.ZipFile(io.BytesIO(pack(job, network="f00"))) as parcel:
        letter = json.loads(parcel.read("letter.json"))
        assert parcel.read("content") == job.content.read_bytes()
    assert letter["network"] == "f00"
    assert letter["files"].keys() == {"content", "style"}


def test_ten_thousand_photographs_are_read_in_seconds(folder: Path) -> None:
    # It takes 3 s, most of it for the options; work for each pair of jobs would take minutes.
    for number in range(3, 10_000):
        (folder / f"photos/{number}.png").touch()
    (folder / "jobs.toml").write_text(
        '[[jobs]]\ncontent = "photos/*"\nstyle = "night.png"\noutput = "out/{content}.jpg"\n'
    )
    began = time.process_time()
    assert len(read_jobs(folder / "jobs.toml")) == 10_000
    assert time.process_time() - began < 40
