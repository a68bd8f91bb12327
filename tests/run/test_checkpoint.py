"""A checkpoint is the old one or the new one, whatever happens, and nothing hostile is believed."""

import errno
import hashlib
import io
import json
import linecache
import os
import random
import subprocess
import sys
import tracemalloc
import weakref
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import pytest

from gramstyle.core.arrays import Array
from gramstyle.run.checkpoint import (
    Checkpoint,
    CheckpointError,
    Expected,
    archive,
    check_folder,
    load,
    read_manifest,
    save,
    saving,
)
from gramstyle.run.checkpoint import manifest as manifests
from gramstyle.system import files

needs_posix = pytest.mark.skipif(os.name == "nt", reason="Windows has no such thing")


def manifest(iteration: int) -> dict[str, Any]:
    return {"iteration": iteration, "options": {"size": 512, "α": 0.1, "names": ["a", None, True]}}


def state(iteration: int) -> dict[str, Array]:
    """Arrays of every kind that a run may have, different in each iteration."""
    rng = np.random.default_rng(iteration)
    return {
        "x": rng.standard_normal((3, 4, 5)),
        "pairs.0_s": rng.standard_normal(70).astype(np.float32),
        "fortran": np.asfortranarray(rng.standard_normal((4, 3, 2))),
        "between": rng.standard_normal((6, 8))[::2, ::3],
        "mask": rng.random(9) > 0.5,
        "count": np.asarray(iteration),
        "empty": np.zeros((0, 3), np.float32),
    }


def few(iteration: int) -> dict[str, Array]:
    """Two of them."""
    return {name: state(iteration)[name] for name in ("x", "mask")}


def expected_of(arrays: Mapping[str, Array], **options: Any) -> dict[str, Expected]:
    return {n: Expected(a.shape, (a.dtype.name,), **options) for n, a in arrays.items()}


EXPECTED, FEW = expected_of(state(0)), expected_of(few(0))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "run"
    path.mkdir()
    return path


@pytest.fixture
def saved(folder: Path) -> Path:
    save(folder, manifest(120), state(120).items())
    return folder


def assert_is(
    checkpoint: Checkpoint, iteration: int, arrays: Callable[[int], dict[str, Array]] = state
) -> None:
    """Bit by bit that of an iteration."""
    assert checkpoint.manifest == manifest(iteration)
    truth = arrays(iteration)
    assert list(checkpoint.arrays) == list(truth)
    for name, array in checkpoint.arrays.items():
        assert array.dtype == truth[name].dtype
        assert array.shape == truth[name].shape
        assert array.tobytes() == truth[name].tobytes(), name


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def refusal(folder: Path, expected: Mapping[str, Expected] = EXPECTED) -> str:
    """The one line with which a folder is not loaded, without the folder, which it names."""
    with pytest.raises(CheckpointError) as caught:
        load(folder, expected=expected)
    message = str(caught.value)
    assert message.isprintable()
    assert str(folder) in message
    assert len(message) < 600
    return message.replace(str(folder), "")  # which holds words of the test's own


# What is saved.


def test_what_is_saved_comes_back_bit_by_bit(saved: Path) -> None:
    assert_is(load(saved, expected=EXPECTED), 120)
    assert read_manifest(saved) == manifest(120)


def test_an_array_comes_back_in_the_order_that_it_had(saved: Path) -> None:
    # Sums may depend on it in their last bit.
    arrays = load(saved, expected=EXPECTED).arrays
    assert arrays["fortran"].strides == state(120)["fortran"].strides
    assert arrays["x"].flags.c_contiguous


def test_numpy_itself_reads_the_state_without_pickles(saved: Path) -> None:
    with np.load(saved / "state-000120.npz", allow_pickle=False) as arrays:
        assert set(arrays) == set(state(120))
        for name, truth in state(120).items():
            assert arrays[name].tobytes() == truth.tobytes()
    with zipfile.ZipFile(saved / "state-000120.npz") as file:
        assert file.testzip() is None


