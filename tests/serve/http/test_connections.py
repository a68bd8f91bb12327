"""Connections that do not move, bodies that do not end, and clients that go away."""

import json
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress

import httpx
import pytest

from gramstyle.serve.http import connections, guard, server
from serve_parts import encoded
from serve_web import Serve, Web
from workers import until

HEAD = b"HTTP/1.1\r\nHost: localhost\r\n"


def opened(web: Web) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", web.client.base_url.port or 0))
    connection.settimeout(300)
    return connection


def answer_to(web: Web, *parts: bytes) -> bytes:
    """Send bytes, and return what comes until the server closes the connection."""
    with closing(opened(web)) as connection:
        for part in parts:
            connection.sendall(part)
        return rest_of(connection)


def rest_of(connection: socket.socket) -> bytes:
    found = bytearray()
    try:
        while data := connection.recv(65536):
            found += data
    except ConnectionResetError:
        pass
    return bytes(found)


def detail(answer: bytes) -> str:
    assert answer.count(b"HTTP/1.1 ") == 1, "one answer to one request"
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"application/problem+json" in head
    return str(json.loads(body)["detail"])


@pytest.mark.parametrize("sent", [b"", b"GET /healthz", b"GET /healthz " + HEAD])
def test_a_connection_without_a_whole_request_is_closed(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, sent: bytes
) -> None:
    monkeypatch.setattr(connections, "HEAD_SECONDS", 0.3)
    assert answer_to(serve(), sent) == b""


def test_a_client_that_takes_nothing_of_its_answer_is_cut_off(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "STUCK_SECONDS", 1.0)
    web = serve()
    asked = 20_000  # their answers fill all buffers between the server and the client
    wanted = b"GET /openapi.json " + HEAD + b"\r\n"
    with closing(opened(web)) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.settimeout(0.5)
        with suppress(OSError):  # the server reads no more requests before its answers are taken
            connection.sendall(asked * wanted)
        until(lambda: not _is_open(connection))


def _is_open(connection: socket.socket) -> bool:
    """Return whether the server still has the other end, without taking what it has sent."""
    try:
        connection.send(b"x")
    except TimeoutError:
        return True
    except OSError:
        return False
    return True


def test_more_connections_than_the_limit_are_closed_at_once(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "_CONNECTIONS", 3)
    monkeypatch.setattr(connections, "_MORE", 0)
    web = serve()
    first = [opened(web) for _ in range(3)]
    try:
        assert answer_to(web) == b""
    finally:
        for each in first:
            each.close()
    until(lambda: _answers(web))


def _answers(web: Web) -> bool:
    try:
        return web.client.get("/healthz").status_code == 200
    except httpx.TransportError:
        return False


def test_what_is_no_http_is_a_problem(serve: Serve) -> None:
    assert detail(answer_to(serve(), b"HELO\r\n\r\n")) == "this is not a valid HTTP request"


