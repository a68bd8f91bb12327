"""Jobs over HTTP: submitted, watched, fetched, cancelled, removed."""

import errno
import io
import json
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import suppress
from itertools import islice
from typing import Any

import httpx
import PIL.Image
import pytest

from gramstyle.serve.job import Standing
from gramstyle.serve.reporting import Report
from serve_parts import encoded
from serve_web import Serve, Web
from workers import until


def events(
    web: Web, id_: str, query: str = "", headers: Mapping[str, str] | None = None
) -> Iterator[tuple[str, Any]]:
    """The events of a job until the server closes the stream."""
    with web.client.stream("GET", f"/jobs/{id_}/events{query}", headers=headers) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        name = ""
        for line in answer.iter_lines():
            if line.startswith("event: "):
                name = line.removeprefix("event: ")
            elif line.startswith("data: "):
                yield name, json.loads(line.removeprefix("data: "))


def test_a_job_goes_from_uploads_to_an_image(serve: Serve) -> None:
    web = serve()
    submitted = web.submit(size=64)
    job = web.ended(submitted["id"])
    assert (job["state"], job["has_image"], job["options"]) == ("finished", True, {"size": 64})
    answer = web.client.get(f"/jobs/{job['id']}/image")
    assert answer.headers["content-type"] == "image/png"
    assert PIL.Image.open(io.BytesIO(answer.content)).size == (4, 3)


def test_a_form_with_the_images_is_a_job_too(serve: Serve) -> None:
    web = serve()
    files = [
        ("content", ("cat.png", encoded())),
        ("style", ("a.png", encoded())),
        ("style", ("b.png", encoded())),
    ]
    data = {"job": json.dumps({"preset": "fast", "options": {"style_blend": [3, 1]}})}
    answer = web.client.post("/jobs", files=files, data=data)
    assert answer.status_code == 202, answer.text
    assert answer.headers["location"] == f"/jobs/{answer.json()['id']}"
    recipe = tomllib.loads(web.client.get(f"/jobs/{answer.json()['id']}/recipe").text)
    assert (recipe["content"], recipe["style"], recipe["preset"]) == (
        "cat.png", ["a.png", "b.png"], "fast",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("path", "accept", "kind"),
    [
        ("image", "image/webp,image/*;q=0.8", "image/webp"),
        ("image", "image/png;q=0.1, image/jpeg", "image/jpeg"),
        ("image", "text/html, */*", "image/png"),
        ("image.jpg", "*/*", "image/jpeg"),
        ("image.webp", "text/plain", "image/webp"),
    ],
)
def test_the_image_has_the_format_that_is_asked_for(
    serve: Serve, path: str, accept: str, kind: str
) -> None:
    web = serve()
    id_ = web.ended(web.submit()["id"])["id"]
    answer = web.client.get(f"/jobs/{id_}/{path}", headers={"accept": accept})
    assert answer.headers["content-type"] == kind
    assert PIL.Image.MIME[PIL.Image.open(io.BytesIO(answer.content)).format or ""] == kind


def test_an_image_in_another_format_is_not_acceptable(serve: Serve) -> None:
    web = serve()
    id_ = web.ended(web.submit()["id"])["id"]
    answer = web.client.get(f"/jobs/{id_}/image", headers={"accept": "image/gif"})
    assert answer.status_code == 406


def test_a_watcher_sees_the_points_and_the_end(serve: Serve) -> None:
    web = serve(held=True)
    id_ = web.submit()["id"]
    found, points = [], []
    for name, data in events(web, id_):
        found.append((name, data))
        points += data["points"] if name == "progress" else data if name == "losses" else []
        if points:
            web.client.post(f"/jobs/{id_}/cancel")
    assert points[0] == [1, 5.0, {"style": 5.0}]
    name, last = found[-1]
    assert (name, last["state"], last["reason"]) == ("job", "cancelled", "cancelled")


