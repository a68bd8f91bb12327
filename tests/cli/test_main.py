"""The program as its users meet it: arguments, files, one line when something is wrong."""

import errno
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

import gramstyle
from bare_environment import without_temporary_files
from cli.assertions import assert_one_line, files
from gramstyle.cli import main
from gramstyle.cli.commands import transfer
from gramstyle.images import read_settings
from workers import PATIENCE, program, until

Run = Callable[..., int]


@pytest.fixture
def run(folder: Path, tiny_model_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run `gramstyle transfer photo.png painting.jpg` in that folder, briefly."""
    monkeypatch.chdir(folder)
    monkeypatch.setenv("GRAMSTYLE_MODEL", str(tiny_model_path))

    def call(*arguments: str, content: str = "photo.png", style: str = "painting.jpg") -> int:
        brief = ("--size", "48", "--iterations", "3", "--threads", "2")
        return main(["transfer", content, style, *brief, *arguments])

    return call


def test_a_photograph_and_a_painting_in_an_image_out(
    run: Run, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("-o", "out.png") == 0
    with PIL.Image.open(folder / "out.png") as image:
        assert image.size == (48, 36)
    assert "wrote out.png (48×36) after 3 iterations" in capsys.readouterr().out
    assert files(folder) == {"photo.png", "painting.jpg", "out.png"}


@pytest.mark.parametrize("name", ["out.png", "out.jpg"])
def test_the_image_carries_the_settings_that_made_it(run: Run, folder: Path, name: str) -> None:
    assert run("-o", name, "--alpha", "0.25") == 0
    settings = read_settings(folder / name)
    assert settings is not None
    assert settings["alpha"] == 0.25
    assert settings["content"]["name"] == "photo.png"
    assert settings["result"]["iterations"] == 3


def test_progress_is_plain_lines_without_a_terminal_and_nothing_when_quiet(
    run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("-o", "out.png") == 0
    lines = capsys.readouterr().err.splitlines()
    assert [line.split()[1] for line in lines] == ["1/3", "3/3"]
    for word in ("loss", "content", "style", "s each", "left"):
        assert word in lines[-1]
    assert run("-o", "out.png", "--quiet") == 0
    assert capsys.readouterr() == ("", "")


def test_the_log_holds_settings_every_iteration_and_the_end(run: Run, folder: Path) -> None:
    assert run("-o", "out.png", "--log", "run.jsonl") == 0
    entries = [json.loads(line) for line in (folder / "run.jsonl").read_text().splitlines()]
    assert [e["event"] for e in entries] == ["start", *["iteration"] * 3, "end"]
    assert entries[0]["content_layers"] == ["conv4_2"]
    assert set(entries[1]["layers"]["style"]) == {
        "conv1_1",
        "conv2_1",
        "conv3_1",
        "conv4_1",
        "conv5_1",
    }
    assert entries[-1]["loss"] == entries[-2]["loss"]


def test_save_every_writes_numbered_images_on_the_way(run: Run, folder: Path) -> None:
    assert run("-o", "out.png", "--save-every", "2") == 0
    assert files(folder) >= {"out.png", "out-0002.png"}
    assert "out-0001.png" not in files(folder)


def test_all_the_other_options_are_understood(run: Run, folder: Path) -> None:
    assert (
        run(
            *("-o", "out.webp", "--init", "photo.png", "--seed", "3", "--pooling", "max"),
            *("--content-layer", "conv2_2", "--style-layers", "conv1_1,conv2_1"),
            *("--style-weights", "0.25,0.75", "--beta", "2", "--tolerance", "1e-9"),
            *("--max-pixels", "5000"),
        )
        == 0
    )
    settings = read_settings(folder / "out.webp")
    assert settings is not None
    assert settings["style_weights"] == [0.25, 0.75]
    assert settings["pooling"] == "max"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("-o", "nowhere/out.png"), ("nowhere", "folder")),
        (("-o", "out.bmpx"), ("out.bmpx", ".png")),
        (("-o", "photo.png"), ("photo.png", "another name")),
        (("-o", "."), (".",)),
        (("-o", "out.png", "--style-layers", "conv1_9"), ("'conv1_9'", "conv1_1, conv1_2")),
        (("-o", "out.png", "--content-layer", "x"), ("'x'", "conv1_1, conv1_2")),
        (("-o", "out.png", "--model", "no.onnx"), ("no.onnx", "gramstyle model export")),
        (("-o", "out.png", "--model", "photo.png"), ("photo.png", "ONNX")),
        (("-o", "out.png", "--init", "none.png"), ("none.png",)),
        (("-o", "out.png", "--size", "8"), ("photo.png", "too small", "--size")),
        (("-o", "out.png", "--size", "0"), ("size",)),
        (("-o", "out.png", "--max-pixels", "99"), ("photo.png", "--max-pixels")),
        (("-o", "out.png", "--save-every", "0"), ("--save-every",)),
        (("-o", "out.png", "--log", "nowhere/log"), ("the log nowhere/log", "another place")),
        (("-o", "out.png", "--log", "photo.png"), ("photo.png", "--log")),
        (("-o", "out.png", "--style-weights", "1,2"), ("style_weights",)),
        (("-o", "out.png", "--alpha", "nan"), ("alpha",)),
    ],
)
def test_what_cannot_be_used_is_one_line_and_leaves_nothing(
    run: Run,
    folder: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: tuple[str, ...],
    words: tuple[str, ...],
) -> None:
    photograph = (folder / "photo.png").read_bytes()
    assert run(*arguments) == 2
    assert_one_line(capsys, *words)
    assert files(folder) == {"photo.png", "painting.jpg"}
    assert (folder / "photo.png").read_bytes() == photograph


@pytest.mark.parametrize("damage", ["missing", "empty", "truncated", "text"])
@pytest.mark.parametrize("which", ["content", "style"])
def test_a_damaged_image_is_one_line_that_names_it(
    run: Run, folder: Path, capsys: pytest.CaptureFixture[str], damage: str, which: str
) -> None:
    bad = folder / "bad.png"
    whole = (folder / "photo.png").read_bytes()
    contents = {"empty": b"", "truncated": whole[: len(whole) // 2], "text": b"not an image"}
    if damage != "missing":
        bad.write_bytes(contents[damage])
    assert run("-o", "out.png", **{which: "bad.png"}) == 2
    assert_one_line(capsys, "bad.png")
    assert "out.png" not in files(folder)


@pytest.mark.parametrize("arguments", [(), ("transfer", "a.png"), ("fly",), ("transfer", "--x")])
def test_a_wrong_command_line_is_one_line_that_points_to_the_help(
    arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2
    assert_one_line(capsys, "--help")


def test_a_name_with_a_line_break_still_gives_one_line(
    run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("-o", "out.png", content="a\nb\x1b[31m.png") == 2
    assert_one_line(capsys, r"a\nb\x1b[31m.png")


def test_a_numbered_image_may_not_overwrite_an_input(
    run: Run, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "photo.png").rename(folder / "out-0002.png")
    before = (folder / "out-0002.png").read_bytes()
    assert run("-o", "out.png", "--save-every", "2", content="out-0002.png") == 2
    assert_one_line(capsys, "out-0002.png")
    assert (folder / "out-0002.png").read_bytes() == before


def full_disk(*_: object, **__: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_full_disk_leaves_nothing_half_written_and_keeps_the_image_elsewhere(
    run: Run,
    folder: Path,
    spare: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    real = os.fsync
    full = [True]

    def fsync(handle: int) -> None:
        if full.pop() if full else False:
            full_disk()
        real(handle)

    monkeypatch.setattr(os, "fsync", fsync)
    assert run("-o", "out.png", "--quiet") == 2
    error = capsys.readouterr().err
    assert "out.png" in error
    assert "no space left" in error.lower()
    assert error.count("\n") == 1
    assert files(folder) == {"photo.png", "painting.jpg"}
    (kept,) = spare.iterdir()
    assert str(kept) in error
    with PIL.Image.open(kept) as image:
        assert image.size == (48, 36)


def test_a_stop_on_a_full_disk_keeps_the_image_so_far_elsewhere(
    run: Run,
    folder: Path,
    spare: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    real = os.fsync
    calls: list[int] = []

    def fsync(handle: int) -> None:
        calls.append(handle)
        if len(calls) <= 2:  # the numbered image, then the image so far
            full_disk()
        real(handle)

    monkeypatch.setattr(os, "fsync", fsync)
    assert run("-o", "out.png", "--save-every", "2", "--quiet") == 2
    (kept,) = spare.iterdir()
    assert_one_line(capsys, "no space left", str(kept))
    assert files(folder) == {"photo.png", "painting.jpg"}
    with PIL.Image.open(kept) as image:
        assert image.size == (48, 36)


def test_a_disk_that_is_full_everywhere_leaves_nothing_behind(
    run: Run,
    folder: Path,
    spare: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(os, "fsync", full_disk)
    assert run("-o", "out.png", "--quiet") == 2
    assert_one_line(capsys, "out.png", "no space left")
    assert list(spare.iterdir()) == []
    assert files(folder) == {"photo.png", "painting.jpg"}


def test_without_another_folder_the_error_of_the_output_is_reported(
    run: Run, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    without_temporary_files(monkeypatch)
    monkeypatch.setattr(os, "fsync", full_disk)
    assert run("-o", "out.png", "--quiet") == 2
    assert_one_line(capsys, "out.png", "no space left")
    assert files(folder) == {"photo.png", "painting.jpg"}


def test_the_log_may_not_overwrite_the_model(
    run: Run, tiny_model_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = tiny_model_path.read_bytes()
    model = str(tiny_model_path)
    assert run("-o", "out.png", "--model", model, "--log", model) == 2
    assert_one_line(capsys, model, "--log")
    assert tiny_model_path.read_bytes() == before


def test_a_package_that_a_run_needs_and_cannot_import_is_one_line(
    run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run("-o", "out.png", "--quiet", "--optimiser", "scipy")
    for name in ("scipy_lbfgsb", "scipy_driver"):
        monkeypatch.delattr(f"gramstyle.optimise.{name}")
        monkeypatch.delitem(sys.modules, f"gramstyle.optimise.{name}")
    monkeypatch.setitem(sys.modules, "scipy.optimize", None)
    assert run("-o", "out.png", "--quiet", "--optimiser", "scipy") == 2
    assert_one_line(capsys, "scipy.optimize", "run: gramstyle doctor")


def test_an_export_whose_folder_cannot_be_made_is_one_line(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    where = folder / "photo.png" / "models" / "vgg19.onnx"  # a file where a folder should be
    monkeypatch.setattr("gramstyle.model.locate.checkout_model", lambda: where)
    assert main(["model", "export"]) == 2
    assert_one_line(capsys, str(where.parent))


def test_a_log_that_is_on_a_full_disk_from_the_start_is_refused_before_the_first_iteration(
    run: Run, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("there is no /dev/full on this system")
    assert run("-o", "out.png", "--log", "/dev/full", "--quiet") == 2
    assert_one_line(capsys, "/dev/full")
    assert files(folder) == {"photo.png", "painting.jpg"}


def test_an_objective_that_is_not_finite_keeps_the_last_good_image_and_names_the_layer(
    run: Run,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from gramstyle.engines.onnx_session import Session

    calls = 0
    real = Session.__call__

    def breaking(self: Session, v: object) -> object:
        nonlocal calls
        calls += 1
        responses = real(self, v)  # type: ignore[arg-type]
        if calls > 5:  # two for the targets, then the start and two iterations
            responses["conv3_2"][...] = np.nan
            responses["conv4_2"][...] = np.nan
        return responses

    monkeypatch.setattr(Session, "__call__", breaking)
    assert run("-o", "out.png", "--iterations", "9", "--engine", "numpy", "--quiet") == 2
    assert_one_line(capsys, "conv3_2", "out.png")
    with PIL.Image.open(folder / "out.png") as image:
        assert image.size == (48, 36)


def test_running_out_of_memory_is_one_line(
    run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def exhausted(*_: object, **__: object) -> None:
        raise MemoryError

    monkeypatch.setattr(transfer, "plan_run", exhausted)
    assert run("-o", "out.png") == 2
    assert_one_line(capsys, "memory", "--size")


@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)],
    ids=["Ctrl-C", "SIGTERM", "SIGHUP"],
)
def test_a_stopped_program_writes_the_image_so_far(
    folder: Path, tiny_model_path: Path, number: signal.Signals, code: int
) -> None:
    arguments = ["photo.png", "painting.jpg", "-o", "out.png", "--size", "96"]
    arguments += ["--iterations", "1000000", "--model", str(tiny_model_path)]
    environment = {**os.environ, "PYTHONPATH": str(Path(gramstyle.__file__).parents[1])}
    # A shell starts its background jobs with Ctrl-C ignored, and children inherit that.
    start = f"import signal; signal.signal({int(number)}, signal.SIG_DFL);"
    start += "import sys; from gramstyle.cli import main; sys.exit(main())"
    command = [sys.executable, "-c", start, "transfer", *arguments, "--log", "log.jsonl"]
    log = folder / "log.jsonl"
    with program(
        command, cwd=folder, stderr=subprocess.PIPE, text=True, env=environment
    ) as running:
        until(
            lambda: running.poll() is not None or (log.exists() and log.read_text().count("\n") > 3)
        )
        running.send_signal(number)
        _, error = running.communicate(timeout=PATIENCE)
    assert running.returncode == code
    assert "Traceback" not in error
    assert "The image of iteration" in error.splitlines()[-1]
    with PIL.Image.open(folder / "out.png") as image:
        assert image.size == (96, 72)


def test_the_help_names_every_option_with_its_default(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["transfer", "--help-all"])
    assert stop.value.code == 0
    text = " ".join(capsys.readouterr().out.split())
    for option in (
        *("--output", "--size", "--iterations", "--alpha", "--beta", "--content-layer"),
        *("--style-layers", "--style-weights", "--init", "--seed", "--pooling", "--model"),
        *("--threads", "--save-every", "--quiet", "--log", "--max-pixels", "--tolerance"),
        "--convention",
    ):
        assert option in text
    defaults = gramstyle.Options()
    for value in (defaults.size, defaults.iterations, f"{defaults.beta:g}", defaults.pools):
        assert f"(default {value}" in text