def test_the_manifest_tells_the_size_and_the_hash_of_the_state(saved: Path) -> None:
    document = json.loads((saved / "manifest.json").read_bytes())
    data = (saved / "state-000120.npz").read_bytes()
    assert document.pop("checksum")
    assert document == {
        "format": "gramstyle checkpoint",
        "version": 1,
        "state": "state-000120.npz",
        "sha256": hashlib.sha256(data).hexdigest(),
        "bytes": len(data),
        "run": manifest(120),
    }


def test_the_same_arrays_give_the_same_bytes(saved: Path, tmp_path: Path) -> None:
    again = tmp_path / "again"
    again.mkdir()
    save(again, manifest(120), state(120).items())
    for name in names(saved):
        assert (again / name).read_bytes() == (saved / name).read_bytes()


def test_a_save_replaces_what_was_saved_before_and_touches_nothing_else(saved: Path) -> None:
    others = ["notes.txt", "state.npz", "state-12.npz", "my-state-000001.npz"]
    for name in others:
        (saved / name).write_bytes(b"mine")
    for iteration in (130, 140, 140, 7):
        save(saved, manifest(iteration), state(iteration).items())
        assert_is(load(saved, expected=EXPECTED), iteration)
        assert len(names(saved)) == 2 + len(others)
    assert all((saved / name).read_bytes() == b"mine" for name in others)


def test_an_iteration_that_is_saved_twice_does_not_overwrite_its_first_state(saved: Path) -> None:
    before = json.loads((saved / "manifest.json").read_bytes())["state"]
    seen: list[list[str]] = []

    def arrays() -> Iterator[tuple[str, Array]]:
        yield from state(120).items()
        seen.append(names(saved))

    save(saved, manifest(120), arrays())
    assert before in seen[0]
    assert names(saved) == ["manifest.json", "state-000120-2.npz"]
    assert_is(load(saved, expected=EXPECTED), 120)


def test_what_killed_saves_left_goes_before_the_next_one_needs_room(saved: Path) -> None:
    left = [".gramstyle-0123456789abcdef.part", "state-000119.npz", "state-000120-2.npz"]
    for name in left:
        (saved / name).write_bytes(b"half")
    seen: list[list[str]] = []

    def arrays() -> Iterator[tuple[str, Array]]:
        seen.append(names(saved))
        yield from state(130).items()

    save(saved, manifest(130), arrays())
    assert not set(left) & set(seen[0])
    assert "state-000120.npz" in seen[0]


def test_infinite_values_pass_where_they_are_expected(folder: Path) -> None:
    arrays = {"x": np.array([1.0, np.inf, np.nan])}
    save(folder, manifest(1), arrays.items())
    assert "x holds NaN" in refusal(folder, expected_of(arrays))
    loaded = load(folder, expected=expected_of(arrays, finite=False)).arrays["x"]
    assert loaded.tobytes() == arrays["x"].tobytes()


def test_an_array_may_have_one_of_several_types(saved: Path) -> None:
    either = {**EXPECTED, "x": Expected((3, 4, 5), ("float32", "float64"))}
    assert_is(load(saved, expected=either), 120)


def test_nothing_is_printed(saved: Path, capfd: pytest.CaptureFixture[str]) -> None:
    save(saved, manifest(130), state(130).items())
    load(saved, expected=EXPECTED)
    refusal(saved, {})
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("run", "error"),
    [
        ({}, ValueError),
        ({"iteration": -1}, ValueError),
        ({"iteration": True}, ValueError),
        ({"iteration": 1.0}, ValueError),
        ({"iteration": 10**9}, ValueError),
        ({"iteration": 1, "loss": float("nan")}, ValueError),
        ({"iteration": 1, "loss": float("inf")}, ValueError),
        ({"iteration": 1, "1": 0, 1: 0}, ValueError),
        ({"iteration": 1, "x": np.zeros(3)}, TypeError),
        ({"iteration": 1, "text": "x" * 1_000_000}, ValueError),
    ],
)
def test_a_manifest_that_could_not_be_read_back_is_not_written(
    run: dict[str, Any], error: type[Exception], saved: Path
) -> None:
    with pytest.raises(error):
        save(saved, run, state(130).items())
    assert_is(load(saved, expected=EXPECTED), 120)
    assert len(names(saved)) == 2


