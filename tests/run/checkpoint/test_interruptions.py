"""Kills, failures, interruptions and a full disk leave the old checkpoint or the new one."""

import errno
import io
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gramstyle.run.checkpoint import (
    CheckpointError,
    check_folder,
    load,
    read_manifest,
    save,
)
from gramstyle.system import files
from run.checkpoint.states import (
    EXPECTED,
    FEW,
    Lines,
    assert_is,
    few,
    manifest,
    names,
    state,
)
from workers import PATIENCE

needs_posix = pytest.mark.skipif(os.name == "nt", reason="Windows has no such thing")


def test_each_step_is_synced_before_the_next(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[str] = []
    fsync, replace, rename, unlink = os.fsync, os.replace, os.rename, os.unlink

    def watched_fsync(handle: int) -> None:
        there = os.fstat(handle)
        kind = "folder" if os.path.samestat(there, saved.stat()) else f"file of {there.st_size}"
        steps.append(f"sync {kind}")
        fsync(handle)

    def watched(verb: str, function: Callable[..., None]) -> Callable[..., None]:
        def watch(*paths: Any, **options: Any) -> None:
            steps.append(f"{verb} {Path(paths[-1]).name}")
            function(*paths, **options)

        return watch

    monkeypatch.setattr(os, "fsync", watched_fsync)
    monkeypatch.setattr(os, "replace", watched("name", replace))
    monkeypatch.setattr(os, "rename", watched("name", rename))
    monkeypatch.setattr(os, "unlink", watched("remove", unlink))
    save(saved, manifest(130), state(130).items())
    assert steps == [
        f"sync file of {(saved / 'state-000130.npz').stat().st_size}",
        "name state-000130.npz",
        "sync folder",
        f"sync file of {(saved / 'manifest.json').stat().st_size}",
        "name manifest.json",
        "sync folder",
        "remove state-000120.npz",
    ]


CALLS = [(io, "open"), *((os, n) for n in ("fsync", "rename", "replace", "unlink", "open"))]


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("failure", [OSError(errno.EIO, "broken"), KeyboardInterrupt()])
def test_a_failure_at_any_call_of_the_system_leaves_the_old_or_the_new_checkpoint(
    failure: BaseException, when: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = outcomes = 0
    for k in range(100):
        path = tmp_path / str(k)
        path.mkdir()
        save(path, manifest(1), state(1).items())
        calls = 0

        def failing(function: Callable[..., Any], k: int = k) -> Callable[..., Any]:
            def call(*arguments: Any, **options: Any) -> Any:
                nonlocal calls
                calls += 1
                if calls == k + 1 and when == "before":
                    raise failure
                result = function(*arguments, **options)
                if calls == k + 1:
                    if isinstance(result, io.IOBase):
                        result.close()
                    raise failure
                return result

            return call

        outcome: BaseException | None = None
        with monkeypatch.context() as patched:
            for owner, name in CALLS:
                patched.setattr(owner, name, failing(getattr(owner, name)))
            try:
                save(path, manifest(2), state(2).items())
            except (CheckpointError, KeyboardInterrupt) as error:
                outcome = error
        found: Any = read_manifest(path)["iteration"]
        assert_is(load(path, expected=EXPECTED), found)
        if outcome is None:
            assert found == 2
        else:
            outcomes += 1
            assert not any(name.endswith(".part") for name in names(path)), k
            if isinstance(outcome, CheckpointError):
                assert f"the checkpoint of iteration {found} is intact" in str(outcome)
        save(path, manifest(3), state(3).items())
        assert names(path) == ["manifest.json", "state-000003.npz"]
        if calls <= k:
            break
    assert calls <= k  # the last save met no failure
    assert outcomes >= 8  # opening, syncing and renaming two files, syncing their folder


def interrupt() -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize("first", [True, False], ids=["the first save", "a later save"])
def test_an_interruption_at_any_line_leaves_the_old_or_the_new_checkpoint(
    first: bool, tmp_path: Path
) -> None:
    found: list[Any] = []
    for k in range(1, 1000):
        path = tmp_path / str(k)
        path.mkdir()
        if not first:
            save(path, manifest(1), few(1).items())
        lines, before = Lines(k, interrupt), sys.gettrace()
        sys.settrace(lines.trace)
        try:
            save(path, manifest(2), few(2).items())
        except KeyboardInterrupt:
            pass
        finally:
            sys.settrace(before)
        if first and "manifest.json" not in names(path):
            assert names(path) == [], k
            found.append(0)
        else:
            found.append(read_manifest(path)["iteration"])
            assert_is(load(path, expected=FEW), found[-1], few)
            assert not any(name.endswith(".part") for name in names(path)), k
        check_folder(path)
        if lines.left > 0:
            break
    assert lines.left > 0
    assert len(found) > 80  # lines
    assert found == sorted(found)  # first the old checkpoint, then the new one
    assert set(found) == {0 if first else 1, 2}


# Kills a child at its k-th line, for all k; the test examines the folders afterwards.
KILLED_AT_LINES = """
import os, signal, sys
from pathlib import Path
sys.path[:0] = sys.argv[2:]
from run.checkpoint.states import Lines, few, manifest
from gramstyle.run.checkpoint import save

for k in range(1, 1000):
    path = Path(sys.argv[1], str(k))
    path.mkdir()
    save(path, manifest(1), few(1).items())
    child = os.fork()
    if child == 0:
        sys.settrace(Lines(k, lambda: os.kill(os.getpid(), signal.SIGKILL)).trace)
        save(path, manifest(2), few(2).items())
        os._exit(0)
    if os.waitpid(child, 0)[1] == 0:
        break
"""


# Kills children that save one checkpoint after another; each must keep what it has reported.
KILLED_AT_RANDOM = """
import os, random, signal, sys, time
from pathlib import Path
import numpy as np
sys.path[:0] = sys.argv[2:]
from gramstyle.run.checkpoint import Expected, check_folder, load, save

folder, rng = Path(sys.argv[1]), random.Random(1508_06576)
expected = {name: Expected((100_000,), ("int64",)) for name in "ab"}
last = 0
for _ in range(20):
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        before = check_folder(folder)
        iteration = before["iteration"] if before else 0
        while True:
            iteration += 1
            arrays = ((name, np.full(100_000, iteration)) for name in "ab")
            save(folder, {"iteration": iteration}, arrays)
            os.write(writer, b"%d\\n" % iteration)
    os.close(writer)
    with open(reader) as reports:
        assert int(reports.readline()) == last + 1
        time.sleep(rng.uniform(0, 0.1))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        reported = [int(line) for line in reports if line.endswith("\\n")]
    loaded = load(folder, expected=expected)
    found = loaded.manifest["iteration"]
    # One more checkpoint may have been saved than reported.
    assert found - max(reported, default=last + 1) in (0, 1)
    assert all((array == found).all() for array in loaded.arrays.values())
    last = found
"""

# Saves with every limit on the size of files, into an empty folder and over a checkpoint.
FULL_DISK = """
import resource, signal, sys
from pathlib import Path
sys.path[:0] = sys.argv[2:]
from run.checkpoint.states import few, manifest
from gramstyle.run.checkpoint import CheckpointError, save

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
_, unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)
long = {**manifest(2), "text": "x" * 3000}  # longer than the state, so either may fail
for size in range(0, 10_000, 97):
    for path in (Path(sys.argv[1], f"first-{size}"), Path(sys.argv[1], f"later-{size}")):
        path.mkdir()
        if path.name.startswith("later"):
            save(path, manifest(1), few(1).items())
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, unlimited))
        message = ""
        try:
            save(path, long, few(2).items())
        except CheckpointError as error:
            message = str(error)
        resource.setrlimit(resource.RLIMIT_FSIZE, (unlimited, unlimited))
        print(path.name, message, sep=": ")
    if not message:
        break
"""


def command(program: str, folder: Path) -> list[str]:
    paths = [str(Path(__file__).parents[2]), str(Path(files.__file__).parents[2])]
    return [sys.executable, "-c", program, str(folder), *paths]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork")
def test_a_kill_at_any_line_leaves_the_old_or_the_new_checkpoint(folder: Path) -> None:
    subprocess.run(command(KILLED_AT_LINES, folder), check=True, timeout=PATIENCE)
    left = sorted(folder.iterdir(), key=lambda path: int(path.name))
    found = []
    for path in left:
        found.append(read_manifest(path)["iteration"])
        assert_is(load(path, expected=FEW), found[-1], few)
        check_folder(path)
        save(path, manifest(3), few(3).items())
        assert names(path) == ["manifest.json", "state-000003.npz"]
    assert len(found) > 100  # lines
    assert found == sorted(found)
    assert set(found) == {1, 2}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork")
def test_twenty_kills_at_random_moments_lose_no_saved_checkpoint(folder: Path) -> None:
    subprocess.run(command(KILLED_AT_RANDOM, folder), check=True, timeout=PATIENCE)


@needs_posix
def test_a_disk_that_is_full_after_any_byte_leaves_the_last_checkpoint(folder: Path) -> None:
    done = subprocess.run(
        command(FULL_DISK, folder), check=True, capture_output=True, text=True, timeout=PATIENCE
    )
    assert done.stderr == ""
    *failed, first, later = done.stdout.splitlines()
    for line in failed:
        name, message = line.split(": ", maxsplit=1)
        path = folder / name
        left = "there is no earlier one"
        if name.startswith("later"):
            left = "the checkpoint of iteration 1 is intact"
            assert names(path) == ["manifest.json", "state-000001.npz"]
            assert_is(load(path, expected=FEW), 1, few)
        else:
            assert names(path) == []
        assert message == (
            f"cannot write the checkpoint of iteration 2 to {path}: {os.strerror(errno.EFBIG)}; "
            f"{left}; free space there or choose another folder"
        )
    assert len(failed) > 60
    for line in (first, later):
        path = folder / line.removesuffix(": ")
        assert read_manifest(path)["iteration"] == 2
