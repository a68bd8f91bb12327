"""Files that commands write: under every name, no other file is overwritten or lost."""

import os
from pathlib import Path

import pytest
from tests.cli.conftest import Run

from gramstyle.cli import main

COMMANDS = {
    "transfer --log": ["transfer", "photo.png", "painting.png", "-o", "out.png", "--log"],
    "transfer": ["transfer", "photo.png", "painting.png", "-o"],
    "trace": ["trace", "photo.png", "painting.png", "--json"],
    "export": ["model", "export", "--from", "photo.png", "--to"],
    "objective": ["objective", "export", "--content", "photo.png", "--style", "painting.png", "-o"],
    "normalise": ["model", "normalise", "photo.png", "--to"],
    "conformance": [
        "conformance",
        "run",
        "--against",
        "numpy_plain",
        "--junit",
        "report.xml",
        "--json",
    ],
    "batch": ["batch", "jobs.toml", "--log"],
    "figure": ["figure", "styles", "photo.png", "painting.png", "--size", "32", "-o"],
}


def only_line(capsys: pytest.CaptureFixture[str]) -> str:
    """Return what the command has printed, which is one line."""
    (line,) = capsys.readouterr().err.splitlines()
    return line


@pytest.mark.parametrize("command", COMMANDS)
def test_a_link_to_itself_is_refused_in_one_line(
    command: str, images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("loop.png").symlink_to("loop.png")
    jobs = '[[jobs]]\ncontent = "photo.png"\nstyle = "painting.png"\noutput = "a.png"\n'
    Path("jobs.toml").write_text(jobs)
    assert main([*COMMANDS[command], "loop.png"]) == 2
    line = only_line(capsys)
    assert "loop.png" in line
    assert "symbolic links" in line
    assert Path("loop.png").is_symlink()
    assert not Path("out.png").exists()


@pytest.mark.parametrize("link", ["symlink_to", "hardlink_to"])
@pytest.mark.parametrize("read", ["photo.png", "model.onnx"])
def test_a_log_never_overwrites_what_the_run_reads(
    link: str,
    read: str,
    transfer: Run,
    tiny_model_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    Path("model.onnx").write_bytes(tiny_model_path.read_bytes())
    before = Path(read).read_bytes()
    getattr(Path("log"), link)(read)
    assert transfer("--log", "log", "--model", "model.onnx") == 2
    assert "choose another name" in only_line(capsys)
    assert Path(read).read_bytes() == before


def test_the_log_of_a_batch_never_overwrites_its_jobs_file(
    images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    jobs = '[[jobs]]\ncontent = "photo.png"\nstyle = "painting.png"\noutput = "a.png"\n'
    Path("jobs.toml").write_text(jobs)
    os.link("jobs.toml", "log")
    assert main(["batch", "jobs.toml", "--log", "log"]) == 2
    assert "choose another name" in only_line(capsys)
    assert Path("jobs.toml").read_text() == jobs


@pytest.mark.parametrize("name", ["manifest.json", "state-000002.npz", ".gramstyle.lock"])
def test_a_log_never_overwrites_a_checkpoint(
    name: str, transfer: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint = ("--checkpoint", "saved", "--every", "1")
    assert transfer(*checkpoint, "--log", f"saved/{name}") == 2
    assert "is a file of the checkpoint" in only_line(capsys)
    assert transfer(*checkpoint, "--log", "saved/log.jsonl", "--quiet") == 0
    before = Path("saved/manifest.json").read_bytes()
    assert main(["resume", "saved", "-o", "out.png", "--log", f"saved/{name}"]) == 2
    assert Path("saved/manifest.json").read_bytes() == before


def test_a_link_to_a_report_is_followed_and_remains_a_link(images: Path) -> None:
    Path("reports").mkdir()
    Path("trace.json").symlink_to("reports/first.json")
    assert main(["trace", "photo.png", "painting.png", "--size", "32", "--json", "trace.json"]) == 0
    assert Path("trace.json").is_symlink()
    assert Path("reports/first.json").read_text().startswith("{")


def test_a_report_through_a_link_to_a_missing_folder_is_refused_before_the_work(
    images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("trace.json").symlink_to("nowhere/first.json")
    assert main(["trace", "photo.png", "painting.png", "--json", "trace.json"]) == 2
    assert "there is no folder" in only_line(capsys)


def test_a_log_on_standard_output_beside_the_image_is_refused(
    transfer: Run, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    assert transfer("--log", "/dev/stdout", output="-") == 2
    captured = capfdbinary.readouterr()
    assert not captured.out
    assert b"where the image goes" in captured.err


def test_a_name_that_is_too_long_for_its_numbers_is_refused_before_the_run(
    transfer: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    assert transfer("--save-every", "1", output=f"{'x' * 250}.png") == 2
    assert "too long" in only_line(capsys)
    assert not list(Path().glob("x*"))
