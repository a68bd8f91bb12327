"""Uploads over HTTP: who can remove them, and what goes with a job."""

import json
import re
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest

from gramstyle.serve.folder import DataFolder
from serve_parts import encoded
from serve_web import Serve, Web
from workers import until


def there(web: Web, id_: str) -> bool:
    """Whether the server shows an upload, and whether its file is there: always the same."""
    shown = web.client.get(f"/uploads/{id_}/thumbnail").status_code == 200
    assert (web.parts.data / "uploads" / id_).exists() == shown
    return shown


def metrics(web: Web) -> str:
    return web.client.get("/metrics").text


def test_a_removed_upload_is_gone_and_cannot_be_used(serve: Serve) -> None:
    web = serve()
    id_, other = web.upload(), web.upload()
    assert web.client.delete(f"/uploads/{id_}").status_code == 204
    assert (there(web, id_), there(web, other)) == (False, True)
    assert web.client.post("/jobs", json={"content": id_, "styles": [other]}).status_code == 404
    answer = web.client.delete(f"/uploads/{id_}")
    assert answer.status_code == 404
    assert answer.json()["detail"].startswith("there is no such upload")


def test_an_upload_that_is_removed_while_it_is_asked_for_is_a_404(serve: Serve) -> None:
    web = serve()
    id_ = web.upload()
    (web.parts.data / "uploads" / id_).unlink()  # as a removal does in another thread
    for each in ("thumbnail", "image"):
        answer = web.client.get(f"/uploads/{id_}/{each}")
        assert answer.status_code == 404
        assert answer.json()["detail"].startswith("there is no such upload")


def test_an_upload_that_a_job_needs_stays_until_the_job_has_ended(serve: Serve) -> None:
    web = serve(held=True)
    running = web.submit()
    until(lambda: web.parts.worker.orders)
    waiting = web.submit()
    for job in (running, waiting):
        answer = web.client.delete(f"/uploads/{job['styles'][0]}")
        assert answer.status_code == 409
        assert answer.json()["detail"] == (
            "a job that waits or runs uses this upload; wait until the job has ended, or remove "
            "the job"
        )
        assert there(web, job["styles"][0])
    web.parts.worker.gate.set()
    for job in (running, waiting):
        web.ended(job["id"])
        assert web.client.delete(f"/uploads/{job['styles'][0]}").status_code == 204


def test_a_job_keeps_its_result_and_its_recipe_without_its_upload(serve: Serve) -> None:
    web = serve()
    job = web.ended(web.submit()["id"])
    assert web.client.delete(f"/uploads/{job['content']}").status_code == 204
    assert web.client.get(f"/jobs/{job['id']}/image").status_code == 200
    assert 'content = "image"\n' in web.client.get(f"/jobs/{job['id']}/recipe").text


@pytest.mark.parametrize("how", [{"held": True}, {}], ids=["running", "ended"])
def test_a_removed_job_takes_its_uploads_along_but_not_those_of_other_jobs(
    serve: Serve, how: dict[str, Any]
) -> None:
    web = serve(**how)
    shared, own = web.upload(), web.upload()
    body = {"content": own, "styles": [shared]}
    job = web.client.post("/jobs", json=body).json()["id"]
    until(lambda: web.parts.worker.orders)
    web.client.post("/jobs", json={"content": shared, "styles": [shared]})
    if not how:
        web.ended(job)
    assert web.client.delete(f"/jobs/{job}").status_code == 204
    for file in (f"jobs/{job}", f"uploads/{own}"):
        until(lambda file=file: not (web.parts.data / file).exists())
    assert (there(web, own), there(web, shared)) == (False, True)


def test_at_the_bound_of_all_files_uploads_and_jobs_are_refused_until_a_job_is_deleted(
    serve: Serve,
) -> None:
    data = encoded(200, 200)  # larger than what the database grows by
    first = serve()
    ids = [first.client.post("/uploads", content=data).json()["id"] for _ in range(2)]
    body = {"content": ids[0], "styles": [ids[1]]}
    job = first.ended(first.client.post("/jobs", json=body).json()["id"])["id"]
    size = float(re.findall("^gramstyle_storage_bytes (.*)$", metrics(first), re.MULTILINE)[0])
    assert size > 2 * len(data)

    service = first.parts.running.service
    service.limits = replace(service.limits, storage=int(size) - 1)
    for answer in (
        first.client.post("/uploads", content=data),
        first.client.post("/jobs", json=body),
        first.client.post("/jobs", files={"content": data, "style": data}),
    ):
        assert answer.status_code == 507
        assert re.fullmatch(
            rf"the files of this server would have [\d,]+ bytes, and its bound \(--storage\) is "
            rf"{int(size) - 1:,}; delete jobs or uploads, or raise the bound",
            answer.json()["detail"],
        )
    assert {each.name for each in (first.parts.data / "uploads").iterdir()} == set(ids)
    assert first.client.get(f"/jobs/{job}/image").status_code == 200

    assert first.client.delete(f"/jobs/{job}").status_code == 204
    assert first.client.post("/uploads", content=data).status_code == 201


def test_uploads_at_the_same_time_do_not_exceed_the_bound(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    web = serve()
    data = encoded(200, 200)
    write = DataFolder.write_upload

    def slowly(folder: DataFolder, id_: str, data: bytes) -> None:
        time.sleep(0.1)  # so that others come in between if they can
        write(folder, id_, data)

    monkeypatch.setattr(DataFolder, "write_upload", slowly)
    service = web.parts.running.service
    service.limits = replace(service.limits, storage=service.size() + 4 * len(data))

    def upload(_: int) -> int:
        return web.client.post("/uploads", content=data).status_code

    with ThreadPoolExecutor(8) as pool:
        statuses = list(pool.map(upload, range(12)))
    assert set(statuses) == {201, 507}
    assert len(list((web.parts.data / "uploads").iterdir())) == statuses.count(201) <= 4


@pytest.mark.parametrize(
    ("files", "job"),
    [
        ([("content", encoded()), ("style", encoded())], {"options": {"size": 0}}),
        ([("content", encoded()), ("style", encoded()), ("style", b"no image")], {}),
    ],
    ids=["a wrong option", "no image"],
)
def test_the_images_of_a_form_that_is_refused_are_not_stored(
    serve: Serve, files: list[tuple[str, bytes]], job: dict[str, Any]
) -> None:
    web = serve()
    answer = web.client.post("/jobs", files=files, data={"job": json.dumps(job)})
    assert answer.status_code == 400
    assert not list((web.parts.data / "uploads").iterdir())
