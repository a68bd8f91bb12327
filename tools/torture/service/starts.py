"""Start a server where it cannot run: it must say why in one line and end with code 2."""

import os
import shutil
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from tools.torture.from_tests import ROOT
from tools.torture.full_disk import MOUNT, UNMOUNT
from tools.torture.full_disk import reason_to_skip as reason_not_to_mount

from .server import Server, free_port, started

# A server that starts, though it should not, is ended after so many seconds.
PATIENCE = 60.0
# The address of all networks of this machine, for which a token is needed.
ANY = "0.0.0.0"  # noqa: S104 - the server must refuse it


@dataclass
class StartResult:
    """What became of servers that cannot start.

    Attributes
    ----------
    starts
        How many there were.
    lines
        What each of them said.
    """

    name: str = "starts"
    starts: int = 0
    lines: dict[str, str] = field(default_factory=dict)
    findings: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Place:
    """A new folder for a server, and a model that can be read."""

    folder: Path
    model: Path

    @property
    def data(self) -> Path:
        """The folder of the service."""
        return self.folder / "data"


def refuse_starts(folder: Path, model: Path) -> StartResult:
    """Start a server in each of the places where it cannot run."""
    result = StartResult()
    may_mount = not reason_not_to_mount()
    for number, (name, trouble) in enumerate(TROUBLES.items()):
        if name in NEED_MOUNTS and not may_mount:
            continue
        place = Place(folder / str(number), model)
        place.folder.mkdir(parents=True)
        with trouble(place) as arguments:
            code, said = _start(place, arguments)
        result.starts += 1
        result.lines[name] = said.strip()
        problem = _problem(code, said)
        result.findings += [f"{name}: {problem}"] if problem else []
    return result


