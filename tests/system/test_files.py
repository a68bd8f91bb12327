"""Atomic writes leave the old file or the new one, and no temporary file."""

import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from gramstyle.errors import GramstyleError, ImageError, ModelError
from gramstyle.system.files import write_atomically
from gramstyle.system.replaceable import check_file


def failing(code: int) -> Callable[..., object]:
    """A system function that fails with an error code."""

    def fail(*_: object, **__: object) -> object:
        raise OSError(code, os.strerror(code))

    return fail


def refusal(path: Path, error: type[GramstyleError] = ModelError) -> str:
    """Return the one-line error for a file that cannot be written, without the file's name."""
    with pytest.raises(error) as caught:
        write_atomically(path, b"new", error=error)
    assert type(caught.value) is error
    message = str(caught.value)
    assert message.startswith(f"cannot write {path}: ")
    assert message.isprintable()
    return message.replace(str(path), "")  # which contains words of the test's name


@pytest.mark.parametrize("data", [b"", b"new", bytes(range(256)) * 10_000])
def test_the_file_contains_exactly_the_bytes_and_is_alone_in_its_folder(
    data: bytes, tmp_path: Path
) -> None:
    path = tmp_path / "model.onnx"
    write_atomically(path, data, error=ModelError)
    assert path.read_bytes() == data
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.skipif(os.name == "nt", reason="Windows locks an open file")
def test_an_open_reader_continues_to_read_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(b"old and longer")
    with path.open("rb") as stream:
        assert stream.read(3) == b"old"
        write_atomically(path, b"new", error=ModelError)
        assert stream.read() == b" and longer"
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such permissions")
@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o027, 0o640), (0, 0o666)])
def test_permissions_follow_the_umask(mask: int, mode: int, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    before = os.umask(mask)
    try:
        write_atomically(path, b"new", error=ModelError)
    finally:
        after = os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == mode
    assert after == mask


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such permissions")
@pytest.mark.parametrize("mode", [0o600, 0o664])
def test_a_replaced_file_keeps_its_permissions(mode: int, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(b"old")
    path.chmod(mode)
    write_atomically(path, b"new", error=ModelError)
    assert path.read_bytes() == b"new"
    assert stat.S_IMODE(path.stat().st_mode) == mode


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EIO])
@pytest.mark.parametrize("exists", [True, False])
@pytest.mark.parametrize(
    ("owner", "step"),
    [(Path, "open"), (os, "fsync"), (Path, "replace")],
    ids=["open", "fsync", "replace"],
)
def test_a_failure_at_any_step_leaves_only_the_old_file(
    owner: object,
    step: str,
    exists: bool,
    code: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = tmp_path / "model.onnx"
    if exists:
        path.write_bytes(b"old")
    with monkeypatch.context() as patched:
        patched.setattr(owner, step, failing(code))
        assert os.strerror(code) in refusal(path)
    assert list(tmp_path.iterdir()) == ([path] if exists else [])
    assert not exists or path.read_bytes() == b"old"


def test_an_interruption_leaves_only_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(_: int) -> None:
        raise KeyboardInterrupt

    path = tmp_path / "model.onnx"
    path.write_bytes(b"old")
    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", interrupt)
        with pytest.raises(KeyboardInterrupt):
            write_atomically(path, b"new", error=ModelError)
    assert list(tmp_path.iterdir()) == [path]
    assert path.read_bytes() == b"old"


@pytest.mark.skipif(os.name == "nt", reason="Windows cannot sync a folder")
def test_the_bytes_are_synced_before_the_rename_and_the_folder_after_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, seen = tmp_path / "model.onnx", []
    fsync = os.fsync

    def watched(handle: int) -> None:
        status = os.fstat(handle)
        what = "folder" if stat.S_ISDIR(status.st_mode) else f"{status.st_size} bytes"
        seen.append((what, path.exists()))
        fsync(handle)

    monkeypatch.setattr(os, "fsync", watched)
    write_atomically(path, b"new", error=ModelError)
    assert seen == [("3 bytes", False), ("folder", True)]


@pytest.mark.parametrize("error", [ModelError, ImageError])
def test_the_error_has_the_requested_type(error: type[GramstyleError], tmp_path: Path) -> None:
    assert "No such file" in refusal(tmp_path / "missing" / "model.onnx", error)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_is_not_replaced(tmp_path: Path) -> None:
    folder = tmp_path / "model.onnx"
    folder.mkdir()
    assert "not a file" in refusal(folder)
    assert list(tmp_path.iterdir()) == [folder]
    assert folder.is_dir()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no named pipes")
def test_a_device_or_a_pipe_is_not_replaced(tmp_path: Path) -> None:
    # Root could otherwise replace /dev/null.
    pipe = tmp_path / "null"
    os.mkfifo(pipe)
    assert "not a file" in refusal(pipe)
    assert list(tmp_path.iterdir()) == [pipe]
    assert stat.S_ISFIFO(pipe.stat().st_mode)


def test_a_name_that_is_too_long_is_refused_before_the_work(tmp_path: Path) -> None:
    for path in (tmp_path / ("a" * 300), tmp_path / ("a" * 300) / "model.onnx"):
        with pytest.raises(ModelError, match=r"^cannot write .* too long; choose another name$"):
            check_file(path, error=ModelError)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("letter", ["a", "ü"])
def test_a_name_as_long_as_the_system_allows_can_be_written(letter: str, tmp_path: Path) -> None:
    # 250 bytes in UTF-8; the usual limit is 255 bytes.
    path = tmp_path / (letter * (250 // len(letter.encode())))
    write_atomically(path, b"new", error=ModelError)
    assert [each.read_bytes() for each in tmp_path.iterdir()] == [b"new"]
