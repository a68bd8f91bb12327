"""Downloads from servers that disconnect, send wrong answers or redirect."""

import dataclasses
import errno
import hashlib
import itertools
import os
import socket
import time
import zlib
from pathlib import Path

import pytest

from download_server import (
    DATA,
    HALF,
    OTHER,
    Answer,
    Request,
    Server,
    answer_with,
    assert_fetched,
    chunked,
    endless,
    names,
    part_of,
    raw,
    refusal,
    running,
    sized,
    stalling,
    whole,
)
from gramstyle.model.fetch import DownloadProgress, download, fetch
from gramstyle.model.published import PublicFile

# Long enough for a local answer, short enough to wait for.
TIMEOUT = 0.2

# Lost connections


@pytest.mark.parametrize("until", [1, 4095, 65_536, HALF, len(DATA) - 1])
def test_a_lost_connection_is_resumed(
    until: int, server: Server, file: PublicFile, target: Path
) -> None:
    server.will_answer(whole(until=until), whole())
    reports: list[DownloadProgress] = []
    fetch(file, target, callback=reports.append)
    assert_fetched(target)
    assert server.ranges == [None, f"bytes={until}-"]
    (again,) = (received for received in reports if received.problem)
    assert again == DownloadProgress(until, len(DATA), "127.0.0.1 ended the connection early")


@pytest.mark.parametrize(
    "answer",
    [
        raw(b""),
        raw(b"HTTP/1.1 200"),
        raw(b"HTTP/1.1 200 OK\r\nContent-Le"),
        whole(until=0),
        answer_with(200),
        chunked(b"", ends=False),
    ],
)
def test_a_connection_that_ends_before_the_body_is_repeated(
    answer: Answer, server: Server, file: PublicFile, target: Path
) -> None:
    server.will_answer(answer, whole())
    reports: list[DownloadProgress] = []
    fetch(file, target, callback=reports.append)
    assert_fetched(target)
    assert server.ranges == [None, None]
    assert reports[0].problem == "127.0.0.1 ended the connection early"


def test_a_truncated_chunked_body_is_resumed(
    server: Server, unsized: PublicFile, target: Path
) -> None:
    server.will_answer(chunked(DATA[:HALF], ends=False), whole())
    fetch(unsized, target)
    assert_fetched(target)
    assert server.ranges == [None, f"bytes={HALF}-"]


def test_a_stalled_connection_times_out_and_is_resumed(
    server: Server, file: PublicFile, target: Path
) -> None:
    server.will_answer(stalling(server), whole())
    reports: list[DownloadProgress] = []
    begun = time.monotonic()
    fetch(file, target, timeout=TIMEOUT, callback=reports.append)
    assert time.monotonic() - begun >= TIMEOUT
    assert_fetched(target)
    assert "127.0.0.1 stopped sending data" in {received.problem for received in reports}
    assert server.ranges == [None, f"bytes={HALF}-"]


def test_any_number_of_connections_may_break_if_each_makes_progress(
    server: Server, file: PublicFile, target: Path
) -> None:
    cuts = range(20_000, len(DATA), 20_000)
    server.will_answer(*(whole(until=cut) for cut in cuts), whole())
    fetch(file, target, attempts=1)
    assert_fetched(target)
    assert server.ranges == [None, *(f"bytes={cut}-" for cut in cuts)]


def test_without_progress_the_download_stops_and_the_next_call_resumes_it(
    server: Server, file: PublicFile, target: Path
) -> None:
    server.will_answer(whole(until=HALF))
    message = refusal(file, target, attempts=3)
    assert server.ranges == [None, *[f"bytes={HALF}-"] * 3]
    assert "ended the connection early (3 times in a row)" in message
    assert "150,000 of 300,000 bytes are saved" in message
    assert str(part_of(target)) in message
    assert "run the same command again to resume" in message
    assert part_of(target).read_bytes() == DATA[:HALF]

    server.requests.clear()
    server.will_answer(whole())
    fetch(file, target)
    assert_fetched(target)
    assert server.ranges == [f"bytes={HALF}-"]


