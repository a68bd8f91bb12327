"""Kill the server or a worker at random moments, again and again, while it has many jobs."""

import hashlib
import os
import random
import signal
import sqlite3
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from itertools import cycle
from pathlib import Path
from typing import Any, TypeVar

from .client import Client, RefusedError
from .load import image_fault
from .server import PATIENCE, Server, ServerError, started, tracebacks

# The times between two kills, in seconds; often the server or the worker is still starting then.
BETWEEN_KILLS = (0.1, 7.0)
# The time between two checkpoints in seconds: the jobs are short, and some must be continued.
SAVING = 0.3
# The jobs: those of a client, again and again. The longest are continued from checkpoints.
JOBS: Sequence[Mapping[str, Any]] = [
    {"size": 64, "seed": seed, "iterations": iterations, "content_strength": strength}
    for seed, (iterations, strength) in enumerate(
        [(10, 1), (20, 2), (40, 0.5), (80, 1), (160, 1), (320, 1)]
    )
]
T = TypeVar("T")


@dataclass
class ServiceKillResult:
    """What became of the kills.

    Attributes
    ----------
    kills, of_server
        How often a process was killed, and how often it was the server.
    checkpoints
        How many kills of the server met a running job with a checkpoint.
    attempts
        The most workers that died in one job, whose images are made at last.
    jobs, finished, identical
        How many jobs were accepted, how many finished, and how many images have the bits of
        undisturbed jobs.
    """

    name: str = "serve, 2 workers"
    kills: int = 0
    of_server: int = 0
    checkpoints: int = 0
    attempts: int = 0
    jobs: int = 0
    finished: int = 0
    identical: int = 0
    seconds: float = 0.0
    findings: list[str] = field(default_factory=list)


def kill_service(
    server: Server,
    images: tuple[bytes, bytes],
    *,
    kills: int,
    jobs: int,
    of_server: float = 0.5,
    seed: int = 0,
    tell: Callable[[str], None] = lambda _: None,
) -> ServiceKillResult:
    """Kill a server and its workers while they have jobs; then let them finish, and check all.

    A share `of_server` of the kills meets the server; the others meet one of its workers.
    """
    server.saving, server.arguments = SAVING, ("--workers", "2", *server.arguments)
    result = ServiceKillResult()
    began = time.monotonic()
    with started(server, 2):
        client = _Patient(server)
        content, style = (client.call(partial(Client.upload, data=each)) for each in images)
        ids = (content, style)
        truth = _undisturbed(client, ids)
        tell(f"{len(truth)} undisturbed jobs are done")
        accepted = _Jobs(client, ids)
        accepted.submit(jobs)
        watch = _Ends(server.data / "jobs")
        thread = threading.Thread(target=watch.run, daemon=True)
        thread.start()
        rng = random.Random(seed)  # noqa: S311 - not for secrets
        _kill(server, kills, of_server, rng, result, accepted, tell)
        _judge(client, accepted, truth, result)
        watch.stop()
        thread.join()
        result.findings += watch.done_twice
    result.seconds = time.monotonic() - began
    result.attempts = _attempts(server.data / "service.sqlite3")
    result.findings += [f"the server wrote: {each}" for each in tracebacks(server.written)]
    return result


def _undisturbed(client: "_Patient", ids: tuple[str, str]) -> Sequence[str]:
    """Return the hashes of the images of jobs that are not killed."""
    jobs = [client.call(partial(_submit, ids=ids, options=options)) for options in JOBS]
    for id_ in jobs:
        client.wait(id_)
    return [_hash(client.call(partial(Client.image, id_=id_))) for id_ in jobs]


def _submit(client: Client, ids: tuple[str, str], options: Mapping[str, Any]) -> str:
    return client.submit(*ids, options)


class _Jobs:
    """The jobs that the server has accepted, and which of `JOBS` each of them is."""

    def __init__(self, client: "_Patient", ids: tuple[str, str]) -> None:
        self._client, self._ids = client, ids
        self._kinds = cycle(range(len(JOBS)))
        self.accepted: dict[str, int] = {}

    def submit(self, jobs: int) -> None:
        """Submit more jobs."""
        for _, kind in zip(range(jobs), self._kinds, strict=False):
            id_ = self._client.call(partial(_submit, ids=self._ids, options=JOBS[kind]))
            self.accepted[id_] = kind