def test_a_watcher_from_before_the_first_report_gets_the_reports(serve: Serve) -> None:
    web = serve(held=True)
    id_ = web.submit()["id"]
    until(lambda: web.parts.worker.orders)
    feed = web.parts.running.service.feed
    feed.end(id_)  # the moment in which a job is already running, and no report of it has come
    watching = events(web, id_)
    assert next(watching) == ("losses", [])
    assert next(watching)[1]["state"] == "running"
    feed.begin(id_)
    feed.tell(id_, Report(Standing(iteration=1, iterations=3, loss=5.0), ((1, 5.0, {}),)))
    points = []
    while not points:
        name, data = next(watching)
        points += data["points"] if name == "progress" else data
    assert points == [[1, 5.0, {}]]


@pytest.mark.parametrize("how", ["header", "query"])
def test_a_watcher_that_comes_back_gets_the_points_since_its_last_event(
    serve: Serve, how: str
) -> None:
    web = serve(held=True)
    id_ = web.submit()["id"]
    until(lambda: web.parts.worker.orders)
    with web.client.stream("GET", f"/jobs/{id_}/events") as answer:
        last = next(each for each in answer.iter_lines() if each.startswith("id: "))[4:]
    feed = web.parts.running.service.feed
    points = tuple((n, 5.0 - n, {"style": 5.0 - n}) for n in (2, 3))
    feed.tell(id_, Report(Standing(iteration=3, iterations=3, loss=2.0), points))

    def back_after(last: str) -> list[tuple[str, Any]]:
        """The first two events of a watcher that comes back."""
        query, headers = (
            ("", {"Last-Event-ID": last}) if how == "header" else (f"?after={last}", {})
        )
        return list(islice(events(web, id_, query, headers), 2))

    (_, job), (name, progress) = back_after(last)
    assert (job["state"], name) == ("running", "progress")
    assert [n for n, _, _ in progress["points"]] == [2, 3]
    attempt = last.partition("-")[0]
    for unknown in ("", "-", "x-1", f"{attempt}-4", f"{last}-", f"{attempt}-{'9' * 30}"):
        (name, losses), _ = back_after(unknown)
        assert name == "losses"
        assert [n for n, _, _ in losses] == [1, 2, 3]


def test_a_watcher_of_an_ended_job_gets_the_job_and_a_preview_at_once(serve: Serve) -> None:
    web = serve()
    id_ = web.ended(web.submit()["id"])["id"]
    found = dict(events(web, id_))
    assert found["job"]["state"] == "finished"
    assert found["preview"]["image"].startswith("data:image/webp;base64,")


def test_more_watchers_than_the_limit_are_refused(serve: Serve) -> None:
    web = serve(held=True, watchers=1)
    id_ = web.submit()["id"]
    with web.client.stream("GET", f"/jobs/{id_}/events") as first:
        lines = first.iter_lines()
        next(lines)  # and keep it: the end of the iterator closes the connection
        assert web.client.get(f"/jobs/{id_}/events").status_code == 429


def test_a_removed_job_is_gone(serve: Serve) -> None:
    web = serve()
    id_ = web.ended(web.submit()["id"])["id"]
    assert web.client.delete(f"/jobs/{id_}").status_code == 204
    for path in ("", "/image", "/recipe", "/events"):
        answer = web.client.get(f"/jobs/{id_}{path}")
        assert answer.status_code == 404
        assert answer.headers["content-type"] == "application/problem+json"