def test_repeated_bytes_are_not_progress(server: Server, file: PublicFile, target: Path) -> None:
    server.will_answer(sized(DATA[:HALF], len(DATA)))  # ignores ranges
    assert "150,000 of 300,000 bytes are saved" in refusal(file, target, attempts=3)
    assert len(server.requests) == 4

    server.requests.clear()
    server.will_answer(*(sized(DATA[:k], len(DATA)) for k in (HALF + 9, HALF, HALF + 5, HALF + 6)))
    refusal(file, target, attempts=3)
    assert len(server.requests) == 4


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504])
def test_a_transient_status_is_retried(
    status: int, server: Server, file: PublicFile, target: Path
) -> None:
    server.will_answer(answer_with(status), answer_with(status), whole())
    fetch(file, target, attempts=3)
    assert_fetched(target)


def test_a_persistent_server_error_ends_the_download(
    server: Server, file: PublicFile, target: Path
) -> None:
    server.will_answer(raw(b"HTTP/1.0 503 \x1b[31mred\r\n\r\n"))
    message = refusal(file, target, attempts=2)
    assert f"{server.url} answers 503 (Service Unavailable) (2 times in a row)" in message
    assert "gramstyle model export --from FILE" in message
    assert len(server.requests) == 2
    assert names(target) == set()


def test_the_waits_double_without_progress_and_start_again_after_it(
    server: Server, file: PublicFile, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float] = []
    monkeypatch.setattr(download, "FIRST_WAIT", 0.5)
    monkeypatch.setattr(download, "LONGEST_WAIT", 3.0)
    monkeypatch.setattr(time, "sleep", waits.append)
    server.will_answer(*[answer_with(500)] * 4, whole(until=HALF), answer_with(500), whole())
    fetch(file, target)
    assert waits == [1.0, 2.0, 3.0, 3.0, 0.5, 1.0]


def test_an_unreachable_server_gives_one_line(file: PublicFile, target: Path) -> None:
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
def test_an_answer_that_is_not_http_gives_one_line(
    data: bytes, server: Server, file: PublicFile, target: Path
) -> None:
    server.will_answer(raw(data))
    assert "does not answer in HTTP" in refusal(file, target, attempts=1)


# Ranges and partial files


@pytest.mark.parametrize("knows_size", [True, False])
def test_a_server_without_ranges_sends_the_whole_file_again(
    knows_size: bool, server: Server, file: PublicFile, target: Path
) -> None:
    server.will_answer(whole(until=HALF), sized(DATA))
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
def test_a_wrong_range_is_not_appended(
    extent: str, server: Server, file: PublicFile, target: Path
) -> None:
    wrong = answer_with(206, DATA[HALF:], Content_Range=extent)
    server.will_answer(whole(until=HALF), wrong, whole())
    fetch(file, target)
    assert_fetched(target)
    assert server.ranges == [None, f"bytes={HALF}-", None]


def test_a_range_may_lack_the_total_size(server: Server, unsized: PublicFile, target: Path) -> None:
    def partial(request: Request) -> None:
        extent = f"bytes {request.start}-{len(DATA) - 1}/*"
        length = len(DATA) - request.start
        head = {"Content-Range": extent, "Content-Length": length}
        request.answer(206, head, DATA[request.start : request.start + 10])

    server.will_answer(whole(until=HALF), partial, whole())
    fetch(unsized, target)
    assert_fetched(target)
    assert server.ranges == [None, f"bytes={HALF}-", f"bytes={HALF + 10}-"]


