"""The process in which jobs run: what happens when it cannot start, or does not answer."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from gramstyle.serve import local_worker
from gramstyle.serve.job import Request
from gramstyle.serve.local_worker import LocalWorker
from gramstyle.serve.rendering import Order
from gramstyle.serve.workers import WorkerDiedError
from serve_parts import encoded

MACHINE: dict[str, object] = {"threads": 1, "engine": "numpy"}


@pytest.fixture
def worker(tiny_model_path: Path) -> Iterator[LocalWorker]:
    found = LocalWorker(tiny_model_path, MACHINE)
    yield found
    found.close()


def order(folder: Path, iterations: int) -> Order:
    for name, seed in (("content", 1), ("style", 2)):
        (folder / name).write_bytes(encoded(seed=seed))
    request = Request(
        content=str(folder / "content"),
        styles=(str(folder / "style"),),
        options={"size": 32, "iterations": iterations},
    )
    return Order(folder=folder / "job", request=request, machine=MACHINE, seconds=1e6)


def test_a_worker_that_cannot_open_its_model_says_so(tmp_path: Path) -> None:
    worker = LocalWorker(tmp_path / "none.onnx", MACHINE)
    with pytest.raises(WorkerDiedError, match=r"there is no model .*none\.onnx"):
        worker.open()
    assert not worker.ready


def test_a_worker_that_does_not_answer_is_ended_when_its_job_is_cancelled(
    worker: LocalWorker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local_worker, "_GRACE", 0.5)
    worker.open()
    assert worker.process_id
    os.kill(worker.process_id, signal.SIGSTOP)
    with pytest.raises(WorkerDiedError, match="it did not answer"):
        worker.run(order(tmp_path, 1000), tell=lambda _: None, stop=lambda: "cancel")
    assert worker.process_id is None
    worker.open()
    ended = worker.run(order(tmp_path, 2), tell=lambda _: None, stop=lambda: None)
    assert ended is not None
    assert ended.has_image


def test_sigterm_does_not_end_a_worker(worker: LocalWorker, tmp_path: Path) -> None:
    worker.open()
    assert worker.process_id
    os.kill(worker.process_id, signal.SIGTERM)
    ended = worker.run(order(tmp_path, 2), tell=lambda _: None, stop=lambda: None)
    assert ended is not None
    assert ended.has_image
