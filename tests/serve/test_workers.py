"""The workers: retries, restarts, cancellation, and what is kept."""

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from gramstyle.errors import OptionError
from gramstyle.serve.folder import opened
from gramstyle.serve.job import Job, Request, Standing, Upload
from gramstyle.serve.rendering import Ended, Order
from gramstyle.serve.reporting import Report
from gramstyle.serve.service import FullError, UnknownError
from gramstyle.serve.store import Store, StoreError
from gramstyle.serve.workers import WorkerDiedError
from serve_parts import STANDING, Start, dies, finish
from workers import until


def test_a_job_runs_and_its_result_is_there(start: Start) -> None:
    parts = start()
    seen = parts.ended(parts.submit())
    assert (seen.job.state, seen.job.reason) == ("finished", "all iterations done")
    assert seen.standing == STANDING
    assert parts.running.service.image(seen.job.id, ".png", metadata=False)[1:4] == b"PNG"


def test_a_job_whose_worker_dies_runs_again(start: Start) -> None:
    def act(order: Order, number: int) -> Ended | None:
        return dies(order, number) if number < 3 else finish(order)

    parts = start(act)
    seen = parts.ended(parts.submit())
    assert (seen.job.state, seen.job.attempts) == ("finished", 2)
    assert parts.running.workers.deaths == 2


def test_a_job_whose_worker_dies_too_often_fails_with_one_sentence(start: Start) -> None:
    parts = start(dies, retries=2)
    seen = parts.ended(parts.submit())
    assert seen.job.state == "failed"
    assert seen.job.problem is not None
    assert "has died 3 times (it ended with code -9)" in seen.job.problem
    parts.worker.act = lambda order, _: finish(order)
    assert parts.ended(parts.submit()).job.state == "finished", "the next job runs"