def test_a_range_from_the_start_replaces_the_partial_file(
    server: Server, file: PublicFile, target: Path
) -> None:
    extent = f"bytes 0-{len(DATA) - 1}/{len(DATA)}"
    server.will_answer(whole(until=HALF), answer_with(206, DATA, Content_Range=extent))
    fetch(file, target)
    assert_fetched(target)
    assert server.ranges == [None, f"bytes={HALF}-"]


def test_an_unrequested_range_is_refused(server: Server, file: PublicFile, target: Path) -> None:
    extent = f"bytes {HALF}-{len(DATA) - 1}/{len(DATA)}"
    server.will_answer(answer_with(206, DATA[HALF:], Content_Range=extent))
    assert "another part of the file" in refusal(file, target, attempts=2)
    assert len(server.requests) == 2


def test_a_complete_partial_file_of_unknown_size_is_checked_after_status_416(
    server: Server, unsized: PublicFile, target: Path
) -> None:
    part_of(target).write_bytes(DATA)
    server.will_answer(whole())
    fetch(unsized, target)
    assert_fetched(target)
    assert server.ranges == [f"bytes={len(DATA)}-"]


def test_a_complete_partial_file_of_known_size_needs_no_request(
    server: Server, file: PublicFile, target: Path
) -> None:
    part_of(target).write_bytes(DATA)
    fetch(file, target)
    assert_fetched(target)
    assert server.requests == []


@pytest.mark.parametrize("left", [OTHER, DATA + b"x", OTHER[:HALF], DATA[: HALF - 1] + b"x"])
@pytest.mark.parametrize("knows_size", [True, False])
def test_a_damaged_partial_file_is_downloaded_again(
    knows_size: bool, left: bytes, server: Server, file: PublicFile, target: Path
) -> None:
    part_of(target).write_bytes(left)
    server.will_answer(whole())
    fetch(file if knows_size else dataclasses.replace(file, size=None), target)
    assert_fetched(target)
    assert server.ranges[-1] is None
    if knows_size and len(left) >= len(DATA):
        assert len(server.ranges) == 1


def test_a_file_that_changes_between_connections_is_downloaded_again(
    server: Server, file: PublicFile, target: Path
) -> None:
    server.will_answer(whole(OTHER, until=HALF), whole())
    fetch(file, target)
    assert_fetched(target)
    assert server.ranges == [None, f"bytes={HALF}-", None]


def test_the_download_restarts_only_once(server: Server, file: PublicFile, target: Path) -> None:
    part_of(target).write_bytes(OTHER[:HALF])
    server.will_answer(whole(), whole(until=5), whole(OTHER), whole())
    assert "serves another file than the published one" in refusal(file, target, attempts=1)
    assert server.ranges == [f"bytes={HALF}-", None, "bytes=5-"]
    assert names(target) == set()


# Wrong answers


def test_a_wrong_file_is_removed_and_the_error_names_both_digests(
    server: Server, file: PublicFile, target: Path
) -> None:
    server.will_answer(whole(OTHER))
    message = refusal(file, target)
    assert f"expected sha256 {file.digest}" in message
    assert f"found {hashlib.sha256(OTHER).hexdigest()}" in message
    assert "nothing was saved" in message
    assert names(target) == set()
    assert len(server.requests) == 1


@pytest.mark.parametrize("length", [134, len(DATA) - 1, len(DATA) + 1, 10**17])
def test_a_wrong_length_is_refused_before_the_body(
    length: int, server: Server, file: PublicFile, target: Path
) -> None:
    server.will_answer(sized(DATA, length))
    assert f"has a file of {length:,} bytes, expected 300,000" in refusal(file, target)
    assert names(target) == set()
    assert len(server.requests) == 1


def test_a_short_announced_length_truncates_the_file_and_is_detected(
    server: Server, unsized: PublicFile, target: Path
) -> None:
    server.will_answer(sized(DATA, len(DATA) - 1))
    found = hashlib.sha256(DATA[:-1]).hexdigest()
    assert f"found {found}" in refusal(unsized, target)
    assert names(target) == set()


