"""A folder or a file has one owner at a time, and a killed owner leaves no lock behind."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from gramstyle.errors import GramstyleError
from gramstyle.system import lock
from gramstyle.system.lock import locked
from workers import program


def held(target: Path) -> str:
    """Return the message with which a second owner is refused."""
    with (
        pytest.raises(GramstyleError) as caught,
        locked(target, error=GramstyleError, action="writes it"),
    ):
        pass
    return str(caught.value)


@pytest.mark.parametrize("kind", ["a folder", "a file", "a file that is not there yet"])
def test_a_second_owner_is_refused_and_the_first_one_is_named(kind: str, tmp_path: Path) -> None:
    target = tmp_path / "target"
    if kind == "a folder":
        target.mkdir()
    elif kind == "a file":
        target.write_text("mine")
    with locked(target, error=GramstyleError, action="writes it"):
        assert held(target) == f"another process (process id {os.getpid()}) writes it"
    with locked(target, error=GramstyleError, action="writes it"):
        pass
    assert {path.name for path in tmp_path.rglob("*")} <= {"target"}


def test_the_lock_of_a_killed_process_is_taken_over(tmp_path: Path) -> None:
    code = (
        "import pathlib, os, sys, signal\n"
        "from gramstyle.errors import GramstyleError\n"
        "from gramstyle.system.lock import locked\n"
        "with locked(pathlib.Path(sys.argv[1]), error=GramstyleError, action=''):\n"
        "    print(flush=True)\n"
        "    input()\n"
    )
    path = str(Path(lock.__file__).parents[2])
    with program(
        [sys.executable, "-c", code, str(tmp_path)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": path},
    ) as process:  # fmt: skip
        process.stdout.readline()
        assert f"process id {process.pid}" in held(tmp_path)
        process.kill()
    assert (tmp_path / lock.IN_FOLDER).exists()
    with locked(tmp_path, error=GramstyleError, action="writes it"):
        assert (tmp_path / lock.IN_FOLDER).read_text() == str(os.getpid())
    assert not list(tmp_path.iterdir())


def test_a_link_or_a_folder_in_place_of_the_lock_is_not_opened(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_text("mine")
    (tmp_path / "a.lock").symlink_to(precious)
    (tmp_path / "b.lock").mkdir()
    for name in "ab":
        assert "is not a regular file; move it away" in held(tmp_path / name)
    assert precious.read_text() == "mine"


def test_a_folder_that_cannot_be_written_is_named_in_one_line(tmp_path: Path) -> None:
    assert held(tmp_path / "nowhere/a").startswith(f"cannot write {tmp_path}/nowhere/a.lock: No")


def test_a_folder_that_takes_no_new_file_is_no_reason_to_stop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(lock, "FileIO", refused)
    with locked(tmp_path / "mounted", error=GramstyleError, action="writes it"):
        pass


def test_the_lock_of_another_user_counts_although_its_file_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plainly = lock.FileIO

    def as_another_user(path: Path, mode: str = "r") -> object:
        if mode != "r":
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return plainly(path, mode)

    with locked(tmp_path, error=GramstyleError, action="writes it"):
        monkeypatch.setattr(lock, "FileIO", as_another_user)
        assert f"process id {os.getpid()}" in held(tmp_path)


def test_a_file_system_without_locks_is_no_reason_to_stop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_locks(_: object) -> None:
        raise OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP))

    monkeypatch.setattr(lock, "try_lock", no_locks)
    with locked(tmp_path, error=GramstyleError, action="writes it"):
        pass


def test_a_lock_file_that_its_owner_removes_at_this_moment_is_created_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plainly, removed = lock.try_lock, list[Path]()

    def last_moment(stream: object) -> None:
        if not removed:
            removed.append(tmp_path / lock.IN_FOLDER)
            removed[0].unlink()
        plainly(stream)  # type: ignore[arg-type]

    monkeypatch.setattr(lock, "try_lock", last_moment)
    with locked(tmp_path, error=GramstyleError, action="writes it"):
        assert removed[0].exists()


@pytest.mark.skipif(os.name == "nt", reason="Windows has no modes")
def test_a_narrow_umask_does_not_hide_a_lock_from_other_users(tmp_path: Path) -> None:
    # A user who cannot open the file could not see that it is locked.
    before = os.umask(0o077)
    try:
        with locked(tmp_path, error=GramstyleError, action="writes it"):
            assert (tmp_path / lock.IN_FOLDER).stat().st_mode & 0o777 == 0o644
    finally:
        os.umask(before)


@pytest.mark.skipif(os.name == "nt", reason="Windows has other limits")
def test_a_name_that_is_too_long_for_its_lock_is_not_locked(tmp_path: Path) -> None:
    target = tmp_path / ("x" * 253)
    with locked(target, error=GramstyleError, action="writes it"):
        target.write_text("possible")