def test_a_full_queue_is_a_429_that_says_when_to_come_back(serve: Serve) -> None:
    web = serve(held=True, queue=1)
    web.submit()
    until(lambda: web.parts.worker.orders)
    web.submit()
    body = {"content": web.upload(), "styles": [web.upload()]}
    answer = web.client.post("/jobs", json=body)
    assert answer.status_code == 429
    assert int(answer.headers["retry-after"]) >= 1


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        (b"{", "the request is not valid JSON"),
        (b"[" * 100_000, "the request is not valid JSON"),
        (b'{"options": {"alpha": NaN}}', "the request is not valid JSON"),
        (b'{"preset": "\\ud800"}', "the request is not valid JSON"),
        (b"[]", "the request: Input should be"),
        (b"{}", "content: Field required"),
        (b'{"content": "../etc", "styles": ["x"]}', "content: String should match pattern"),
        (b'{"path": "/etc/passwd"}', "content: Field required"),
    ],
)
def test_a_body_that_is_no_job_is_a_400_of_one_sentence(
    serve: Serve, body: bytes, sentence: str
) -> None:
    web = serve()
    answer = web.client.post("/jobs", content=body, headers={"content-type": "application/json"})
    assert answer.status_code == 400
    assert answer.json()["detail"].startswith(sentence)


def test_an_option_has_the_sentence_of_the_command_line(serve: Serve) -> None:
    web = serve()
    body = {"content": web.upload(), "styles": [web.upload()], "options": {"size": 0}}
    answer = web.client.post("/jobs", json=body)
    problem = {"type": "about:blank", "title": "Bad Request", "status": 400}
    assert answer.json() == {**problem, "detail": "size must be at least 1, not 0"}


def test_what_is_no_image_is_refused(serve: Serve) -> None:
    answer = serve().client.post("/uploads", content=b"GIF89a and then nothing")
    assert answer.status_code == 400
    assert answer.json()["detail"].startswith("cannot read the image: ")


def test_an_upload_above_the_limit_is_refused_with_and_without_a_length(serve: Serve) -> None:
    web = serve(upload_bytes=1000)
    assert web.client.post("/uploads", content=b"x" * 1001).status_code == 413
    parts = (b"x" * 100 for _ in range(100))
    with suppress(httpx.WriteError):  # the server may close the connection before the rest
        assert web.client.post("/uploads", content=parts).status_code == 413


def test_the_description_of_the_interface_names_every_route(serve: Serve) -> None:
    web = serve()
    paths = web.client.get("/openapi.json").json()["paths"]
    assert {"/jobs", "/jobs/{id}", "/jobs/{id}/events", "/uploads", "/metrics"} <= set(paths)
    assert "Authorization" not in json.dumps(paths)
    assert web.client.get("/docs").headers["content-type"].startswith("text/html")


def test_metrics_count_jobs_and_requests_by_route(serve: Serve) -> None:
    web = serve()
    web.ended(web.submit()["id"])
    text = web.client.get("/metrics").text
    assert 'gramstyle_jobs{state="finished"} 1.0' in text
    assert 'route="/jobs/{id}",status="200"' in text


def test_a_server_without_a_ready_worker_says_so(serve: Serve) -> None:
    web = serve()
    until(lambda: web.client.get("/readyz").status_code == 200)
    web.parts.worker.open = lambda: None  # type: ignore[method-assign]
    web.parts.worker.ready = False
    assert web.client.get("/readyz").status_code == 503
    assert web.client.get("/healthz").status_code == 200


@pytest.mark.parametrize(("upload_bytes", "disk"), [(1000, "ok"), (10**17, "full")])
def test_a_server_says_whether_its_disk_has_room_for_the_largest_upload(
    serve: Serve, upload_bytes: int, disk: str
) -> None:
    answer = serve(upload_bytes=upload_bytes).client.get("/healthz")
    assert answer.status_code == 200
    assert answer.json() == {"status": "ok", "disk": disk}


def test_a_request_that_finds_a_full_disk_is_a_507_without_a_path(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    web = serve()

    def upload(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "/secret")

    monkeypatch.setattr(web.parts.running.service, "upload", upload)
    answer = web.client.post("/uploads", content=encoded())
    assert answer.status_code == 507
    assert answer.json()["detail"] == ("the disk of this server has no room left; try again later")
