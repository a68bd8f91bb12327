"""Downloads against servers on this machine that break, lie, lead astray or stop."""

import contextlib
import dataclasses
import errno
import hashlib
import http.server
import io
import itertools
import os
import random
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import textwrap
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from gramstyle.errors import ModelError
from gramstyle.model.fetch import Received, download, fetch
from gramstyle.model.fetch import part as part_module
from gramstyle.model.published import PUBLIC_FILES, PublicFile

DATA = random.Random(1508_06576).randbytes(300_000)  # noqa: S311
OTHER = DATA[::-1]
HALF = len(DATA) // 2
# Long enough for this machine to answer itself, short enough to wait for.
PATIENCE = 0.2


# The server


class Request:
    """What was asked, and the means to answer it."""

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
    """Answers each request by the next of its answers, the last one again and again."""

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

    def gives(self, *answers: Answer) -> None:
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


@pytest.fixture
def server() -> Iterator[Server]:
    with running() as server:
        yield server


def whole(data: bytes = DATA, *, until: int | None = None, **headers: Any) -> Answer:
    """An honest server that may break off before a byte of the file."""

    def answer(request: Request) -> None:
        start, end = request.start, len(data)
        if request.range and start >= end:
            request.answer(416, {"Content-Range": f"bytes */{end}"})
            return
        extent = {"Content-Range": f"bytes {start}-{end - 1}/{end}"} if request.range else {}
        head = {"Content-Length": end - start, **extent, **headers}
        request.answer(206 if request.range else 200, head, data[start:until])

    return answer


