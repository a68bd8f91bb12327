"""Run jobs on the workers of a cluster; each job runs on one worker."""

import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path

from gramstyle.batch.execute import Outcomes
from gramstyle.batch.job import Job
from gramstyle.batch.job_checks import check_whole
from gramstyle.batch.outcome import Outcome, failed, guarded, reused
from gramstyle.batch.payload import accept, pack, run_remote
from gramstyle.cluster.client import Cluster, Done
from gramstyle.errors import GramstyleError
from gramstyle.model import read_model


def on_workers(jobs: Sequence[Job], /, *, cluster: Cluster, model: Path) -> Outcomes:
    """Run the jobs on a cluster, one at a time on each worker.

    This machine finds images that can be reused. It sends the other jobs with their images to
    workers, a few at a time. If a worker dies, its job runs again on another one.

    Parameters
    ----------
    jobs
        Jobs without an option `threads` use the cluster's number of threads.
    cluster
        From `open_cluster`. It must stay open until all outcomes have arrived.
    model
        The network's file. The workers receive it.

    Raises
    ------
    OptionError
        If a job has its own cluster, if the cluster no longer answers, or if a worker has another
        version. Finished images remain.
    ModelError
        As `read_model` and `Cluster.place_model` do.

    Examples
    --------
    >>> from functools import partial
    >>> from gramstyle.batch import on_workers, run_jobs
    >>> execute = partial(on_workers, cluster=cluster, model=model)  # doctest: +SKIP
    >>> outcomes = run_jobs(jobs, execute=execute)  # doctest: +SKIP
    """
    check_whole(jobs)
    network = read_model(model).sha256
    cluster.place_model(model, network)
    began = time.monotonic()

    def payload(job: Job) -> bytes | Outcome:
        shared = job.with_threads(cluster.threads)
        return reused(job, model=model) or pack(shared, network=network)

    def payloads() -> Iterator[bytes | Done[Outcome]]:
        for job in jobs:
            item = guarded(job, partial(payload, job))
            yield Done(item) if isinstance(item, Outcome) else item

    answers = cluster.map_jobs(run_remote, payloads())
    with closing(answers):
        for index, answer in answers:
            if isinstance(answer, GramstyleError):
                yield failed(jobs[index], answer, began)
            else:
                yield accept(jobs[index], answer) if isinstance(answer, bytes) else answer