def test_keys_that_are_numbers_come_back_as_text(folder: Path) -> None:
    # Sorted, 10 comes before 9 as text and not as a number: the checksum must see text.
    save(folder, {"iteration": 1, "levels": {9: 0, 10: (1, 2)}}, [])
    assert read_manifest(folder) == {"iteration": 1, "levels": {"9": 0, "10": [1, 2]}}


@pytest.mark.parametrize(
    "arrays",
    [
        [("x", np.array([None]))],
        [("x", np.array(["text"]))],
        [("x", np.zeros(2, complex))],
        [("x", np.zeros(2, np.dtype("f8").newbyteorder()))],
        [("x", np.zeros(2)), ("x", np.zeros(2))],
        [("../x", np.zeros(2))],
        [("", np.zeros(2))],
        [("x\n", np.zeros(2))],
    ],
)
def test_arrays_that_could_not_be_read_back_are_not_written(
    arrays: list[tuple[str, Array]], saved: Path
) -> None:
    with pytest.raises(ValueError, match=r"plain name|not for a checkpoint"):
        save(saved, manifest(130), arrays)
    assert_is(load(saved, expected=EXPECTED), 120)
    assert len(names(saved)) == 2


def test_an_array_is_gone_before_the_next_one_is_made(folder: Path) -> None:
    gone: list[bool] = []

    def arrays() -> Iterator[tuple[str, Array]]:
        before: Callable[[], object] = lambda: None  # noqa: E731
        for number in range(3):
            gone.append(before() is None)
            array = np.zeros(10)
            before = weakref.ref(array)
            pair = (f"x{number}", array)
            del array
            yield pair
            del pair

    save(folder, manifest(1), arrays())
    assert gone == [True] * 3


@pytest.mark.parametrize("order", ["C", "F"])
def test_no_array_is_in_memory_twice(order: Any, folder: Path) -> None:
    array = np.zeros((1000, 4000), order=order)  # 32 MB
    few = 6_000_000  # bytes: some chunks of a megabyte and what zipfile keeps
    tracemalloc.start()
    try:
        save(folder, manifest(1), [("x", array)])
        assert tracemalloc.get_traced_memory()[1] < few
        tracemalloc.reset_peak()
        load(folder, expected={"x": Expected(array.shape)})
        assert tracemalloc.get_traced_memory()[1] < array.nbytes + few
    finally:
        tracemalloc.stop()


# Whatever happens.