def saying(status: int, body: bytes = b"", **headers: Any) -> Answer:
    """A fixed answer, whatever was asked; an underscore in a header's name is a hyphen."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda request: request.answer(status, named, body)


def sized(data: bytes, length: int | None = None) -> Answer:
    """A whole file with an announced length, which may be a lie."""
    return saying(200, data, Content_Length=len(data) if length is None else length)


def raw(data: bytes) -> Answer:
    """What need not be HTTP."""
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
    """A server that sends the beginning and then keeps still."""

    def answer(request: Request) -> None:
        request.answer(200, {"Content-Length": len(data)}, data[:at])
        server.ends.wait()

    return answer


def endless(request: Request) -> None:
    request.answer(200)
    for piece in itertools.repeat(DATA):
        request.write(piece)


# The file


@pytest.fixture(autouse=True)
def _alone_and_quick(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy", "request_method"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setattr(download, "FIRST_WAIT", 0.0)


@pytest.fixture
def file(server: Server) -> PublicFile:
    """The file as it is published on the server."""
    return dataclasses.replace(
        PUBLIC_FILES["keras"],
        file_name="weights.bin",
        urls=(server.url,),
        size=len(DATA),
        algorithm="sha256",
        digest=hashlib.sha256(DATA).hexdigest(),
    )


@pytest.fixture
def unsized(file: PublicFile) -> PublicFile:
    return dataclasses.replace(file, size=None)


@pytest.fixture
def target(tmp_path: Path) -> Path:
    folder = tmp_path / "folder"
    folder.mkdir()
    return folder / "weights.bin"


def part_of(target: Path) -> Path:
    return target.with_name("weights.bin.part")


def names(target: Path) -> set[str]:
    return {path.name for path in target.parent.iterdir()}


def assert_fetched(target: Path) -> None:
    assert target.read_bytes() == DATA
    assert names(target) == {"weights.bin"}


def refusal(file: PublicFile, target: Path, **options: Any) -> str:
    """The one line with which a download ends that left no file."""
    before = target.read_bytes() if target.is_file() else None
    with pytest.raises(ModelError) as caught:
        fetch(file, target, **options)
    assert (target.read_bytes() if target.is_file() else None) == before
    assert "weights.bin.lock" not in names(target)
    message = str(caught.value)
    assert message.isprintable()
    return message


# An honest server


def test_a_file_arrives_whole_and_alone(server: Server, file: PublicFile, target: Path) -> None:
    server.gives(whole())
    assert fetch(file, target) == target
    assert_fetched(target)
    (request,) = server.requests
    assert request.range is None
    assert request.headers["User-Agent"] == "gramstyle/0.1.0"
    assert request.headers["Accept-Encoding"] == "identity"


def test_a_callback_is_told_of_every_byte_in_order(
    server: Server, file: PublicFile, target: Path
) -> None:
    told: list[Received] = []
    server.gives(whole())
    fetch(file, target, callback=told.append)
    done = [received.done for received in told]
    assert done == sorted(set(done))
    assert told[-1] == Received(len(DATA), len(DATA), None)
    assert {received.total for received in told} == {len(DATA)}


@pytest.mark.parametrize("is_sized", [True, False])
@pytest.mark.parametrize("answer", [whole(), chunked(DATA), saying(200, DATA)])
def test_a_length_need_not_be_announced_nor_be_known(
    answer: Answer, is_sized: bool, server: Server, file: PublicFile, target: Path
) -> None:
    server.gives(answer)
    fetch(file if is_sized else dataclasses.replace(file, size=None), target)
    assert_fetched(target)


@pytest.mark.parametrize("digits", [None, 8])
@pytest.mark.parametrize("algorithm", ["md5", "sha1", "sha256"])
def test_a_digest_of_each_kind_is_believed_as_far_as_it_is_published(
    algorithm: Any, digits: int | None, server: Server, file: PublicFile, target: Path
) -> None:
    digest = hashlib.new(algorithm, DATA).hexdigest()[:digits]
    known = dataclasses.replace(file, algorithm=algorithm, digest=digest)
    server.gives(whole())
    fetch(known, target)
    assert_fetched(target)

    target.unlink()
    server.gives(whole(OTHER))
    found = hashlib.new(algorithm, OTHER).hexdigest()
    expected = f"expected {algorithm} {digest}{'…' if digits else ''}, found {found}"
    assert expected in refusal(known, target)
    assert names(target) == set()


# What is there already


def test_a_file_that_is_there_is_not_asked_for_again(
    server: Server, file: PublicFile, target: Path
) -> None:
    target.write_bytes(DATA)
    assert fetch(file, target) == target
    assert_fetched(target)
    assert server.requests == []


def test_a_file_that_is_there_needs_no_right_to_write(file: PublicFile, target: Path) -> None:
    target.write_bytes(DATA)
    target.with_name("weights.bin.lock").mkdir()  # what stands in the way of every lock
    assert fetch(file, target) == target


def test_another_file_in_its_place_is_left_alone(
    server: Server, file: PublicFile, target: Path
) -> None:
    target.write_bytes(OTHER)
    message = refusal(file, target)
    assert str(target) in message
    assert file.digest in message
    assert hashlib.sha256(OTHER).hexdigest() in message
    assert "move it away" in message
    assert server.requests == []


@pytest.mark.parametrize("suffix", ["", ".part", ".lock"])
@pytest.mark.parametrize("kind", ["folder", "pipe", "link", "link to nothing"])
def test_what_is_not_a_plain_file_is_neither_opened_nor_followed(
    kind: str, suffix: str, server: Server, file: PublicFile, target: Path, tmp_path: Path
) -> None:
    place = target.with_name(target.name + suffix)
    precious = tmp_path / "precious"
    precious.write_bytes(OTHER)
    if kind == "folder":
        place.mkdir()
    elif kind == "pipe":
        os.mkfifo(place)
    else:
        place.symlink_to(precious if kind == "link" else tmp_path / "nothing")
    with pytest.raises(ModelError, match="move it away") as caught:
        fetch(file, target)
    assert str(place) in str(caught.value)
    assert precious.read_bytes() == OTHER
    assert not (tmp_path / "nothing").exists()
    assert server.requests == []


@pytest.mark.parametrize("name", ["x" * 255, f"{'x' * 300}/weights.bin"])
def test_a_name_that_the_disk_cannot_hold_is_one_line(
    name: str, server: Server, file: PublicFile, target: Path
) -> None:
    with pytest.raises(ModelError, match=os.strerror(errno.ENAMETOOLONG)):
        fetch(file, target.parent / name)
    assert names(target) == set()
    assert server.requests == []


def test_a_missing_folder_is_refused_before_anything_is_asked(
    server: Server, file: PublicFile, tmp_path: Path
) -> None:
    with pytest.raises(ModelError, match="make it first") as caught:
        fetch(file, tmp_path / "missing" / "weights.bin")
    assert str(tmp_path / "missing") in str(caught.value)
    assert server.requests == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
def test_a_folder_that_cannot_be_written_is_one_line(file: PublicFile, target: Path) -> None:
    target.parent.chmod(0o500)
    assert os.strerror(errno.EACCES) in refusal(file, target)


def test_a_file_that_came_meanwhile_is_not_overwritten(
    server: Server, file: PublicFile, target: Path
) -> None:
    server.gives(whole())
    with pytest.raises(ModelError, match="not the published file"):
        fetch(file, target, callback=lambda _: target.write_bytes(OTHER))
    assert target.read_bytes() == OTHER


# Connections that break


@pytest.mark.parametrize("until", [1, 4095, 65_536, HALF, len(DATA) - 1])
def test_a_broken_connection_is_made_again_for_the_rest(
    until: int, server: Server, file: PublicFile, target: Path
) -> None:
    server.gives(whole(until=until), whole())
    told: list[Received] = []
    fetch(file, target, callback=told.append)
    assert_fetched(target)
    assert server.ranges == [None, f"bytes={until}-"]
    (again,) = (received for received in told if received.problem)
    assert again == Received(until, len(DATA), "127.0.0.1 ended the connection early")


@pytest.mark.parametrize(
    "answer",
    [
        raw(b""),
        raw(b"HTTP/1.1 200"),
        raw(b"HTTP/1.1 200 OK\r\nContent-Le"),
        whole(until=0),
        saying(200),
        chunked(b"", ends=False),
    ],
)
def test_a_connection_that_breaks_before_the_file_begins_is_made_again(
    answer: Answer, server: Server, file: PublicFile, target: Path
) -> None:
    server.gives(answer, whole())
    told: list[Received] = []
    fetch(file, target, callback=told.append)
    assert_fetched(target)
    assert server.ranges == [None, None]
    assert told[0].problem == "127.0.0.1 ended the connection early"


def test_a_broken_body_of_chunks_is_continued(
    server: Server, unsized: PublicFile, target: Path
) -> None:
    server.gives(chunked(DATA[:HALF], ends=False), whole())
    fetch(unsized, target)
    assert_fetched(target)
    assert server.ranges == [None, f"bytes={HALF}-"]


def test_a_server_that_goes_still_is_given_up_and_asked_again(
    server: Server, file: PublicFile, target: Path
) -> None:
    server.gives(stalling(server), whole())
    told: list[Received] = []
    begun = time.monotonic()
    fetch(file, target, patience=PATIENCE, callback=told.append)
    assert time.monotonic() - begun >= PATIENCE
    assert_fetched(target)
    assert "127.0.0.1 sends nothing any more" in {received.problem for received in told}
    assert server.ranges == [None, f"bytes={HALF}-"]


def test_a_connection_may_break_often_as_long_as_it_gets_further(
    server: Server, file: PublicFile, target: Path
) -> None:
    cuts = range(20_000, len(DATA), 20_000)
    server.gives(*(whole(until=cut) for cut in cuts), whole())
    fetch(file, target, attempts=1)
    assert_fetched(target)
    assert server.ranges == [None, *(f"bytes={cut}-" for cut in cuts)]


def test_without_progress_it_ends_with_how_far_it_got_and_goes_on_the_next_time(
    server: Server, file: PublicFile, target: Path
) -> None:
    server.gives(whole(until=HALF))
    message = refusal(file, target, attempts=3)
    assert server.ranges == [None, *[f"bytes={HALF}-"] * 3]
    assert "ended the connection early (3 times in a row)" in message
    assert "150,000 of 300,000 bytes are kept" in message
    assert str(part_of(target)) in message
    assert "the same command goes on from there" in message
    assert part_of(target).read_bytes() == DATA[:HALF]

    server.requests.clear()
    server.gives(whole())
    fetch(file, target)
    assert_fetched(target)
    assert server.ranges == [f"bytes={HALF}-"]


def test_the_same_bytes_once_more_are_no_progress(
    server: Server, file: PublicFile, target: Path
) -> None:
    server.gives(sized(DATA[:HALF], len(DATA)))  # knows no ranges
    assert "150,000 of 300,000 bytes are kept" in refusal(file, target, attempts=3)
    assert len(server.requests) == 4

    server.requests.clear()
    server.gives(*(sized(DATA[:k], len(DATA)) for k in (HALF + 9, HALF, HALF + 5, HALF + 6)))
    refusal(file, target, attempts=3)
    assert len(server.requests) == 4


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504])
def test_an_answer_that_may_pass_is_asked_for_again(
    status: int, server: Server, file: PublicFile, target: Path
) -> None:
    server.gives(saying(status), saying(status), whole())
    fetch(file, target, attempts=3)
    assert_fetched(target)


def test_an_answer_that_does_not_pass_ends_it(
    server: Server, file: PublicFile, target: Path
) -> None:
    server.gives(raw(b"HTTP/1.0 503 \x1b[31mred\r\n\r\n"))
    message = refusal(file, target, attempts=2)
    assert f"{server.url} answers 503 (Service Unavailable) (2 times in a row)" in message
    assert "gramstyle model export --from FILE" in message
    assert len(server.requests) == 2
    assert names(target) == set()


def test_the_waits_grow_while_nothing_comes_and_begin_anew_after_progress(
    server: Server, file: PublicFile, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float] = []
    monkeypatch.setattr(download, "FIRST_WAIT", 0.5)
    monkeypatch.setattr(download, "LONGEST_WAIT", 3.0)
    monkeypatch.setattr(time, "sleep", waits.append)
    server.gives(*[saying(500)] * 4, whole(until=HALF), saying(500), whole())
    fetch(file, target)
    assert waits == [1.0, 2.0, 3.0, 3.0, 0.5, 1.0]


def test_a_server_that_is_not_there_is_one_line(file: PublicFile, target: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # does not listen
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/"
        message = refusal(dataclasses.replace(file, urls=(url,)), target, attempts=2)
    assert f"{url} cannot be reached ({os.strerror(errno.ECONNREFUSED)}) (2 times" in message


@pytest.mark.parametrize(
    "data",
    [
        b"\x1b[31mHello\r\n\r\n",
        b"HTTP/1.1 abc OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 200 + b"\r\n",
        b"HTTP/1.1 200 OK\r\nA: " + b"b" * 70_000 + b"\r\n\r\n",
    ],
)
def test_what_is_not_http_is_one_line(
    data: bytes, server: Server, file: PublicFile, target: Path
) -> None:
    server.gives(raw(data))
    assert "answers what is not HTTP" in refusal(file, target, attempts=1)


# Parts that do not fit


@pytest.mark.parametrize("knows_size", [True, False])
def test_a_server_without_ranges_sends_all_of_it_again(
    knows_size: bool, server: Server, file: PublicFile, target: Path
) -> None:
    server.gives(whole(until=HALF), sized(DATA))
    fetch(file if knows_size else dataclasses.replace(file, size=None), target)
    assert_fetched(target)
    assert server.ranges == [None, f"bytes={HALF}-"]


@pytest.mark.parametrize(
    "extent",
    [
        f"bytes {HALF - 1}-{len(DATA) - 1}/{len(DATA)}",
        f"bytes {HALF + 1}-{len(DATA) - 1}/{len(DATA)}",
        f"bytes */{len(DATA)}",
        f"bytes -{HALF}-{len(DATA)}/{len(DATA)}",
        "bytes ٣-٤/٥".encode().decode("latin-1"),
        f"bytes {'1' * 5000}-2/3",
        "",
    ],
)
def test_another_part_than_was_asked_for_is_not_appended(
    extent: str, server: Server, file: PublicFile, target: Path
) -> None:
    wrong = saying(206, DATA[HALF:], Content_Range=extent)
    server.gives(whole(until=HALF), wrong, whole())
    fetch(file, target)
    assert_fetched(target)
    assert server.ranges == [None, f"bytes={HALF}-", None]


def test_a_part_may_come_without_the_size_of_the_whole(
    server: Server, unsized: PublicFile, target: Path
) -> None:
    def partial(request: Request) -> None:
        extent = f"bytes {request.start}-{len(DATA) - 1}/*"
        length = len(DATA) - request.start
        head = {"Content-Range": extent, "Content-Length": length}
        request.answer(206, head, DATA[request.start : request.start + 10])

    server.gives(whole(until=HALF), partial, whole())
    fetch(unsized, target)
    assert_fetched(target)
    assert server.ranges == [None, f"bytes={HALF}-", f"bytes={HALF + 10}-"]


def test_the_beginning_instead_of_the_rest_is_taken_as_the_beginning(
    server: Server, file: PublicFile, target: Path
) -> None:
    extent = f"bytes 0-{len(DATA) - 1}/{len(DATA)}"
    server.gives(whole(until=HALF), saying(206, DATA, Content_Range=extent))
    fetch(file, target)
    assert_fetched(target)
    assert server.ranges == [None, f"bytes={HALF}-"]


def test_a_part_that_was_not_asked_for_is_not_taken_for_the_file(
    server: Server, file: PublicFile, target: Path
) -> None:
    extent = f"bytes {HALF}-{len(DATA) - 1}/{len(DATA)}"
    server.gives(saying(206, DATA[HALF:], Content_Range=extent))
    assert "another part of the file" in refusal(file, target, attempts=2)
    assert len(server.requests) == 2


def test_a_whole_part_of_unknown_size_is_judged_when_the_server_has_no_more(
    server: Server, unsized: PublicFile, target: Path
) -> None:
    part_of(target).write_bytes(DATA)
    server.gives(whole())
    fetch(unsized, target)
    assert_fetched(target)
    assert server.ranges == [f"bytes={len(DATA)}-"]


def test_a_whole_part_of_known_size_needs_no_server(
    server: Server, file: PublicFile, target: Path
) -> None:
    part_of(target).write_bytes(DATA)
    fetch(file, target)
    assert_fetched(target)
    assert server.requests == []


@pytest.mark.parametrize("left", [OTHER, DATA + b"x", OTHER[:HALF], DATA[: HALF - 1] + b"x"])
@pytest.mark.parametrize("knows_size", [True, False])
def test_a_damaged_part_is_thrown_away_for_a_fresh_one(
    knows_size: bool, left: bytes, server: Server, file: PublicFile, target: Path
) -> None:
    part_of(target).write_bytes(left)
    server.gives(whole())
    fetch(file if knows_size else dataclasses.replace(file, size=None), target)
    assert_fetched(target)
    assert server.ranges[-1] is None
    if knows_size and len(left) >= len(DATA):
        assert len(server.ranges) == 1


def test_a_file_that_changes_between_two_connections_is_fetched_afresh(
    server: Server, file: PublicFile, target: Path
) -> None:
    server.gives(whole(OTHER, until=HALF), whole())
    fetch(file, target)
    assert_fetched(target)
    assert server.ranges == [None, f"bytes={HALF}-", None]


def test_a_fresh_try_may_break_too_and_is_the_only_one(
    server: Server, file: PublicFile, target: Path
) -> None:
    part_of(target).write_bytes(OTHER[:HALF])
    server.gives(whole(), whole(until=5), whole(OTHER), whole())
    assert "has another file than the published one" in refusal(file, target, attempts=1)
    assert server.ranges == [f"bytes={HALF}-", None, "bytes=5-"]
    assert names(target) == set()


# Lies


def test_wrong_bytes_are_refused_with_both_digests_and_removed(
    server: Server, file: PublicFile, target: Path
) -> None:
    server.gives(whole(OTHER))
    message = refusal(file, target)
    assert f"expected sha256 {file.digest}" in message
    assert f"found {hashlib.sha256(OTHER).hexdigest()}" in message
    assert "nothing is kept" in message
    assert names(target) == set()
    assert len(server.requests) == 1


@pytest.mark.parametrize("length", [134, len(DATA) - 1, len(DATA) + 1, 10**17])
def test_a_length_other_than_the_published_one_is_refused_before_the_body(
    length: int, server: Server, file: PublicFile, target: Path
) -> None:
    server.gives(sized(DATA, length))
    assert f"has a file of {length:,} bytes, expected 300,000" in refusal(file, target)
    assert names(target) == set()
    assert len(server.requests) == 1


def test_an_announced_length_that_is_too_short_cuts_the_file_and_shows(
    server: Server, unsized: PublicFile, target: Path
) -> None:
    server.gives(sized(DATA, len(DATA) - 1))
    found = hashlib.sha256(DATA[:-1]).hexdigest()
    assert f"found {found}" in refusal(unsized, target)
    assert names(target) == set()


def test_an_announced_length_that_is_too_long_does_not_keep_the_file_from_being_whole(
    server: Server, unsized: PublicFile, target: Path
) -> None:
    server.gives(sized(DATA, len(DATA) + 100), whole())
    fetch(unsized, target)
    assert_fetched(target)
    assert server.ranges == [None, f"bytes={len(DATA)}-"]


@pytest.mark.parametrize("length", ["-5", "abc", "1_0", "9" * 5000, ""])
def test_a_length_that_is_no_number_counts_as_none(
    length: str, server: Server, file: PublicFile, target: Path
) -> None:
    server.gives(saying(200, DATA, Content_Length=length), whole())
    fetch(file, target)
    assert_fetched(target)


def test_no_more_is_taken_than_the_published_size(
    server: Server, file: PublicFile, target: Path
) -> None:
    told: list[Received] = []
    server.gives(endless)
    fetch(file, target, callback=told.append)  # DATA comes first
    assert_fetched(target)
    assert max(received.done for received in told) == len(DATA)


def test_no_more_is_taken_than_a_limit_where_no_size_is_published(
    server: Server, unsized: PublicFile, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "LIMIT", len(DATA) + 1)
    told: list[Received] = []
    server.gives(endless)
    assert "has another file" in refusal(unsized, target, callback=told.append)
    assert max(received.done for received in told) == len(DATA) + 1
    assert names(target) == set()

    told.clear()
    server.gives(sized(DATA, len(DATA) + 2))
    assert "expected at most 300,001" in refusal(unsized, target, callback=told.append)
    assert told == []


@pytest.mark.parametrize("encoding", ["gzip", "DEFLATE", "br, gzip", "\x1b[31m" + "x" * 9999])
def test_an_encoded_file_is_refused(
    encoding: str, server: Server, file: PublicFile, target: Path
) -> None:
    server.gives(saying(200, zlib.compress(DATA), Content_Encoding=encoding))
    message = refusal(file, target)
    assert f"encoded as {encoding[:5].replace(chr(27), '?')}" in message
    assert len(message) < 1000
    assert names(target) == set()


def test_the_identity_encoding_is_none(server: Server, file: PublicFile, target: Path) -> None:
    server.gives(saying(200, DATA, Content_Encoding="Identity"))
    fetch(file, target)
    assert_fetched(target)


# Addresses


@pytest.mark.parametrize(
    "answer",
    [
        *(saying(status) for status in (204, 304, 400, 401, 403, 404, 407, 410, 416, 451)),
        whole(OTHER),
        whole(DATA[1:]),
        saying(200, DATA, Content_Encoding="gzip"),
        saying(302, Location="file:///etc/passwd"),
    ],
)
def test_where_an_address_does_not_have_the_file_the_next_one_is_asked(
    answer: Answer, server: Server, file: PublicFile, target: Path
) -> None:
    server.gives(answer, whole())
    first, second = f"{server.url}/1", f"{server.url}/2"
    fetch(dataclasses.replace(file, urls=(first, second)), target)
    assert_fetched(target)
    assert [request.path for request in server.requests] == ["/weights/1", "/weights/2"]


def test_what_one_address_gave_another_goes_on_with(
    server: Server, file: PublicFile, target: Path
) -> None:
    server.gives(whole(until=HALF), saying(404), whole())
    fetch(dataclasses.replace(file, urls=(server.url, server.url)), target)
    assert_fetched(target)
    assert server.ranges == [None, *[f"bytes={HALF}-"] * 2]


def test_where_no_address_has_the_file_the_line_says_what_each_answered(
    server: Server, file: PublicFile, target: Path
) -> None:
    server.gives(saying(404), saying(403), saying(799))
    first, second = f"{server.url}/1", f"{server.url}/2"
    message = refusal(dataclasses.replace(file, urls=(first, second)), target, attempts=1)
    assert message.startswith("cannot download weights.bin: ")
    assert f"{first} answers 404 (Not Found); {second} answers 403 (Forbidden); " in message
    assert "gramstyle model export --from FILE" in message
    assert "answers 799 (1 times" in refusal(file, target, attempts=1)
    server.gives(saying(416))
    assert "answers 416 (" in refusal(file, target)  # its phrase is another in newer Pythons


def test_a_redirect_is_followed_with_the_range(
    server: Server, file: PublicFile, target: Path
) -> None:
    part_of(target).write_bytes(DATA[:HALF])
    with running() as elsewhere:
        server.gives(saying(302, Location=elsewhere.url))
        elsewhere.gives(whole())
        fetch(file, target)
        assert elsewhere.ranges == [f"bytes={HALF}-"]
        assert elsewhere.requests[0].headers["User-Agent"] == "gramstyle/0.1.0"
    assert_fetched(target)


@pytest.mark.parametrize("scheme", ["file", "ftp", "data", "gopher", "FILE"])
def test_a_redirect_away_from_the_web_is_refused(
    scheme: str, server: Server, file: PublicFile, target: Path, tmp_path: Path
) -> None:
    (tmp_path / "local").write_bytes(DATA)
    server.gives(saying(302, Location=f"{scheme}://127.0.0.1{tmp_path}/local"), saying(404))
    assert "redirects" in refusal(file, target)
    assert names(target) == set()
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    "location",
    ["http://[::1", "http://127.0.0.1:port/", f"http://127.0.0.1:{9**30}/", "http://\x1b/", ""],
)
def test_a_redirect_to_what_is_no_address_is_one_line(
    location: str, server: Server, file: PublicFile, target: Path
) -> None:
    server.gives(saying(302, Location=location))
    assert server.url in refusal(file, target, attempts=1)


def test_redirects_without_end_are_one_line(server: Server, file: PublicFile, target: Path) -> None:
    server.gives(saying(302, Location=server.url))
    assert "redirects" in refusal(file, target)
    assert len(server.requests) < 20


def test_the_endless_body_of_a_redirect_is_not_read(
    server: Server, file: PublicFile, target: Path
) -> None:
    def redirecting(request: Request) -> None:
        request.answer(302, {"Location": server.url})
        for piece in itertools.repeat(DATA):
            request.write(piece)

    server.gives(redirecting, whole())
    fetch(file, target)
    assert_fetched(target)


# The environment


@pytest.mark.parametrize("variable", ["http_proxy", "HTTP_PROXY"])
def test_the_environments_proxy_is_asked(
    variable: str, server: Server, file: PublicFile, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, server.url)
    server.gives(whole())
    url = "http://weights.invalid/file"  # a name that no one else can resolve
    fetch(dataclasses.replace(file, urls=(url,)), target)
    assert_fetched(target)
    assert [request.path for request in server.requests] == [url]


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for this machine, signed by itself, and its key in one file."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("openssl, which makes the certificate, is not installed")
    folder = tmp_path_factory.mktemp("certificate")
    key, both = folder / "key.pem", folder / "both.pem"
    command = [
        *(openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"),
        *("-nodes", "-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"),
        *("-days", "2", "-keyout", str(key), "-out", str(both)),
    ]
    subprocess.run(command, check=True, capture_output=True)
    both.write_bytes(both.read_bytes() + key.read_bytes())
    return both


@pytest.fixture
def secure(certificate: Path) -> Iterator[Server]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    with running(context) as server:
        yield server


def test_a_certificate_that_nobody_vouches_for_is_refused_at_once(
    secure: Server, file: PublicFile, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    secure.gives(whole())
    monkeypatch.setattr(time, "sleep", lambda _: pytest.fail("it was tried again"))
    message = refusal(dataclasses.replace(file, urls=(secure.url,)), target)
    assert "certificate that is not trusted" in message
    assert "self-signed" in message or "self signed" in message
    assert secure.requests == []


def test_the_systems_certificates_are_trusted_and_a_broken_connection_goes_on(
    secure: Server,
    certificate: Path,
    file: PublicFile,
    target: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    secure.gives(whole(until=HALF), whole())
    fetch(dataclasses.replace(file, urls=(secure.url,)), target)
    assert_fetched(target)
    assert secure.ranges == [None, f"bytes={HALF}-"]


def test_a_redirect_from_https_to_http_is_refused(
    secure: Server,
    server: Server,
    certificate: Path,
    file: PublicFile,
    target: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    secure.gives(saying(302, Location=server.url))
    server.gives(whole())
    message = refusal(dataclasses.replace(file, urls=(secure.url,)), target)
    assert "redirects from https to http" in message
    assert server.requests == []


def test_a_redirect_from_http_to_https_is_followed(
    secure: Server,
    server: Server,
    certificate: Path,
    file: PublicFile,
    target: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    server.gives(saying(301, Location=secure.url))
    secure.gives(whole())
    fetch(file, target)
    assert_fetched(target)


# Stops


def test_ctrl_c_keeps_what_has_arrived(server: Server, file: PublicFile, target: Path) -> None:
    def interrupt(received: Received) -> None:
        if received.done >= HALF:
            raise KeyboardInterrupt

    server.gives(stalling(server), whole())
    with pytest.raises(KeyboardInterrupt):
        fetch(file, target, callback=interrupt)
    assert part_of(target).read_bytes() == DATA[:HALF]
    assert names(target) == {"weights.bin.part"}
    fetch(file, target)
    assert_fetched(target)
    assert server.ranges == [None, f"bytes={HALF}-"]


class FullDisk(io.FileIO):
    """A file on a disk with room for half of the data."""

    def write(self, data: Any) -> int:
        room = HALF - self.tell()
        if room <= 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return super().write(data[:room])


def test_a_full_disk_is_one_line_and_keeps_what_has_arrived(
    server: Server, file: PublicFile, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Path.open

    def full(path: Path, mode: str = "r", **options: Any) -> Any:
        is_part = path.suffix == ".part"
        return FullDisk(path, "a+b") if is_part else real(path, mode, **options)

    server.gives(whole())
    with monkeypatch.context() as patched:
        patched.setattr(Path, "open", full)
        message = refusal(file, target)
    assert f"cannot write {part_of(target)}: {os.strerror(errno.ENOSPC)}; " in message
    assert "are kept" in message
    assert "the same command goes on from there" in message
    assert part_of(target).read_bytes() == DATA[:HALF]
    fetch(file, target)
    assert_fetched(target)
    assert server.ranges == [None, f"bytes={HALF}-"]


def test_a_disk_that_takes_a_little_at_a_time_loses_nothing(
    server: Server, file: PublicFile, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Slow(io.FileIO):
        def write(self, data: Any) -> int:
            return super().write(data[:1000])

    real = Path.open

    def slow(path: Path, mode: str = "r", **options: Any) -> Any:
        return Slow(path, "a+b") if path.suffix == ".part" else real(path, mode, **options)

    monkeypatch.setattr(Path, "open", slow)
    server.gives(whole())
    fetch(file, target)
    assert_fetched(target)


@pytest.mark.parametrize(("owner", "step"), [(os, "fsync"), (Path, "replace")])
def test_a_disk_that_fails_at_the_end_keeps_everything(
    owner: object,
    step: str,
    server: Server,
    file: PublicFile,
    target: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def failing(*_: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    server.gives(whole())
    with monkeypatch.context() as patched:
        patched.setattr(owner, step, failing)
        assert os.strerror(errno.EIO) in refusal(file, target)
    assert part_of(target).read_bytes() == DATA
    fetch(file, target)
    assert_fetched(target)
    assert len(server.requests) == 1


def test_the_bytes_are_on_disk_before_they_get_their_name(
    server: Server, file: PublicFile, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[bytes, bool]] = []
    real = os.fsync

    def fsync(handle: int) -> None:
        real(handle)
        seen.append((part_of(target).read_bytes(), target.exists()))

    monkeypatch.setattr(os, "fsync", fsync)
    server.gives(whole())
    fetch(file, target)
    assert seen == [(DATA, False)]


# Two at once


def test_a_second_download_of_the_same_file_is_refused_and_harms_nothing(
    server: Server, file: PublicFile, target: Path
) -> None:
    messages: list[str] = []

    def second(_: Received) -> None:
        if not messages:
            with pytest.raises(ModelError) as caught:
                fetch(file, target)
            messages.append(str(caught.value))

    target.with_name("weights.bin.lock").write_text("1234567")  # of a process that was killed
    server.gives(whole())
    fetch(file, target, callback=second)
    assert_fetched(target)
    (message,) = messages
    assert f"another process (number {os.getpid()}) is downloading {target}" in message
    assert len(server.requests) == 1


def test_many_at_once_make_one_file_and_the_others_are_told(
    server: Server, file: PublicFile, target: Path
) -> None:
    problems: list[str] = []

    def one() -> None:
        try:
            fetch(file, target)
        except ModelError as error:
            problems.append(str(error))

    server.gives(whole())
    for _ in range(5):
        threads = [threading.Thread(target=one) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert_fetched(target)
        target.unlink()
    assert len(server.requests) == 5
    assert {"is downloading" in problem for problem in problems} <= {True}


def test_what_another_process_has_just_finished_is_not_fetched_again(
    server: Server, file: PublicFile, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = part_module._lock

    def last_moment(stream: io.FileIO) -> None:
        target.write_bytes(DATA)
        lock(stream)

    monkeypatch.setattr(part_module, "_lock", last_moment)
    fetch(file, target)
    assert_fetched(target)
    assert server.requests == []


def test_a_lock_that_was_removed_since_it_was_opened_keeps_this_process_out(
    file: PublicFile, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = part_module._lock

    def last_moment(stream: io.FileIO) -> None:
        Path(str(stream.name)).unlink()
        lock(stream)

    monkeypatch.setattr(part_module, "_lock", last_moment)
    assert "another process is downloading" in refusal(file, target)


DOWNLOADER = """
    import pathlib, sys
    from gramstyle.model.fetch import fetch
    from gramstyle.model.published import PUBLIC_FILES
    import dataclasses

    url, digest, target, beginning = sys.argv[1:]
    file = dataclasses.replace(
        PUBLIC_FILES["keras"], urls=(url,), size=None, algorithm="sha256", digest=digest
    )
    def tell(received):
        if received.done >= int(beginning):
            print("begun", flush=True)
    fetch(file, pathlib.Path(target), callback=tell)
