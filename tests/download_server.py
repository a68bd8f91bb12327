"""An HTTP server on this machine whose answers the tests choose."""

import contextlib
import http.server
import itertools
import random
import ssl
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from gramstyle.errors import ModelError
from gramstyle.model.fetch import fetch
from gramstyle.model.published import PublicFile

DATA = random.Random(1508_06576).randbytes(300_000)  # noqa: S311
OTHER = DATA[::-1]
HALF = len(DATA) // 2


class Request:
    """A request, and methods to answer it."""

    def __init__(self, handler: http.server.BaseHTTPRequestHandler) -> None:
        self.path, self.headers, self._handler = handler.path, handler.headers, handler
        self.range = handler.headers["Range"]
        self.start = int(self.range.removeprefix("bytes=").removesuffix("-")) if self.range else 0

    def answer(self, status: int, headers: dict[str, Any] | None = None, body: bytes = b"") -> None:
        self._handler.send_response(status)
        for name, value in (headers or {}).items():
            self._handler.send_header(name, str(value))
        self._handler.end_headers()
        self.write(body)

    def write(self, data: bytes) -> None:
        self._handler.wfile.write(data)


Answer = Callable[[Request], None]


class Server(http.server.ThreadingHTTPServer):
    """Gives the next of its answers to each request, and the last one repeatedly."""

    daemon_threads = True

    def __init__(self, context: ssl.SSLContext | None = None) -> None:
        class Handler(http.server.BaseHTTPRequestHandler):
            server: Server
            disable_nagle_algorithm = True

            def do_GET(self) -> None:
                self.server.requests.append(Request(self))
                answers = self.server.answers
                (answers.pop(0) if len(answers) > 1 else answers[0])(self.server.requests[-1])

            def log_message(self, *_: object) -> None:
                pass

        super().__init__(("127.0.0.1", 0), Handler)
        if context is not None:
            self.socket = context.wrap_socket(self.socket, server_side=True)
        self.requests: list[Request] = []
        self.answers: list[Answer] = []
        self.ends = threading.Event()
        self.url = f"http{'s' if context else ''}://127.0.0.1:{self.server_address[1]}/weights"

    def handle_error(self, *_: object) -> None:
        """The client may hang up."""

    def will_answer(self, *answers: Answer) -> None:
        self.answers = list(answers)

    @property
    def ranges(self) -> list[str | None]:
        return [request.range for request in self.requests]


@contextlib.contextmanager
def running(context: ssl.SSLContext | None = None) -> Iterator[Server]:
    with Server(context) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.ends.set()
        server.shutdown()
        thread.join()


def whole(data: bytes = DATA, *, until: int | None = None, **headers: Any) -> Answer:
    """A correct answer, which may end before the end of the file."""

    def answer(request: Request) -> None:
        start, end = request.start, len(data)
        if request.range and start >= end:
            request.answer(416, {"Content-Range": f"bytes */{end}"})
            return
        extent = {"Content-Range": f"bytes {start}-{end - 1}/{end}"} if request.range else {}
        head = {"Content-Length": end - start, **extent, **headers}
        request.answer(206 if request.range else 200, head, data[start:until])

    return answer


def answer_with(status: int, body: bytes = b"", **headers: Any) -> Answer:
    """A fixed answer; an underscore in the name of a header becomes a hyphen."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda request: request.answer(status, named, body)


def sized(data: bytes, length: int | None = None) -> Answer:
    """A whole file with an announced length, which may be wrong."""
    return answer_with(200, data, Content_Length=len(data) if length is None else length)


def raw(data: bytes) -> Answer:
    """Any bytes, which need not be HTTP."""
    return lambda request: request.write(data)


def chunked(data: bytes, *, ends: bool = True) -> Answer:
    def answer(request: Request) -> None:
        request._handler.protocol_version = "HTTP/1.1"
        request.answer(200, {"Transfer-Encoding": "chunked", "Connection": "close"})
        for k in range(0, len(data), 70_000):
            piece = data[k : k + 70_000]
            request.write(b"%x\r\n%s\r\n" % (len(piece), piece))
        request.write(b"0\r\n\r\n" if ends else b"")

    return answer


def stalling(server: Server, data: bytes = DATA, *, at: int = HALF) -> Answer:
    """An answer that stalls after the first bytes."""

    def answer(request: Request) -> None:
        request.answer(200, {"Content-Length": len(data)}, data[:at])
        server.ends.wait()

    return answer


def endless(request: Request) -> None:
    request.answer(200)
    for piece in itertools.repeat(DATA):
        request.write(piece)


# Checks of a download


def part_of(target: Path) -> Path:
    return target.with_name("weights.bin.part")


def names(target: Path) -> set[str]:
    return {path.name for path in target.parent.iterdir()}


def assert_fetched(target: Path) -> None:
    assert target.read_bytes() == DATA
    assert names(target) == {"weights.bin"}


def refusal(file: PublicFile, target: Path, **options: Any) -> str:
    """The error of a download, which leaves no file and no lock."""
    before = target.read_bytes() if target.is_file() else None
    with pytest.raises(ModelError) as caught:
        fetch(file, target, **options)
    assert (target.read_bytes() if target.is_file() else None) == before
    assert "weights.bin.lock" not in names(target)
    message = str(caught.value)
    assert message.isprintable()
    return message
