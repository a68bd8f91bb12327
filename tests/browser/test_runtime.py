"""ONNX Runtime for browsers: npm fetches one pinned package, and installs nothing."""

import hashlib
import shutil
import subprocess
from pathlib import Path

import pytest

from gramstyle.browser import fetch_runtime, runtime
from gramstyle.errors import RuntimeMissingError


class Npm:
    """Replaces subprocess.run, and writes a file as npm would."""

    def __init__(self, *, tarball: bytes | None = None, rc: int = 0, stderr: str = "") -> None:
        self.tarball, self.rc, self.stderr = tarball, rc, stderr
        self.command: list[str] = []

    def __call__(self, command: list[str], **options: object) -> "subprocess.CompletedProcess[str]":
        assert not options.get("shell")
        self.command = command
        if self.tarball is not None:
            folder = Path(command[command.index("--pack-destination") + 1])
            (folder / "onnxruntime-web-1.30.0.tgz").write_bytes(self.tarball)
        return subprocess.CompletedProcess(command, self.rc, stdout="", stderr=self.stderr)


@pytest.fixture(autouse=True)
def npm_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")


def refusal(folder: Path) -> str:
    with pytest.raises(RuntimeMissingError) as problem:
        fetch_runtime(folder)
    message = str(problem.value)
    assert "\n" not in message
    assert "npm pack, and add --runtime TGZ" in message
    return message


def test_npm_fetches_one_pinned_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    npm = Npm(tarball=b"a tarball")
    monkeypatch.setattr(runtime, "TARBALL_SHA512", hashlib.sha512(b"a tarball").hexdigest())
    monkeypatch.setattr(subprocess, "run", npm)
    assert fetch_runtime(tmp_path) == b"a tarball"
    assert npm.command[:3] == ["/usr/bin/npm", "pack", "onnxruntime-web@1.30.0"]
    assert not [word for word in npm.command if "://" in word or word == "install"]


def test_the_hash_is_checked_after_the_download(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subprocess, "run", Npm(tarball=b"another"))
    message = refusal(tmp_path)
    assert hashlib.sha512(b"another").hexdigest()[:16] in message
    assert runtime.TARBALL_SHA512[:16] in message


@pytest.mark.parametrize(
    ("npm", "reason"),
    [
        (
            Npm(rc=1, stderr="npm error code ENOTFOUND\nnpm error syscall connect\n"
                "npm error errno ENOTFOUND\nnpm error network request failed\nnpm error a log\n"),
            "network request failed",
        ),
        (Npm(rc=1), "npm ended with code 1"),
        (Npm(rc=0), "npm ended with code 0"),
        (Npm(rc=3, tarball=b"half", stderr="npm error broken\n"), "broken"),
    ],
)  # fmt: skip
def test_a_failure_of_npm_is_one_line_with_reason_and_remedy(
    npm: Npm, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subprocess, "run", npm)
    assert f"({reason})" in refusal(tmp_path)


def test_without_npm_the_error_names_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: None)
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: pytest.fail("npm was called"))
    assert "install Node.js" in refusal(tmp_path)
