"""Whatever ends a run, the image so far is saved; a finished image is written first."""

import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest

import gramstyle
from gramstyle.cli.running import performing as running
from gramstyle.images import read_settings

Run = Callable[..., int]
Capture = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def ctrl_c_is_not_ignored() -> None:
    """Shells start background jobs with SIGINT ignored, and so may be this test."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def after(monkeypatch: pytest.MonkeyPatch, iteration: int, happens: Callable[[], Any]) -> None:
    """Let something happen in the callback of an iteration."""
    real = running.execute

    def execute(plan: Any, *, callback: Callable[..., Any], **other: Any) -> Any:
        def called(progress: Any) -> None:
            callback(progress)
            if progress.losses.iteration == iteration:
                happens()

        return real(plan, callback=called, **other)

    monkeypatch.setattr(running, "execute", execute)


def raising(error: BaseException) -> Callable[[], None]:
    def fail() -> None:
        raise error

    return fail


def while_writing(monkeypatch: pytest.MonkeyPatch, happens: Callable[[], Any]) -> None:
    """Let something happen while an image is being written."""
    real = os.fsync

    def fsync(handle: int) -> None:
        happens()
        real(handle)

    monkeypatch.setattr(os, "fsync", fsync)


def saved_iterations(path: Path) -> int:
    settings = read_settings(path)
    assert settings is not None
    with PIL.Image.open(path) as image:
        image.load()
    return int(settings["result"]["iterations"])


def test_a_bug_saves_the_image_so_far_and_shows_a_harmless_traceback(
    transfer: Run, images: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    after(monkeypatch, 2, raising(ValueError("odd \x1b[2J name")))
    assert transfer() == 70
    assert saved_iterations(images / "out.png") == 2
    error = capsys.readouterr().err
    assert r"ValueError: odd \x1b[2J name" in error
    assert "\x1b" not in error
    assert error.splitlines()[-2] == "The image of iteration 2 is in out.png"
    assert "bug in gramstyle" in error.splitlines()[-1]


@pytest.mark.parametrize(
    "fail", [raising(MemoryError()), lambda: np.empty((2**20, 2**20, 2**20), np.uint8)]
)
def test_running_out_of_memory_saves_the_image_so_far(
    fail: Callable[[], Any],
    transfer: Run,
    images: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: Capture,
) -> None:
    after(monkeypatch, 1, fail)
    assert transfer("--quiet") == 2
    assert saved_iterations(images / "out.png") == 1
    assert capsys.readouterr().err == (
        "gramstyle: error: there is not enough memory; choose a smaller --size. "
        "The image of iteration 1 is in out.png\n"
    )


def test_an_unexpected_end_of_the_process_saves_the_image_so_far(
    transfer: Run, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    after(monkeypatch, 1, raising(SystemExit(5)))
    with pytest.raises(SystemExit):
        transfer("--quiet")
    assert saved_iterations(images / "out.png") == 1


def test_a_stop_before_the_first_iteration_says_that_nothing_was_written(
    transfer: Run, images: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.setattr(running, "execute", lambda *_, **__: signal.raise_signal(signal.SIGINT))
    assert transfer() == 130
    assert capsys.readouterr().err == (
        "gramstyle: stopped by Ctrl-C. Nothing was written: the first iteration was not complete\n"
    )
    assert not (images / "out.png").exists()


def test_a_second_ctrl_c_while_the_image_is_saved_changes_nothing(
    transfer: Run, images: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    after(monkeypatch, 2, lambda: signal.raise_signal(signal.SIGINT))
    while_writing(monkeypatch, lambda: signal.raise_signal(signal.SIGINT))
    assert transfer("--quiet") == 130
    assert saved_iterations(images / "out.png") == 2
    assert {path.name for path in images.iterdir()} == {"photo.png", "painting.png", "out.png"}
    assert capsys.readouterr().err == (
        "gramstyle: stopped by Ctrl-C. The image of iteration 2 is in out.png\n"
    )


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_while_the_finished_image_is_written_waits_for_image_and_log(
    transfer: Run,
    images: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: Capture,
    number: int,
    code: int,
) -> None:
    while_writing(monkeypatch, lambda: signal.raise_signal(number))
    assert transfer("--quiet", "--log", "log") == code
    assert saved_iterations(images / "out.png") == 3
    assert capsys.readouterr().err.endswith(". The finished image is in out.png\n")
    last = json.loads((images / "log").read_text().splitlines()[-1])
    assert last["event"] == "end"


def test_a_signal_between_the_last_iteration_and_the_write_saves_the_image(
    transfer: Run, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = running.execute

    def execute(*arguments: Any, **options: Any) -> Any:
        real(*arguments, **options)
        signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(running, "execute", execute)
    assert transfer("--quiet") == 143
    assert saved_iterations(images / "out.png") == 3


@pytest.mark.parametrize("lines", [1, 2, 4])  # a line for an iteration, or for the end, fails
def test_a_log_on_a_disk_that_fills_up_costs_no_image(
    transfer: Run,
    images: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: Capture,
    lines: int,
) -> None:
    class Disk(io.BytesIO):
        room = lines

        def write(self, data: Any) -> int:
            Disk.room -= 1
            return len(data) if Disk.room >= 0 else 0

    real = Path.open
    monkeypatch.setattr(
        Path, "open", lambda path, *a, **k: Disk() if path.name == "log" else real(path, *a, **k)
    )
    assert transfer("--quiet", "--log", "log") == 2
    assert saved_iterations(images / "out.png") == 3
    assert capsys.readouterr().err == (
        "gramstyle: error: cannot write the log log: No space left on device. "
        "The finished image is in out.png\n"
    )


def test_ctrl_c_while_modules_are_imported_is_one_line(tmp_path: Path) -> None:
    # A finder that is asked for a heavy module receives Ctrl-C in the middle of the imports.
    program = """
import os, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
class Interrupting:
    def find_spec(self, name, path=None, target=None):
        if name == "numpy":
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Interrupting())
from gramstyle.cli import main
sys.exit(main())
"""
    environment = {**os.environ, "PYTHONPATH": str(Path(gramstyle.__file__).parents[1])}
    ended = subprocess.run(
        [sys.executable, "-c", program, "presets"],
        capture_output=True, text=True, env=environment, check=False, cwd=tmp_path,
    )  # fmt: skip
    assert (ended.returncode, ended.stdout) == (130, "")
    assert ended.stderr == "gramstyle: stopped by Ctrl-C\n"
