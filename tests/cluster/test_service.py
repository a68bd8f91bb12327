"""Jobs of a service on a cluster: slices whose checkpoints come back."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gramstyle.run.open_model import OpenModel
from gramstyle.serve import cluster_worker
from gramstyle.serve.cluster_worker import ClusterWorker, SharedCluster
from gramstyle.serve.folder import JobFiles
from gramstyle.serve.job import Request
from gramstyle.serve.limits import Limits
from gramstyle.serve.rendering import Order, run_job
from gramstyle.serve.running import Running, running
from gramstyle.serve.service import Seen
from serve_parts import encoded
from workers import until

OPTIONS = {"size": 48, "iterations": 6}


@pytest.fixture
def service(
    trusted_address: str, tiny_model_path: Path, tmp_path: Path
) -> Iterator[Callable[..., Running]]:
    """A service with one worker on the cluster."""
    worker = ClusterWorker(SharedCluster(trusted_address, tiny_model_path))
    with running(tmp_path / "data", Limits(iterations=10**6), [worker], machine={}) as parts:
        yield lambda: parts


def submit(parts: Running, **options: int) -> str:
    service = parts.service
    content, style = (service.upload(encoded(seed=n), "image.png").id for n in (1, 2))
    request = Request(content=content, styles=(style,), options={**OPTIONS, **options})
    return service.submit(request, "a").job.id


def ended(parts: Running, id_: str) -> Seen:
    until(lambda: parts.service.see(id_).job.over)
    return parts.service.see(id_)


@pytest.mark.parametrize("seconds", [0.0, 60.0])
def test_a_job_on_a_cluster_has_the_same_bits_as_one_here(
    service: Callable[..., Running],
    tiny_model_path: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    seconds: float,
) -> None:
    # With 0 seconds, each iteration is a slice of its own.
    monkeypatch.setattr(cluster_worker, "_FIRST", seconds)
    parts = service()
    seen = ended(parts, submit(parts))
    assert (seen.job.state, seen.job.problem) == ("finished", None)
    assert seen.standing.iteration == 6

    for number in (1, 2):
        (tmp_path / f"{number}.png").write_bytes(encoded(seed=number))
    request = Request(
        content=str(tmp_path / "1.png"), styles=(str(tmp_path / "2.png"),), options=OPTIONS
    )
    order = Order(folder=tmp_path / "here", request=request, machine={"threads": 1}, seconds=1e6)
    with OpenModel(tiny_model_path) as model:
        run_job(order, model=model, tell=lambda _: None, stop=lambda: None)
    here = JobFiles(order.folder).image.read_bytes()
    assert parts.service.image(seen.job.id, ".png", metadata=False) == here
    assert len(parts.service.points(seen.job.id)) >= 6


def test_a_running_job_on_a_cluster_reports_and_can_be_cancelled(
    service: Callable[..., Running],
) -> None:
    parts = service()
    id_ = submit(parts, iterations=10**6)
    until(lambda: parts.service.see(id_).standing.iteration > 0)
    until(lambda: parts.service.see(id_).job.has_image)
    parts.service.cancel(id_)
    seen = ended(parts, id_)
    assert (seen.job.state, seen.job.has_image) == ("cancelled", True)


def test_a_job_that_cannot_run_names_the_reason_and_not_the_files_of_the_worker(
    service: Callable[..., Running],
) -> None:
    parts = service()
    seen = ended(parts, submit(parts, size=4))
    assert seen.job.state == "failed"
    assert seen.job.problem is not None
    assert "/" not in seen.job.problem


def test_a_scheduler_that_is_gone_leaves_the_job_waiting(
    tiny_model_path: Path, tmp_path: Path
) -> None:
    worker = ClusterWorker(SharedCluster("tcp://127.0.0.1:9", tiny_model_path))
    with running(tmp_path / "data", Limits(), [worker], machine={}) as parts:
        id_ = submit(parts)
        until(lambda: not worker.ready)
        assert parts.service.see(id_).job.state == "waiting"
