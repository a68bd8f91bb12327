"""The jobs file: patterns, grids and output names, and everything that is refused in it."""

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gramstyle.batch import Job, check_layers, read_jobs
from gramstyle.batch.job_table import MAX_JOBS
from gramstyle.batch.jobs_file import MAX_BYTES
from gramstyle.errors import GramstyleError, OptionError
from gramstyle.run.options import Options
from gramstyle.system import toml_file

Read = Callable[[str], tuple[Job, ...]]

ONE = '[[jobs]]\ncontent = "photos/a.png"\nstyle = "night.png"\n'
OUT = 'output = "out/a.png"\n'


def test_a_job_overrides_the_defaults(folder: Path, read: Read) -> None:
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


def test_paths_are_relative_to_the_folder_of_the_file(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "jobs.toml").write_text(ONE + OUT)
    monkeypatch.chdir(folder / "photos")
    (job,) = read_jobs(Path("../jobs.toml"))
    assert job.content == folder / "photos/a.png"
    assert job.output.is_absolute()


def test_a_pattern_is_a_job_for_each_image_in_the_order_of_their_names(
    jobs_with: Callable[..., tuple[Job, ...]],
) -> None:
    assert [job.content.name for job in jobs_with()] == ["a.png", "b.png", "c.png", "d.png"]


def test_a_file_whose_name_looks_like_a_pattern_is_that_file(folder: Path, read: Read) -> None:
    (folder / "photos/a.png").rename(folder / "photos/[a].png")
    (job,) = read(ONE.replace("a.png", "[a].png") + OUT)
    assert job.content.name == "[a].png"


def test_brackets_in_the_folder_of_the_file_are_not_a_pattern(folder: Path) -> None:
    other = folder / "[x]"
    other.mkdir()
    for name in ("photos", "out", "night.png"):
        (folder / name).rename(other / name)
    (other / "jobs.toml").write_text(
        '[[jobs]]\ncontent = "photos/?.png"\nstyle = "night.png"\noutput = "out/{content}.png"\n'
    )
    assert len(read_jobs(other / "jobs.toml")) == 4


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


def test_a_grid_overrides_the_defaults(read: Read) -> None:
    jobs = read(
        f'[defaults]\nseed = 9\n{ONE}output = "out/{{seed}}.png"\n[jobs.grid]\nseed = [1, 2]\n'
    )
    assert [job.options.seed for job in jobs] == [1, 2]


@pytest.mark.parametrize(
    "line",
    ['device = "cuda"', "threads = 64", "memory = 1", 'scheduler = "tcp://x:1"', "workers = 9",
     "max_pixels = 1000000000000"],
)  # fmt: skip
@pytest.mark.parametrize("place", ["job", "defaults", "grid"])
def test_the_machine_does_not_come_from_the_file(place: str, line: str, read: Read) -> None:
    key, _, value = line.partition(" = ")
    text = {
        "job": f"{ONE}{OUT}{line}\n",
        "defaults": f"[defaults]\n{line}\n{ONE}{OUT}",
        "grid": f"{ONE}{OUT}[jobs.grid]\n{key} = [{value}]\n",
    }[place]
    with pytest.raises(OptionError) as caught:
        read(text)
    option = key.replace("_", "-")
    assert f"{key} is not an option of a jobs file, which may come" in str(caught.value)
    assert str(caught.value).endswith(f"and give --{option} on the command line")


def test_the_machine_comes_from_the_caller(folder: Path) -> None:
    (folder / "jobs.toml").write_text(ONE + OUT + 'engine = "cupy"\n')
    with pytest.raises(OptionError, match="does not run on cpu"):
        read_jobs(folder / "jobs.toml")
    (job,) = read_jobs(folder / "jobs.toml", machine={"device": "cuda", "threads": 2})
    assert (job.options.device, job.options.threads) == ("cuda", 2)


