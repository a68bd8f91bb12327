"""A worker that runs jobs on a Dask cluster, which the server shares with other programs."""

import logging
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from gramstyle.cluster.client import Cluster
from gramstyle.cluster.opening import open_cluster
from gramstyle.cluster.worker import alone
from gramstyle.errors import GramstyleError
from gramstyle.model import read_model
from gramstyle.serve.rendering import Ended, Order
from gramstyle.serve.reporting import Preview, Report, Stop
from gramstyle.serve.slices import accept, message_of, pack, run_slice
from gramstyle.serve.workers import WorkerDiedError

_log = logging.getLogger(__name__)

# The time of the first slice of a job, and of the longest: each is half as long again as the one
# before, since a new slice prepares its run anew. In seconds.
_FIRST, _LONGEST = 10.0, 60.0
# How often a thread looks whether its job shall end, in seconds.
_LOOK = 0.2


class SharedCluster:
    """A cluster that is joined when it is first needed, and again after its scheduler was gone.

    Parameters
    ----------
    scheduler
        The address of the scheduler.
    model
        The file of the network, which the workers receive.
    """

    def __init__(self, scheduler: str, model: Path) -> None:
        self._scheduler, self._model = scheduler, model
        self._lock = threading.Lock()
        self._cluster: Cluster | None = None
        self._thread: threading.Thread | None = None
        self._left = threading.Event()
        self._told: dict[str, Callable[[Report | Preview], None]] = {}
        self.topic = f"gramstyle-{uuid.uuid4().hex}"
        self.network = read_model(model).sha256

    def open(self) -> Cluster:
        """Join the cluster; raises GramstyleError if it does not answer."""
        with self._lock:
            if self._cluster is None:
                joined: Future[Cluster] = Future()
                self._left = threading.Event()
                self._thread = threading.Thread(
                    target=self._stay, args=(joined, self._left), daemon=True
                )
                self._thread.start()
                self._cluster = joined.result()
            return self._cluster

    def close(self) -> None:
        """Leave the cluster, so that the next job joins it again."""
        with self._lock:
            self._cluster = None
            self._left.set()
            if self._thread is not None:
                self._thread.join()
                self._thread = None

    def _stay(self, joined: Future[Cluster], left: threading.Event) -> None:
        """Join the cluster and leave it; Dask wants both in the same thread."""
        try:
            with open_cluster(scheduler=self._scheduler) as cluster:
                cluster.place_model(self._model, self.network)
                cluster.subscribe(self.topic, self._receive)
                joined.set_result(cluster)
                left.wait()
        except Exception as error:
            if not joined.done():
                joined.set_exception(error)
            else:  # the scheduler is gone, so that there is nothing to leave
                _log.info("%s", error)

    @contextmanager
    def telling(self, flag: str, tell: Callable[[Report | Preview], None]) -> Iterator[None]:
        """Pass what the tasks with this flag announce on to a function during the block."""
        self._told[flag] = tell
        try:
            yield
        finally:
            del self._told[flag]

    def _receive(self, message: Mapping[str, Any]) -> None:
        fields = dict(message)
        tell = self._told.get(fields.pop("flag"))
        if tell is not None:
            tell(message_of(fields))


class ClusterWorker:
    """Runs one job at a time on a worker of a cluster; see `gramstyle.serve.workers.Worker`."""

    def __init__(self, shared: SharedCluster) -> None:
        self._shared = shared
        self.ready = False

    def open(self) -> None:
        """Join the cluster."""
        try:
            self._shared.open()
        except GramstyleError as error:
            self.ready = False
            _log.error("%s", error)
            raise WorkerDiedError(str(error)) from None
        self.ready = True

    def run(
        self,
        order: Order,
        *,
        tell: Callable[[Report | Preview], None],
        stop: Callable[[], Stop | None],
    ) -> Ended | None:
        """Run a job slice by slice, wherever the scheduler places each."""
        seconds, flag = _FIRST, f"gramstyle-stop-{uuid.uuid4().hex}"
        with self._shared.telling(flag, tell):
            while True:
                answer = self._slice(order, flag, seconds, stop)
                if answer is None:
                    return None
                ended = accept(order, answer)
                if ended is not None:
                    return ended
                seconds = min(_LONGEST, 1.5 * seconds)

    def close(self) -> None:
        """Leave the cluster; its task ends with the connection."""
        self.ready = False
        self._shared.close()

    def _slice(
        self, order: Order, flag: str, seconds: float, stop: Callable[[], Stop | None]
    ) -> bytes | None:
        """Run a slice; return what came back, or None if the server stops."""
        cluster, shared = self._shared.open(), self._shared
        payload = pack(
            order, network=shared.network, topic=shared.topic, flag=flag, seconds=seconds
        )
        flagged = False
        try:
            placed = cluster.submit(alone, run_slice, payload)
            while not cluster.ended(placed, _LOOK):
                wanted = stop()
                if wanted == "shutdown":
                    placed.release()
                    return None
                if wanted == "cancel" and not flagged:
                    flagged = True
                    cluster.flag(flag)
            answer: bytes = cluster.fetch(placed)
        except Exception as error:  # of the scheduler, of the network, or of the task
            _log.error("%s: %s", type(error).__name__, error)
            shared.close()
            raise WorkerDiedError(" ".join(str(error).split())) from None
        return answer
