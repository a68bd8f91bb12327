"""Jobs on the workers of a cluster, each whole on one of them."""

import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path

from gramstyle.batch.attempt import Outcome, failed, guarded, kept
from gramstyle.batch.checking import check_whole
from gramstyle.batch.jobs import Job
from gramstyle.batch.payload import accept, pack, run_remote
from gramstyle.batch.running import Outcomes
from gramstyle.cluster.client import Cluster, Done
from gramstyle.model import read_model


def on_workers(jobs: Sequence[Job], /, *, cluster: Cluster, model: Path) -> Outcomes:
    """Do the jobs on a cluster, one at a time on each worker.

    A job whose image is here is left as it is without asking anybody. The others travel with
    their images, a few at a time, and are done again elsewhere when their worker dies.

    Parameters
    ----------
    jobs
        Those that do not say how many threads to use take the cluster's.
    cluster
        From `open_cluster`; it must stay open meanwhile.
    model
        The network's file, which the workers are given.

    Raises
    ------
    OptionError
        If a job asks for a cluster itself; if the cluster is gone, or a worker of it has another
        version. What is finished then stays.
    ModelError
        As `read_model` and `Cluster.place_model` do.
    """
    check_whole(jobs)
    network = read_model(model).sha256
    cluster.place_model(model, network)
    began = time.monotonic()

    def errands() -> Iterator[bytes | Done[Outcome]]:
        for job in jobs:
            errand = guarded(job, partial(_errand, job, cluster, model, network))
            yield Done(errand) if isinstance(errand, Outcome) else errand

    answers = cluster.map_jobs(run_remote, errands())
    with closing(answers):
        for index, answer in answers:
            if isinstance(answer, Outcome):
                yield answer
            elif isinstance(answer, bytes):
                yield accept(jobs[index], answer)
            else:
                yield failed(jobs[index], str(answer), began)


def _errand(job: Job, cluster: Cluster, model: Path, network: str) -> bytes | Outcome:
    """Return the outcome of a job that there is nothing to do for, or the job as a parcel."""
    outcome = kept(job, model=model)
    if outcome is not None:
        return outcome
    return pack(job.with_threads(cluster.threads), network=network)
