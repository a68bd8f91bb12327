"""Make trouble for a running server: a full disk, workers that stop or cannot start, signals."""

import io
import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import PIL.Image
from tools.torture.full_disk import MOUNT, UNMOUNT
from tools.torture.full_disk import reason_to_skip as reason_not_to_mount

from .client import Answer, Client
from .malformed import leak
from .server import Server, started, tracebacks, wait_for

# A job that still runs when the trouble comes, and one that is soon done.
LONG = {"size": 96, "iterations": 300}
SHORT = {"size": 64, "iterations": 2}
WATCHERS = 40


@dataclass
class TroubleResult:
    """What became of a server in trouble."""

    name: str = "troubles"
    troubles: int = 0
    findings: list[str] = field(default_factory=list)


class BrokenError(Exception):
    """A promise does not hold."""


def make_trouble(
    folder: Path,
    model: Path,
    names: Sequence[str],
    *,
    tell: Callable[[str], None] = lambda _: None,
) -> TroubleResult:
    """Make each of these troubles for a new server."""
    result = TroubleResult()
    for number, name in enumerate(names):
        if name == "full disk" and reason_not_to_mount():
            continue
        here = folder / str(number)
        here.mkdir(parents=True)
        own = here / "model.onnx"
        shutil.copy(model, own)
        server = Server(here / "data", own, ("--workers", "1"), saving=0.2)
        try:
            TROUBLES[name](server)
        except Exception as error:
            result.findings.append(f"{name}: {type(error).__name__}: {error}")
        result.findings += [f"{name}: the server wrote: {t}" for t in tracebacks(server.written)]
        result.troubles += 1
        tell(f"{name}: {len(result.findings)} findings so far {result.findings[-1:]}")
    return result


def _full_disk(server: Server) -> None:
    """Fill the disk while jobs run: requests are refused without names; then all goes on."""
    server.arguments = (*server.arguments, "--max-upload", "100kB")
    server.data.mkdir()
    subprocess.run([MOUNT, "-t", "tmpfs", "-o", "size=4m", "none", str(server.data)], check=True)
    try:
        with started(server, 1):
            client, images = _begun(server)
            before = client.submit(*images, SHORT)
            _ended(server, client, before)
            running = client.submit(*images, LONG)
            wait_for(lambda: client.job(running)["iteration"] > 2, "iteration", server)
            _require(client.get("/healthz").json()["disk"] == "ok", "the disk is full too early")
            filler = server.data / "uploads" / "filler"
            _fill(filler)
            wait_for(lambda: client.job(running)["state"] != "running", "end", server)
            _expect(client.get(f"/jobs/{running}"), 200, server)
            found = client.job(running)
            _require(found["state"] == "failed", f"a job on a full disk is {found['state']}")
            _fill(filler)  # the failed job has made room
            _expect(client.send("POST", "/uploads", _noise(180)), 507, server)
            _expect(client.send("POST", "/uploads", _noise(96)), 507, server)
            _expect(client.get("/healthz"), 200, server)
            _require(client.get("/healthz").json()["disk"] == "full", "/healthz hides a full disk")
            _expect(client.get(f"/jobs/{before}/image.png"), 200, server)
            filler.unlink()
            again = client.submit(*images, SHORT)
            _ended(server, client, again)
    finally:
        subprocess.run([UNMOUNT, str(server.data)], check=True)


def _fill(path: Path) -> None:
    with path.open("ab", buffering=0) as file:
        for size in (65_536, 4096, 512, 1):
            try:
                while True:
                    file.write(b"x" * size)
            except OSError:
                continue


def _broken_model(server: Server) -> None:
    """Remove the model and kill the worker: jobs wait until the model is there again."""
    assert server.model is not None  # noqa: S101 - each server here has one
    away = server.model.with_suffix(".away")
    with started(server, 1):
        client, images = _begun(server)
        server.model.rename(away)
        for pid in server.workers:
            os.kill(pid, signal.SIGKILL)
        wait_for(lambda: client.get("/readyz").status == 503, "answer 503", server)
        waiting = client.submit(*images, SHORT)
        wait_for(lambda: "worker" in server.written, "line in the log", server)
        _require(client.job(waiting)["state"] == "waiting", "the job does not wait")
        away.rename(server.model)
        _ended(server, client, waiting)