def test_a_job_that_gets_further_each_time_runs_however_often_its_worker_dies(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = start(retries=2)

    def run(order: Order, *, tell: Any, stop: Any) -> Ended:
        parts.worker.orders.append(order)
        number = len(parts.worker.orders)
        if number == 6:
            return finish(order)
        # It gets further, and every other time not.
        tell(Report(Standing(iteration=10 * (number // 2 + 1), iterations=99), ()))
        raise WorkerDiedError("it ended with code -9")

    monkeypatch.setattr(parts.worker, "run", run)
    assert parts.ended(parts.submit()).job.state == "finished"
    assert parts.running.workers.deaths == 5


def test_a_worker_that_dies_after_its_last_file_has_finished_its_job(start: Start) -> None:
    def act(order: Order, _number: int) -> Ended | None:
        finish(order)
        raise WorkerDiedError("it ended with code -9")

    parts = start(act)
    assert parts.ended(parts.submit()).job.state == "finished"
    assert len(parts.worker.orders) == 1


def test_jobs_survive_the_end_of_the_server(start: Start) -> None:
    with ExitStack() as first:
        parts = start(held=True, at=first)
        running, waiting = parts.submit(), parts.submit()
        until(lambda: parts.worker.orders)
    again = start()
    assert [again.ended(id_).job.state for id_ in (running, waiting)] == ["finished"] * 2


def test_a_job_that_was_complete_when_the_server_was_killed_is_not_run_again(
    start: Start, tmp_path: Path
) -> None:
    with opened(tmp_path / "data") as folder:  # as a kill leaves it
        for name in ("content", "style"):
            folder.store.add_upload(Upload(name, 4, 3, 100, name))
        request = Request(content="content", styles=("style",))
        job = Job(id="id", client="a", request=request, state="waiting", created=0.0)
        folder.store.add_job(job, ["content", "style"])
        folder.store.start_next()
        order = Order(folder=folder.job("id").folder, request=request, machine={}, seconds=1.0)
        finish(order)
    parts = start()
    assert parts.running.service.see("id").job.state == "finished"
    assert not parts.worker.orders


def test_a_waiting_job_is_cancelled_at_once_and_a_running_one_keeps_its_image(
    start: Start,
) -> None:
    parts = start(held=True)
    service = parts.running.service
    running, waiting = parts.submit(), parts.submit()
    until(lambda: parts.worker.orders)
    assert service.cancel(waiting).job.state == "cancelled"
    service.cancel(running)
    seen = parts.ended(running)
    assert (seen.job.state, seen.job.has_image) == ("cancelled", True)
    assert service.cancel(running).job.state == "cancelled", "twice is no error"


def test_an_interrupted_job_that_is_cancelled_keeps_its_image(start: Start) -> None:
    with ExitStack() as first:
        parts = start(held=True, at=first)
        running, waiting = parts.submit(), parts.submit()
        until(lambda: parts.worker.orders)
        (parts.worker.orders[0].folder / "checkpoint").mkdir(parents=True)
    again = start(held=True)
    until(lambda: again.worker.orders)  # the interrupted job is first
    assert again.running.service.cancel(waiting).job.state == "cancelled"
    again.running.service.cancel(running)
    seen = again.ended(running)
    assert (seen.job.state, seen.job.has_image) == ("cancelled", True)


def test_a_removed_job_leaves_nothing_even_if_it_runs(start: Start) -> None:
    parts = start(held=True)
    id_ = parts.submit()
    until(lambda: parts.worker.orders)
    parts.running.service.remove(id_)
    with pytest.raises(UnknownError):
        parts.running.service.see(id_)
    until(lambda: not list((parts.data / "jobs").iterdir()))
    until(lambda: not list((parts.data / "uploads").iterdir()))


def test_a_full_queue_refuses_and_says_when_to_try_again(start: Start) -> None:
    parts = start(held=True, queue=2)
    parts.submit()
    until(lambda: parts.worker.orders)
    parts.submit()
    parts.submit()
    with pytest.raises(FullError, match="the queue is full: 2 jobs wait") as caught:
        parts.submit()
    assert caught.value.retry_after >= 1


def test_a_waiting_job_knows_its_place(start: Start) -> None:
    parts = start(held=True)
    parts.submit("a")
    until(lambda: parts.worker.orders)
    second, third = parts.submit("a"), parts.submit("b")
    places = [parts.running.service.see(id_).position for id_ in (second, third)]
    assert places == [2, 1], "b has no job that runs"


def test_the_oldest_results_make_room_for_new_ones(start: Start) -> None:
    parts = start(results=2)
    ids = [parts.submit() for _ in range(4)]
    parts.ended(ids[-1])
    until(lambda: len(list((parts.data / "jobs").iterdir())) == 2)
    for id_ in ids[:2]:
        with pytest.raises(UnknownError):
            parts.running.service.see(id_)


FULL = "the server could not read or write the files of the job; its disk may be full"


def on_a_full_disk(order: Order, _number: int) -> Ended:
    (order.folder / "checkpoint").mkdir(parents=True)
    raise OSError(28, "No space left on device", str(order.folder))


def test_a_job_on_a_full_disk_fails_alone_with_one_sentence_and_leaves_no_checkpoint(
    start: Start,
) -> None:
    parts = start(on_a_full_disk)
    id_ = parts.submit()
    assert (parts.ended(id_).job.state, parts.ended(id_).job.problem) == ("failed", FULL)
    until(lambda: not (parts.data / "jobs" / id_ / "checkpoint").exists())
    assert len(parts.worker.orders) == 1
    parts.worker.act = lambda order, _: finish(order)
    assert parts.ended(parts.submit()).job.state == "finished"


def test_the_end_of_a_job_that_the_store_cannot_take_is_stored_when_it_can(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = start(on_a_full_disk, held=True)
    id_ = parts.submit()
    until(lambda: parts.worker.orders)
    full = threading.Event()
    tried = threading.Semaphore(0)
    change = Store._change

    def changed(store: Store) -> Any:
        if full.is_set():
            tried.release()
            raise StoreError("the disk is full")
        return change(store)

    monkeypatch.setattr(Store, "_change", changed)
    full.set()
    parts.worker.gate.set()
    for _ in range(2):  # at the end of the job, and when the worker tries to recover
        assert tried.acquire(timeout=60)
    full.clear()
    assert parts.ended(id_).job.problem == FULL
    assert len(parts.worker.orders) == 1


def test_a_lower_limit_of_results_holds_when_the_server_starts_again(start: Start) -> None:
    with ExitStack() as first:
        parts = start(at=first)
        for _ in range(3):
            parts.ended(parts.submit())
    again = start(held=True, results=1)
    assert len(list((again.data / "jobs").iterdir())) == 1
    assert again.running.service.counts() == {"finished": 1}


def test_a_request_for_an_unknown_upload_is_refused(start: Start) -> None:
    parts = start()
    request = Request(content=parts.upload(), styles=("A" * 22,))
    with pytest.raises(UnknownError, match="there is no such upload"):
        parts.running.service.submit(request, "a")


def test_the_recipe_of_a_job_names_the_files_that_were_uploaded(start: Start) -> None:
    parts = start()
    content, style = parts.upload(name="../../cat.jpg"), parts.upload(name="night.jpg")
    mask = parts.upload(name="face.png")
    request = Request(content=content, styles=(style,), options={"size": 64, "protect": mask})
    id_ = parts.running.service.submit(request, "a").job.id
    recipe = parts.running.service.recipe(id_)
    assert 'content = "cat.jpg"\nstyle = "night.jpg"\n' in recipe
    assert 'protect = "face.png"' in recipe


def test_the_reasons_of_a_refusal_are_those_of_the_command_line(start: Start) -> None:
    parts = start()
    with pytest.raises(OptionError, match="unknown key 'sise'; did you mean size"):
        parts.submit(sise=3)


def test_many_clients_at_once_do_not_overfill_the_queue(start: Start) -> None:
    parts = start(held=True, queue=3)
    parts.submit()
    until(lambda: parts.worker.orders)
    request = Request(content=parts.upload(), styles=(parts.upload(),))

    def submit(number: int) -> bool:
        try:
            parts.running.service.submit(request, str(number))
        except FullError:
            return False
        return True

    with ThreadPoolExecutor(20) as pool:
        assert sum(pool.map(submit, range(40))) == 3


def test_an_image_that_is_removed_while_it_is_read_is_not_there(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = start()
    service, id_ = parts.running.service, parts.submit()
    parts.ended(id_)

    def remove(*_: object, **__: object) -> bytes:
        service.remove(id_)
        return (parts.data / "jobs" / id_ / "image.png").read_bytes()

    monkeypatch.setattr(service, "_result", remove)
    with pytest.raises(UnknownError):
        service.image(id_, ".png", metadata=False)


def test_a_worker_that_ends_with_the_server_costs_its_job_no_retry(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ExitStack() as first:
        parts = start(held=True, retries=0, at=first)
        run = parts.worker.run

        def die(order: Order, **named: Any) -> None:
            run(order, **named)  # until the server stops
            raise WorkerDiedError("it ended with code -15")

        monkeypatch.setattr(parts.worker, "run", die)
        id_ = parts.submit()
        until(lambda: parts.worker.orders)
    assert start().ended(id_).job.state == "finished"
