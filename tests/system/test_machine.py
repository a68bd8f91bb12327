"""The cores and the memory that a process may use."""

import subprocess
import sys

import pytest

from gramstyle.system import machine
from gramstyle.system.machine import available_threads, physical_memory


@pytest.mark.parametrize(
    ("quota", "expected"), [(None, 8), (0.2, 1), (1.0, 1), (1.5, 2), (3.0, 3), (64.0, 8)]
)
def test_a_cpu_quota_limits_the_threads(
    quota: float | None, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine.os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    monkeypatch.setattr(machine, "cpu_limit", lambda: quota)
    assert available_threads() == expected


@pytest.mark.parametrize(
    ("group", "limits", "expected"),
    [
        (None, {}, 16),
        (5, {}, 5),
        (5, {"ulimit -v": 4}, 4),
        (None, {"ulimit -v": 7, "ulimit -d": 6}, 6),
        (2**63 - 4096, {}, 16),  # how version 1 of control groups says that there is no limit
    ],
)
def test_the_lowest_limit_is_the_memory(
    group: int | None, limits: dict[str, int], expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "_machine", lambda: 16)
    monkeypatch.setattr(machine, "memory_limit", lambda: group)
    monkeypatch.setattr(machine, "_resource_limits", lambda: limits)
    assert physical_memory() == expected


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no ulimit")
def test_a_limit_by_ulimit_counts() -> None:
    code = (
        "import resource; resource.setrlimit(resource.RLIMIT_AS, (2**31, 2**31)); "
        "from gramstyle.system.machine import physical_memory; print(physical_memory())"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert int(found.stdout) <= 2**31