def _kill(
    server: Server,
    kills: int,
    of_server: float,
    rng: random.Random,
    result: ServiceKillResult,
    jobs: _Jobs,
    tell: Callable[[str], None],
) -> None:
    """Kill at random moments; start a killed server again at once."""
    while result.kills < kills:
        time.sleep(rng.uniform(*BETWEEN_KILLS))
        workers = server.workers
        if rng.random() < of_server:
            server.kill()
            result.of_server += 1
            result.checkpoints += any(server.data.glob("jobs/*/checkpoint/manifest.json"))
            server.start()  # while its former workers may still end
        elif workers:
            os.kill(rng.choice(workers), signal.SIGKILL)
        else:
            continue
        result.kills += 1
        if _waiting(server) < len(JOBS):  # there is always work when a process is killed
            jobs.submit(2 * len(JOBS))
        if result.kills % 10 == 0:
            tell(f"{result.kills} kills, {len(jobs.accepted)} jobs, {_waiting(server)} wait")


def _waiting(server: Server) -> int:
    text = _Patient(server).call(lambda to: to.get("/metrics")).body.decode()
    (line,) = (each for each in text.splitlines() if 'state="waiting"' in each)
    return int(float(line.split()[-1]))


def _judge(
    client: "_Patient", jobs: _Jobs, truth: Sequence[str], result: ServiceKillResult
) -> None:
    """Wait for all jobs and check each of them."""
    result.jobs = len(jobs.accepted)
    for id_, kind in jobs.accepted.items():
        try:
            job = client.wait(id_)
        except RefusedError as error:
            result.findings.append(f"a job is lost: {error}")
            continue
        if job["state"] != "finished":
            result.findings.append(f"a job is {job['state']}: {job['problem']}")
            continue
        result.finished += 1
        image = client.call(partial(Client.image, id_=id_))
        problem = image_fault(image, (job["width"], job["height"]))
        if not problem and _hash(image) != truth[kind]:
            problem = f"other bits after {JOBS[kind]['iterations']} iterations"
        result.identical += not problem
        result.findings += [problem] if problem else []


def _attempts(database: Path) -> int:
    with closing(sqlite3.connect(database)) as opened:
        (most,) = opened.execute("SELECT max(attempts) FROM jobs").fetchone()
    return int(most)


class _Patient:
    """A client that sends a request again when the server has been killed meanwhile."""

    def __init__(self, server: Server) -> None:
        self._server, self._client = server, server.client()

    def call(self, action: Callable[[Client], T]) -> T:
        """Call an action until it has an answer."""
        until = time.monotonic() + PATIENCE
        while True:
            try:
                return action(self._client)
            except OSError:
                if time.monotonic() > until:
                    raise
                time.sleep(0.05)

    def wait(self, id_: str) -> dict[str, Any]:
        """Wait until a job has ended."""
        until = time.monotonic() + 5 * PATIENCE
        while True:
            job = self.call(lambda to: to.job(id_))
            if job["state"] not in ("waiting", "running"):
                return job
            if time.monotonic() > until:
                raise ServerError(f"a job does not end: {job}; {self._server.written}")
            time.sleep(0.05)


class _Ends:
    """Watches the files that say how jobs ended: each must be written once."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._over = folder, threading.Event()
        self._seen: dict[str, tuple[int, int]] = {}
        self.done_twice: list[str] = []

    def run(self) -> None:
        """Watch until stopped."""
        while not self._over.wait(0.2):
            self._look()
        self._look()

    def stop(self) -> None:
        """Stop watching."""
        self._over.set()

    def _look(self) -> None:
        for path in self._folder.glob("*/ended.json"):
            status = path.stat()
            mark = (status.st_ino, status.st_mtime_ns)
            if self._seen.setdefault(path.parent.name, mark) != mark:
                self.done_twice.append(f"a job was done twice: {path.parent.name}")
                self._seen[path.parent.name] = mark


def _hash(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
