"""What a process can say of itself: seconds, memory, and how fast it multiplies matrices."""

import os
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np


def repeated(
    work: Callable[[], object], *, warm_up: int, seconds: float, at_least: int, at_most: int
) -> list[float]:
    """Return how long each run of `work` took, once `warm_up` more have gone before.

    It is run at least and at most so many times, and within that until `seconds` are over: small
    images are measured often, large ones do not take all day.
    """
    for _ in range(warm_up):
        work()
    taken: list[float] = []
    while len(taken) < at_most and (len(taken) < at_least or sum(taken) < seconds):
        began = time.perf_counter()
        work()
        taken.append(time.perf_counter() - began)
    return taken


class Others:
    """How busy other processes keep the machine's cores, from its creation on."""

    def __init__(self) -> None:
        self._began, self._busy = time.perf_counter(), _busy_seconds()
        self._own = time.process_time()

    def share(self) -> float | None:
        """Return the share of all cores' time that others took; None where nothing tells."""
        if self._busy is None or (busy := _busy_seconds()) is None:
            return None
        own = time.process_time() - self._own
        there = (time.perf_counter() - self._began) * (os.cpu_count() or 1)
        # The system counts in hundredths of a second, so that nothing may come out below 0.
        return max(0.0, busy - self._busy - own) / there


def _busy_seconds() -> float | None:
    """Return the time that all cores together have worked since the system started."""
    try:
        first = Path("/proc/stat").read_text(encoding="ascii").splitlines()[0]
    except OSError:
        return None
    # user, nice, system, idle, waiting for input, interrupts, stolen by other machines.
    ticks = [int(count) for count in first.split()[1:9]]
    return float(sum(ticks) - ticks[3] - ticks[4]) / os.sysconf("SC_CLK_TCK")


def peak_bytes() -> int:
    """Return this process's high-water mark of resident memory.

    Linux's `ru_maxrss` is no use in a child: it starts from what its parent held.
    """
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii")
    except OSError:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024
    line = next(line for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024


def sgemm_gflops(order: int, *, times: int) -> float:
    """Return the billions of operations a second of the best of several float32 products.

    Two square matrices of that order; the threads are those of NumPy's BLAS.
    """
    rng = np.random.default_rng(0)
    left, right = rng.standard_normal((2, order, order), np.float32)
    out = np.empty_like(left)
    taken = repeated(
        lambda: np.matmul(left, right, out=out), warm_up=1, seconds=0, at_least=times, at_most=times
    )
    return 2 * order**3 / min(taken) / 1e9
