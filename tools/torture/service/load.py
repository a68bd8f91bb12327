"""Submit many jobs at once from many connections, and watch the memory and the latency."""

import random
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from io import BytesIO
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import Any, Protocol

import PIL.Image

from .client import Client
from .server import Server

MIB = 2**20
# The time between two requests whose latency is measured, and between two looks at the memory.
BETWEEN_REQUESTS, BETWEEN_LOOKS = 0.02, 0.25


OPTIONS = {"size": 64, "iterations": 5}


@dataclass
class LoadResult:
    """What became of many jobs at once.

    Attributes
    ----------
    jobs, finished
        How many jobs were accepted, and how many have a valid image.
    seconds
        The time from the first job to the last image.
    latencies
        The seconds of each `GET /jobs/{id}` meanwhile.
    memory
        The bytes of the server process over time.
    """

    name: str = "load"
    jobs: int = 0
    finished: int = 0
    seconds: float = 0.0
    latencies: list[float] = field(default_factory=list)
    memory: list[int] = field(default_factory=list)
    findings: list[str] = field(default_factory=list)


def submit_at_once(
    server: Server,
    images: tuple[bytes, bytes],
    *,
    jobs: int,
    connections: int,
) -> LoadResult:
    """Submit jobs from many connections at once, and wait for the images of all."""
    first = server.client()
    content, style = map(first.upload, images)
    watched = first.submit(content, style, OPTIONS)
    result = LoadResult()
    began = time.monotonic()
    shares = [jobs // connections + (i < jobs % connections) for i in range(connections)]
    with measuring(server, f"/jobs/{watched}", result), ThreadPoolExecutor(connections) as pool:
        work = [pool.submit(_one_client, server, content, style, n) for n in shares]
        done = [each for part in work for each in part.result()]
    result.seconds = time.monotonic() - began
    result.jobs = len(done)
    result.findings += [problem for _, problem in done if problem]
    result.finished = sum(not problem for _, problem in done)
    if len({id_ for id_, _ in done}) != jobs:
        result.findings.append("two jobs had the same id, or one was not accepted")
    return result


def _one_client(server: Server, content: str, style: str, jobs: int) -> list[tuple[str, str]]:
    """Submit jobs on one connection and wait for them; return their ids and what was wrong."""
    client = server.client()
    waiting = [client.submit(content, style, {**OPTIONS, "seed": n}) for n in range(jobs)]
    done: list[tuple[str, str]] = []
    while waiting:
        time.sleep(random.uniform(0.2, 0.6))  # noqa: S311 - not for secrets
        for id_ in list(waiting):
            job = client.job(id_)
            if job["state"] in ("waiting", "running"):
                break  # the others of this client start later
            waiting.remove(id_)
            done.append((id_, _fault(client, job)))
    client.close()
    return done


def _fault(client: Client, job: Mapping[str, Any]) -> str:
    """Return what is wrong with an ended job, or nothing."""
    if job["state"] != "finished":
        return f"a job is {job['state']}: {job['problem']}"
    return image_fault(client.image(job["id"]), (job["width"], job["height"]))


def image_fault(data: bytes, size: tuple[int, int]) -> str:
    """Return what is wrong with a PNG file, or nothing."""
    try:
        with PIL.Image.open(BytesIO(data)) as image:
            image.load()
            return "" if image.size == size else f"an image of {image.size}, not {size}"
    except Exception as error:
        return f"an image cannot be decoded: {error}"


class Measured(Protocol):
    """A result with latencies in seconds and memory in bytes."""

    latencies: list[float]
    memory: list[int]


class measuring:  # noqa: N801 - a context manager
    """Measure latency and memory during the block."""

    def __init__(self, server: Server, path: str, result: "Measured") -> None:
        self._server, self._result = server, result
        context = get_context("spawn")
        self._pipe, theirs = context.Pipe()
        # In a process, since the threads here would make it wait.
        self._probe = context.Process(target=_probe, args=(theirs, server.port, path))
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch_memory)

    def __enter__(self) -> None:
        """Begin."""
        self._probe.start()
        self._pipe.recv()
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        """End."""
        self._over.set()
        self._thread.join()
        self._pipe.send("stop")
        self._result.latencies += self._pipe.recv()
        self._probe.join()

    def _watch_memory(self) -> None:
        while True:
            self._result.memory.append(self._server.memory)
            if self._over.wait(BETWEEN_LOOKS):
                return


def _probe(pipe: Connection, port: int, path: str) -> None:
    """Measure the latency of a request until told to stop, then send the seconds."""
    client, seconds = Client(port), []
    pipe.send("ready")
    while not pipe.poll(BETWEEN_REQUESTS):
        began = time.perf_counter()
        client.get(path)
        seconds.append(time.perf_counter() - began)
    pipe.recv()
    pipe.send(seconds)


def percentile(values: Sequence[float], share: float) -> float:
    """Return the value below which a share of the values lies."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else float("nan")
