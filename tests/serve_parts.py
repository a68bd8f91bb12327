"""Helpers for the tests of the service: a worker that does what the test says, and images."""

import io
import json
import threading
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image

from gramstyle.images import Image, write_image
from gramstyle.serve.folder import JobFiles
from gramstyle.serve.job import Request, Standing
from gramstyle.serve.rendering import Ended, Order
from gramstyle.serve.reporting import Report
from gramstyle.serve.running import Running
from gramstyle.serve.service import Seen
from gramstyle.serve.workers import WorkerDiedError
from workers import until

STANDING = Standing(iteration=3, iterations=3, loss=2.0, seconds=0.1, width=4, height=3)


def encoded(
    width: int = 32, height: int = 24, kind: str = "PNG", seed: int = 0, **options: Any
) -> bytes:
    """The bytes of an image of noise."""
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    data = io.BytesIO()
    PIL.Image.fromarray(pixels).save(data, kind, **options)
    return data.getvalue()


def finish(order: Order, reason: str = "all iterations done") -> Ended:
    """Write the files of a job as a worker does."""
    files = JobFiles(order.folder)
    files.folder.mkdir(exist_ok=True)
    write_image(files.image, Image(np.full((3, 4, 3), 99, np.float32)))
    ended = Ended(STANDING, has_image=True, reason=reason)
    files.ended.write_text(json.dumps(asdict(ended)))
    return ended


@dataclass
class FakeWorker:
    """A worker that does what a function says; a gate holds every job until it is opened."""

    act: Callable[[Order, int], Ended | None] = lambda order, _: finish(order)
    gate: threading.Event = field(default_factory=threading.Event)
    orders: list[Order] = field(default_factory=list)
    ready: bool = False

    def open(self) -> None:
        self.ready = True

    def close(self) -> None:
        self.ready = False

    def run(self, order: Order, *, tell: Any, stop: Any) -> Ended | None:
        self.orders.append(order)
        tell(Report(Standing(iteration=1, iterations=3, loss=5.0), ((1, 5.0, {"style": 5.0}),)))
        while not self.gate.wait(0.01):
            wanted = stop()
            if wanted == "shutdown":
                return None
            if wanted == "cancel":
                ended = finish(order, "cancelled")
                return Ended(ended.standing, has_image=True, reason="cancelled", stop="cancel")
        return self.act(order, len(self.orders))


def dies(order: Order, _number: int) -> Ended | None:
    raise WorkerDiedError("it ended with code -9")


@dataclass
class Parts:
    """A running service, its worker and its folder."""

    running: Running
    worker: FakeWorker
    data: Path

    def upload(self, data: bytes | None = None, name: str = "photo.png") -> str:
        return self.running.service.upload(encoded() if data is None else data, name).id

    def submit(self, client: str = "a", **options: Any) -> str:
        request = Request(content=self.upload(), styles=(self.upload(),), options=options)
        return self.running.service.submit(request, client).job.id

    def ended(self, id_: str) -> Seen:
        until(lambda: self.running.service.see(id_).job.over)
        return self.running.service.see(id_)


Start = Callable[..., Parts]
