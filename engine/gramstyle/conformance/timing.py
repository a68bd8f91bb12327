"""How many evaluations of a case an adapter does in a second."""

import copy
import statistics
import time
from dataclasses import replace

from gramstyle.conformance.cases import Case
from gramstyle.conformance.comparing import Adapter

# Calls are repeated for so many seconds, but at least and at most so often.
ENOUGH, LEAST, MOST = 0.25, 3, 1000


def rate_of(adapter: Adapter, case: Case, dtype: str) -> float | None:
    """Return the evaluations a second of an adapter on a case; None if a call fails.

    The first call is a warm-up and does not count; the median of the others does. Where an adapter
    has an attribute `seconds`, the time of the last evaluation that it measured itself, this time
    counts instead of that of the call.
    """
    image, case = case.x.astype(dtype), copy.deepcopy(replace(case))
    times: list[float] = []
    try:
        adapter(image, case)
        began = start = time.perf_counter()
        while len(times) < LEAST or (len(times) < MOST and start - began < ENOUGH):
            start = time.perf_counter()
            adapter(image, case)
            took = time.perf_counter() - start
            own = getattr(adapter, "seconds", None)
            times.append(took if own is None else own)
    except KeyboardInterrupt:
        raise
    # Foreign code may raise anything, including SystemExit.
    except BaseException:
        return None
    median = statistics.median(times)
    return 1 / median if median > 0 else None
