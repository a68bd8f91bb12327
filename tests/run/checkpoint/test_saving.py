"""Checkpoints are saved and loaded bit by bit, in bounded memory; folders are checked first."""

import errno
import hashlib
import json
import os
import tracemalloc
import weakref
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gramstyle.core.arrays import Array
from gramstyle.run.checkpoint import (
    CheckpointError,
    Expected,
    check_folder,
    load,
    owned,
    read_manifest,
    remove_inputs,
    save,
)
from run.checkpoint.states import (
    EXPECTED,
    assert_is,
    expected_of,
    manifest,
    names,
    refusal,
    state,
)


def test_a_checkpoint_is_loaded_bit_by_bit(saved: Path) -> None:
    assert_is(load(saved, expected=EXPECTED), 120)
    assert read_manifest(saved) == manifest(120)


def test_an_array_is_loaded_in_its_memory_order(saved: Path) -> None:
    # The last bit of a sum may depend on the order.
    arrays = load(saved, expected=EXPECTED).arrays
    assert arrays["fortran"].strides == state(120)["fortran"].strides
    assert arrays["x"].flags.c_contiguous


def test_numpy_reads_the_state_file_without_pickles(saved: Path) -> None:
    with np.load(saved / "state-000120.npz", allow_pickle=False) as arrays:
        assert set(arrays) == set(state(120))
        for name, truth in state(120).items():
            assert arrays[name].tobytes() == truth.tobytes()
    with zipfile.ZipFile(saved / "state-000120.npz") as file:
        assert file.testzip() is None


def test_the_manifest_contains_the_size_and_hash_of_the_state(saved: Path) -> None:
    document = json.loads((saved / "manifest.json").read_bytes())
    data = (saved / "state-000120.npz").read_bytes()
    assert document.pop("checksum")
    assert document == {
        "format": "gramstyle checkpoint",
        "version": 3,
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


def test_a_save_replaces_the_previous_checkpoint_and_no_other_file(saved: Path) -> None:
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


def test_files_of_killed_saves_are_removed_before_the_next_save_needs_space(saved: Path) -> None:
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


def test_infinite_values_are_loaded_if_they_are_expected(folder: Path) -> None:
    arrays = {"x": np.array([1.0, np.inf, np.nan])}
    save(folder, manifest(1), arrays.items())
    assert "x contains NaN" in refusal(folder, expected_of(arrays))
    loaded = load(folder, expected=expected_of(arrays, finite=False)).arrays["x"]
    assert loaded.tobytes() == arrays["x"].tobytes()


def test_an_array_may_have_one_of_several_types(saved: Path) -> None:
    either = {**EXPECTED, "x": Expected((3, 4, 5), ("float32", "float64"))}
    assert_is(load(saved, expected=either), 120)


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
def test_a_manifest_that_could_not_be_read_is_not_written(
    run: dict[str, Any], error: type[Exception], saved: Path
) -> None:
    with pytest.raises(error):
        save(saved, run, state(130).items())
    assert_is(load(saved, expected=EXPECTED), 120)
    assert len(names(saved)) == 2


def test_keys_that_are_numbers_are_loaded_as_text(folder: Path) -> None:
    # As text, 10 sorts before 9; as a number, after it. The checksum must use text.
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
def test_arrays_that_could_not_be_read_are_not_written(
    arrays: list[tuple[str, Array]], saved: Path
) -> None:
    with pytest.raises(ValueError, match=r"plain name|cannot store"):
        save(saved, manifest(130), arrays)
    assert_is(load(saved, expected=EXPECTED), 120)
    assert len(names(saved)) == 2


def test_an_array_is_freed_before_the_next_one_is_created(folder: Path) -> None:
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
    few = 6_000_000  # bytes: some chunks of a megabyte and zipfile's buffers
    tracemalloc.start()
    try:
        save(folder, manifest(1), [("x", array)])
        assert tracemalloc.get_traced_memory()[1] < few
        tracemalloc.reset_peak()
        load(folder, expected={"x": Expected(array.shape)})
        assert tracemalloc.get_traced_memory()[1] < array.nbytes + few
    finally:
        tracemalloc.stop()


def test_a_folder_is_created_if_its_parent_exists(tmp_path: Path) -> None:
    assert check_folder(tmp_path / "new") is None
    assert names(tmp_path / "new") == []
    with pytest.raises(CheckpointError, match="there is no folder"):
        check_folder(tmp_path / "missing" / "new")
    assert not (tmp_path / "missing").exists()


def test_an_empty_folder_or_one_with_a_checkpoint_is_accepted(folder: Path) -> None:
    assert check_folder(folder) is None
    save(folder, manifest(5), state(5).items())
    (folder / "notes.txt").touch()
    assert check_folder(folder) == manifest(5)
    assert names(folder) == ["manifest.json", "notes.txt", "state-000005.npz"]


@pytest.mark.parametrize("name", ["notes.txt", "manifest.json", "inputs", ".hidden"])
def test_a_folder_with_another_file_is_refused(name: str, folder: Path) -> None:
    (folder / name).write_text("{}")
    with pytest.raises(CheckpointError, match="empty") as caught:
        check_folder(folder)
    assert str(folder) in str(caught.value)
    assert (folder / name).read_text() == "{}"


def test_a_file_in_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(CheckpointError, match="not a folder"):
        check_folder(tmp_path / "file")


def test_what_a_killed_first_save_leaves_is_accepted(folder: Path) -> None:
    for name in (".gramstyle-0123456789abcdef.part", "state-000010.npz", ".gramstyle.lock"):
        (folder / name).write_bytes(b"half")
    (folder / "inputs-0123456789abcdef").mkdir()
    assert check_folder(folder) is None
    with owned(folder):
        save(folder, manifest(1), state(1).items())
        remove_inputs(folder, except_for="inputs-1")
    assert names(folder) == ["manifest.json", "state-000001.npz"]


def test_a_read_only_folder_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def read_only(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(Path, "touch", read_only)
    with pytest.raises(CheckpointError, match=os.strerror(errno.EROFS)):
        check_folder(folder)


def test_a_folder_that_has_disappeared_is_reported(folder: Path) -> None:
    folder.rmdir()
    with pytest.raises(CheckpointError, match=r"No such file.*there is no earlier one"):
        save(folder, manifest(1), state(1).items())
