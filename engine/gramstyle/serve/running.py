"""Open the parts of a service in their order, and close them."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gramstyle.serve.feed import Feed
from gramstyle.serve.folder import opened
from gramstyle.serve.limits import Limits
from gramstyle.serve.service import Service
from gramstyle.serve.workers import Worker, Workers

# The time between two checkpoints of a job, in seconds.
SAVING = 10.0


@dataclass(frozen=True)
class Running:
    """A service that takes jobs, and its workers."""

    service: Service
    workers: Workers


@contextmanager
def running(
    data: Path,
    limits: Limits,
    workers: Sequence[Worker],
    *,
    machine: Mapping[str, Any],
    saving: float = SAVING,
) -> Iterator[Running]:
    """Run a service during the block; at its end the states of running jobs are saved.

    Parameters
    ----------
    data
        The folder of the service.
    limits
        The limits.
    workers
        The workers.
    machine
        Options of the machine for every job.
    saving
        The time between two checkpoints in seconds.

    Raises
    ------
    GramstyleError
        If the folder cannot be used.
    """
    with opened(data) as folder:
        feed = Feed()
        pool = Workers(folder, feed, limits, workers, machine=dict(machine), saving=saving)
        pool.start()
        try:
            yield Running(Service(folder, feed, pool, limits), pool)
        finally:
            feed.close()
            pool.stop()