NUMBERS = "".join(
    f"{name} = {list(range(1, 1000))}\n"
    for name in ("seed", "size", "history", "iterations", "tile", "alpha", "beta")
)
NO_JOBS = "no jobs; begin each with a line [[jobs]]"
# Whole files.
BAD = {
    "no jobs": ("", NO_JOBS),
    "jobs as a table": ('[jobs]\ncontent = "a"\n', NO_JOBS),
    "jobs as numbers": ("jobs = [1]", "job 1: jobs must be a table, not 1"),
    "defaults as a list": ("[[defaults]]\nsize = 3\n" + ONE + OUT, "defaults must be a table"),
    "a table misspelt": ("[default]\n", "unknown key 'default'; did you mean defaults?"),
    "a default misspelt": (
        "[defaults]\nsise = 3\n" + ONE + OUT,
        "defaults: unknown key 'sise'; did you mean size?",
    ),
    "a key of a megabyte": (f"{'k' * 1_000_000} = 1\n", "unknown key 'kkkkk"),
    "the second table": (
        ONE + OUT + ONE + 'output = "out/b.png"\nsize = 0\n',
        "job 2: size must be at least 1, not 0",
    ),
    "no style": (
        '[[jobs]]\ncontent = "photos/a.png"\n' + OUT,
        "job 1: it has no style; add a line style",
    ),
    "no output": (ONE, "job 1: it has no output"),
    "one output for two jobs": (
        (ONE + OUT) * 2,
        "job 1 and job 2: more than one image would be 'out/a.png'",
    ),
    "one output by two names": (
        ONE + OUT + ONE + 'output = "out/../out/a.png"\n',
        "job 1 and job 2",
    ),
    "an output that another job reads": (
        ONE + 'output = "photos/b.png"\n' + ONE.replace("a.png", "b.png") + OUT,
        "job 1: 'photos/b.png' is one of the images to read",
    ),
    "an output that the pattern matches": (
        '[[jobs]]\ncontent = "photos/*"\nstyle = "night.png"\noutput = "photos/{content}-n.jpg"\n',
        "would be one of the images of '*' in the next run",
    ),
    "a line break in two outputs": (
        (ONE + 'output = "out/a\\nb.png"\n') * 2,
        "would be 'out/a\\nb.png'",
    ),
    "TOML that ends early": ("[[jobs]\n", "is not TOML"),
    "a key twice": ("[defaults]\nsize = 1\nsize = 2\n", "is not TOML"),
    "a key of many parts": (f"a{'.a' * 500_000} = 1", "a key of more than eight parts"),
    "a table of many parts": (f"[{'a.' * 500_000}a]", "a key of more than eight parts"),
    "a key of many parts within": (f'x = {{ "b"{" . a" * 9} = 1 }}', "more than eight parts"),
    "nested without end": ("a = " + "[" * 100_000, "nested too deeply"),
}
# One line of a job.
BAD_LINES = {
    "a key misspelt": ("iteration = 3", "job 1: unknown key 'iteration'; did you mean iterations?"),
    "text for a number": ('size = "big"', "job 1: size must be a whole number, not 'big'"),
    "a bool for a number": ("size = true", "size must be a whole number, not True"),
    "a fraction for a whole number": ("size = 512.5", "size must be a whole number, not 512.5"),
    "a date": ("alpha = 2026-11-24", "alpha must be a number, not datetime"),
    "a number past all floats": (f"alpha = 1{'0' * 400}", "alpha must be a number, not 1000"),
    "a number past Python's": (f"size = {'1' * 5000}", "is not TOML"),
    "a number past TOML's": (
        f"size = 0x{'f' * 10_000}",
        "size must be at most 1,000,000, not a number of thousands",
    ),
    "infinity": ("alpha = inf", "alpha must be a number from 0 upwards, not inf"),
    "a number for a list": ("style_layers = 1", "style_layers must be a list, each item text"),
    "numbers for names": ("style_layers = [1]", "style_layers must be a list, each item text"),
    "a list for a value": ("seed = [1, 2]", "seed must be a whole number, not [1, 2]"),
    "nested deeply": (
        f"seed = {'[' * 100}{']' * 100}",
        "seed must be a whole number, not [[[[[[",
    ),
    "a number for a name": ("engine = 3", "engine must be text, not 3"),
    "an unknown engine": ('engine = "steam"', "engine must be one of"),
    "a missing start": ('init = "x.png"', "job 1: init: there is no file"),
    "a grid as a list": ("grid = [1]", "grid must be a table"),
    "a grid key misspelt": (
        "[jobs.grid]\nalpa = [1]",
        "job 1: grid: unknown key 'alpa'; did you mean alpha?",
    ),
    "a grid without a list": (
        "[jobs.grid]\nalpha = 1",
        "job 1: grid: alpha must be a list of values, not 1",
    ),
    "an empty grid": ("[jobs.grid]\nalpha = []", "alpha must be a list of values, not []"),
    "a key in job and grid": (
        "seed = 1\n[jobs.grid]\nseed = [1]",
        "seed is in the job and in its grid",
    ),
    "a grid of outputs": ('[jobs.grid]\noutput = ["a"]', "grid: unknown key 'output'"),
    "a grid in a grid": ("[jobs.grid.grid]\nseed = [1]", "grid: unknown key 'grid'"),
    "a grid too large": ("[jobs.grid]\n" + NUMBERS, f"more than {MAX_JOBS:,} combinations"),
    "one output for a grid": (
        "[jobs.grid]\nseed = [1, 2]",
        "job 1: more than one image would be 'out/a.png'",
    ),
}
BAD |= {name: (f"{ONE}{OUT}{line}\n", words) for name, (line, words) in BAD_LINES.items()}
BAD_CONTENTS = {
    "a number": ("3", "content must be text, not 3"),
    "a missing file": ('"x.png"', "job 1: content: there is no file"),
    "a folder": ('"photos"', "is a folder; write .../* for its images"),
    "a NUL": ('"a\\u0000"', "is not a path"),
    "a line break": ('"a\\nb"', "there is no file"),
    "a very long name": (f'"{"x" * 5000}"', "content: cannot read"),
    "a pattern without images": ('"out/*"', "content: there is no image 'out/*'"),
    "a pattern of all folders": ('"**/*"', "** is not supported"),
}
BAD |= {
    f"content: {name}": (f'[[jobs]]\ncontent = {value}\nstyle = "night.png"\n{OUT}', words)
    for name, (value, words) in BAD_CONTENTS.items()
}
BAD_OUTPUTS = {
    "a file to read": ("night.png", "job 1: 'night.png' is one of the images to read"),
    "an unknown format": ("out/a.txt", "job 1: cannot write"),
    "the format's name": ("out/a.txt", "extension '.txt' is unknown"),
    "a missing folder": ("nowhere/a.png", "there is no folder"),
    "a folder": ("out", "out' is not a file"),
    "empty": ("", "output is not a path"),
    "an unknown place": ("out/{sise}.png", "unknown key 'sise'; did you mean size?"),
    "a place without a value": ("out/{alpha}.png", "the job has no alpha for {alpha}"),
    "a place by number": ("out/{}.png", "unknown key ''"),
    "an attribute of a place": ("out/{content.parent}.png", "unknown key 'content.parent'"),
    "a place of a gigabyte": ("out/{size:1000000000}.png", "without a conversion or a format"),
    "half a place": ("out/{size.png", "write {{ for a brace"),
}
BAD |= {
    f"output: {name}": (f'{ONE}output = "{value}"\n', words)
    for name, (value, words) in BAD_OUTPUTS.items()
}


