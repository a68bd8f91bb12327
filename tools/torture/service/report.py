"""The results of the campaigns as a table of Markdown."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tools.torture.report import environment

from .load import MIB, percentile

PACKAGES = ("fastapi", "starlette", "uvicorn", "h11", "pydantic")
# The parts of a campaign after which its memory is shown.
ENDS = (0.0, 0.25, 0.5, 0.75, 1.0)


def markdown(found: Mapping[str, Any]) -> str:
    """Return what was measured, then the findings."""
    parts = [
        " · ".join(f"{name} {value}" for name, value in environment(PACKAGES).items()),
        "\n".join(f"- {name}: {WORDS[name](result)}" for name, result in found.items()),
        "\n".join(f"- {r.name}: {each}" for r in found.values() for each in r.findings)
        or "Nothing was found.",
    ]
    return "\n\n".join(parts) + "\n"


def _load(r: Any) -> str:
    return (
        f"{r.finished} of {r.jobs} jobs finished in {r.seconds:.0f} s; {_latency(r.latencies)}; "
        f"{_memory(r.memory)}"
    )


def _kills(r: Any) -> str:
    return (
        f"{r.kills} kills, {r.of_server} of the server ({r.checkpoints} with a checkpoint); "
        f"{r.finished} of {r.jobs} jobs finished, {r.identical} with the same bits, "
        f"after the deaths of {r.attempts} workers at most; {r.seconds:.0f} s"
    )


def _malformed(r: Any) -> str:
    statuses = ", ".join(f"{count} × {status}" for status, count in sorted(r.statuses.items()))
    return (
        f"{r.requests} requests in {r.seconds:.0f} s; {statuses}; {_latency(r.latencies)}; "
        f"{_memory(r.memory)}"
    )


def _growth(r: Any) -> str:
    return f"{r.watchers} watchers, {r.uploads} uploads; {_memory(r.memory)}"


def _latency(seconds: Sequence[float]) -> str:
    shares = " / ".join(f"{1000 * percentile(seconds, each):.1f}" for each in (0.5, 0.99, 1.0))
    return f"{len(seconds)} answers, p50 / p99 / slowest {shares} ms"


def _memory(sizes: Sequence[int]) -> str:
    at = [sizes[min(len(sizes) - 1, int(end * len(sizes)))] for end in ENDS]
    course = " → ".join(f"{each / MIB:.0f}" for each in at)
    return f"memory {course} MiB, most {max(sizes) / MIB:.0f}"


WORDS: Mapping[str, Callable[[Any], str]] = {
    "load": _load,
    "kills": _kills,
    "malformed": _malformed,
    "openapi": lambda r: f"{r.requests} requests, {r.operations} operations, {r.seconds:.0f} s",
    "growth": _growth,
    "access": lambda r: f"{r.requests} requests",
    "starts": lambda r: f"{r.starts} starts",
    "troubles": lambda r: f"{r.troubles} troubles",
}