"""


def test_a_killed_download_holds_its_place_while_it_lives_and_is_continued_after(
    server: Server, file: PublicFile, target: Path
) -> None:
    beginning = 1000  # less than any buffer
    server.gives(stalling(server, at=beginning), whole())
    program = textwrap.dedent(DOWNLOADER)
    command = [sys.executable, "-c", program, server.url, file.digest, str(target), str(beginning)]
    path = str(Path(part_module.__file__).parents[3])
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": path}
    ) as child:
        try:
            assert child.stdout is not None
            assert child.stdout.readline() == b"begun\n"
            with pytest.raises(ModelError, match=f"number {child.pid}"):
                fetch(file, target)
        finally:
            child.send_signal(signal.SIGKILL)
    assert names(target) == {"weights.bin.part", "weights.bin.lock"}
    assert part_of(target).read_bytes() == DATA[:beginning]
    fetch(file, target)
    assert_fetched(target)
    assert server.ranges == [None, f"bytes={beginning}-"]


# Everything together


ANSWERS: list[Answer] = [
    *(whole(until=until) for until in (0, 1, HALF, len(DATA) - 1)),
    whole(OTHER, until=HALF),
    whole(OTHER),
    whole(DATA[:-1]),
    sized(DATA[:HALF], len(DATA)),
    sized(DATA, len(DATA) + 1),
    sized(DATA, len(DATA) - 1),
    chunked(DATA),
    chunked(DATA[:HALF], ends=False),
    saying(200, DATA),
    saying(200, DATA[:HALF]),
    saying(206, DATA, Content_Range=f"bytes 0-{len(DATA) - 1}/*"),
    saying(206, DATA[1:], Content_Range="bytes 1-9/*"),
    saying(416),
    saying(404),
    saying(503),
    raw(b""),
    raw(b"HTTP/1.1 200 OK\r\n\r\nHello"),
]


@pytest.mark.parametrize("seed", range(25))
@pytest.mark.parametrize("knows_size", [True, False])
def test_whatever_a_server_does_the_file_is_right_or_refused(
    knows_size: bool, seed: int, server: Server, file: PublicFile, target: Path
) -> None:
    chance = random.Random(seed)  # noqa: S311
    known = dataclasses.replace(
        file, urls=(server.url,) * 2, size=file.size if knows_size else None
    )
    for _ in range(3):
        server.gives(*chance.choices(ANSWERS, k=6), chance.choice([whole(), saying(404)]))
        server.requests.clear()
        with contextlib.suppress(ModelError):
            fetch(known, target, attempts=2)
        # Two addresses, each with one fresh try, and six answers that may each be some progress.
        assert len(server.requests) <= 20
        if target.exists():
            assert_fetched(target)
            break
        assert names(target) <= {"weights.bin.part"}