def test_a_long_announced_length_does_not_prevent_success(
    server: Server, unsized: PublicFile, target: Path
) -> None:
    server.will_answer(sized(DATA, len(DATA) + 100), whole())
    fetch(unsized, target)
    assert_fetched(target)
    assert server.ranges == [None, f"bytes={len(DATA)}-"]


@pytest.mark.parametrize("length", ["-5", "abc", "1_0", "9" * 5000, ""])
def test_an_invalid_length_is_ignored(
    length: str, server: Server, file: PublicFile, target: Path
) -> None:
    server.will_answer(answer_with(200, DATA, Content_Length=length), whole())
    fetch(file, target)
    assert_fetched(target)


def test_no_more_than_the_published_size_is_received(
    server: Server, file: PublicFile, target: Path
) -> None:
    reports: list[DownloadProgress] = []
    server.will_answer(endless)
    fetch(file, target, callback=reports.append)  # DATA comes first
    assert_fetched(target)
    assert max(received.done for received in reports) == len(DATA)


def test_no_more_than_the_limit_is_received_without_a_published_size(
    server: Server, unsized: PublicFile, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "LIMIT", len(DATA) + 1)
    reports: list[DownloadProgress] = []
    server.will_answer(endless)
    assert "serves another file" in refusal(unsized, target, callback=reports.append)
    assert max(received.done for received in reports) == len(DATA) + 1
    assert names(target) == set()

    reports.clear()
    server.will_answer(sized(DATA, len(DATA) + 2))
    assert "expected at most 300,001" in refusal(unsized, target, callback=reports.append)
    assert reports == []


@pytest.mark.parametrize("encoding", ["gzip", "DEFLATE", "br, gzip", "\x1b[31m" + "x" * 9999])
def test_an_encoded_file_is_refused(
    encoding: str, server: Server, file: PublicFile, target: Path
) -> None:
    server.will_answer(answer_with(200, zlib.compress(DATA), Content_Encoding=encoding))
    message = refusal(file, target)
    assert f"encoded as {encoding[:5].replace(chr(27), '?')}" in message
    assert len(message) < 1000
    assert names(target) == set()


def test_the_identity_encoding_is_accepted(server: Server, file: PublicFile, target: Path) -> None:
    server.will_answer(answer_with(200, DATA, Content_Encoding="Identity"))
    fetch(file, target)
    assert_fetched(target)


# Addresses and redirects


@pytest.mark.parametrize(
    "answer",
    [
        *(answer_with(status) for status in (204, 304, 400, 401, 403, 404, 407, 410, 416, 451)),
        whole(OTHER),
        whole(DATA[1:]),
        answer_with(200, DATA, Content_Encoding="gzip"),
        answer_with(302, Location="file:///etc/passwd"),
    ],
)
def test_the_next_address_is_tried_if_one_does_not_serve_the_file(
    answer: Answer, server: Server, file: PublicFile, target: Path
) -> None:
    server.will_answer(answer, whole())
    first, second = f"{server.url}/1", f"{server.url}/2"
    fetch(dataclasses.replace(file, urls=(first, second)), target)
    assert_fetched(target)
    assert [request.path for request in server.requests] == ["/weights/1", "/weights/2"]


def test_another_address_resumes_the_partial_file(
    server: Server, file: PublicFile, target: Path
) -> None:
    server.will_answer(whole(until=HALF), answer_with(404), whole())
    fetch(dataclasses.replace(file, urls=(server.url, server.url)), target)
    assert_fetched(target)
    assert server.ranges == [None, *[f"bytes={HALF}-"] * 2]


