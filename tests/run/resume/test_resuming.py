"""A run that was stopped is resumed as if it had not been stopped."""

import contextlib
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
import weakref
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import gramstyle
from gramstyle.cli import main
from gramstyle.errors import OptionError
from gramstyle.images import from_pil, read_image, write_image
from gramstyle.run import checkpoint
from gramstyle.run.checkpoint import CheckpointError, load, read_manifest
from gramstyle.run.resume import resume
from gramstyle.run.resume.saved_run import read_saved_run
from run.short_runs import interrupt_after
from workers import PATIENCE, program, until

ASKED = ["--size", "80", "--scales", "2", "--iterations", "12", "--quiet"]


@pytest.fixture
def folder(tmp_path: Path, rng: np.random.Generator, tiny_model_path: Path) -> Path:
    for name, shape in (("photo.png", (60, 80, 3)), ("painting.png", (70, 80, 3))):
        pixels = rng.integers(0, 256, shape).astype(np.uint8)
        write_image(tmp_path / name, from_pil(Image.fromarray(pixels)))
    shutil.copy(tiny_model_path, tmp_path / "tiny.onnx")
    return tmp_path


def command(folder: Path, output: str, *more: str) -> list[str]:
    images = [str(folder / name) for name in ("photo.png", "painting.png")]
    model = ["--model", str(folder / "tiny.onnx")]
    return ["transfer", *images, "-o", str(folder / output), *model, *ASKED, *more]


def resumed(folder: Path, *more: str, saved: str = "saved") -> list[str]:
    """Return the command that resumes a run."""
    files = ["-o", str(folder / "out.png"), "--model", str(folder / "tiny.onnx")]
    return ["resume", str(folder / saved), *files, *more]


def pixels(path: Path) -> np.ndarray:  # type: ignore[type-arg]
    return read_image(path).pixels


def stopped(
    folder: Path, at: int, monkeypatch: pytest.MonkeyPatch, *more: str, every: int = 100
) -> int:
    """Stop a run, as by Ctrl-C, in its `at`-th iteration."""
    saved = str(folder / "saved")
    run = command(folder, "out.png", "--checkpoint", saved, "--every", str(every), *more)
    return interrupted(run, at, monkeypatch)


def interrupted(run: list[str], at: int, monkeypatch: pytest.MonkeyPatch) -> int:
    with monkeypatch.context() as patched:
        interrupt_after(patched, at)
        return main(run)


