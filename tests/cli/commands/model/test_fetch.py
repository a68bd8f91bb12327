"""The command `gramstyle model fetch`."""

import dataclasses
import hashlib
import http.server
import re
import shlex
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from cli.assertions import assert_one_line
from gramstyle.cli import main
from gramstyle.cli.commands.model import fetch as cli_fetch
from gramstyle.model.fetch import DownloadProgress
from gramstyle.model.published import PUBLIC_FILES

Capture = pytest.CaptureFixture[str]

DATA = bytes(range(256)) * 400
MB = 1_000_000


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(DATA)))
        self.end_headers()
        self.wfile.write(DATA)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A current folder, and a server that has the file named keras."""
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(cli_fetch, "cache_folder", lambda: tmp_path / "cache")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        file = dataclasses.replace(
            PUBLIC_FILES["keras"],
            file_name="weights.h5",
            urls=(f"http://127.0.0.1:{server.server_address[1]}/",),
            size=len(DATA),
            algorithm="sha256",
            digest=hashlib.sha256(DATA).hexdigest(),
        )
        monkeypatch.setattr(cli_fetch, "PUBLIC_FILES", {**PUBLIC_FILES, "keras": file})
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield tmp_path
        server.shutdown()
        thread.join()


def pretend(monkeypatch: pytest.MonkeyPatch, *reports: DownloadProgress | BaseException) -> None:
    """Replace the download: pass these to the callback, half a minute apart."""
    clock = iter(range(1000, 10_000, 30))

    def fetch(_file: object, target: Path, *, callback: Callable[[DownloadProgress], None]) -> Path:
        for each in reports:
            if isinstance(each, BaseException):
                raise each
            callback(each)
        return target

    monkeypatch.setattr(cli_fetch, "fetch", fetch)
    monkeypatch.setattr(cli_fetch, "time", SimpleNamespace(monotonic=lambda: float(next(clock))))


def test_a_file_goes_to_the_users_cache_and_the_next_command_is_printed(
    folder: Path, capsys: Capture
) -> None:
    assert main(["model", "fetch", "keras"]) == 0
    target = folder / "cache" / "downloads" / "weights.h5"
    assert target.read_bytes() == DATA
    said, following = capsys.readouterr().out.splitlines()
    assert said == f"{target} is weights.h5, as published"
    assert following == f"next: gramstyle model export --from {target} --to vgg19.onnx"


def test_a_file_goes_to_the_given_path_and_the_next_command_is_quoted_for_a_shell(
    folder: Path, capsys: Capture
) -> None:
    (folder / "my files").mkdir()
    assert main(["model", "fetch", "keras", "--to", "my files/it's.h5"]) == 0
    assert (folder / "my files" / "it's.h5").read_bytes() == DATA
    command = shlex.split(capsys.readouterr().out.splitlines()[1])
    assert command[command.index("--from") + 1] == "my files/it's.h5"
    assert not (folder / "cache").exists()


def test_an_existing_download_is_reported_again(folder: Path, capsys: Capture) -> None:
    Path("own.h5").write_bytes(DATA)
    assert main(["model", "fetch", "keras", "--to", "own.h5"]) == 0
    captured = capsys.readouterr()
    assert captured.out.startswith("own.h5 is weights.h5, as published\n")
    assert captured.err == ""


def test_errors_are_one_line(folder: Path, capsys: Capture) -> None:
    Path("own.h5").write_bytes(b"mine")
    assert main(["model", "fetch", "keras", "--to", "own.h5"]) == 2
    assert_one_line(capsys, "own.h5", "move it away")
    assert Path("own.h5").read_bytes() == b"mine"
    assert main(["model", "fetch", "keras", "--to", "nowhere/own.h5"]) == 2
    assert_one_line(capsys, "nowhere", "make it first")


def test_the_error_for_an_unknown_name_lists_the_known_ones(capsys: Capture) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["model", "fetch", "alexnet"])
    assert stop.value.code == 2
    assert_one_line(capsys, "alexnet", *PUBLIC_FILES)


def test_the_first_screen_of_the_help_names_every_file_by_architecture(
    capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit):
        main(["model", "fetch", "--help"])
    listed = re.sub(r"\n {6,}", " ", capsys.readouterr().out)
    lines = dict(re.findall(r"^  (VGG-\d\d)  (.*)$", listed, re.MULTILINE))
    names = {each: names.split(", ") for each, names in lines.items()}
    assert sorted(name for several in names.values() for name in several) == sorted(PUBLIC_FILES)
    for architecture, several in names.items():
        assert all(PUBLIC_FILES[n].network.name.startswith(architecture) for n in several)


def test_the_whole_help_describes_every_file(capsys: Capture) -> None:
    with pytest.raises(SystemExit):
        main(["model", "fetch", "--help-all"])
    text = capsys.readouterr().out
    for name, file in PUBLIC_FILES.items():
        assert re.search(
            rf"^  {re.escape(name)} +{re.escape(file.network.name)}\n +{re.escape(file.file_name)}",
            text,
            re.MULTILINE,
        )
    assert "VGG_ILSVRC_19_layers.caffemodel, 575 MB\n" in text


def test_progress_is_printed_as_lines_and_not_at_all_if_quiet(
    folder: Path, capsys: Capture
) -> None:
    assert main(["model", "fetch", "keras"]) == 0
    lines = capsys.readouterr().err.splitlines()
    assert lines[-1].startswith("0.1 of 0.1 MB")
    assert main(["model", "fetch", "keras", "--to", "own.h5", "--quiet"]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    assert captured.out.startswith("own.h5 is ")


def test_lines_show_size_speed_and_remaining_time(
    folder: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    reports = [DownloadProgress(MB * k, 100 * MB) for k in (10, 40, 70, 100)]
    pretend(monkeypatch, *reports)
    main(["model", "fetch", "keras"])
    assert capsys.readouterr().err.splitlines() == [
        "10.0 of 100.0 MB",
        "40.0 of 100.0 MB, 1.0 MB/s, 0:01:00 left",
        "70.0 of 100.0 MB, 1.0 MB/s, 0:00:30 left",
        "100.0 of 100.0 MB, 1.0 MB/s, 0:00:00 left",
    ]


def test_lines_are_few_and_include_the_last_one(
    folder: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend(monkeypatch, *(DownloadProgress(MB * k, 100 * MB) for k in range(1, 101)))
    monkeypatch.setattr(cli_fetch, "LINE_SECONDS", 50 * 30.0)
    main(["model", "fetch", "keras"])
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(" MB")[0] for line in lines] == [f"{k}.0 of 100.0" for k in (1, 51, 100)]


def test_lines_omit_unknown_values(
    folder: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend(
        monkeypatch,
        DownloadProgress(MB, None),
        DownloadProgress(MB * 31, None),
        DownloadProgress(0, None),
    )
    main(["model", "fetch", "keras"])
    assert capsys.readouterr().err.splitlines() == ["1.0 MB", "31.0 MB, 1.0 MB/s", "0.0 MB"]


@pytest.mark.parametrize("is_terminal", [True, False])
def test_a_reconnection_is_reported(
    is_terminal: bool,
    folder: Path,
    capsys: Capture,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> None:
    if is_terminal:
        request.getfixturevalue("terminal")
    pretend(monkeypatch, DownloadProgress(MB, 2 * MB, "host [red] ended the connection early"))
    main(["model", "fetch", "keras"])
    assert "host [red] ended the connection early; reconnecting\n" in capsys.readouterr().err


def test_a_terminal_shows_a_bar_with_bytes(
    folder: Path, terminal: None, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend(
        monkeypatch,
        DownloadProgress(0, 80 * MB),
        DownloadProgress(20 * MB, 80 * MB),
        DownloadProgress(80 * MB, 80 * MB),
    )
    main(["model", "fetch", "keras"])
    shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", capsys.readouterr().err)
    assert "━" in shown
    assert "80.0/80.0 MB" in shown
    assert " of 80.0 MB" not in shown


def test_ctrl_c_reports_that_the_data_are_saved(
    folder: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend(monkeypatch, DownloadProgress(MB, 2 * MB), KeyboardInterrupt())
    assert main(["model", "fetch", "keras"]) == 130
    last = capsys.readouterr().err.splitlines()[-1]
    assert last == (
        "gramstyle: stopped by Ctrl-C. The data received so far are saved; "
        "run the same command again to resume"
    )
