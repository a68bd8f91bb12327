"""File systems without fsync, chmod or rename, and files that can only be overwritten."""

import errno
import os
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from gramstyle.errors import ModelError
from gramstyle.system.files import replace_file, sync_folder, write_atomically
from gramstyle.system.replaceable import check_file, check_replaceable

Step = Callable[..., object]


def failing(code: int) -> Step:
    """A system function that fails with an error code."""

    def fail(*_: object, **__: object) -> object:
        raise OSError(code, os.strerror(code))

    return fail


def failing_calls(function: Step, failures: dict[int, BaseException]) -> Step:
    """A system function of which the calls with these numbers fail."""
    calls = 0

    def call(*arguments: object) -> object:
        nonlocal calls
        calls += 1
        if calls in failures:
            raise failures[calls]
        return function(*arguments)

    return call


@pytest.fixture
def target(tmp_path: Path) -> Path:
    """A file that exists and is longer than what is written over it."""
    path = tmp_path / "image.png"
    path.write_bytes(b"old and longer")
    return path


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("exists", [True, False])
@pytest.mark.parametrize(
    ("owner", "step", "code"),
    [
        (os, "fsync", errno.EINVAL),
        (os, "fsync", errno.ENOTSUP),
        (os, "fsync", errno.ENOSYS),
        (Path, "chmod", errno.EPERM),
        (Path, "chmod", errno.ENOTSUP),
        (Path, "replace", errno.EBUSY),  # a mounted file
        (Path, "replace", errno.EPERM),  # in a sticky folder of another user
        (Path, "replace", errno.EEXIST),  # some shares do not rename over a file
        (Path, "replace", errno.ENOSYS),
        (Path, "replace", errno.EXDEV),
    ],
)
def test_a_file_is_written_although_the_file_system_lacks_an_operation(
    owner: object,
    step: str,
    code: int,
    exists: bool,
    target: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if not exists:
        target.unlink()
    monkeypatch.setattr(owner, step, failing(code))
    check_replaceable(target)
    replace_file(target, b"new")
    assert contents(target.parent) == {"image.png": b"new"}


def test_a_file_that_cannot_be_renamed_over_stays_the_same_file(
    target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target.chmod(0o640)
    before = target.stat()
    monkeypatch.setattr(Path, "replace", failing(errno.EBUSY))
    replace_file(target, b"new")
    assert target.stat().st_ino == before.st_ino
    assert target.stat().st_mode == before.st_mode


@pytest.mark.parametrize("failure", [OSError(errno.ENOSPC, "full"), KeyboardInterrupt()])
def test_a_failure_while_overwriting_restores_the_old_content(
    failure: BaseException, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The first fsync is of the temporary file, the second of the overwritten one.
    monkeypatch.setattr(os, "fsync", failing_calls(os.fsync, {2: failure}))
    monkeypatch.setattr(Path, "replace", failing(errno.EBUSY))
    with pytest.raises(type(failure)):
        replace_file(target, b"new")
    assert contents(target.parent) == {"image.png": b"old and longer"}


def test_a_failure_while_creating_in_place_leaves_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = OSError(errno.ENOSPC, "full")
    monkeypatch.setattr(os, "fsync", failing_calls(os.fsync, {2: full}))
    monkeypatch.setattr(Path, "replace", failing(errno.ENOSYS))
    with pytest.raises(OSError, match="full"):
        replace_file(tmp_path / "image.png", b"new")
    assert contents(tmp_path) == {}


def test_where_the_old_content_cannot_be_restored_the_new_one_is_kept_and_named(
    target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failures: dict[int, BaseException] = {n: OSError(errno.EIO, "broken") for n in (2, 3)}
    monkeypatch.setattr(os, "fsync", failing_calls(os.fsync, failures))
    monkeypatch.setattr(Path, "replace", failing(errno.EBUSY))
    with pytest.raises(ModelError, match="the new content is in") as caught:
        write_atomically(target, b"new", error=ModelError)
    kept = [path for path in target.parent.iterdir() if path != target]
    assert [path.read_bytes() for path in kept] == [b"new"]
    assert str(kept[0]) in str(caught.value)


@pytest.mark.parametrize("code", [errno.EACCES, errno.EROFS, errno.EPERM])
def test_in_a_folder_that_takes_no_new_file_an_existing_file_is_overwritten(
    code: int, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Permissions do not stop root, so the test simulates such a folder.
    def refusing(function: Step) -> Step:
        def call(path: Path, *arguments: object, **options: object) -> object:
            if path.suffix == ".part" or not path.exists():
                raise OSError(code, os.strerror(code))
            return function(path, *arguments, **options)

        return call

    monkeypatch.setattr(Path, "open", refusing(Path.open))
    monkeypatch.setattr(Path, "touch", refusing(Path.touch))
    check_replaceable(target)
    replace_file(target, b"new")
    assert contents(target.parent) == {"image.png": b"new"}
    missing = target.with_name("missing.png")
    with pytest.raises(OSError, match=os.strerror(code)):
        check_replaceable(missing)
    with pytest.raises(OSError, match=os.strerror(code)):
        replace_file(missing, b"new")


def test_the_check_changes_nothing(target: Path) -> None:
    before = target.stat()
    check_replaceable(target)
    check_replaceable(target.with_name("other.png"))
    assert contents(target.parent) == {"image.png": b"old and longer"}
    assert target.stat().st_mtime_ns == before.st_mtime_ns


@pytest.mark.skipif(os.name == "nt", reason="Windows does not replace a read-only file")
def test_a_read_only_file_in_a_folder_of_ones_own_can_be_replaced(target: Path) -> None:
    target.chmod(0o444)
    check_replaceable(target)
    replace_file(target, b"new")
    assert contents(target.parent) == {"image.png": b"new"}
    assert stat.S_IMODE(target.stat().st_mode) == 0o444


def test_a_file_that_could_not_be_written_is_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    for path, reason in (
        (tmp_path / "no" / "a.onnx", "there is no folder"),
        (tmp_path / "folder", "is not a file"),
    ):
        with pytest.raises(ModelError, match=reason) as caught:
            check_file(path, error=ModelError)
        assert str(caught.value).isprintable()


@pytest.mark.skipif(os.name == "nt", reason="Windows cannot sync a folder")
def test_a_folder_that_may_not_be_listed_or_synced_is_no_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for owner, step, code in ((os, "fsync", errno.EINVAL), (os, "open", errno.EACCES)):
        with monkeypatch.context() as patched:
            patched.setattr(owner, step, failing(code))
            sync_folder(tmp_path)
    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", failing(errno.EIO))
        with pytest.raises(OSError, match=os.strerror(errno.EIO)):
            sync_folder(tmp_path)


needs_root = pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can do this"
)


def program(name: str) -> str:
    """Return the path of a program, or skip the test."""
    return shutil.which(name) or pytest.skip(f"there is no {name}")


def outcomes(path: Path) -> list[str]:
    """Return whether a file passes the check, and whether it can then be written."""
    found = []
    for step in (check_replaceable, lambda path: replace_file(path, b"new")):
        try:
            step(path)
            found.append("passes")
        except OSError as reason:
            found.append(reason.strerror)
    return found


# What the test below runs where files are mounted.
TRY = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from system.test_odd_file_systems import outcomes
for name in sys.argv[2:]:
    print(*outcomes(Path(name)), sep=", ")
"""


@needs_root
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux mounts files")
def test_a_mounted_file_is_overwritten_and_a_read_only_one_is_refused(tmp_path: Path) -> None:
    names = ("source", "my file", "read-only", "folder/mounted", "folder/other")
    (tmp_path / "folder").mkdir()
    _, *targets = paths = [tmp_path / name for name in names]
    for path in paths:
        path.write_bytes(b"old and longer")
    mounts = """
        read_only() { mount --bind "$1" "$2" && mount -o remount,bind,ro "$2"; }
        mount --bind "$1" "$2" && read_only "$1" "$3" && read_only "${4%/*}" "${4%/*}" &&
        mount --bind "$1" "$4" || exit 99
        shift 5; exec "$@"
    """
    script = [sys.executable, "-c", TRY, Path(__file__).parents[1], *targets]
    shell = [program("unshare"), "-m", "sh", "-c", mounts, "sh", *paths]
    done = subprocess.run([*shell, *script], capture_output=True, text=True, check=False)
    if done.returncode in (1, 99) and not done.stdout:
        pytest.skip(f"this machine may not mount files: {done.stderr.strip()}")
    refused = ", ".join(2 * [os.strerror(errno.EROFS)])
    passed = "passes, passes"
    assert done.stdout.splitlines() == [passed, refused, passed, refused], done.stderr
    found = {name: (tmp_path / name).read_bytes() for name in names}
    assert found == dict.fromkeys(names, b"old and longer") | {"source": b"new"}


@needs_root
def test_a_file_of_another_user_in_a_sticky_folder_is_refused_unless_it_is_writable() -> None:
    # Not tmp_path, which no other user may enter.
    with tempfile.TemporaryDirectory() as name:
        folder, nobody = Path(name), 65534
        folder.chmod(0o1777)
        for name, mode in (("shared", 0o666), ("private", 0o644)):
            (folder / name).write_bytes(b"old")
            (folder / name).chmod(mode)
        os.seteuid(nobody)
        try:
            found = [outcomes(folder / name) for name in ("shared", "private", "new")]
        finally:
            os.seteuid(0)
        assert found[0] == found[2] == ["passes", "passes"]
        denied = os.strerror(errno.EACCES)
        assert found[1] == [denied, denied]
        assert contents(folder) == {"shared": b"new", "private": b"old", "new": b"new"}


@needs_root
def test_an_immutable_file_is_refused_before_the_work(target: Path) -> None:
    chattr = program("chattr")
    if subprocess.run([chattr, "+i", target], check=False, capture_output=True).returncode:
        pytest.skip("the file system has no such attribute")
    try:
        denied = os.strerror(errno.EPERM)
        assert outcomes(target) == [denied, denied]
    finally:
        subprocess.run([chattr, "-i", target], check=True, capture_output=True)
    assert contents(target.parent) == {"image.png": b"old and longer"}