@pytest.mark.parametrize("at", [1, 7, 12, 13, 20])
@pytest.mark.parametrize("more", [(), ("--tile", "48"), ("--engine", "numpy")])
def test_a_resumed_run_is_the_uninterrupted_one_bit_by_bit(
    at: int,
    more: tuple[str, ...],
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(command(folder, "whole.png", "--optimiser", "own", *more)) == 0
    assert stopped(folder, at, monkeypatch, *more) == 130
    command_line = (
        f"Resume the run with: gramstyle resume {folder}/saved -o {folder}/out.png --model "
    )
    assert command_line in capsys.readouterr().err
    assert main(resumed(folder)) == 0
    assert f"resuming after iteration {at}" in capsys.readouterr().err
    assert np.array_equal(pixels(folder / "out.png"), pixels(folder / "whole.png"))


@pytest.mark.parametrize("at", [7, 12, 20])
def test_the_log_of_a_resumed_run_is_that_of_the_whole_run(
    at: int, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    logs = [folder / "whole.jsonl", folder / "resumed.jsonl"]
    whole = command(folder, "whole.png", "--optimiser", "own", "--log", str(logs[0]))
    assert main(whole) == 0
    assert stopped(folder, at, monkeypatch) == 130
    assert main(resumed(folder, "--log", str(logs[1]))) == 0
    told = [[json.loads(line) for line in log.read_text().splitlines()] for log in logs]
    for entry in (*told[0], *told[1]):
        entry.pop("seconds", None)
    assert told[1][1:] == told[0][1:]  # the first names the options, and one is asked for here


@pytest.mark.parametrize("more", [(), ("--tile", "48")])
def test_the_history_is_read_one_pair_at_a_time(
    more: tuple[str, ...], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beside x and its gradient no third vector is in memory when a pair is read, and no fourth."""
    assert stopped(folder, 10, monkeypatch, *more) == 130
    plainly, given = checkpoint.OpenCheckpoint.read, list[weakref.ref[np.ndarray]]()  # type: ignore[type-arg]
    most = 0

    def read(there: checkpoint.OpenCheckpoint, name: str) -> np.ndarray:  # type: ignore[type-arg]
        nonlocal most
        array = plainly(there, name)
        if name[0] in "sy" and name[1:].isdigit():
            given.append(weakref.ref(array))
            most = max(most, sum(ref() is not None for ref in given))
        return array

    monkeypatch.setattr(checkpoint.OpenCheckpoint, "read", read)
    assert main(resumed(folder, "--quiet")) == 0
    assert len(given) > 10
    assert most == 2


def test_a_state_without_losses_is_refused_in_one_line_and_the_log_stays(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert stopped(folder, 5, monkeypatch, "--log", str(folder / "run.jsonl")) == 130
    capsys.readouterr()
    saved, log = folder / "saved", (folder / "run.jsonl").read_bytes()
    manifest = dict(read_manifest(saved))
    arrays = load(saved, expected=read_saved_run(saved).expected()).arrays
    optimiser = {**manifest["optimiser"], "terms": []}
    checkpoint.save(saved, {**manifest, "optimiser": optimiser}, arrays.items())
    assert main(resumed(folder, "--log", str(folder / "run.jsonl"), "--quiet")) == 2
    error = capsys.readouterr().err
    assert "optimiser.terms is [], not a table" in error
    assert error.count("\n") == 1
    assert (folder / "run.jsonl").read_bytes() == log


def test_times_that_no_run_takes_are_refused_in_one_line(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert stopped(folder, 5, monkeypatch) == 130
    capsys.readouterr()
    saved = folder / "saved"
    manifest = dict(read_manifest(saved))
    arrays = dict(load(saved, expected=read_saved_run(saved).expected()).arrays)
    arrays["losses"][:, 2] = 1e300
    checkpoint.save(saved, manifest, arrays.items())
    assert main(resumed(folder, "--quiet")) == 2
    error = capsys.readouterr().err
    assert "row 0 of its losses has a time that no run takes" in error
    assert error.count("\n") == 1


def test_a_run_that_started_with_a_short_history_has_it_where_there_is_more_room(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiles = ("--tile", "48")
    with monkeypatch.context() as short:
        short.setattr("gramstyle.tiling.budget._pairs", lambda *_: (3, True))
        assert main(command(folder, "whole.png", "--checkpoint", str(folder / "x"), *tiles)) == 0
        assert stopped(folder, 20, short, *tiles) == 130
    assert main(resumed(folder, "--quiet")) == 0
    assert np.array_equal(pixels(folder / "out.png"), pixels(folder / "whole.png"))


def test_a_run_that_has_a_longer_history_elsewhere_is_saved_with_it(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved = folder / "saved"
    with monkeypatch.context() as short:
        short.setattr("gramstyle.tiling.budget._pairs", lambda *_: (3, True))
        assert stopped(folder, 2, short, "--tile", "48") == 130
    monkeypatch.setattr("gramstyle.run.plan.planning.program", lambda: "gramstyle 9")
    assert interrupted(resumed(folder, "--quiet"), 11, monkeypatch) == 130
    manifest = read_manifest(saved)
    assert manifest["optimiser"]["pairs"] > 3
    assert manifest["starts"][-1]["history"] == 10
    assert main(resumed(folder, "--quiet")) == 0


def test_a_run_whose_history_does_not_fit_any_more_is_refused(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert stopped(folder, 5, monkeypatch, "--tile", "48") == 130
    capsys.readouterr()
    monkeypatch.setattr("gramstyle.tiling.budget._pairs", lambda *_: (7, True))
    assert main(resumed(folder, "--quiet")) == 2
    error = capsys.readouterr().err
    assert "a history of 10 pairs, and there is room for 7 now; make room" in error
    assert error.count("\n") == 1


def test_a_finished_run_writes_its_image_again(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(command(folder, "out.png", "--checkpoint", str(folder / "saved"))) == 0
    before = pixels(folder / "out.png")
    (folder / "out.png").unlink()
    assert main(resumed(folder)) == 0
    assert "the run has ended after 22 iterations" in capsys.readouterr().err
    assert np.array_equal(pixels(folder / "out.png"), before)


def test_a_run_that_has_not_ended_is_not_replaced_by_another(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    saved = folder / "saved"
    assert stopped(folder, 5, monkeypatch) == 130
    capsys.readouterr()
    before = {path: path.read_bytes() for path in saved.rglob("*") if path.is_file()}
    assert main(command(folder, "out.png", "--checkpoint", str(saved))) == 2
    error = capsys.readouterr().err
    assert f"stopped after iteration 5; resume it with gramstyle resume {saved}" in error
    assert error.count("\n") == 1
    assert {path: path.read_bytes() for path in saved.rglob("*") if path.is_file()} == before
    assert main(resumed(folder, "--quiet")) == 0
    assert main(command(folder, "out.png", "--checkpoint", str(saved))) == 0


@pytest.mark.parametrize(
    ("place", "answer", "name"),
    [
        ("gramstyle.engines.rounding.platform.machine", "another", "machine"),
        ("gramstyle.engines.rounding.blas_kernel", "openblas 0.3.31 Haswell", "BLAS kernel"),
        ("gramstyle.engines.rounding.numba_target", "x86-64 0123", "Numba's target"),
    ],
)
def test_a_run_that_rounds_otherwise_now_says_so_and_keeps_its_history(
    place: str,
    answer: str,
    name: str,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(command(folder, "whole.png", "--optimiser", "own")) == 0
    assert stopped(folder, 5, monkeypatch) == 130
    capsys.readouterr()
    monkeypatch.setattr(place, lambda: answer)
    assert main(resumed(folder)) == 0
    said = capsys.readouterr()
    assert (
        "resuming after iteration 5; the result may differ in the last bits, since these have "
        f"changed: {name}\n"
    ) in said.err
    assert np.array_equal(pixels(folder / "out.png"), pixels(folder / "whole.png"))


def test_a_run_of_another_version_continues_from_its_image(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert stopped(folder, 5, monkeypatch) == 130
    capsys.readouterr()
    monkeypatch.setattr("gramstyle.run.plan.planning.program", lambda: "gramstyle 9")
    assert main(resumed(folder)) == 0
    said = capsys.readouterr()
    assert (
        "the image of iteration 5, without the history, since these have changed: program\n"
        in said.err
    )
    assert "after 22 iterations" in said.out


Change = Callable[[Path], object]


def _copy(folder: Path, role: str) -> Path:
    """Return the copy of an image in the checkpoint's folder."""
    return next((folder / "saved").glob(f"inputs-*/{role}/*"))


def _other_photo(folder: Path) -> None:
    write_image(_copy(folder, "content"), from_pil(Image.new("RGB", (80, 60), "red")))


def _link(folder: Path) -> None:
    copy = _copy(folder, "style")
    copy.unlink()
    copy.symlink_to(folder / "painting.png")


def _other_model(folder: Path) -> None:
    from conftest import tiny_convolutions
    from gramstyle.model.onnx_file import write_model
    from gramstyle.model.preprocessings import CAFFE

    write_model(
        folder / "tiny.onnx", tiny_convolutions(seed=1), CAFFE, precision="codebook8",
        metadata={"licence": "none", "source": "random"},
    )  # fmt: skip


def _cut(folder: Path) -> None:
    state = next((folder / "saved").glob("*.npz"))
    os.truncate(state, state.stat().st_size // 2)


def _newer(folder: Path) -> None:
    manifest = folder / "saved/manifest.json"
    manifest.write_text(manifest.read_text().replace('"version": 3', '"version": 9'))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (_other_photo, ("another content image", "put the original back")),
        (_other_model, ("another network", "name the original one with --model")),
        (_cut, ("bytes instead of",)),
        (_newer, ("saved", "newer gramstyle")),
        (lambda folder: _copy(folder, "content").unlink(), ("photo.png", "is missing")),
        (_link, ("painting.png", "is a link")),
        (lambda folder: (folder / "tiny.onnx").unlink(), ("tiny.onnx",)),
        (lambda folder: shutil.rmtree(folder / "saved"), ("no such folder",)),
        (lambda folder: (folder / "saved/manifest.json").unlink(), ("no manifest.json",)),
    ],
)  # fmt: skip
def test_a_file_that_does_not_belong_to_the_run_is_refused_in_one_line_and_nothing_is_lost(
    change: Change,
    words: tuple[str, ...],
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert stopped(folder, 5, monkeypatch) == 130
    capsys.readouterr()
    change(folder)
    before = {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    assert main(resumed(folder, "--quiet")) == 2
    error = capsys.readouterr().err
    assert error.startswith("gramstyle: error: ")
    assert error.count("\n") == 1
    for word in words:
        assert word in error
    assert {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()} == before


def test_scales_that_are_others_now_are_refused_with_both_named(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert stopped(folder, 17, monkeypatch) == 130
    saved = folder / "saved"
    manifest = dict(read_manifest(saved))
    arrays = load(saved, expected=read_saved_run(saved).expected()).arrays
    first, second = manifest["scales"]
    scales = [first, {**second, "iterations": 6}]
    checkpoint.save(saved, {**manifest, "scales": scales}, arrays.items())
    with pytest.raises(OptionError, match=r"80 × 60, 6 iterations.* now .*80 × 60, 10 iterations"):
        resume(saved, model=folder / "tiny.onnx")


def test_scipy_s_optimiser_and_another_folder_are_refused_before_the_run_starts(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    saved = ["--checkpoint", str(folder / "saved")]
    assert main(command(folder, "out.png", *saved, "--optimiser", "scipy")) == 2
    assert "SciPy's L-BFGS-B cannot be saved" in capsys.readouterr().err
    assert main(command(folder, "out.png", "--checkpoint", str(folder))) == 2
    assert "choose an empty folder" in capsys.readouterr().err
    assert main(command(folder, "out.png", "--every", "5")) == 2
    assert "--checkpoint DIR" in capsys.readouterr().err
    assert not (folder / "out.png").exists()


def _start(
    arguments: list[str], **more: object
) -> contextlib.AbstractContextManager[subprocess.Popen[bytes]]:
    environment = {**os.environ, "PYTHONPATH": str(Path(gramstyle.__file__).parents[1])}
    command = [sys.executable, "-m", "gramstyle", *arguments]
    streams = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
    return program(command, env=environment, **streams, **more)


def test_kills_at_random_moments_lose_at_most_every_n_iterations(folder: Path) -> None:
    saved, every = folder / "saved", 2
    long = ["--iterations", "400", "--engine", "numpy"]
    assert main(command(folder, "whole.png", *long, "--optimiser", "own")) == 0
    rng, kills, seen, amid = random.Random(1508), 0, 0, 0  # noqa: S311 - moments, not secrets
    arguments = command(folder, "out.png", *long, "--checkpoint", str(saved), "--every", str(every))
    log = folder / "run.jsonl"
    while kills < 6:
        with _start([*arguments, "--log", str(log)]) as process:
            until(partial(_ended_or_saved_after, seen, process, saved))
            time.sleep(rng.uniform(0.0, 0.15))
            process.send_signal(signal.SIGKILL)
            process.communicate()
        kills += 1
        arguments = resumed(folder, "--quiet")
        manifest = read_manifest(saved)
        load(saved, expected=read_saved_run(saved).expected())  # whole, or this raises
        done = _iterations(log)
        assert manifest["iteration"] >= max(seen, done - every)
        amid += manifest["iteration"] > seen
        seen = manifest["iteration"]
    assert amid >= 1  # on a fast machine, the run is over before the other kills
    assert main(resumed(folder, "--quiet")) == 0
    assert np.array_equal(pixels(folder / "out.png"), pixels(folder / "whole.png"))


def _ended_or_saved_after(seen: int, process: subprocess.Popen[bytes], saved: Path) -> bool:
    return process.poll() is not None or _saved_iteration(saved) > seen


def _saved_iteration(saved: Path) -> int:
    try:
        return int(read_manifest(saved)["iteration"])
    except CheckpointError:  # there is none yet
        return 0


def _iterations(log: Path) -> int:
    """How many iterations a log tells of whose lines are whole."""
    lines = [line for line in log.read_text().splitlines(keepends=True) if line.endswith("\n")]
    told = [json.loads(line) for line in lines]
    return max((e["iteration"] for e in told if e["event"] == "iteration"), default=0)


@pytest.mark.skipif(sys.platform == "win32", reason="there is no limit of a file's size here")
def test_a_full_disk_leaves_the_last_good_checkpoint(folder: Path) -> None:
    saved = folder / "saved"
    full = main(command(folder, "out.png", "--checkpoint", str(saved)))
    assert full == 0
    state = next(saved.glob("*.npz")).stat().st_size
    shutil.rmtree(saved)

    def limit() -> None:  # at the start x, two vectors and a pair fit; the history does not
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (3 * state, 3 * state))

    arguments = command(folder, "out.png", "--checkpoint", str(saved), "--every", "1")
    with _start(arguments, preexec_fn=limit) as process:
        error = process.communicate(timeout=PATIENCE)[1].decode()
    assert process.returncode == 2
    assert error.count("\n") == 1
    assert "cannot write the checkpoint of iteration" in error
    assert "is intact" in error
    load(saved, expected=read_saved_run(saved).expected())
    assert pixels(folder / "out.png").size
    assert main(resumed(folder, "--quiet")) == 0


def test_the_machine_is_named_on_the_command_line_and_the_message_repeats_it(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(command(folder, "whole.png", "--optimiser", "own")) == 0
    assert stopped(folder, 5, monkeypatch, "--threads", "1", "--memory", "2GB") == 130
    assert capsys.readouterr().err.endswith("--threads 1 --memory 2000000000\n")
    again = resumed(folder, "--threads", "2")
    assert interrupted(again, 9, monkeypatch) == 130
    error = capsys.readouterr().err
    assert "the run was started with --memory; to use that again, give it to gramstyle" in error
    assert error.endswith("--threads 2\n")
    assert main(resumed(folder, "--quiet")) == 0
    assert np.array_equal(pixels(folder / "out.png"), pixels(folder / "whole.png"))


def test_a_run_that_was_on_a_cluster_says_how_to_name_one_again(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert stopped(folder, 5, monkeypatch) == 130
    saved = folder / "saved"
    manifest = dict(read_manifest(saved))
    arrays = load(saved, expected=read_saved_run(saved).expected()).arrays
    manifest["environment"] = {**manifest["environment"], "cluster": "yes"}
    checkpoint.save(saved, {**manifest, "machine": ["scheduler"]}, arrays.items())
    capsys.readouterr()
    assert main(resumed(folder)) == 0
    error = capsys.readouterr().err
    assert "since these have changed: cluster\n" in error
    assert "the run was started with --scheduler; to use that again, give it to gramstyle" in error


def test_a_checkpoint_of_an_earlier_version_is_continued(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has another name for the optimiser, and x in float64."""
    assert main(command(folder, "whole.png")) == 0
    assert stopped(folder, 20, monkeypatch) == 130
    saved = folder / "saved"
    manifest = dict(read_manifest(saved))
    arrays = dict(load(saved, expected=read_saved_run(saved).expected()).arrays)
    manifest["options"] = {**manifest["options"], "optimiser": "lbfgsb-device"}
    arrays["x"] = arrays["x"].astype(np.float64)
    checkpoint.save(saved, manifest, arrays.items())
    assert main(resumed(folder, "--quiet")) == 0
    # Four iterations with x in float64: less than one of 255 levels in almost every pixel.
    different = np.abs(pixels(folder / "out.png") - pixels(folder / "whole.png")) > 1 / 255 + 1e-6
    assert different.mean() < 0.01


@pytest.mark.parametrize("again", ["transfer", "resume"])
def test_two_runs_do_not_share_a_folder(
    again: str, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    saved = folder / "saved"
    assert stopped(folder, 5, monkeypatch) == 130
    before = {p: p.read_bytes() for p in saved.rglob("*") if p.is_file()}
    capsys.readouterr()
    with checkpoint.owned(saved):
        other = command(folder, "out.png", "--checkpoint", str(saved))
        assert main(resumed(folder) if again == "resume" else other) == 2
    error = capsys.readouterr().err
    assert f"another process (process id {os.getpid()}) is running with the checkpoint" in error
    assert error.count("\n") == 1
    assert {p: p.read_bytes() for p in saved.rglob("*") if p.is_file()} == before


def test_the_images_of_a_run_stay_until_the_next_run_has_a_checkpoint(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved = folder / "saved"
    run = command(folder, "out.png", "--checkpoint", str(saved))
    assert main(run) == 0
    (before,) = saved.glob("inputs-*")

    def killed(*_: object) -> None:
        raise SystemExit

    with monkeypatch.context() as patched:
        patched.setattr("gramstyle.run.resume.checkpointer.save", killed)
        with pytest.raises(SystemExit):
            main(run)
    assert len(list(saved.glob("inputs-*"))) == 2
    (folder / "out.png").unlink()
    assert main(resumed(folder, "--quiet")) == 0  # the finished run is whole
    assert main(run) == 0
    (after,) = saved.glob("inputs-*")
    assert after != before


def test_a_name_that_could_lead_elsewhere_is_not_used_for_a_copy(folder: Path) -> None:
    strange = folder / "a\\b\n.png"
    (folder / "photo.png").rename(strange)
    run = command(folder, "out.png", "--checkpoint", str(folder / "saved"))
    run[1] = str(strange)
    assert main(run) == 0
    assert read_manifest(folder / "saved")["images"]["content"] == "content"
    assert main(resumed(folder, "--quiet")) == 0