def test_the_error_names_the_answer_of_every_address(
    server: Server, file: PublicFile, target: Path
) -> None:
    server.will_answer(answer_with(404), answer_with(403), answer_with(799))
    first, second = f"{server.url}/1", f"{server.url}/2"
    message = refusal(dataclasses.replace(file, urls=(first, second)), target, attempts=1)
    assert message.startswith("cannot download weights.bin: ")
    assert f"{first} answers 404 (Not Found); {second} answers 403 (Forbidden); " in message
    assert "gramstyle model export --from FILE" in message
    assert "answers 799 (1 times" in refusal(file, target, attempts=1)
    server.will_answer(answer_with(416))
    assert "answers 416 (" in refusal(file, target)  # newer versions of Python have another phrase


def test_a_redirect_is_followed_with_the_range(
    server: Server, file: PublicFile, target: Path
) -> None:
    part_of(target).write_bytes(DATA[:HALF])
    with running() as elsewhere:
        server.will_answer(answer_with(302, Location=elsewhere.url))
        elsewhere.will_answer(whole())
        fetch(file, target)
        assert elsewhere.ranges == [f"bytes={HALF}-"]
        assert elsewhere.requests[0].headers["User-Agent"] == "gramstyle/0.1.0"
    assert_fetched(target)


@pytest.mark.parametrize("scheme", ["file", "ftp", "data", "gopher", "FILE"])
def test_a_redirect_to_another_scheme_is_refused(
    scheme: str, server: Server, file: PublicFile, target: Path, tmp_path: Path
) -> None:
    (tmp_path / "local").write_bytes(DATA)
    server.will_answer(
        answer_with(302, Location=f"{scheme}://127.0.0.1{tmp_path}/local"), answer_with(404)
    )
    assert "redirects" in refusal(file, target)
    assert names(target) == set()
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    "location",
    ["http://[::1", "http://127.0.0.1:port/", f"http://127.0.0.1:{9**30}/", "http://\x1b/", ""],
)
def test_a_redirect_to_an_invalid_address_gives_one_line(
    location: str, server: Server, file: PublicFile, target: Path
) -> None:
    server.will_answer(answer_with(302, Location=location))
    assert server.url in refusal(file, target, attempts=1)


def test_endless_redirects_give_one_line(server: Server, file: PublicFile, target: Path) -> None:
    server.will_answer(answer_with(302, Location=server.url))
    assert "redirects" in refusal(file, target)
    assert len(server.requests) < 20


def test_the_endless_body_of_a_redirect_is_not_read(
    server: Server, file: PublicFile, target: Path
) -> None:
    def redirecting(request: Request) -> None:
        request.answer(302, {"Location": server.url})
        for piece in itertools.repeat(DATA):
            request.write(piece)

    server.will_answer(redirecting, whole())
    fetch(file, target)
    assert_fetched(target)


# Proxies and certificates


@pytest.mark.parametrize("variable", ["http_proxy", "HTTP_PROXY"])
def test_the_environments_proxy_is_used(
    variable: str, server: Server, file: PublicFile, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, server.url)
    server.will_answer(whole())
    url = "http://weights.invalid/file"  # a name that does not resolve
    fetch(dataclasses.replace(file, urls=(url,)), target)
    assert_fetched(target)
    assert [request.path for request in server.requests] == [url]


def test_an_untrusted_certificate_is_refused_without_a_retry(
    secure: Server, file: PublicFile, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    secure.will_answer(whole())
    monkeypatch.setattr(time, "sleep", lambda _: pytest.fail("it was tried again"))
    message = refusal(dataclasses.replace(file, urls=(secure.url,)), target)
    assert "certificate that is not trusted" in message
    assert "self-signed" in message or "self signed" in message
    assert secure.requests == []


def test_the_systems_certificates_are_trusted(
    secure: Server,
    certificate: Path,
    file: PublicFile,
    target: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    secure.will_answer(whole(until=HALF), whole())
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
    secure.will_answer(answer_with(302, Location=server.url))
    server.will_answer(whole())
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
    server.will_answer(answer_with(301, Location=secure.url))
    secure.will_answer(whole())
    fetch(file, target)
    assert_fetched(target)
