"""`gramstyle batch …` as its users meet it."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from cli.assertions import files
from gramstyle.cli import main
from gramstyle.images import read_settings
from workers import PATIENCE, in_session, until

JOBS = """
[defaults]
size = 32
iterations = 2
style = "night.png"

[[jobs]]
content = "photos/*"
output = "out/{content}.png"
"""


@pytest.fixture
def folder(
    tmp_path: Path,
    rng: np.random.Generator,
    tiny_model_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Path:
    """A folder with photographs, a painting and a jobs file; the working directory."""
    for name in ("photos", "out"):
        (tmp_path / name).mkdir()
    for name in ("photos/a.png", "photos/b.png", "photos/c.png", "night.png"):
        PIL.Image.fromarray(rng.integers(0, 256, (24, 32, 3), np.uint8)).save(tmp_path / name)
    (tmp_path / "jobs.toml").write_text(JOBS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GRAMSTYLE_MODEL", str(tiny_model_path))
    return tmp_path


def batch(*arguments: str) -> int:
    return main(["batch", "jobs.toml", *arguments])


def test_every_job_has_a_line_and_a_summary_ends_the_output(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert batch() == 0
    out, err = capsys.readouterr()
    assert err.splitlines() == [f"{i}/3 out/{n}.png: done" for i, n in enumerate("abc", start=1)]
    assert re.match(r"3 jobs in 0:\d\d:\d\d: ", out)
    assert out.endswith(": 3 done, 0 reused, 0 failed\n")
    assert files(folder / "out") == {"a.png", "b.png", "c.png"}


def test_a_repeated_batch_renders_only_the_missing_images(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert batch() == 0
    (folder / "out/b.png").unlink()
    capsys.readouterr()
    assert batch() == 0
    out, err = capsys.readouterr()
    assert err.splitlines() == [
        "1/3 out/a.png: reused",
        "2/3 out/b.png: done",
        "3/3 out/c.png: reused",
    ]
    assert out.endswith(": 1 done, 2 reused, 0 failed\n")


@pytest.mark.parametrize("quiet", [[], ["--quiet"]])
def test_a_job_that_fails_has_a_line_and_the_exit_code_is_1(
    folder: Path, capsys: pytest.CaptureFixture[str], quiet: list[str]
) -> None:
    (folder / "photos/b.png").write_bytes(b"nonsense")
    assert batch(*quiet) == 1
    out, err = capsys.readouterr()
    (line,) = [line for line in err.splitlines() if "failed" in line]
    assert line.startswith("2/3 out/b.png: failed: cannot read")
    assert "photos/b.png': it is not an image" in line
    assert files(folder / "out") == {"a.png", "c.png"}
    assert out.endswith("2 done, 0 reused, 1 failed\n") if not quiet else out == ""


def test_quiet_is_quiet(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert batch("--quiet") == 0
    assert capsys.readouterr() == ("", "")


def test_the_log_has_a_line_for_each_job(folder: Path) -> None:
    assert batch("--quiet") == 0
    (folder / "out/c.png").unlink()
    (folder / "photos/c.png").write_bytes(b"nonsense")
    assert batch("--quiet", "--log", "log.jsonl") == 1
    lines = [json.loads(line) for line in Path("log.jsonl").read_text().splitlines()]
    assert [line["state"] for line in lines] == ["reused", "reused", "failed"]
    assert [line["name"] for line in lines] == ["out/a.png", "out/b.png", "out/c.png"]
    assert lines[0]["output"] == str(folder / "out/a.png")
    settings = read_settings("out/a.png")
    assert settings is not None
    assert lines[0]["loss"] == settings["result"]["loss"]
    assert lines[0]["reason"] == "all iterations done"
    assert lines[2]["loss"] is None
    assert "is not an image" in lines[2]["reason"]
    assert all(line["seconds"] >= 0 for line in lines)


def test_the_machine_is_named_on_the_command_line(folder: Path) -> None:
    assert batch("--quiet", "--threads", "1", "--memory", "2GB", "--device", "cpu") == 0
    settings = read_settings("out/a.png")
    assert settings is not None
    assert (settings["threads"], settings["memory"]) == (1, 2 * 10**9)


@pytest.mark.parametrize("quiet", [[], ["--quiet"]])
def test_what_a_pattern_leaves_out_is_said(
    folder: Path, capsys: pytest.CaptureFixture[str], quiet: list[str]
) -> None:
    (folder / "photos/IMG_1.HEIC").touch()
    assert batch(*quiet) == 0
    line = "left out of 'photos/*': 1 file is no image: 'IMG_1.HEIC'"
    assert (line in capsys.readouterr().err) is not bool(quiet)


def test_several_jobs_at_once(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "photos/a.png").write_bytes(b"nonsense")
    assert batch("--jobs", "2") == 1
    assert sorted(capsys.readouterr().err.splitlines())[0].startswith("1/3 out/a.png: failed")
    assert files(folder / "out") == {"b.png", "c.png"}


@pytest.mark.parametrize(
    ("text", "arguments", "words"),
    [
        (JOBS + "iteration = 3\n", (), ("jobs.toml: job 1: unknown key 'iteration'", "iterations")),
        (JOBS + 'style_layers = ["conv9_1"]\n', (), ("job 1: unknown layer 'conv9_1'",)),
        (JOBS, ("--jobs", "0"), ("--jobs must be at least 1",)),
        (JOBS, ("--log", "photos/a.png"), ("--log photos/a.png", "choose another name")),
        (JOBS, ("--log", "out/a.png"), ("--log out/a.png", "choose another name")),
        (JOBS, ("--log", "jobs.toml"), ("--log jobs.toml", "choose another name")),
        (JOBS, ("--log", "nowhere/log.jsonl"), ("nowhere",)),
        (JOBS, ("--model", "nowhere.onnx"), ("nowhere.onnx",)),
        (JOBS.replace("photos/*", "a\\nb"), (), ("there is no file",)),
        ("\0", (), ("jobs.toml is not TOML",)),
    ],
)
def test_an_impossible_batch_is_refused_in_one_line_before_anything_is_written(
    folder: Path,
    capsys: pytest.CaptureFixture[str],
    text: str,
    arguments: tuple[str, ...],
    words: tuple[str, ...],
) -> None:
    (folder / "jobs.toml").write_text(text)
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert batch(*arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("gramstyle: error: ")
    assert error.count("\n") == 1
    for word in words:
        assert word in error
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


def test_a_name_with_control_codes_is_shown_without_them(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "photos/a.png").rename(folder / "photos/a\n\x1b[2J.png")
    assert batch() == 0
    err = capsys.readouterr().err
    assert err.count("\n") == 3
    assert "\x1b" not in err


def test_on_a_terminal_a_bar_shows_jobs_and_iterations_and_lines_only_what_failed(
    folder: Path, terminal: None, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "photos/b.png").write_bytes(b"nonsense")
    (folder / "jobs.toml").write_text(JOBS.replace("iterations = 2", "iterations = 60"))
    assert batch() == 1
    err = capsys.readouterr().err
    assert "3/3" in err
    assert re.search(r"\d+/60", err)  # which of them it shows depends on the machine's pace
    assert "out/c.png" in err
    assert "2/3 out/b.png: failed: " in err
    assert ": done" not in err


FIGURE = ("figure", "tradeoff", "photos/a.png", "night.png", "-o", "fig.png", "--cells", "out",
          "--size", "32", "--iterations", "40")  # fmt: skip


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs Linux's /proc")
@pytest.mark.parametrize(
    ("command", "jobs", "number", "code"),
    [
        (("batch", "jobs.toml"), "1", signal.SIGINT, 130),
        (("batch", "jobs.toml"), "2", signal.SIGINT, 130),
        (("batch", "jobs.toml"), "1", signal.SIGTERM, 143),
        (FIGURE, "1", signal.SIGINT, 130),
        (FIGURE, "2", signal.SIGINT, 130),
    ],
)
def test_a_stopped_batch_or_figure_ends_its_processes_and_finished_images_stay(
    folder: Path, command: tuple[str, ...], jobs: str, number: signal.Signals, code: int
) -> None:
    (folder / "jobs.toml").write_text(
        JOBS.replace("iterations = 2", "iterations = 40")
        + '[[jobs]]\ncontent = "photos/a.png"\noutput = "out/endless.png"\niterations = 1000000\n'
    )
    # Python honours a SIGINT that its parent ignores, as shells' background jobs do.
    process = subprocess.Popen(
        [sys.executable, "-c",
         "import signal; signal.signal(signal.SIGINT, signal.default_int_handler);"
         "import sys; from gramstyle.cli import main; sys.exit(main())",
         *command, "--jobs", jobs],
        stderr=subprocess.PIPE, text=True, start_new_session=True, env=os.environ,
    )  # fmt: skip
    try:
        # With the third of two jobs there, one has been counted.
        until(lambda: len(list(folder.glob("out/*.png"))) >= 3)
        os.killpg(process.pid, number)
        _, error = process.communicate(timeout=PATIENCE)
    except BaseException:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        raise
    assert process.returncode == code
    total, place = (4, "finished") if command[0] == "batch" else (20, "in out")
    words = "terminated" if number == signal.SIGTERM else "stopped by Ctrl-C"
    finished = rf"\(\d+ of {total} images are {place}; repeat the command to resume\)"
    assert re.fullmatch(f"gramstyle: {words} {finished}", error.splitlines()[-1])
    assert "Traceback" not in error
    assert not (folder / "fig.png").exists()
    for path in folder.glob("out/*.png"):
        settings = read_settings(path)
        assert settings is not None
        assert "stopped" not in settings["result"]["reason"]
        assert command is FIGURE or settings["result"]["iterations"] == 40
    until(lambda: not in_session(process.pid))
