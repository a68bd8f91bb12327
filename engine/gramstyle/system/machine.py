"""What the machine offers."""

import os
from pathlib import Path

from gramstyle.errors import OptionError

# Where Linux says how much memory a container may take (control groups, version 2).
CONTAINER_LIMIT = Path("/sys/fs/cgroup/memory.max")


def available_threads() -> int:
    """Return how many processor cores this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def physical_memory() -> int | None:
    """Return how many bytes of memory there are for this process, or None where nobody tells.

    Those of the machine, or fewer where a container's limit says so.
    """
    try:
        there = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None
    try:
        return min(there, int(CONTAINER_LIMIT.read_text()))
    except (OSError, ValueError):  # there is none, or it says "max"
        return there


def check_memory(width: int, height: int, *, bytes_per_pixel: int) -> None:
    """Refuse a size that could only end with the system killing the process.

    Raises
    ------
    OptionError
        If the machine has less memory than that.
    """
    needed, there = bytes_per_pixel * width * height, physical_memory()
    if there is not None and needed > there:
        raise OptionError(
            f"a size of {width}×{height} pixels takes about {needed / 1e9:.0f} GB of memory and "
            f"this machine has {there / 1e9:.0f}; choose a smaller --size"
        )
