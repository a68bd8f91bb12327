"""A service whose worker does what the test says."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from gramstyle.serve.folder import opened
from gramstyle.serve.limits import Limits
from gramstyle.serve.rendering import Ended, Order
from gramstyle.serve.running import running
from serve_parts import FakeWorker, Parts, Start, finish


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start a service; its worker holds every job unless it is told otherwise."""
    with ExitStack() as stack:

        def call(
            act: Callable[[Order, int], Ended | None] = lambda order, _: finish(order),
            *,
            held: bool = False,
            at: ExitStack = stack,
            **limits: int,
        ) -> Parts:
            worker = FakeWorker(act)
            if not held:
                worker.gate.set()
            data = tmp_path / "data"
            parts = at.enter_context(running(data, Limits(**limits), [worker], machine={}))
            return Parts(parts, worker, data)

        yield call


@pytest.fixture
def store_folder(tmp_path: Path) -> Iterator[Any]:
    with opened(tmp_path / "data") as folder:
        yield folder
