"""Open a cluster: one at an address, or one of processes on this machine."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from gramstyle.cluster.client import PATIENCE, Cluster
from gramstyle.cluster.dask import configured, load_distributed, quiet_logs
from gramstyle.cluster.local import local_cluster
from gramstyle.cluster.loop import event_loop
from gramstyle.cluster.remote import joined_cluster
from gramstyle.errors import OptionError
from gramstyle.system.machine import available_threads, physical_memory
from gramstyle.system.temporary import temporary_folder
from gramstyle.tiling.budget import FIXED


@contextmanager
def open_cluster(
    *,
    scheduler: str | None = None,
    workers: int | None = None,
    threads: int | None = None,
    patience: float = PATIENCE,
) -> Iterator[Cluster]:
    """Open a cluster: the one at an address, or processes that start and end on this machine.

    A script that starts workers must be importable: put its work under
    ``if __name__ == "__main__":``.

    Parameters
    ----------
    scheduler
        The address of a Dask scheduler, such as ``tcp://10.0.0.5:8786``, or
        ``tls://10.0.0.5:8786`` with the certificates of Dask's configuration.
    workers
        How many processes to start on this machine instead.
    threads
        How many threads an engine on a worker uses; None uses as many as the worker was started
        with, or an equal part of this machine's cores.
    patience
        How many seconds to wait while there is no worker.

    Raises
    ------
    OptionError
        If the scheduler does not answer within ten seconds or has no worker; if the scheduler or a
        worker has another version of gramstyle or of Dask; if a worker of this machine does not
        start, or if this machine has too little memory for them; if the certificates cannot be
        used.
    RuntimeMissingError
        If Dask is not installed, or cryptography, which makes certificates for this machine.
    GramstyleError
        If workers are to be started and there is no folder for temporary files.
    """
    if (scheduler is None) == (workers is None):
        raise OptionError("a cluster has either a scheduler's address or a number of workers")
    if workers is not None:
        _check_memory(workers)
    distributed = load_distributed()
    with ExitStack() as stack:
        stack.enter_context(quiet_logs())
        stack.enter_context(configured(local=workers is not None))
        loop = stack.enter_context(event_loop())
        if workers is not None:
            temporary_folder()  # Dask needs one
            threads = threads or max(1, available_threads() // workers)
            address = "this machine"
            local = stack.enter_context(local_cluster(loop, workers))
            client = stack.enter_context(distributed.Client(local, direct_to_workers=True))
        else:
            assert scheduler is not None  # noqa: S101 - one of the two
            address = scheduler
            client = stack.enter_context(joined_cluster(loop, scheduler))
        yield Cluster(client, address, threads=threads, patience=patience)


def _check_memory(workers: int) -> None:
    needed, there = workers * FIXED, physical_memory()
    if there is not None and needed > there:
        raise OptionError(
            f"{workers} workers take about {needed / 1e9:.0f} GB of memory and this machine has "
            f"{there / 1e9:.0f}; choose --workers {max(1, there // FIXED)}, or fewer"
        )
