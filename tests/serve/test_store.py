"""The jobs in SQLite: they survive, and a file that cannot be used is refused in one line."""

import sqlite3
import time
from pathlib import Path

import pytest

from gramstyle.serve.job import Job, Request, Standing, Upload
from gramstyle.serve.store import Store, StoreError


def store_with(path: Path, *jobs: str, client: str = "a") -> Store:
    store = Store(path / "jobs.sqlite3")
    for name in ("content", "style"):
        if store.upload(name) is None:
            store.add_upload(Upload(name, 4, 3, 100, f"{name}.png"))
    for id_ in jobs:
        add(store, id_, client)
    return store


def add(store: Store, id_: str, client: str = "a") -> None:
    request = Request(content="content", styles=("style",), options={"size": 64})
    job = Job(id=id_, client=client, request=request, state="waiting", created=time.time())
    store.add_job(job, ["content", "style"])


def test_a_job_is_the_same_after_the_file_is_opened_again(tmp_path: Path) -> None:
    store = store_with(tmp_path, "one")
    before = store.job("one")
    store.close()
    assert before is not None
    assert Store(tmp_path / "jobs.sqlite3").job("one") == before


def test_a_job_that_names_an_unknown_upload_is_not_added(tmp_path: Path) -> None:
    store = store_with(tmp_path)
    request = Request(content="content", styles=("nothing",))
    job = Job(id="x", client="a", request=request, state="waiting", created=0.0)
    with pytest.raises(KeyError):
        store.add_job(job, ["content", "nothing"])
    assert store.job("x") is None


def test_each_job_starts_once(tmp_path: Path) -> None:
    store = store_with(tmp_path, "one", "two")
    started = [store.start_next() for _ in range(3)]
    assert [job and job.id for job in started] == ["one", "two", None]


def test_an_interrupted_job_waits_again_in_the_first_place(tmp_path: Path) -> None:
    store = store_with(tmp_path, "one", "two")
    store.start_next()
    store.wait_again("one", attempts=1)
    assert store.waiting() == ["one", "two"]
    job = store.job("one")
    assert job is not None
    assert job.attempts == 1


def test_a_job_ends_once(tmp_path: Path) -> None:
    store = store_with(tmp_path, "one")
    standing = Standing(iteration=5, loss=1.5)
    assert store.end("one", "finished", standing=standing, has_image=True)
    assert not store.end("one", "failed", standing=Standing(), has_image=False)
    job = store.job("one")
    assert job is not None
    assert (job.state, job.standing, job.has_image) == ("finished", standing, True)


def test_the_oldest_ended_jobs_are_removed_and_waiting_ones_stay(tmp_path: Path) -> None:
    store = store_with(tmp_path, "a", "b", "c", "d")
    for id_ in "abc":
        store.end(id_, "finished", standing=Standing(), has_image=True)
    assert store.remove_oldest(most=1) == ["b", "a"]
    assert store.jobs() == {"c", "d"}


def test_uploads_that_a_job_uses_stay_and_the_oldest_of_the_others_go(tmp_path: Path) -> None:
    store = store_with(tmp_path, "one")
    for number in range(3):
        store.add_upload(Upload(f"free{number}", 4, 3, 100, ""))
    assert store.remove_unused_uploads(most_bytes=200) == ["free0"]
    assert set(store.remove_unused_uploads(most_bytes=0)) == {"free1", "free2"}
    assert store.uploads() == {"content", "style"}


def test_a_job_takes_the_uploads_with_it_that_no_other_job_uses(tmp_path: Path) -> None:
    store = store_with(tmp_path, "one", "two")
    store.add_upload(Upload("free", 4, 3, 100, ""))
    store.remove("one")
    assert store.uploads() == {"content", "style", "free"}
    store.remove("two")
    assert store.uploads() == {"free"}


def test_a_file_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    store_with(tmp_path).close()
    database = sqlite3.connect(tmp_path / "jobs.sqlite3")
    database.execute("PRAGMA user_version = 99")
    database.close()
    with pytest.raises(StoreError, match=r"of version 99, and this gramstyle reads version 1"):
        Store(tmp_path / "jobs.sqlite3")


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "jobs.sqlite3").write_bytes(b"no database" * 100)
    with pytest.raises(StoreError, match="name another folder with --data"):
        Store(tmp_path / "jobs.sqlite3")


def test_a_damaged_database_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "service.sqlite3"
    Store(path).close()
    data = bytearray(path.read_bytes())
    data[4096:-4096] = b"\xa5" * (len(data) - 8192)
    path.write_bytes(data)
    with pytest.raises(StoreError, match=r"cannot use .*; name another folder with --data"):
        Store(path)