def test_a_malformed_body_gets_one_answer(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    head = b"POST /jobs " + HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
    assert detail(answer_to(serve(), head, b"zz\r\n")) == "this is not a valid HTTP request"
    assert not caplog.records


def test_a_body_without_a_length_has_the_limit_too(serve: Serve) -> None:
    head = b"POST /jobs " + HEAD + b"Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
    chunk = b"10000\r\n" + bytes(0x10000) + b"\r\n"
    assert detail(answer_to(serve(), head, chunk * 4)).startswith("the request has more than")


def test_a_body_that_does_not_come_is_a_408(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "_BODY_SECONDS", 0.2)
    monkeypatch.setattr(connections, "HEAD_SECONDS", 0.2)
    head = b"POST /uploads " + HEAD + b"Content-Length: 100\r\n\r\nabc"
    assert detail(answer_to(serve(), head)) == "the request took too long; send it again"


def test_bodies_that_are_too_large_together_are_refused_and_one_is_not(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(guard.Access.__init__.__kwdefaults__, "held_bytes", 1000)
    web = serve()
    image = encoded(64, 64)
    assert len(image) > 1000
    assert web.client.post("/uploads", content=image).status_code == 201

    def refused() -> httpx.Response | None:
        """Upload an image while another body is held; which of them is first is by chance."""
        with closing(opened(web)) as other:
            other.sendall(b"POST /uploads " + HEAD + b"Content-Length: 900\r\n\r\n" + bytes(800))
            answer = web.client.post("/uploads", content=image)
            return answer if answer.status_code == 429 else None

    assert until(refused).headers["retry-after"] == "5"
    until(lambda: web.client.post("/uploads", content=image).status_code == 201)


def test_a_client_that_goes_away_while_it_sends_leaves_no_error_in_the_log(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    web = serve()
    with closing(opened(web)) as connection:
        connection.sendall(b"POST /uploads " + HEAD + b"Content-Length: 100\r\n\r\nabc")
    until(lambda: 'route="/uploads",status="400"' in web.client.get("/metrics").text)
    assert not caplog.records


def test_a_client_that_goes_away_watches_no_job_any_more(serve: Serve) -> None:
    web = serve(held=True)
    job = web.submit()["id"]
    for _ in range(20):
        with closing(opened(web)) as connection:
            connection.sendall(f"GET /jobs/{job}/events ".encode() + HEAD + b"\r\n")
            assert connection.recv(100).startswith(b"HTTP/1.1 200")
    until(lambda: "gramstyle_watchers 0.0" in web.client.get("/metrics").text)


def test_images_that_are_decoded_keep_no_other_request_waiting(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    web, gate = serve(held=True), threading.Event()
    job = web.submit()["id"]
    upload = web.parts.running.service.upload
    service = web.parts.running.service

    def slowly(data: bytes, name: str) -> object:
        gate.wait()
        return upload(data, name)

    monkeypatch.setattr(service, "upload", slowly)
    with ThreadPoolExecutor(60) as pool, httpx.Client(base_url=web.client.base_url) as others:
        limits = httpx.Limits(max_connections=60)
        with httpx.Client(base_url=others.base_url, timeout=300, limits=limits) as many:
            sent = [pool.submit(many.post, "/uploads", content=encoded()) for _ in range(60)]
            try:
                until(lambda: "gramstyle_" in others.get("/metrics").text)
                assert others.get("/healthz").status_code == 200
                assert others.get(f"/jobs/{job}").status_code == 200
            finally:
                gate.set()
            assert {each.result().status_code for each in sent} == {201}


def test_methods_that_clients_invent_are_one_series_of_the_metrics(serve: Serve) -> None:
    web = serve()
    for method in ("FOO", "BAR", "PUT"):
        assert web.client.request(method, "/about").status_code == 405
    text = web.client.get("/metrics").text
    assert 'gramstyle_request_seconds_count{method="other",route="/about",status="405"} 3.0' in text
    assert "FOO" not in text


def test_a_405_names_all_methods_of_its_address(serve: Serve) -> None:
    client = serve().client
    for path, methods in ((f"/jobs/{'A' * 22}", "DELETE, GET, HEAD"), ("/session", "DELETE, POST")):
        assert client.put(path).headers["allow"] == methods


def test_head_has_the_status_and_the_headers_of_get_and_no_body(serve: Serve) -> None:
    web = serve()
    job = web.ended(web.submit()["id"])
    of_job = [f"/jobs/{job['id']}{each}" for each in ("", "/image", "/image.jpg", "/recipe")]
    of_upload = [f"/uploads/{job['content']}/{each}" for each in ("thumbnail", "image")]
    others = ["/", "/docs", "/about", "/healthz", "/readyz", "/openapi.json", "/static/page.css"]
    missing = [f"/jobs/{'A' * 22}", "/nowhere"]
    for path in (*of_job, *of_upload, *others, *missing):
        head, get = web.client.head(path), web.client.get(path)
        assert (path, head.status_code, head.content) == (path, get.status_code, b"")
        for name in ("content-type", "content-length", "cache-control", "etag"):
            assert head.headers.get(name) == get.headers.get(name), (path, name)
    for path in ("/session", "/uploads", "/jobs", f"/uploads/{job['content']}"):
        assert web.client.head(path).status_code == 405


def test_head_of_the_events_of_a_job_that_runs_ends_with_its_headers(serve: Serve) -> None:
    web = serve(held=True)
    path = f"/jobs/{web.submit()['id']}/events"
    for _ in range(3):  # on one connection
        answer = web.client.head(path)
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/event-stream")
    until(lambda: web.parts.running.service.feed.watchers == 0)


def test_a_page_that_a_browser_has_is_not_sent_again(serve: Serve) -> None:
    client = serve().client
    for path in ("/", "/docs", "/static/page.css"):
        tag = client.get(path).headers["etag"]
        answer = client.get(path, headers={"If-None-Match": tag})
        assert (answer.status_code, answer.content) == (304, b"")
        assert client.get(path, headers={"If-None-Match": '"other"'}).status_code == 200
    assert client.get("/").headers["cache-control"] == "no-cache"
