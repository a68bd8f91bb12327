"""What a process measures of itself: seconds, memory, and the speed of matrix products."""

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
    """Return the seconds that each run of `work` took, after `warm_up` runs that are not counted.

    The number of runs lies between `at_least` and `at_most`; within these bounds, it runs until
    `seconds` have passed. Small images are thus measured often, and large ones do not take all day.
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
    """The load that other processes put on the machine, from the creation of this object on."""

    def __init__(self) -> None:
        self._began, self._busy = time.perf_counter(), _busy_seconds()
        self._own = time.process_time()

    def share(self) -> float | None:
        """Return the fraction of all cores' time that others used; None if unknown."""
        if self._busy is None or (busy := _busy_seconds()) is None:
            return None
        own = time.process_time() - self._own
        total = (time.perf_counter() - self._began) * (os.cpu_count() or 1)
        # The system counts in hundredths of a second, so the difference can be below 0.
        return max(0.0, busy - self._busy - own) / total


def _busy_seconds() -> float | None:
    """Return the busy seconds of all cores together since the system started."""
    try:
        first = Path("/proc/stat").read_text(encoding="ascii").splitlines()[0]
    except OSError:
        return None
    # user, nice, system, idle, iowait, irq, softirq, steal
    ticks = [int(count) for count in first.split()[1:9]]
    return float(sum(ticks) - ticks[3] - ticks[4]) / os.sysconf("SC_CLK_TCK")


def peak_bytes() -> int:
    """Return the peak of this process's resident memory.

    On Linux, `ru_maxrss` of a child process starts at the memory of its parent, so it is not used.
    """
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii")
    except OSError:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024
    line = next(line for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024


def sgemm_gflops(order: int, *, times: int) -> float:
    """Return the speed of NumPy's float32 product of two square matrices, the best of several.

    The unit is 10⁹ operations per second. NumPy's BLAS chooses the number of threads.
    """
    rng = np.random.default_rng(0)
    left, right = rng.standard_normal((2, order, order), np.float32)
    out = np.empty_like(left)
    taken = repeated(
        lambda: np.matmul(left, right, out=out), warm_up=1, seconds=0, at_least=times, at_most=times
    )
    return 2 * order**3 / min(taken) / 1e9
