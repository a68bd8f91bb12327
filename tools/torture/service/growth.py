"""Let many clients come and go, and watch the memory of the server."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from .client import Client
from .load import MIB
from .server import Server, started, tracebacks, wait_for

CLIENTS = 8
# How much more memory a server may use after the second half of the rounds than after the first.
MOST_GROWTH = 16 * MIB
ARGUMENTS = (
    *("--workers", "1", "--max-styles", "1", "--max-upload", "2MB", "--keep-uploads", "5MB"),
)
# A job that runs until it is cancelled.
ENDLESS = {"size": 96, "iterations": 1000}


@dataclass
class GrowthResult:
    """The memory of a server while clients came and went.

    Attributes
    ----------
    watchers, uploads
        How many clients watched a job for a moment, and how many images were uploaded.
    memory
        The bytes of the server process after each round.
    """

    name: str = "growth"
    watchers: int = 0
    uploads: int = 0
    seconds: float = 0.0
    memory: list[int] = field(default_factory=list)
    findings: list[str] = field(default_factory=list)


def come_and_go(
    server: Server,
    images: tuple[bytes, bytes],
    *,
    rounds: int,
    clients: int,
    tell: Callable[[str], None] = lambda _: None,
) -> GrowthResult:
    """Let so many clients watch a job, upload an image and look at it in each round."""
    server.arguments = (*ARGUMENTS, *server.arguments)
    result = GrowthResult()
    began = time.monotonic()
    with started(server, 1), ThreadPoolExecutor(CLIENTS) as pool:
        first = server.client()
        job = _endless(server, images)

        def visit(number: int) -> None:
            client = server.client()
            upload = client.upload(images[number % 2])
            client.get(f"/uploads/{upload}/thumbnail")
            client.get(f"/jobs/{job}/image")
            client.begin(f"/jobs/{job}/events")
            client.close()

        for number in range(rounds):
            for _ in pool.map(visit, range(clients)):
                pass
            result.watchers += clients
            result.uploads += clients
            wait_for(lambda: _watchers(first) == 0, "server without watchers", server)
            result.memory.append(server.memory)
            tell(f"round {number + 1}: {result.memory[-1] / MIB:.1f} MiB")
            if first.job(job)["state"] != "running":
                job = _endless(server, images)
    result.seconds = time.monotonic() - began
    growth = result.memory[-1] - result.memory[len(result.memory) // 2]
    if growth > MOST_GROWTH:
        result.findings.append(f"the server has grown by {growth / MIB:.1f} MiB")
    result.findings += [f"the server wrote: {each}" for each in tracebacks(server.written)]
    return result


def _endless(server: Server, images: tuple[bytes, bytes]) -> str:
    """Return a job that runs."""
    client = server.client()
    content, style = map(client.upload, images)
    job = client.submit(content, style, ENDLESS)
    wait_for(lambda: client.job(job)["iteration"] > 0, "iteration", server)
    client.close()
    return job


def _watchers(client: Client) -> float:
    lines = client.get("/metrics").body.decode().splitlines()
    (line,) = (each for each in lines if each.startswith("gramstyle_watchers "))
    return float(line.split()[-1])