def test_each_step_is_on_the_disk_before_the_next(
    saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
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
                assert f"the checkpoint of iteration {found} is whole" in str(outcome)
        save(path, manifest(3), state(3).items())
        assert names(path) == ["manifest.json", "state-000003.npz"]
        if calls <= k:
            break
    assert calls <= k  # the last save met no failure
    assert outcomes >= 8  # the opening, syncing and naming of two files, and of their folder


OURS = {saving.__file__, archive.__file__, manifests.__file__, files.__file__}


class Lines:
    """Call something at the k-th line of our code that a save comes by."""

    def __init__(self, k: int, then: Callable[[], None]) -> None:
        self.left = k
        self._then = then
        self._before: dict[FrameType, int] = {}

    def trace(self, frame: FrameType, event: str, _: object) -> Any:
        name, line = frame.f_code.co_filename, frame.f_lineno
        if name not in OURS:
            return None
        if event == "line":
            back = line < self._before.get(frame, 0)
            self._before[frame] = line
            # Python visits a `with` once more before it leaves it, where no signal can come in.
            if not (back and linecache.getline(name, line).lstrip().startswith("with ")):
                self.left -= 1
            if self.left == 0:
                self.left = -1
                self._then()
        return self.trace


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
    assert found == sorted(found)  # first the old one, then the new one
    assert set(found) == {0 if first else 1, 2}


# A child is killed at its k-th line, for all k; what it leaves is looked at afterwards.
KILLED_AT_LINES = """
import os, signal, sys
from pathlib import Path
sys.path[:0] = sys.argv[2:]
from test_checkpoint import Lines, few, manifest, save

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

# Saves one checkpoint after the other, and tells of each that is saved.
SAVING = """
import sys
from pathlib import Path
import numpy as np
sys.path[:0] = sys.argv[2:]
from gramstyle.run.checkpoint import check_folder, save

folder = Path(sys.argv[1])
before = check_folder(folder)
iteration = before["iteration"] if before else 0
while True:
    iteration += 1
    save(folder, {"iteration": iteration}, ((n, np.full(100_000, iteration)) for n in "ab"))
    print(iteration, flush=True)
"""

FULL_DISK = """
import resource, signal, sys
from pathlib import Path
import numpy as np
sys.path[:0] = sys.argv[2:]
from gramstyle.run.checkpoint import CheckpointError, save

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
try:
    save(Path(sys.argv[1]), {"iteration": 130}, [("x", np.zeros(int(sys.argv[-1])))])
except CheckpointError as error:
    print(error)
"""


def worker(program: str, folder: Path) -> list[str]:
    paths = [str(Path(__file__).parent), str(Path(files.__file__).parents[2])]
    return [sys.executable, "-c", program, str(folder), *paths]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork")
def test_a_kill_at_any_line_leaves_the_old_or_the_new_checkpoint(folder: Path) -> None:
    subprocess.run(worker(KILLED_AT_LINES, folder), check=True, timeout=120)
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


def test_twenty_kills_at_random_moments_lose_nothing_that_was_saved(folder: Path) -> None:
    rng = random.Random(1508_06576)  # noqa: S311
    expected = {name: Expected((100_000,), ("int64",)) for name in "ab"}
    before = 0
    for _ in range(20):
        with subprocess.Popen(worker(SAVING, folder), stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            assert process.stdout.readline()  # it has saved one
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(rng.uniform(0, 0.1))
            process.kill()
            told = [int(line) for line in process.stdout if line.endswith("\n")]
        loaded = load(folder, expected=expected)
        iteration = loaded.manifest["iteration"]
        # One more may have been saved than it had time to tell.
        assert iteration in (max(told, default=before + 1), max(told, default=before + 1) + 1)
        assert all((array == iteration).all() for array in loaded.arrays.values())
        before = iteration


# A full disk.


@needs_posix
@pytest.mark.parametrize("size", [6_300, 1_000_000], ids=["a little too large", "far too large"])
def test_a_file_that_the_system_will_not_let_grow_leaves_the_last_checkpoint(
    size: int, saved: Path
) -> None:
    done = subprocess.run(
        [*worker(FULL_DISK, saved), str(size)], check=True, capture_output=True, text=True
    )
    assert done.stderr == ""
    assert done.stdout == (
        f"cannot write the checkpoint of iteration 130 into {saved}: {os.strerror(errno.EFBIG)}; "
        "the checkpoint of iteration 120 is whole; make room there or choose another folder\n"
    )
    assert names(saved) == ["manifest.json", "state-000120.npz"]
    assert_is(load(saved, expected=EXPECTED), 120)


class FullDisk(io.FileIO):
    """A file on a disk that has room for `room` more bytes."""

    room = 0

    def write(self, data: Any, /) -> int:
        data = memoryview(data).cast("B")
        if len(data) and not FullDisk.room:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        part = data[: FullDisk.room]
        FullDisk.room -= len(part)
        return super().write(part)


@pytest.mark.parametrize("exists", [True, False], ids=["a later save", "the first save"])
def test_a_disk_that_fills_up_after_any_byte_leaves_the_last_checkpoint(
    exists: bool, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if exists:
        save(folder, manifest(120), state(120).items())
    before = names(folder)
    opening = io.open  # what pathlib calls

    def on_full_disk(path: Any, mode: str = "r", *rest: Any, **options: Any) -> Any:
        if "x" in mode:
            return io.BufferedWriter(FullDisk(path, mode), 512)
        return opening(path, mode, *rest, **options)

    monkeypatch.setattr(io, "open", on_full_disk)
    size = 0
    while True:
        FullDisk.room = size
        try:
            save(folder, manifest(130), state(130).items())
        except CheckpointError as error:
            message = str(error)
        else:
            break
        assert os.strerror(errno.ENOSPC) in message
        assert ("of iteration 120 is whole" in message) == exists
        assert ("no earlier one" in message) != exists
        assert names(folder) == before
        if exists:
            assert_is(load(folder, expected=EXPECTED), 120)
        size += 97
    assert size > 30 * 97
    assert_is(load(folder, expected=EXPECTED), 130)


# Hostile input.


def sealed(folder: Path, document: Mapping[str, Any]) -> None:
    """Write a manifest whose checksum is right, as somebody would who knows how."""
    canonical = json.dumps(document, sort_keys=True, separators=(",", ":"))
    checksum = hashlib.sha256(canonical.encode()).hexdigest()
    (folder / "manifest.json").write_text(json.dumps({**document, "checksum": checksum}))


def changed(folder: Path, **changes: Any) -> None:
    document = json.loads((folder / "manifest.json").read_bytes())
    del document["checksum"]
    sealed(folder, {k: v for k, v in {**document, **changes}.items() if v is not ...})


def with_state(folder: Path, data: bytes) -> None:
    """Put other bytes into the state, and their size and hash into the manifest."""
    (folder / "state-000120.npz").write_bytes(data)
    changed(folder, sha256=hashlib.sha256(data).hexdigest(), bytes=len(data))


def test_the_tests_can_seal_a_manifest(saved: Path) -> None:
    changed(saved, run=manifest(7))
    assert read_manifest(saved) == manifest(7)


def test_a_folder_that_is_not_there_or_no_checkpoint_is_told_so(tmp_path: Path) -> None:
    assert "there is no such folder" in refusal(tmp_path / "missing")
    assert "there is no manifest.json in it" in refusal(tmp_path)
    (tmp_path / "file").touch()
    assert "there is no such folder" in refusal(tmp_path / "file")


def test_a_checkpoint_of_a_newer_version_is_told_so_whatever_else_is_new(saved: Path) -> None:
    (saved / "manifest.json").write_text('{"format": "gramstyle checkpoint", "version": 2}')
    message = refusal(saved)
    assert "made by a newer gramstyle" in message
    assert "version 2" in message


def test_a_state_that_is_missing_is_told_so(saved: Path) -> None:
    (saved / "state-000120.npz").unlink()
    assert "state-000120.npz is missing; put it back" in refusal(saved)


@pytest.mark.parametrize("wrong", [-1, 1, -500])
def test_a_state_of_another_size_is_told_so(wrong: int, saved: Path) -> None:
    data = (saved / "state-000120.npz").read_bytes()
    data = data[:wrong] if wrong < 0 else data + b"\0"
    (saved / "state-000120.npz").write_bytes(data)
    assert f"state-000120.npz has {len(data):,} bytes instead of" in refusal(saved)


NESTED = "[" * 200_000
BAD_MANIFESTS: list[tuple[bytes, str]] = [
    (b"", "not plain JSON"),
    (b"\x00\xff\x00", "not plain JSON"),
    (b"{" * 5, "not plain JSON"),
    (NESTED.encode(), "not plain JSON"),
    (b'{"format": ' + NESTED.encode(), "not plain JSON"),
    (b'{"format": ' + b"1" * 5000 + b"}", "not plain JSON"),
    (b'{"format": 1, "format": 1}', "not plain JSON"),
    (b"[]", "none of ours"),
    (b"null", "none of ours"),
    (b"{}", "none of ours"),
    (b'{"format": "a web application"}', "none of ours"),
    (b'{"format": "gramstyle checkpoint"}', "damaged"),
    (b'{"format": "gramstyle checkpoint", "version": NaN}', "damaged"),
    (b'{"format": "gramstyle checkpoint", "version": 1e999}', "damaged"),
    (b'{"format": "gramstyle checkpoint", "version": 1' + b"0" * 4000 + b"}", "newer"),
    (b'"' + b"x" * 1_000_000, "larger"),
]


@pytest.mark.parametrize(("data", "reason"), BAD_MANIFESTS)
def test_a_manifest_that_makes_no_sense_is_refused(data: bytes, reason: str, saved: Path) -> None:
    (saved / "manifest.json").write_bytes(data)
    assert reason in refusal(saved)
    with pytest.raises(CheckpointError):
        check_folder(saved)


BAD_CHANGES: list[dict[str, Any]] = [
    {"state": "../state-000120.npz"},
    {"state": "/etc/passwd"},
    {"state": "manifest.json"},
    {"state": "state-000120.npz\n"},
    {"state": "state-\u0661\u0661\u0661\u0661\u0661\u0661.npz"},
    {"state": "x" * 10_000},
    {"state": 5},
    {"state": None},
    {"sha256": 5},
    {"bytes": "5"},
    {"bytes": True},
    {"bytes": -1},
    {"bytes": 2**70},
    {"bytes": 1e3},
    {"bytes": ...},
    {"version": 0},
    {"version": None},
    {"version": "1"},
    {"run": []},
    {"run": None},
    {"run": {}},
    {"run": {"iteration": -1}},
    {"run": {"iteration": "\x1b[2J"}},
    {"more": 1},
]


@pytest.mark.parametrize("changes", BAD_CHANGES)
def test_a_manifest_with_a_right_checksum_is_not_believed_either(
    changes: dict[str, Any], saved: Path
) -> None:
    changed(saved, **changes)
    refusal(saved)
    with pytest.raises(CheckpointError):
        read_manifest(saved)


def test_a_bit_that_flips_anywhere_in_the_manifest_is_found(saved: Path) -> None:
    path = saved / "manifest.json"
    data = path.read_bytes()
    harmless = 0
    for at in range(len(data)):
        flipped = bytearray(data)
        flipped[at] ^= 1 << at % 7
        path.write_bytes(flipped)
        try:
            # Some flips leave what the document says: é is \u00e9 and \u00E9.
            assert read_manifest(saved) == manifest(120)
        except CheckpointError:
            continue
        harmless += 1
    assert harmless < 10


def test_a_manifest_that_was_cut_anywhere_is_refused(saved: Path) -> None:
    data = (saved / "manifest.json").read_bytes().rstrip()
    for length in range(len(data)):
        (saved / "manifest.json").write_bytes(data[:length])
        assert "not plain JSON" in refusal(saved)


def test_a_bit_that_flips_anywhere_in_the_state_is_found_before_it_is_parsed(
    saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def parsed(*_: object) -> None:
        raise AssertionError

    path = saved / "state-000120.npz"
    data = path.read_bytes()
    monkeypatch.setattr(zipfile, "ZipFile", parsed)
    for at in range(0, len(data), 5):
        flipped = bytearray(data)
        flipped[at] ^= 1 << at % 8
        path.write_bytes(flipped)
        assert "state-000120.npz is damaged" in refusal(saved)


@pytest.mark.filterwarnings("error")
def test_a_state_that_was_made_to_fit_its_hash_gives_the_expected_arrays_or_none(
    saved: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path, rng = saved / "state-000120.npz", random.Random(7)  # noqa: S311
    whole = path.read_bytes()
    refused = 0
    for _ in range(1000):
        data = bytearray(whole)
        match rng.randrange(3):
            case 0:  # other bytes, most of them where the archive describes itself
                for _ in range(rng.choice([1, 1, 2, 8])):
                    data[rng.randrange(len(data))] = rng.choice([0, 1, 0xFF, rng.randrange(256)])
            case 1:
                del data[rng.randrange(len(data)) :]
            case _:
                start = rng.randrange(len(data))
                data[start : start + rng.randrange(40)] = rng.randbytes(rng.randrange(40))
        with_state(saved, bytes(data))
        try:
            arrays = load(saved, expected=EXPECTED).arrays
        except CheckpointError:
            refused += 1
            continue
        for name, truth in state(120).items():
            assert (arrays[name].shape, arrays[name].dtype) == (truth.shape, truth.dtype)
    assert refused > 800
    assert capfd.readouterr() == ("", "")


def npz(arrays: Mapping[str, Array], method: int = zipfile.ZIP_STORED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as target:
        for name, array in arrays.items():
            member = io.BytesIO()
            np.lib.format.write_array(member, array, allow_pickle=True)
            target.writestr(f"{name}.npy", member.getvalue())
    return file.getvalue()


X = {"x": Expected((3, 2), ("float64",))}


@pytest.mark.parametrize(
    ("arrays", "reason"),
    [
        ({}, "does not hold the arrays"),
        ({"y": np.zeros((3, 2))}, "does not hold the arrays"),
        ({"x": np.zeros((3, 2)), "y": np.zeros(1)}, "does not hold the arrays"),
        ({"x": np.zeros((3, 2), np.float32)}, "x is not float64 of the shape"),
        ({"x": np.zeros((3, 2), np.int64)}, "x is not float64 of the shape"),
        ({"x": np.zeros((3, 2), ">f8")}, "x is not float64 of the shape"),
        ({"x": np.zeros((2, 3))}, "x is not float64 of the shape"),
        ({"x": np.zeros((6,))}, "x is not float64 of the shape"),
        ({"x": np.full((3, 2), None)}, "x is not float64 of the shape"),
        ({"x": np.full((3, 2), np.nan)}, "x holds NaN"),
        ({"x": np.full((3, 2), -np.inf)}, "x holds NaN"),
    ],
)
def test_other_arrays_than_expected_are_refused(
    arrays: dict[str, Array], reason: str, saved: Path
) -> None:
    with_state(saved, npz(arrays))
    assert reason in refusal(saved, X)


def test_a_compressed_state_is_refused(saved: Path) -> None:
    with_state(saved, npz({"x": np.zeros((3, 2))}, zipfile.ZIP_DEFLATED))
    assert "x is compressed" in refusal(saved, X)


def member(header: bytes, data: bytes, *, times: int = 1) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as target:
        for _ in range(times):
            target.writestr("x.npy", header + data)
    return file.getvalue()


HEADER = b"\x93NUMPY\x01\x00\x76\x00" + (
    b"{'descr': '<f8', 'fortran_order': False, 'shape': (3, 2), }".ljust(117) + b"\n"
)


def test_the_tests_can_make_a_state(saved: Path) -> None:
    with_state(saved, member(HEADER, bytes(48)))
    assert not load(saved, expected=X).arrays["x"].any()


@pytest.mark.parametrize(
    "data",
    [
        member(HEADER, bytes(47)),
        member(HEADER, bytes(49)),
        member(HEADER[:-1], bytes(48)),
        member(HEADER[:9], b""),
        member(b"", b""),
        member(b"\x93NUMPY\x01\x00\xff\xff" + b"(" * 65535, bytes(48)),
        member(HEADER.replace(b"'shape': (3, 2)", b"'shape': (3L,2)"), bytes(48)),
        member(HEADER.replace(b"'<f8'", b"'|O8'"), b"cos\nsystem\n(S'echo'\ntR."),
        b"PK\x05\x06" + bytes(18),
        b"x" * 100,
        b"",
    ],
)
def test_a_state_that_is_no_archive_of_ours_is_refused(data: bytes, saved: Path) -> None:
    with_state(saved, data)
    refusal(saved, X)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_an_array_that_is_there_twice_is_refused(saved: Path) -> None:
    with_state(saved, member(HEADER, bytes(48), times=2))
    assert "does not hold the arrays" in refusal(saved, X)


def test_members_that_lie_over_each_other_take_no_memory(saved: Path) -> None:
    big = np.zeros(500_000)  # 4 MB
    data = bytearray(npz({f"x{n}": big if n == 0 else np.zeros(0) for n in range(3)}))
    # Each entry of the table of contents points to the first member, as large as that is.
    entries = [at for at in range(len(data) - 46) if data[at : at + 4] == b"PK\x01\x02"]
    first = data[entries[0] :]
    for at in entries[1:]:
        for field in (slice(16, 28), slice(42, 46)):
            data[at:] = (there := data[at:])[: field.start] + first[field] + there[field.stop :]
    with_state(saved, bytes(data))
    expected = {f"x{n}": Expected(big.shape) for n in range(3)}
    tracemalloc.start()
    try:
        refusal(saved, expected)
        assert tracemalloc.get_traced_memory()[1] < big.nbytes
    finally:
        tracemalloc.stop()


def test_a_table_of_contents_as_large_as_the_file_is_not_read(saved: Path) -> None:
    size = 8_000_000
    end = b"PK\x05\x06" + bytes(4) + b"\xff\xff\xff\xff" + size.to_bytes(4, "little") + bytes(6)
    with_state(saved, bytes(size) + end)
    tracemalloc.start()
    try:
        message = refusal(saved, {"x": Expected((1_000_000,))})
        assert tracemalloc.get_traced_memory()[1] < size
    finally:
        tracemalloc.stop()
    assert "table of contents" in message


def test_a_state_that_is_larger_than_expected_is_not_even_hashed(
    saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = saved / "state-000120.npz"
    with path.open("r+b") as file:
        file.truncate(10**12)  # sparse
    changed(saved, bytes=10**12)

    def hashed(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr(hashlib, "file_digest", hashed)
    assert "more than the arrays of this run" in refusal(saved)


@needs_posix
@pytest.mark.parametrize("name", ["manifest.json", "state-000120.npz"])
def test_links_are_not_followed(name: str, saved: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    (saved / name).rename(outside)
    (saved / name).symlink_to(outside)
    assert f"{name} is a link" in refusal(saved)
    (saved / name).unlink()
    (saved / name).symlink_to("/dev/zero")
    assert f"{name} is a link" in refusal(saved)


@needs_posix
@pytest.mark.parametrize("name", ["manifest.json", "state-000120.npz"])
def test_pipes_and_folders_are_not_read(name: str, saved: Path) -> None:
    (saved / name).unlink()
    os.mkfifo(saved / name)
    assert f"{name} is not a file" in refusal(saved)
    (saved / name).unlink()
    (saved / name).mkdir()
    assert f"{name} is a folder" in refusal(saved)


def test_a_file_that_cannot_be_read_is_told_so(
    saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> int:
        raise OSError(errno.EIO, "the disk is broken")

    monkeypatch.setattr(os, "open", broken)
    assert "the disk is broken" in refusal(saved)


# Before a run.


def test_a_folder_is_made_where_its_parent_is(tmp_path: Path) -> None:
    assert check_folder(tmp_path / "new") is None
    assert names(tmp_path / "new") == []
    with pytest.raises(CheckpointError, match="there is no folder"):
        check_folder(tmp_path / "missing" / "new")
    assert not (tmp_path / "missing").exists()


def test_a_folder_that_is_empty_or_holds_a_checkpoint_may_be_used(folder: Path) -> None:
    assert check_folder(folder) is None
    save(folder, manifest(5), state(5).items())
    (folder / "notes.txt").touch()
    assert check_folder(folder) == manifest(5)
    assert names(folder) == ["manifest.json", "notes.txt", "state-000005.npz"]


@pytest.mark.parametrize("name", ["notes.txt", "manifest.json", "state-000001.npz", ".hidden"])
def test_a_folder_with_a_strangers_file_is_refused(name: str, folder: Path) -> None:
    (folder / name).write_text("{}")
    with pytest.raises(CheckpointError, match="empty") as caught:
        check_folder(folder)
    assert str(folder) in str(caught.value)
    assert (folder / name).read_text() == "{}"


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(CheckpointError, match="not a folder"):
        check_folder(tmp_path / "file")


def test_what_a_killed_first_save_left_is_no_strangers(folder: Path) -> None:
    (folder / ".gramstyle-0123456789abcdef.part").write_bytes(b"half")
    assert check_folder(folder) is None
    save(folder, manifest(1), state(1).items())
    assert names(folder) == ["manifest.json", "state-000001.npz"]


def test_a_folder_that_may_not_be_written_to_is_refused(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read_only(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(Path, "touch", read_only)
    with pytest.raises(CheckpointError, match=os.strerror(errno.EROFS)):
        check_folder(folder)


def test_a_folder_that_went_away_is_told_so(folder: Path) -> None:
    folder.rmdir()
    with pytest.raises(CheckpointError, match=r"No such file.*there is no earlier one"):
        save(folder, manifest(1), state(1).items())