@pytest.mark.parametrize(("text", "words"), BAD.values(), ids=BAD)
def test_a_jobs_file_that_makes_no_sense_is_refused_in_one_line(
    read: Read, text: str, words: str
) -> None:
    with pytest.raises(GramstyleError) as caught:
        read(text)
    line = str(caught.value)
    assert words in line
    assert "jobs.toml" in line
    assert "\n" not in line
    # A few rows of a terminal; the longest of these lines names every option.
    assert len(line) < 800


@pytest.mark.parametrize("data", [b"\xff\xfe\x00a", bytes(range(256)), b"PK\x03\x04" + bytes(99)])
def test_a_binary_file_is_refused(folder: Path, data: bytes) -> None:
    (folder / "jobs.toml").write_bytes(data)
    with pytest.raises(GramstyleError, match=r"jobs\.toml is not TOML"):
        read_jobs(folder / "jobs.toml")


def test_a_huge_file_is_refused_before_it_is_parsed(folder: Path) -> None:
    with (folder / "jobs.toml").open("wb") as file:
        file.truncate(100 * MAX_BYTES)
    with pytest.raises(GramstyleError, match="larger than 4,000,000 bytes"):
        read_jobs(folder / "jobs.toml")


def test_a_jobs_file_that_is_no_regular_file_is_refused(folder: Path) -> None:
    os.mkfifo(folder / "pipe")  # opening it would block
    for name in ("pipe", "photos"):
        with pytest.raises(GramstyleError, match=f"{name}: it is not a file"):
            read_jobs(folder / name)
    with pytest.raises(GramstyleError, match=r"nowhere\.toml: No such file"):
        read_jobs(folder / "nowhere.toml")
    with pytest.raises(GramstyleError, match="check the path"):
        read_jobs(Path("a\0b"))


def test_a_hard_link_to_an_input_is_not_overwritten(folder: Path, read: Read) -> None:
    (folder / "out/a.png").hardlink_to(folder / "photos/a.png")
    with pytest.raises(GramstyleError, match="is one of the images to read"):
        read(ONE + OUT)


def test_a_foreign_image_is_not_overwritten(folder: Path, read: Read) -> None:
    (folder / "out/a.png").write_bytes((folder / "meadow.png").read_bytes())
    with pytest.raises(GramstyleError, match=r"job 1: .*/out/a\.png is not one of this batch's"):
        read(ONE + OUT)


def test_unknown_layers_are_found_before_the_first_job(read: Read, tiny_model_path: Path) -> None:
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


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(KEYS, VALUES, max_size=5), st.dictionaries(KEYS, VALUES, max_size=3))
def test_any_tables_give_jobs_or_an_error_in_one_line(
    folder: Path, table: dict[str, object], defaults: dict[str, object]
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        # The document is past the grammar of TOML, which is Python's part.
        document = {"defaults": defaults, "jobs": [{**table}]}
        patch.setattr(toml_file.tomllib, "loads", lambda _: document)
        (folder / "jobs.toml").touch()
        line, jobs = "", ()
        try:
            jobs = read_jobs(folder / "jobs.toml")
        except GramstyleError as error:
            line = str(error)
    assert "\n" not in line
    assert bool(line) != bool(jobs)


def test_ten_thousand_photographs_are_read_in_seconds(folder: Path) -> None:
    # It takes 3 s, mostly for the options; work for each pair of jobs would take minutes.
    for number in range(4, 10_000):
        (folder / f"photos/{number}.png").touch()
    (folder / "jobs.toml").write_text(
        '[[jobs]]\ncontent = "photos/*"\nstyle = "night.png"\noutput = "out/{content}.jpg"\n'
    )
    began = time.process_time()
    assert len(read_jobs(folder / "jobs.toml")) == 10_000
    assert time.process_time() - began < 40
