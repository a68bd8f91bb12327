"""`gramstyle serve` as those who start it meet it."""

import os
import signal
import socket
import sqlite3
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from gramstyle.cli import main
from serve.process import started
from workers import PATIENCE, PROGRAM

pytest.importorskip("fastapi")

SERVE = ("serve", "--data", "data")


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The one line of a command that is refused."""
    assert main([*SERVE, *arguments]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1"])  # noqa: S104
def test_an_address_that_others_reach_needs_a_token(
    images: Path, capsys: pytest.CaptureFixture[str], host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("GRAMSTYLE_TOKEN", raising=False)
    line = refused(capsys, "--host", host)
    assert f"other machines can reach {host}: give a token with --token-file" in line


@pytest.mark.parametrize("token", ["short", "", "a token with a line\nbreak", "ü" * 20])
def test_a_token_that_is_no_token_is_refused_and_not_printed(
    images: Path, capsys: pytest.CaptureFixture[str], token: str
) -> None:
    Path("token").write_text(token, encoding="utf-8")
    line = refused(capsys, "--token-file", "token")
    assert "the token in token must have at least 16 printable ASCII characters" in line
    assert not token or token not in line


def test_a_missing_token_file_is_named(images: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "cannot read nothing: No such file" in refused(capsys, "--token-file", "nothing")


def test_a_port_in_use_is_named(images: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        line = refused(capsys, "--port", port)
    assert f"cannot listen on 127.0.0.1, port {port}: Address already in use" in line


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--port", "70000"), "--port must be from 0 to 65535"),
        (("--workers", "0"), "--workers must be from 1 to 256"),
        (("--queue", "0"), "--queue must be at least 1"),
        (("--max-upload", "lots"), "argument --max-upload: 'lots' is not a size like 2GB"),
        (("--threads", "2", "--scheduler", "tcp://a:1"), "--threads is for processes of this"),
        (("--host", "not a name"), "cannot listen on not a name"),
        (("--keep-uploads", "10MB"), "--keep-uploads must be at least 288,000,000 bytes"),
        (
            ("--storage", "1GB"),
            "--storage must be at least 1,288,000,000 bytes, --keep-uploads and",
        ),
        (("--token", "short"), "the token must have at least 16 printable ASCII characters"),
        (("--token", "x", "--token-file", "y"), "give --token or --token-file, not both"),
    ],
)
def test_an_argument_that_cannot_be_used_is_refused(
    images: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: tuple[str, ...],
    sentence: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("GRAMSTYLE_TOKEN", "a-token-of-the-tests")
    with suppress(SystemExit):  # of the parser, with the code 2
        assert main([*SERVE, *arguments]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert sentence in line


def test_a_folder_that_cannot_be_used_is_named(
    images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("data").write_text("a file")
    assert "cannot write to the folder data: " in refused(capsys, "--port", "0")


def test_a_folder_of_a_newer_version_is_refused(
    images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("data").mkdir()
    database = sqlite3.connect("data/service.sqlite3")
    database.execute("PRAGMA user_version = 99")
    database.close()
    assert "is of version 99" in refused(capsys, "--port", "0")


def test_a_missing_package_is_named_with_its_extra(
    images: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [each for each in sys.modules if each.startswith("gramstyle.serve.http")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "fastapi", None)
    line = refused(capsys)
    assert "gramstyle serve needs FastAPI and uvicorn" in line
    assert "fastapi" in line.partition("install it with:")[2]


def test_no_model_is_one_line(
    images: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GRAMSTYLE_MODEL", "nothing.onnx")
    assert "nothing.onnx" in refused(capsys, "--port", "0")


@pytest.mark.skipif(os.name == "nt", reason="there are no such signals")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_server_in_good_order(images: Path, number: int) -> None:
    command = [*PROGRAM, *SERVE, "--port", "0"]
    with started(command, environment=os.environ, cwd=images) as server:
        assert server.ask("GET", "/healthz").json()["status"] == "ok"
        server.process.send_signal(number)
        assert server.process.wait(PATIENCE) == 0
        _, *rest = server.said().splitlines()
    assert rest == ["stopping; running jobs continue when the server starts again"]