def _stopped_worker(server: Server) -> None:
    """Stop the process of a worker; the end of its job's time ends it, and its job is repeated."""
    server.arguments = (*server.arguments, "--max-seconds", "1")
    server.grace = 2.0
    with started(server, 1):
        client, images = _begun(server)
        job = client.submit(*images, {**LONG, "iterations": 1000})
        wait_for(lambda: client.job(job)["state"] == "running", "job that runs", server)
        (stopped,) = server.workers
        os.kill(stopped, signal.SIGSTOP)
        _ended(server, client, job)
        _require(stopped not in server.workers, "the stopped worker is still there")


def _cancelled_in_a_stopped_worker(server: Server) -> None:
    """Cancel a job whose worker is stopped."""
    server.grace = 2.0
    with started(server, 1):
        client, images = _begun(server)
        job = client.submit(*images, {**LONG, "iterations": 1000})
        wait_for(lambda: client.job(job)["state"] == "running", "job that runs", server)
        (stopped,) = server.workers
        os.kill(stopped, signal.SIGSTOP)
        _expect(client.send("POST", f"/jobs/{job}/cancel"), 202, server)
        wait_for(lambda: client.job(job)["state"] == "cancelled", "cancelled job", server)


def _signal(server: Server, number: signal.Signals, *, group: bool) -> None:
    """Stop a server with a running job; it continues with the same bits."""
    with started(server, 1):
        client, images = _begun(server)
        undisturbed = client.submit(*images, LONG)
        _ended(server, client, undisturbed)
        truth = client.image(undisturbed)
        job = client.submit(*images, LONG)
        wait_for(lambda: client.job(job)["iteration"] > 5, "iterations", server)
        process = server.process
        assert process is not None  # noqa: S101 - it runs
        for pid in (*server.workers, process.pid) if group else (process.pid,):
            os.kill(pid, number)
        code = process.wait(60)
        _require(code == 0, f"code {code}")
        saved = server.data / "jobs" / job / "checkpoint" / "manifest.json"
        _require(saved.exists(), "the state of the job is not saved")
        server.start(1)
        again = server.client()
        _ended(server, again, job)
        _require(again.image(job) == truth, "other bits")


def _stopped_while_starting(server: Server) -> None:
    """Stop a server while its worker starts."""
    with started(server):
        _require(server.stop() == 0, "not code 0")


def _watchers(server: Server) -> None:
    """Let clients watch a job and go away: none of them stays in the server."""
    with started(server, 1):
        client, images = _begun(server)
        job = client.submit(*images, {**LONG, "iterations": 1000})
        for _ in range(WATCHERS):
            watcher = server.client()
            watcher.begin(f"/jobs/{job}/events")
            watcher.close()
        wait_for(
            lambda: b"\ngramstyle_watchers 0.0" in client.get("/metrics").body,
            "server without watchers",
            server,
        )


TROUBLES: dict[str, Callable[[Server], None]] = {
    "full disk": _full_disk,
    "no model for a new worker": _broken_model,
    "stopped worker": _stopped_worker,
    "cancelled job in a stopped worker": _cancelled_in_a_stopped_worker,
    "SIGTERM": lambda server: _signal(server, signal.SIGTERM, group=False),
    "SIGTERM to workers, too": lambda server: _signal(server, signal.SIGTERM, group=True),
    "SIGINT to workers, too": lambda server: _signal(server, signal.SIGINT, group=True),
    "SIGTERM at the start": _stopped_while_starting,
    "watchers that go away": _watchers,
}


def _noise(size: int) -> bytes:
    """Return a PNG file of a square of noise."""
    pixels = np.random.default_rng(size).integers(0, 256, (size, size, 3), np.uint8)
    data = io.BytesIO()
    PIL.Image.fromarray(pixels).save(data, "png")
    return data.getvalue()


def _begun(server: Server) -> tuple[Client, tuple[str, str]]:
    """Upload a content and a style image."""
    client = server.client()
    return client, (client.upload(_noise(96)), client.upload(_noise(90)))


def _ended(server: Server, client: Client, job: str) -> None:
    """Wait until a job has finished."""
    wait_for(lambda: client.job(job)["state"] not in ("waiting", "running"), "end", server)
    found = client.job(job)
    _require(found["state"] == "finished", f"a job is {found['state']}: {found['problem']}")


def _expect(answer: Answer, status: int, server: Server) -> None:
    _require(answer.status == status, f"status {answer.status}: {answer.body[:200]!r}")
    found = leak(answer.body, (str(server.data).encode(),))
    _require(not found, found)


def _require(condition: bool, what: str) -> None:
    if not condition:
        raise BrokenError(what)