def _start(place: Place, arguments: list[str]) -> tuple[int | None, str]:
    """Return the exit code of a server, or None if it runs, and what it said."""
    given = {"--data": str(place.data), "--port": "0", "--model": str(place.model)}
    for name, value in given.items():
        if name not in arguments:
            arguments = [*arguments, name, value]
    command = [sys.executable, "-m", "gramstyle", "serve", *arguments]
    environment = {k: v for k, v in os.environ.items() if k != "GRAMSTYLE_TOKEN"}
    process = subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True,
    )  # fmt: skip
    try:
        said, _ = process.communicate(timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        process.terminate()
        return None, process.communicate()[0]
    return process.returncode, said


def _problem(code: int | None, said: str) -> str:
    if code is None:
        return f"the server runs, and says {said!r}"
    if code != 2:
        return f"code {code}: {said[-500:]!r}"
    if len(said.splitlines()) != 1:
        return f"not one line: {said[-500:]!r}"
    return ""


def _used_port(_: Place) -> Iterator[list[str]]:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        yield ["--port", str(other.getsockname()[1])]


def _no_such_host(place: Place) -> Iterator[list[str]]:
    yield ["--host", "no-such-host.invalid", "--token-file", str(_token(place))]


def _read_only(place: Place) -> Iterator[list[str]]:
    with _mounted(place.data, "ro"):
        yield []


def _full_disk(place: Place) -> Iterator[list[str]]:
    with _mounted(place.data, "size=4096"):
        (place.data / "uploads").mkdir()
        (place.data / "service.sqlite3").write_bytes(b"")
        with suppress(OSError):
            (place.data / "uploads" / "filler").write_bytes(bytes(8192))
        yield []


def _file(place: Place) -> Iterator[list[str]]:
    place.data.write_text("x")
    yield []


def _below_a_file(place: Place) -> Iterator[list[str]]:
    (place.folder / "file").write_text("x")
    yield ["--data", str(place.folder / "file" / "data")]


def _other_files(place: Place) -> Iterator[list[str]]:
    place.data.mkdir()
    (place.data / "letter.txt").write_text("x")
    yield []


def _newer(place: Place) -> Iterator[list[str]]:
    place.data.mkdir()
    database = sqlite3.connect(place.data / "service.sqlite3")
    database.execute("PRAGMA user_version = 99")
    database.execute("CREATE TABLE future (x)")
    database.close()
    yield []


def _no_database(place: Place) -> Iterator[list[str]]:
    place.data.mkdir()
    (place.data / "service.sqlite3").write_bytes(b"this is no database" * 500)
    yield []


def _folder_for_database(place: Place) -> Iterator[list[str]]:
    (place.data / "service.sqlite3").mkdir(parents=True)
    yield []


def _damaged_database(place: Place) -> Iterator[list[str]]:
    """Overwrite the middle of a database that a server has written."""
    with started(Server(place.data, place.model)):
        pass
    path = place.data / "service.sqlite3"
    data = bytearray(path.read_bytes())
    data[4096 : len(data) - 4096] = b"\xa5" * (len(data) - 8192)
    path.write_bytes(data)
    yield []


def _cut_database(place: Place) -> Iterator[list[str]]:
    with started(Server(place.data, place.model)):
        pass
    path = place.data / "service.sqlite3"
    path.write_bytes(path.read_bytes()[:5000])
    yield []


def _other_server(place: Place) -> Iterator[list[str]]:
    with started(Server(place.data, place.model)):
        yield ["--port", str(free_port())]


def _uploads_file(place: Place) -> Iterator[list[str]]:
    place.data.mkdir()
    (place.data / "uploads").write_text("x")
    yield []


def _no_model(place: Place) -> Iterator[list[str]]:
    yield ["--model", str(place.folder / "none.onnx")]


def _damaged_model(place: Place) -> Iterator[list[str]]:
    data = bytearray(place.model.read_bytes())
    data[len(data) // 2] ^= 1
    (place.folder / "damaged.onnx").write_bytes(data)
    yield ["--model", str(place.folder / "damaged.onnx")]


def _public(_: Place) -> Iterator[list[str]]:
    yield ["--host", ANY]


def _short_token(place: Place) -> Iterator[list[str]]:
    yield ["--host", ANY, "--token-file", str(_token(place, "short"))]


def _binary_token(place: Place) -> Iterator[list[str]]:
    path = place.folder / "token"
    path.write_bytes(bytes(range(256)))
    yield ["--token-file", str(path)]


def _no_token_file(place: Place) -> Iterator[list[str]]:
    yield ["--token-file", str(place.folder / "none")]


TROUBLES: Mapping[str, Callable[[Place], AbstractContextManager[list[str]]]] = {
    name: contextmanager(trouble)
    for name, trouble in (
        ("port in use", _used_port),
        ("no such host", _no_such_host),
        ("read-only folder", _read_only),
        ("full disk", _full_disk),
        ("a file in the place of the folder", _file),
        ("a folder below a file", _below_a_file),
        ("a folder with other files", _other_files),
        ("a folder of a newer version", _newer),
        ("a file that is no database", _no_database),
        ("a folder in the place of the database", _folder_for_database),
        ("a damaged database", _damaged_database),
        ("a database that was cut", _cut_database),
        ("a file in the place of the uploads", _uploads_file),
        ("another server in the folder", _other_server),
        ("no model", _no_model),
        ("a damaged model", _damaged_model),
        ("a public address without a token", _public),
        ("a short token", _short_token),
        ("a token that is not text", _binary_token),
        ("no token file", _no_token_file),
    )
}
NEED_MOUNTS = ("read-only folder", "full disk")


@contextmanager
def _mounted(folder: Path, options: str) -> Iterator[None]:
    """Mount a disk in memory in the place of a folder."""
    folder.mkdir()
    subprocess.run([MOUNT, "-t", "tmpfs", "-o", options, "none", str(folder)], check=True)
    try:
        yield
    finally:
        subprocess.run([UNMOUNT, str(folder)], check=True)
        shutil.rmtree(folder)


def _token(place: Place, text: str = "a token of the torture tests") -> Path:
    path = place.folder / "token"
    path.write_text(text)
    return path
